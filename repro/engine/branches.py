"""Steps of several nets as branches of one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from repro.engine.step import GraphStep
from repro.runtime.cuda_graphs import record_graph


class Branch:
    """A stand-in for the graph of a step that another graph launches."""

    def replay(self) -> None:
        """Launch nothing."""


def record_branches(steps: Sequence[GraphStep], streams: Sequence[torch.cuda.Stream]) -> None:
    """Record the steps of several nets as branches of one graph; each step must have run once.

    Afterwards the steps must be run in turns: running the last one launches all of them.
    """
    undo = [step.undo() for step in steps]

    def together() -> None:
        current = torch.cuda.current_stream()
        for stream in streams:
            stream.wait_stream(current)
        for step, stream in zip(steps, streams, strict=True):
            with torch.cuda.stream(stream):
                step._step()
        for stream in streams:
            current.wait_stream(stream)

    def undo_all() -> None:
        for each in undo:
            each()

    graph, _ = record_graph(together, undo_all)
    for step in steps[:-1]:
        step._graph = Branch()
    steps[-1]._graph = graph
