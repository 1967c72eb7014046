"""torchrun's agent on one node of a Slurm job that trains a run on several; ``repro.slurm.on_each_node`` starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from repro import torchrun
from repro.slurm import node_address


def main(words: Sequence[str]) -> int:
    """torchrun's words, which all nodes share; what only this one knows is its address."""
    os.environ[torchrun.LAUNCHER] = str(os.getppid())
    return torchrun.main([f"--local-addr={node_address()}", *words])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
