"""The steps of alternating training: their starts, ends and stored proposals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.passes import Pass, Row, run_pass
from repro.engine.detection.prepared import PreparedDetector, train_only
from repro.models.detection.alternating import ORIGINS, Step, initial_state
from repro.models.detection.rpn import TRAINING
from repro.runtime import checkpoint, distributed
from repro.runtime.device import autocast

PROPOSALS, TESTED = "proposals.npz", "tested.npz"
NAMES = {
    None: "all parts",
    1: "the region proposal network",
    2: "the region head",
    3: "the region proposal network on shared layers",
    4: "the region head on shared layers",
}


def end_path(folder: Path, step: Step) -> Path:
    """Return the file with the detector as a step of training left it."""
    return folder / f"end_of_{step}.pt"


def begin_step(net: PreparedDetector, hooks: DetectionHooks) -> list[Tensor] | None:
    """Fill the detector as the present step of training starts, with a new optimizer.

    Returns:
        The proposals of the step, if it has any; None if the run was stopped while they were made.

    Raises:
        RunError: The end of an earlier step cannot be read.
    """
    step, folder = net.step, net.config.work_dir
    proposals: list[Tensor] | None = []
    if step in (2, 4):
        before: Step = 1 if step == 2 else 3
        proposals = proposals_after(net, before, hooks)
    if step is not None:

        def fill() -> None:
            origins = {origin for origin in ORIGINS[step].values() if origin != "new"}
            ends = {origin: checkpoint.load(end_path(folder, origin))["model"] for origin in origins}
            net.model.load_state_dict(initial_state(step, net.new, ends))

        distributed.on_first(fill)
        distributed.copy_from_first(list(net.model.state_dict().values()))
    train_only(net)
    return proposals


def end_step(net: PreparedDetector) -> None:
    """Keep the detector as the present step of training left it, and go on to the next."""
    step = net.step
    if step is not None:
        distributed.on_first(
            lambda: checkpoint.save(end_path(net.config.work_dir, step), {"model": net.model.state_dict()})
        )
    net.state.part += 1
    net.state.update = 0


def remove_steps(folder: Path) -> None:
    """Remove the files that only training needs."""
    for path in (*folder.glob("end_of_*.pt"), folder / PROPOSALS, folder / TESTED):
        path.unlink(missing_ok=True)


@torch.no_grad()
def proposals_after(net: PreparedDetector, step: Step, hooks: DetectionHooks) -> list[Tensor] | None:
    """Return the proposals (n, 4) of each scaled training image by the detector at the end of ``step``.

    They are computed once and stored. Return None if the run was stopped before.
    """

    def fill() -> None:
        net.model.load_state_dict(checkpoint.load(end_path(net.config.work_dir, step))["model"])

    distributed.on_first(fill)
    distributed.copy_from_first(list(net.model.state_dict().values()))
    assert net.config.detection is not None
    limits = TRAINING._replace(after=net.config.detection.train_proposals)

    def find(positions: Sequence[int]) -> Iterator[Row]:
        for position in positions:
            image = net.feed.image(position)
            with autocast(net.device, net.config.optim.precision):
                (found,) = net.model.propose(net.model.maps([image]), [image], limits)
            yield (found.boxes.cpu().numpy(),)

    makers = {"step": step, "net": net.model.state_dict()}
    images = Pass(net.config, PROPOSALS, len(net.dataset.train), makers, f"proposals after step {step}")
    found = run_pass(images, find, hooks)
    return None if found is None else [torch.from_numpy(boxes) for (boxes,) in found]
