"""The steps of alternating training: their starts, ends and stored proposals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.engine.detection.arrays import read_arrays
from repro.engine.detection.prepared import PreparedDetector, train_only
from repro.engine.detection.tested import TESTED
from repro.errors import RunError
from repro.models.detection.alternating import ORIGINS, Step, initial_state
from repro.models.detection.rpn import TRAINING
from repro.runtime import checkpoint, distributed
from repro.runtime.device import autocast
from repro.runtime.files import replacing

log = logging.getLogger(__name__)
PROPOSALS = "proposals.npz"
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


def begin_step(net: PreparedDetector, stop: Callable[[], bool]) -> list[Tensor] | None:
    """Fill the detector as the present step of training starts, with a new optimizer.

    Args:
        stop: Returns whether the run shall end, on all ranks.

    Returns:
        The proposals of the step, if it has any; None if the run was stopped while they were made.

    Raises:
        RunError: The end of an earlier step cannot be read.
    """
    step, folder = net.step, net.config.work_dir
    proposals: list[Tensor] | None = []
    if step in (2, 4):
        before: Step = 1 if step == 2 else 3
        proposals = stored_proposals(net, before, stop)
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


def stored_proposals(net: PreparedDetector, step: Step, stop: Callable[[], bool]) -> list[Tensor] | None:
    """Return the proposals (n, 4) of each scaled training image by the detector at the end of ``step``.

    They are computed once and stored; a file that is missing or damaged is made again, with the same values.
    """
    path = net.config.work_dir / PROPOSALS
    found = distributed.shared(read_proposals(path, step) if distributed.is_first() else None)
    if found is None:
        log.info(f"  proposals for {len(net.dataset.train):,} training images")

        def fill() -> None:
            net.model.load_state_dict(checkpoint.load(end_path(net.config.work_dir, step))["model"])

        distributed.on_first(fill)
        distributed.copy_from_first(list(net.model.state_dict().values()))
        made = made_proposals(net, stop)
        if made is None:
            return None
        found = made
        distributed.on_first(lambda: write_proposals(path, step, made))
    return [torch.from_numpy(boxes) for boxes in found]


@torch.no_grad()
def made_proposals(net: PreparedDetector, stop: Callable[[], bool]) -> list[np.ndarray] | None:
    """Propose regions in all training images, each rank in its share of them; return None if the run was stopped."""
    assert net.config.detection is not None
    limits = TRAINING._replace(after=net.config.detection.train_proposals)
    count, ranks, mine = len(net.dataset.train), distributed.size(), distributed.rank()
    own = []
    # All ranks make the same number of rounds, so that they stop together.
    for first in range(0, count, ranks):
        if first + mine < count:
            image = net.feed.image(first + mine)
            with autocast(net.device, net.config.optim.precision):
                (found,) = net.model.propose(net.model.maps([image]), [image], limits)
            own.append(found.boxes.cpu().numpy())
        if stop():
            return None
    every = distributed.everyone(own)
    return [every[position % ranks][position // ranks] for position in range(count)]


def write_proposals(path: Path, step: Step, found: list[np.ndarray]) -> None:
    counts = np.array([len(boxes) for boxes in found])
    with replacing(path, RunError) as file:
        np.savez(file, step=np.array(step), counts=counts, boxes=np.concatenate(found))


def read_proposals(path: Path, step: Step) -> list[np.ndarray] | None:
    """Read stored proposals; return None if there are none of this step that can be read."""
    stored = read_arrays(path)
    if stored.get("step") != step:
        return None
    return np.split(stored["boxes"], stored["counts"].cumsum()[:-1])
