"""One run as frozen data.

Devices, threads, logging and paths are execution settings and change no number. The defaults are in ``conf/``, which
only ``repro.config.compose`` reads; worker processes receive a ``RunConfig``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.execution import ExecutionConfig
from repro.config.families import FAMILIES, IMAGENET_DEPTHS
from repro.config.model import ModelConfig
from repro.config.parse import build, require
from repro.config.science import DataConfig, EvalConfig, OptimConfig, Science, later_defaults

__all__ = [
    "IMAGENET_DEPTHS",
    "DataConfig",
    "EvalConfig",
    "ModelConfig",
    "OptimConfig",
    "Paths",
    "RunConfig",
    "Science",
    "later_defaults",
    "slug",
]


@dataclass(frozen=True)
class Paths:
    """Folders of the data, of heavy output (git-ignored) and of published evidence."""

    data: Path
    work: Path
    results: Path


@dataclass(frozen=True)
class RunConfig:
    """One training run. ``exp`` and ``scale`` are labels: only the science fields decide what a run is."""

    exp: str
    scale: str
    seed: int
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    eval: EvalConfig
    execution: ExecutionConfig
    paths: Paths

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Convert and check a nested dictionary.

        Raises:
            InputError: A key is unknown or missing, a value has the wrong type, or values do not fit together.
        """
        config: RunConfig = build(cls, values)
        config.validate()
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which ``from_dict`` makes the same run in another process."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return values

    def with_execution(self, **changes: Any) -> RunConfig:
        """Return the same run with other execution settings."""
        return dataclasses.replace(self, execution=dataclasses.replace(self.execution, **changes))

    def validate(self) -> None:
        is_for_photos = FAMILIES[self.model.name].photos
        require(0 <= self.seed < 2**32, f"seed={self.seed} must be a whole number from 0 to 4294967295")
        require(
            is_for_photos or not self.data.photos,
            f"data={self.data.name} has ImageNet images, but model={self.model.name} is a net for CIFAR-10: add "
            "model=imagenet_resnet, and optim=imagenet_sgd eval=imagenet to train and test it as the paper does",
        )
        for part in (self.model, self.data, self.optim, self.eval, self.execution):
            part.validate()
        require(
            self.optim.batch_size % self.model.bn_group_size == 0,
            f"model.bn_group_size={self.model.bn_group_size} must divide optim.batch_size={self.optim.batch_size}",
        )
        require(
            self.data.photos or not self.eval.views,
            f"eval.views={list(self.eval.views)} is for ImageNet images (data=imagenet, data=tiny_imagenet)",
        )
        require(
            self.eval.choose == "last" or self.data.split == "train45k_test",
            f"eval.choose=validation needs images that are held out and a test beside them: data.split=train45k_test, "
            f"not {self.data.split}",
        )
        require(
            self.eval.choose == "last" or self.eval.bn_stats == "moving",
            "eval.choose=validation reports an epoch before the end, but eval.bn_stats=recomputed tests the last one",
        )
        require(
            not is_for_photos or self.data.photos,
            f"model={self.model.name} is a net for ImageNet images (data=imagenet, data=tiny_imagenet), but "
            f"data={self.data.name} has none: leave out model=, optim=imagenet_sgd and eval=imagenet",
        )
        self.execution.validate_batch(self.optim.batch_size, self.model.bn_group_size)

    @property
    def science(self) -> Science:
        """All settings that can change a reported number."""
        return Science(self.seed, self.model, self.data, self.optim, self.eval)

    @property
    def key(self) -> str:
        """A readable name: the data, the net, and the scale unless it is the paper's."""
        words = "-".join(self.model.label.lower().replace("-", "", 1).split())
        net = "".join(c for c in words if c.isalnum() or c in "-._")
        return "-".join([self.data.name, net] + ([] if self.scale == "paper" else [slug(self.scale)]))

    @property
    def fingerprint(self) -> str:
        return self.science.fingerprint()

    @property
    def run_id(self) -> str:
        """The name of the run, the same for the same command, which therefore resumes it or skips it once finished."""
        return f"{self.key}-s{self.seed}-{self.fingerprint[:8]}"

    @property
    def work_dir(self) -> Path:
        return self.paths.work / self.run_id


def slug(text: str) -> str:
    """Return ``text`` as a part of a file name."""
    return "".join(c if c.isalnum() or c in "._" else "_" for c in text)
