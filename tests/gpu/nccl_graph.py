"""The all-reduce of the gradients in a CUDA graph, with one rank."""

from __future__ import annotations

import os
import sys

import torch

from repro.runtime.cuda_graphs import record_graph
from repro.runtime.distributed import Mean, joined

ALONE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555", "RANK": "0", "WORLD_SIZE": "1"}
ALONE |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "NCCL_NVLS_ENABLE": "0"}


def averages(device: str) -> bool:
    """Return whether the means over one rank equal the values; on a GPU those of a replay of the graph."""
    tensors = [torch.randn(64, 64, device=device) for _ in range(50)]
    mean = Mean(tensors)
    if device == "cpu":
        means = mean(tensors)
    else:
        graph, means = record_graph(lambda: mean(tensors))
        for tensor in tensors:
            tensor.mul_(2)
        graph.replay()
        torch.cuda.synchronize()
    return all(torch.equal(one, other) for one, other in zip(means, tensors, strict=True))


def main(device: str = "") -> int:
    """Average in a process group of one rank, on a GPU where there is one; return the exit code."""
    os.environ.update(ALONE)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with joined(device):
        same = averages(device)
    print(f"all-reduce on {device}: {'the same values' if same else 'OTHER VALUES'}; the group ended")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
