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

from repro.config.detection import DetectionConfig
from repro.config.evaluation import EvalConfig
from repro.config.execution import ExecutionConfig
from repro.config.families import FAMILIES, IMAGENET_DEPTHS
from repro.config.localization import LocalizationConfig
from repro.config.localizer_run import validate_localizer
from repro.config.model import ModelConfig
from repro.config.parse import build, require
from repro.config.science import DataConfig, OptimConfig, Science, later_defaults
from repro.config.split_sizes import validate_counts
from repro.errors import InputError

__all__ = [
    "IMAGENET_DEPTHS",
    "DataConfig",
    "DetectionConfig",
    "EvalConfig",
    "LocalizationConfig",
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
    detection: DetectionConfig | None = None
    localization: LocalizationConfig | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Convert and check a nested dictionary; what a localizer's method does not read is at its default.

        Raises:
            InputError: A key is unknown or missing, a value has the wrong type, or values do not fit together.
        """
        config: RunConfig = build(cls, values)
        if config.localization is not None:
            config = dataclasses.replace(config, localization=config.localization.proper)
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
        if self.localization is not None or self.data.boxes:
            validate_localizer(self.science, self.execution)
            return
        if self.detection is not None or self.data.has_boxes:
            self._validate_detector()
            return
        require(
            not FAMILIES[self.model.name].is_body,
            f"model={self.model.name} is not trained here as a classifier, it is a body of detectors: add "
            "exp=voc_detection, or use model=imagenet_resnet",
        )
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
        validate_counts(self.data, self.eval)
        require(
            not self.eval.gradient_flow or self.execution.micro_batch is None,
            f"eval.gradient_flow=true measures the whole batch of a device at once, but execution.micro_batch="
            f"{self.execution.micro_batch} divides it: leave one of them out",
        )
        self.execution.validate_batch(self.optim.batch_size, self.model.bn_group_size)

    def _validate_detector(self) -> None:
        """Refuse settings that do not fit together in a run that trains a detector."""
        detection, optim, execution = self.detection, self.optim, self.execution
        if detection is None:
            raise InputError(f"data={self.data.name} has boxes of objects, for detectors: add exp=voc_detection")
        require(
            self.data.has_boxes,
            f"data={self.data.name} has no boxes of objects, which detection.training={detection.training} needs: use "
            "data=voc, data=coco, data=imagenet_det or data=shapes",
        )
        for part in (self.model, self.data, self.optim, self.eval, self.execution, detection):
            part.validate()
        is_body = FAMILIES[self.model.name].is_body
        require(
            is_body or (self.model.name == "imagenet_resnet" and self.model.order == "original"),
            f"model={self.model.name} model.order={self.model.order} has no body for detectors: use "
            "model=imagenet_resnet model.order=original, or model=vgg",
        )
        require(
            not is_body or detection.pooled_size == 7,
            f"detection.pooled_size={detection.pooled_size} must be 7 for model={self.model.name}, whose first fully "
            "connected layer reads regions of 7x7",
        )
        require(not self.model.is_random, "model.dropout and model.survival are not for detectors: leave them out")
        planned = sum(detection.steps)
        require(
            optim.steps == planned,
            f"optim.steps={optim.steps} is not {planned}, the sum of detection.steps: set detection.steps alone",
        )
        is_stepwise = not optim.milestones and (optim.schedule, optim.warmup) == ("milestones", "none")
        require(is_stepwise, "detection.drops is the schedule of detectors: use optim=detection_sgd")
        is_plain = not self.eval.views and not self.eval.train_error and self.eval.choose == "last"
        require(is_plain, "eval.views, eval.train_error and eval.choose are not for detectors: use eval=detection")
        ranks = execution.num_ranks
        for key, batch in (("optim.batch_size", optim.batch_size), ("detection.rpn_batch_size", self._rpn_batch)):
            require(
                batch % ranks == 0,
                f"{key}={batch} does not divide evenly over the {ranks} devices: use a multiple of {ranks}",
            )
        require(
            execution.step in ("auto", "eager"),
            f"execution.step={execution.step} is not for detectors, whose images have many sizes: use eager or auto",
        )
        for name in ("micro_batch", "checkpoint_activations", "profile"):
            value = getattr(execution, name)
            shown = str(value).lower()
            require(not value, f"execution.{name}={shown} is for classification: leave it out for detectors")
        require(
            detection.pooling == "pool" or execution.device == "cpu" or not execution.deterministic,
            f"detection.pooling={detection.pooling} does not add its gradients in a fixed order on a GPU: use "
            "detection.pooling=pool or execution.deterministic=false",
        )

    @property
    def _rpn_batch(self) -> int:
        """Images of an update of the region proposal network alone."""
        assert self.detection is not None
        return self.detection.rpn_batch_size if self.detection.training == "alternating" else self.optim.batch_size

    @property
    def science(self) -> Science:
        """All settings that can change a reported number."""
        return Science(self.seed, self.model, self.data, self.optim, self.eval, self.detection, self.localization)

    @property
    def label(self) -> str:
        """The paper's name of what is trained: ``ResNet-20``, ``Faster R-CNN ResNet-101``."""
        return " ".join(filter(None, (self._method, self.model.label)))

    @property
    def _method(self) -> str:
        """The method that the net is the body of; empty for classification."""
        if self.localization is not None:
            return {"rpn": "RPN", "rcnn": "R-CNN"}[self.localization.method]
        return "" if self.detection is None else "Faster R-CNN"

    @property
    def starts_from(self) -> DetectionConfig | LocalizationConfig | None:
        """The settings that name the weights from which a detector or a localizer starts."""
        return self.detection or self.localization

    @property
    def proposals_of(self) -> str | None:
        """The id of the localizer whose proposals the run takes; None if it takes none (D92)."""
        if self.localization is None or self.localization.method == "rpn":
            return None
        own = self.localization.proposals_of
        return own or dataclasses.replace(self, localization=self.localization.proposer).run_id

    @property
    def key(self) -> str:
        """A readable name: the data, the net, and the scale unless it is the paper's."""
        words = "-".join(self.model.label.lower().replace("-", "", 1).split())
        net = "".join(c for c in words if c.isalnum() or c in "-._")
        method = [slug(self._method).replace("_", "").replace("-", "").lower()] if self._method else []
        return "-".join([self.data.name, *method, net] + ([] if self.scale == "paper" else [slug(self.scale)]))

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
