"""torchrun's agent on one node of a Slurm job."""

import os
import sys
from collections.abc import Sequence

from repro.launch import torchrun
from repro.launch.slurm.jobs import node_address

MEETING_SECONDS = 600


def main(words: Sequence[str]) -> int:
    """Start the agent with torchrun's words, the same on all nodes, and this node's address."""
    os.environ[torchrun.LAUNCHER] = str(os.getppid())
    # torch would find the host of the store by its name, which need not resolve, and would wait only a minute, too
    # short for slow imports from a shared folder.
    meeting = f"is_host={int(os.environ['SLURM_NODEID'] == '0')},read_timeout={MEETING_SECONDS}"
    return torchrun.main([f"--local-addr={node_address()}", f"--rdzv-conf={meeting}", *words])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
