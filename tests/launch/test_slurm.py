"""Sweeps on a real Slurm of two nodes on this machine: they end like a local sweep whatever happens to their jobs.

``make test-slurm`` needs Debian's slurm-wlm and munge, and takes minutes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCRIPTS = Path(__file__).parents[1] / "slurm"
PATIENCE = 300.0
"""Seconds until a test gives up on a loaded machine; never a measure of speed."""


@dataclass
class Cluster:
    """Slurm's daemons and the environment to reach them."""

    folder: Path
    environment: dict[str, str]

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def call(self, *words: str) -> str:
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=True).stdout

    def restarts(self, job_id: str) -> int:
        """Return how often Slurm has put the job back into the queue."""
        (word,) = [w for w in self.call("scontrol", "show", "job", "-o", job_id).split() if w.startswith("Restarts=")]
        return int(word.partition("=")[2])

    def start_slurmd(self, node: str) -> None:
        subprocess.run(["slurmd", "-N", node, "-f", str(self.conf)], env=self.environment, check=True)

    def processes(self, **wanted: str) -> list[int]:
        """List the processes of this cluster's jobs whose environment contains these words."""
        words = {f"{name}={value}".encode() for name, value in (wanted | {"SLURM_CONF": str(self.conf)}).items()}
        return [
            int(p.parent.name) for p in Path("/proc").glob("[0-9]*/environ") if words <= set(content(p).split(b"\0"))
        ]

    def lose_node(self, node: str) -> None:
        """Kill the daemon of a node and all its processes, as if its power had failed."""
        os.kill(int((self.folder / "run" / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
        for pid in self.processes(SLURMD_NODENAME=node):
            parent = int(content(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[1])
            if content(Path(f"/proc/{parent}/cmdline")).startswith(b"slurmstepd"):
                os.kill(parent, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)


def content(path: Path) -> bytes:
    """Read a file that may disappear at any moment."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if "slurm" not in request.config.option.markexpr:
        pytest.skip("takes minutes: make test-slurm")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [name for name in ("munged", "slurmctld", "slurmd") if shutil.which(name, path=path) is None]:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge")
    # pytest's own folder would be too long: the path of a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REPRO_", "SLURM_"))}
    environment |= {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    up = [str(SCRIPTS / "up.sh"), str(folder)]
    environment["PORT"] = str(free_ports(3))
    started = subprocess.run(up, env=environment, capture_output=True, text=True, check=False)
    try:
        if started.returncode:
            pytest.skip(f"Slurm does not come up: {started.stderr.strip()}")
        yield Cluster(folder, environment)
    finally:
        subprocess.run([str(SCRIPTS / "down.sh"), str(folder)], env=environment, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> int:
    """Return the first of several neighbouring free ports."""
    for first in range(16810, 20000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


def command(folder: Path, *words: str, steps: int) -> list[str]:
    """Return a ``repro run`` of small runs with all paths in ``folder``."""
    settings = {
        "data": "synthetic",
        "scale": "smoke",
        "device": "cpu",
        "optim.steps": steps,
        "eval.every_steps": 50,
        "execution.threads": 1,
        "execution.checkpoint_seconds": 0.5,
        "paths.data": folder / "data",
        "paths.work": folder / "work",
        "paths.results": folder / "results",
    }
    return [sys.executable, "-m", "repro", "run", *words, *(f"{key}={value}" for key, value in settings.items())]


def on_slurm(**settings: object) -> list[str]:
    given = {"memory": 0.5, "poll_seconds": 0.5} | settings
    return ["execution=slurm", *(f"execution.slurm.{key}={value}" for key, value in given.items())]


def wait_for(what: Callable[[], Any], text: str) -> Any:
    """Return the first true result of ``what``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited in vain: {text}")


def step_of(folder: Path) -> int:
    """Return the step that a run has reached."""
    try:
        return int(json.loads((folder / "progress.json").read_text())["step"])
    except (OSError, ValueError, KeyError):
        return 0


def job_of(cluster: Cluster, work: Path, run_id: str) -> tuple[str, str]:
    """Return id and node of the running job that has a run; empty texts if there is none."""
    for path in work.glob("slurm/*/submission.json"):
        for shard, run_ids in enumerate(json.loads(path.read_text())["shards"]):
            if run_id in run_ids:
                told = cluster.call("squeue", "-h", "-r", "-t", "R", f"--name={path.parent.name}", "-o", "%i|%K|%N")
                for line in told.splitlines():
                    job_id, index, node = line.split("|")
                    if index in (str(shard), "N/A"):
                        return job_id, node
    return "", ""


def run_ids(words: list[str]) -> list[str]:
    """List the runs of a command, by seed."""
    from repro.config.compose import plan

    return [config.run_id for config in plan(words[4:]).runs]


def single_run_id(words: list[str]) -> str:
    (only,) = run_ids(words)
    return only


def assert_same(one: Path, other: Path) -> None:
    """Compare weights, error counts and curves of two runs, to the last bit."""
    weights = [torch.load(folder / "final.pt", weights_only=True)["model"] for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    results = [json.loads((folder / "record.json").read_text())["result"] for folder in (one, other)]
    assert results[0] == results[1]
    assert (one / "curve.csv").read_bytes() == (other / "curve.csv").read_bytes()


def test_a_sweep_through_requeue_time_limit_and_a_lost_node_ends_as_a_local_one(cluster: Cluster) -> None:
    steps, sweep = 900, "seed=0,1,2,3,4,5"
    local, remote = cluster.folder / "local", cluster.folder / "on slurm"
    # A job takes a whole node, so two jobs run at a time.
    words = command(remote, sweep, *on_slurm(time=10, grace_seconds=30, cpus=4), steps=steps)
    ids, work = run_ids(words), remote / "work"
    touched: list[str] = []

    def job_that_trains() -> tuple[str, str] | None:
        """Return job and node of another run that has saved something and has steps left."""
        for run_id in ids:
            if run_id not in touched and 50 < step_of(work / run_id) < steps - 200:
                job_id, node = job_of(cluster, work, run_id)
                if job_id:
                    touched.append(run_id)
                    return job_id, node
        return None

    collected = cluster.folder / "collector.txt"
    with collected.open("w") as said:
        collector = subprocess.Popen(words, env=cluster.environment, stdout=said, stderr=subprocess.STDOUT)
    try:
        # Suspended, the first run lasts until its limit on any machine; Slurm wakes it when it signals it.
        limited, _ = wait_for(job_that_trains, "a run trains")
        array, _, task = limited.partition("_")
        for pid in cluster.processes(SLURM_ARRAY_JOB_ID=array, SLURM_ARRAY_TASK_ID=task):
            os.kill(pid, signal.SIGSTOP)
        cluster.call("scontrol", "update", f"JobId={limited}", "TimeLimit=1")

        requeued, _ = wait_for(job_that_trains, "a second run trains")
        cluster.call("scontrol", "requeue", requeued)
        lost, node = wait_for(job_that_trains, "a third run trains")
        cluster.lose_node(node)

        for job_id in (limited, requeued, lost):
            wait_for(functools.partial(cluster.restarts, job_id), f"Slurm queues job {job_id} again")
        cluster.call("scontrol", "update", f"JobId={limited}", "TimeLimit=10")
        cluster.start_slurmd(node)
        assert collector.wait(2 * PATIENCE) == 0, collected.read_text()
    finally:
        if collector.poll() is None:
            collector.kill()

    subprocess.run(command(local, sweep, steps=steps), env=cluster.environment, check=True)
    for run_id in ids:
        assert_same(work / run_id, local / "work" / run_id)
    resumed = [r for r in ids if json.loads((work / r / "record.json").read_text())["provenance"]["resumed_at"]]
    assert sorted(resumed) == sorted(touched)
    (log,) = work.glob(f"slurm/*/{limited}_0_log.out")
    assert "the job is requeued" in log.read_text()
    assert "6 of 6 done" in collected.read_text()


def test_the_job_whose_number_is_its_arrays_goes_back_alone(cluster: Cluster) -> None:
    folder = cluster.folder / "own number"
    words = command(folder, "seed=0,1", *on_slurm(cpus=4), steps=600)
    collector = subprocess.Popen(words, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    work, ids = folder / "work", run_ids(words)
    wait_for(lambda: all(step_of(work / run_id) > 20 for run_id in ids), "both runs train")
    (path,) = work.glob("slurm/*/submission.json")
    told = cluster.call("squeue", "-h", "-r", f"--name={path.parent.name}", "-o", "%i %A %F").splitlines()
    limited, other = sorted((line.split() for line in told), key=lambda ids: ids[1] != ids[2])
    assert limited[1] == limited[2]
    cluster.call("scancel", "--batch", "--signal=USR2", limited[0])
    said, _ = collector.communicate(timeout=PATIENCE)
    assert collector.returncode == 0, said
    assert [cluster.restarts(limited[0]), cluster.restarts(other[0])] == [1, 0]


def test_a_run_on_two_nodes_is_told_to_save_and_ends_as_on_two_devices_here(cluster: Cluster) -> None:
    here, remote = cluster.folder / "two devices", cluster.folder / "two nodes"
    group = "model.bn_group_size=8"
    words = command(remote, "seed=0", group, *on_slurm(), "execution.nodes=2", steps=300)
    run_id = single_run_id(words)
    folder = remote / "work" / run_id
    collector = subprocess.Popen(words, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: step_of(folder) > 20, "the run trains")
    job_id, nodes = job_of(cluster, remote / "work", run_id)
    assert nodes == "n[1-2]"
    # Slurm does the same before the time limit.
    cluster.call("scancel", "--batch", "--signal=USR2", job_id)
    said, _ = collector.communicate(timeout=PATIENCE)
    assert collector.returncode == 0, said
    assert json.loads((folder / "record.json").read_text())["provenance"]["resumed_at"]
    cluster.call(*command(here, "seed=0", group, "execution=ddp", "execution.devices=2", steps=300))
    assert_same(folder, here / "work" / run_id)


def test_detach_then_collect_and_nothing_is_submitted_twice(cluster: Cluster) -> None:
    folder = cluster.folder / "detached"
    words = command(folder, "seed=0,1,2", *on_slurm(runs_per_job=2), steps=300)
    cluster.call("scontrol", "update", "partition=main", "state=down")
    first = cluster.call(*words, "--detach")
    assert "3 runs, 3 submitted" in first
    assert "3 in the queue already" in cluster.call(*words, "--detach")
    cluster.call("scontrol", "update", "partition=main", "state=up")
    (path,) = (folder / "work").glob("slurm/*/submission.json")
    assert sorted(len(shard) for shard in json.loads(path.read_text())["shards"]) == [1, 2], "two runs to a job"
    assert "ResNet-20        3 " in cluster.call(*words), "the table of all runs"
    assert len(list((folder / "work").glob("slurm/*/submission.json"))) == 1
    for run_id in run_ids(words):
        assert json.loads((folder / "work" / run_id / "record.json").read_text())["provenance"]["resumed_at"] is None
    assert "nothing is left to do" in cluster.call(*words)


def test_a_cancelled_job_saves_itself_and_stays_cancelled(cluster: Cluster) -> None:
    folder = cluster.folder / "cancelled"
    words = command(folder, "seed=0", *on_slurm(), steps=5000)
    run_id = single_run_id(words)
    collector = subprocess.Popen(words, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: step_of(folder / "work" / run_id) > 20, "the run trains")
    cancel = [sys.executable, "-m", "repro", "cancel", run_id, f"paths.work={folder / 'work'}"]
    told = subprocess.run(cancel, env=cluster.environment, capture_output=True, text=True, check=True)
    assert "cancelled Slurm job" in told.stdout and run_id in told.stdout
    said, _ = collector.communicate(timeout=PATIENCE)
    assert collector.returncode == 1
    assert "ended as CANCELLED" in said
    assert "submitted again" not in said
    assert list((folder / "work" / run_id).glob("step_*.pt"))
    unknown = subprocess.run(cancel, env=cluster.environment, capture_output=True, text=True, check=False)
    assert unknown.returncode == 2 and "is in no Slurm job" in unknown.stderr


def test_a_job_that_would_start_on_another_commit_refuses(cluster: Cluster) -> None:
    folder = cluster.folder / "commit"
    words = command(folder, "seed=0", *on_slurm(), steps=8)
    cluster.call("scontrol", "update", "partition=main", "state=down")
    try:
        # A job inherits the environment of the command that submitted it.
        environment = cluster.environment | {"REPRO_COMMIT": "0" * 40}
        collector = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        path = wait_for(lambda: next((folder / "work").glob("slurm/*/*_submitted.pkl"), None), "it is submitted")
        path = path.with_name("submission.json")
        values = json.loads(path.read_text())
        assert values["provenance"]["commit"] == "0" * 40
        path.write_text(json.dumps(values | {"provenance": values["provenance"] | {"commit": "1" * 40}}))
    finally:
        cluster.call("scontrol", "update", "partition=main", "state=up")
    said, _ = collector.communicate(timeout=PATIENCE)
    assert collector.returncode == 1
    assert f"commit {'1' * 40}" in said and "0" * 40 in said
    assert not list((folder / "work").glob("*/record.json"))


def test_what_slurm_refuses_is_one_sentence(cluster: Cluster) -> None:
    words = command(cluster.folder / "refused", "seed=0", *on_slurm(partition="nowhere"), steps=8)
    done = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("repro: Slurm refused the jobs") and "partition" in done.stderr
    assert len(done.stderr.splitlines()) == 1
