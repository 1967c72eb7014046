#!/usr/bin/env bash
# Ends the daemons that up.sh started in a folder, and what still runs of their jobs.
set -euo pipefail
dir=$(realpath -m "${1:?usage: down.sh DIR}")
export SLURM_CONF="$dir/slurm.conf"

end() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 50); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
for _ in $(seq 100); do
  [ -n "$(timeout 10 squeue -h 2>/dev/null || true)" ] || break
  sleep 0.1
done
for name in slurmd.n1 slurmd.n2 slurmctld munged; do end "$dir/run/$name.pid"; done
