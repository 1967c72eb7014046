"""Trained nets to be evaluated again: of a finished run, or from a file of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.errors import InputError, nearest
from repro.evaluation.weight_files import listed, read_weights
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.results.read import Record, read_record
from repro.runtime import checkpoint
from repro.runtime.device import memory_format

PUBLISHED_WEIGHTS = "weights.pt"
"""Beside a published record: a checkpoint, or the state dict of the net alone."""


@dataclass(frozen=True)
class Trained:
    """A net's configuration and weights; ``record`` is None for those of a file."""

    name: str
    config: RunConfig
    weights: Mapping[str, Tensor]
    record: Record | None = None

    def build(self, num_classes: int, device: torch.device) -> BlockNet:
        """The net on ``device``, in evaluation mode.

        Raises:
            InputError: The weights are not those of such a net.
        """
        self.check(num_classes)
        model = build_model(self.config.model, num_classes)
        model.load_state_dict(dict(self.weights), strict=False)  # what may be missing has been looked at
        model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
        return model.eval()

    def check(self, num_classes: int) -> None:
        """Compare names and shapes with those of the net, without building it.

        Raises:
            InputError: The weights are not those of such a net.
        """
        with torch.device("meta"):
            wanted = build_model(self.config.model, num_classes).state_dict()
        if reason := misfit(wanted, self.weights):
            label = self.config.model.label
            raise InputError(f"{self.name} does not hold a {label} of {num_classes} classes: {reason}")


def misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What of ``found`` does not fit a net that has ``wanted``, naming the first parts; empty where all does."""
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # which nothing reads
    reasons = []
    if missing := [name for name in wanted if name not in found and name not in counters]:
        reasons.append(f"it lacks {listed(missing)}")
    if surplus := [name for name in found if name not in wanted]:
        reasons.append(f"it has {listed(surplus)} too many")
    other = [
        f"{name} of {sizes(found[name])} instead of {sizes(wanted[name])}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if other:
        reasons.append(f"it has {listed(other)}")
    return "; ".join(reasons)


def sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def from_run(run_id: str, base: RunConfig) -> Trained:
    """The net of a finished run, as its record describes it, with the execution and the folders of ``base``.

    Its weights are ``final.pt`` in the work folder, or ``weights.pt`` beside a published record.

    Raises:
        InputError: There is no such finished run, its record is invalid, or its weights are not there.
        RunError: The checkpoint is damaged.
    """
    work, published = base.paths.work, base.paths.results / "runs"
    record = record_of(run_id, (work, published))
    places = (work / run_id / checkpoint.FINAL, published / run_id / PUBLISHED_WEIGHTS)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise InputError(
            f"the weights of {run_id} are not there: neither {places[0]} nor {places[1]} exists; "
            "its record has the command that trains it again, and `repro publish --weights` would have kept them"
        )
    weights = checkpoint.load(file)["model"] if file.name == checkpoint.FINAL else read_weights(file).weights
    return Trained(run_id, config_of(record, base), weights, record)


def plan_weights(run_ids: Sequence[str], work: Path, results: Path, *, replace: bool = False) -> list[str]:
    """Find the runs whose final nets are not published yet as they are.

    Raises:
        InputError: A final checkpoint is not there, or another net of the run is published and ``replace`` does not
            allow to overwrite it.
        RunError: A final checkpoint is damaged.
    """
    new = []
    for run_id in run_ids:
        mine, path = final_net(run_id, work), results / "runs" / run_id / PUBLISHED_WEIGHTS
        if not path.exists():
            new.append(run_id)
        elif not is_net(path, mine):
            if not replace:
                raise InputError(
                    f"{path} holds another net than {work / run_id}; `repro publish --weights --replace` overwrites it"
                )
            new.append(run_id)
    return new


def is_net(path: Path, weights: Mapping[str, Tensor]) -> bool:
    """Tell whether a file holds just these weights, to the bit."""
    try:
        published = read_weights(path).weights
    except InputError:
        return False
    # Counters of batches, which torch keeps and nothing reads, are not read back.
    mine = {name: value for name, value in weights.items() if value.is_floating_point()}
    return checkpoint.digest(published) == checkpoint.digest(mine)


def final_net(run_id: str, work: Path) -> dict[str, Tensor]:
    """Load the weights of a finished run.

    Raises:
        InputError: Its final checkpoint is not there.
        RunError: The checkpoint is damaged.
    """
    final = work / run_id / checkpoint.FINAL
    if not final.is_file():
        raise InputError(f"the weights of {run_id} cannot be published: {final} is not there")
    weights: dict[str, Tensor] = checkpoint.load(final)["model"]
    return weights


def publish_weights(run_id: str, work: Path, results: Path) -> Path:
    """Writes the final net of a run beside its published record, without what only going on with it would need.

    Raises:
        InputError: Its final checkpoint is not there.
        RunError: The checkpoint is damaged, or the file cannot be written.
    """
    path = results / "runs" / run_id / PUBLISHED_WEIGHTS
    checkpoint.save(path, {"model": final_net(run_id, work)})
    return path


def record_of(run_id: str, roots: Sequence[Path]) -> Record:
    """The record of a finished run, from the first of ``roots`` that has one.

    Raises:
        InputError: None has, or it is invalid.
    """
    finished = {file.parent.name: file for root in reversed(roots) for file in root.glob("*/record.json")}
    if run_id not in finished:
        known = nearest(run_id, finished) if finished else "there is none"
        raise InputError(f"{run_id!r} is not a finished run of {' or '.join(map(str, roots))}: {known}")
    try:
        return read_record(finished[run_id])
    except InputError as error:
        raise InputError(f"the record {finished[run_id]} is invalid: {error}") from None


def config_of(record: Record, base: RunConfig) -> RunConfig:
    """The configuration of a finished run, with the execution and the folders of ``base``."""
    return dataclasses.replace(base, exp=record.exp, scale=record.scale, **vars(record.science))
