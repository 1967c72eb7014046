"""Trained nets of finished runs and of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.errors import InputError
from repro.evaluation.stored_net import weights_of
from repro.evaluation.weight_files import listed
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.results.find import find_record
from repro.results.read import Record
from repro.runtime.device import memory_format


@dataclass(frozen=True)
class Trained:
    """The configuration and the weights of a net; ``record`` is None for a net from a file."""

    name: str
    config: RunConfig
    weights: Mapping[str, Tensor]
    record: Record | None = None

    @property
    def num_classes(self) -> int:
        """Classes of the net, as its last layer has them; a folder of ImageNet images may have others than ImageNet."""
        last = self.weights.get("fc.weight")
        return self.config.data.num_classes if last is None else len(last)

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

    The weights are ``final.pt`` in the work folder, or ``weights.safetensors`` beside a published record.

    Raises:
        InputError: The weights do not exist.
        RunError: The checkpoint is damaged.
    """
    run_id, science = record.run_id, record.science
    weights = weights_of(run_id, base.paths.work, base.paths.results)
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
