"""Trained nets of finished runs and of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.errors import InputError
from repro.evaluation.weight_files import listed, read_weights
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.results.find import find_record
from repro.results.read import Record
from repro.runtime import checkpoint
from repro.runtime.device import memory_format

PUBLISHED_WEIGHTS = "weights.pt"
"""The net beside a published record: a checkpoint or a state dict."""


@dataclass(frozen=True)
class Trained:
    """The configuration and the weights of a net; ``record`` is None for a net from a file."""

    name: str
    config: RunConfig
    weights: Mapping[str, Tensor]
    record: Record | None = None

    def build(self, num_classes: int, device: torch.device) -> BlockNet:
        """Build the net on ``device``, in evaluation mode.

        Raises:
            InputError: The weights do not fit the net.
        """
        self.check(num_classes)
        model = build_model(self.config.model, num_classes)
        model.load_state_dict(dict(self.weights), strict=False)  # only counters of batches may be missing
        model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
        return model.eval()

    def check(self, num_classes: int) -> None:
        """Check that the names and shapes of the weights fit the net.

        Raises:
            InputError: They do not fit.
        """
        with torch.device("meta"):
            wanted = build_model(self.config.model, num_classes).state_dict()
        if reason := misfit(wanted, self.weights):
            label = self.config.model.label
            raise InputError(f"{self.name} does not contain a {label} with {num_classes} classes: {reason}")


def misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Describe the first weights in ``found`` that do not fit a net with the weights ``wanted``; empty if all fit."""
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # nothing reads them
    missing = [name for name in wanted if name not in found and name not in counters]
    surplus = [name for name in found if name not in wanted]
    other = [
        f"{name} of {sizes(found[name])} instead of {sizes(wanted[name])}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    reasons = [f"it lacks {listed(missing)}"] if missing else []
    reasons += [f"the net has no {listed(surplus)}"] if surplus else []
    reasons += [f"it has {listed(other)}"] if other else []
    return "; ".join(reasons)


def sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def from_run(record: Record, base: RunConfig) -> Trained:
    """Load the net of a finished run, with the execution settings and the folders of ``base``.

    The weights are ``final.pt`` in the work folder, or ``weights.pt`` beside a published record.

    Raises:
        InputError: The weights do not exist.
        RunError: The checkpoint is damaged.
    """
    run_id, science = record.run_id, record.science
    final = base.paths.work / run_id / checkpoint.FINAL
    published = base.paths.results / "runs" / run_id / PUBLISHED_WEIGHTS
    if final.is_file():
        weights = checkpoint.load(final)["model"]
    elif published.is_file():
        weights = read_weights(published).weights
    else:
        raise InputError(
            f"the weights of {run_id} are missing: neither {final} nor {published} exists; train the run again with "
            "the command in its record (`repro publish --weights` would have kept them)"
        )
    config = dataclasses.replace(
        base,
        exp=record.exp,
        scale=record.scale,
        seed=record.seed,
        model=science.model,
        data=science.data,
        optim=science.optim,
        eval=science.eval,
    )
    return Trained(run_id, config, weights, record)


def record_of(run_id: str, base: RunConfig) -> Record:
    """Read the record of a finished run: the one in the work folder, or else the published one.

    Raises:
        InputError: The run is not finished, or its record is invalid.
    """
    return find_record(run_id, (base.paths.work, base.paths.results / "runs"))


# --- publishing ---------------------------------------------------------------------------------------------------


def plan_weights(run_ids: Sequence[str], work: Path, results: Path, *, replace: bool = False) -> list[str]:
    """Return the runs whose final nets are not published yet.

    Raises:
        InputError: A final checkpoint does not exist, or another net of the run is published and ``replace`` is false.
        RunError: A final checkpoint is damaged.
    """
    new = []
    for run_id in run_ids:
        mine, path = final_net(run_id, work), results / "runs" / run_id / PUBLISHED_WEIGHTS
        if path.exists() and is_net(path, mine):
            continue
        if path.exists() and not replace:
            raise InputError(
                f"{path} is not the net of {work / run_id}; `repro publish --weights --replace` overwrites it"
            )
        new.append(run_id)
    return new


def publish_weights(run_id: str, work: Path, results: Path) -> Path:
    """Write the final net of a run beside its published record, without the rest of the checkpoint.

    Raises:
        InputError: The final checkpoint does not exist.
        RunError: The checkpoint is damaged, or the file cannot be written.
    """
    path = results / "runs" / run_id / PUBLISHED_WEIGHTS
    checkpoint.save(path, {"model": final_net(run_id, work)})
    return path


def is_net(path: Path, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a file has exactly these weights."""
    try:
        published = read_weights(path).weights
    except InputError:
        return False
    # Integers are torch's counters of batches, which ``read_weights`` leaves out.
    mine = {name: value for name, value in weights.items() if value.is_floating_point()}
    return checkpoint.digest(published) == checkpoint.digest(mine)


def final_net(run_id: str, work: Path) -> dict[str, Tensor]:
    """Load the weights of a finished run."""
    final = work / run_id / checkpoint.FINAL
    if not final.is_file():
        raise InputError(f"the weights of {run_id} cannot be published: {final} does not exist")
    weights: dict[str, Tensor] = checkpoint.load(final)["model"]
    return weights
