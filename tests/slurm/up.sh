#!/usr/bin/env bash
# Brings up a real Slurm of two nodes on this machine, on the loopback interface alone and with all its files below one
# folder. Needs no service manager and no accounting. Debian: apt-get install slurm-wlm munge
#   tests/slurm/up.sh DIR      afterwards SLURM_CONF=DIR/slurm.conf reaches it, and tests/slurm/down.sh DIR ends it
#   PORT=16810                 its first port of three
#   CPUS=4                     processors that a node says it has
set -euo pipefail
dir=$(realpath -m "${1:?usage: up.sh DIR}")
port=${PORT:-16810}
case $dir in *[[:space:]]*) echo "$dir: Slurm's files cannot lie in a folder with a blank in its name" >&2; exit 1 ;; esac
cpus=${CPUS:-4}
host=$(hostname -s)
user=$(id -un)
memory=$(awk '/MemTotal/ { print int($2 / 1024 / 2) }' /proc/meminfo)
PATH=$PATH:/usr/sbin:/sbin

for name in munged slurmctld slurmd sinfo; do
  command -v "$name" >/dev/null || { echo "there is no $name: install slurm-wlm and munge" >&2; exit 1; }
done
mkdir -p "$dir"/{state,log,run,n1,n2}
chmod 0755 "$dir" "$dir/run"

(umask 077; head -c 128 /dev/urandom >"$dir/munge.key")
# --force: the folder of a test may lie below one that only its user can enter.
munged --force --key-file="$dir/munge.key" --socket="$dir/run/munge.sock" --pid-file="$dir/run/munged.pid" \
  --log-file="$dir/log/munged.log" --seed-file="$dir/state/munge.seed" --num-threads=2 2>/dev/null

# NoInAddrAny: else the daemons listen on every interface. cred_expire: a job that is queued again waits for its old
# credentials to expire. config_overrides: a node may claim more processors than the machine has.
cat >"$dir/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$port
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld.log
StateSaveLocation=$dir/state
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmdLogFile=$dir/log/slurmd.%n.log
SlurmdSpoolDir=$dir/%n
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
GresTypes=gpu,shard
ReturnToService=2
JobRequeue=1
KillWait=5
SlurmctldTimeout=10
SlurmdTimeout=10
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$cpus RealMemory=$memory Gres=gpu:1,shard:4
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=$cpus RealMemory=$memory Gres=gpu:1,shard:4
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
# Only counted, never opened: the nodes have no real GPU.
printf 'Name=gpu File=/dev/null\nName=shard Count=4\n' >"$dir/gres.conf"

export SLURM_CONF="$dir/slurm.conf"
slurmctld -c -f "$SLURM_CONF"
for node in n1 n2; do slurmd -N "$node" -f "$SLURM_CONF"; done
for _ in $(seq 200); do
  [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c '^idle$' || true)" = 2 ] && exit 0
  sleep 0.1
done
echo "the nodes of the test cluster do not come up: see $dir/log" >&2
exit 1
