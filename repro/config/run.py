"""One run as frozen data: what it trains (science) and how it is carried out (execution).

Everything that can move a reported number is science and in the fingerprint; devices, threads, logging and
paths are not. The defaults live in ``conf/``, which only ``repro.config.compose`` reads; a worker gets this.

A science field that is added later carries a default, the behaviour before it: at that default it is left out
of the fingerprint, so that the records made before it stand.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repro.config.execution import ExecutionConfig
from repro.config.numerics import numerics_version
from repro.config.parse import build, require

IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
"""The columns of Table 1."""


def is_cifar_depth(depth: int) -> bool:
    """Whether ``depth`` is 6n+2 (paper, section 4.2)."""
    return depth >= 8 and (depth - 2) % 6 == 0


@dataclass(frozen=True)
class ModelConfig:
    """The net: 6n+2 layers for CIFAR (paper, section 4.2), the columns of Table 1 for ImageNet.

    ``shortcut=none`` is the plain net. ``stride_in`` is where a bottleneck block takes its stride (deviation D16).
    ``constructed_from`` names the depth of a trained shallow net that this one begins as, its added layers set to the
    identity (the construction of section 1). ``fc_init`` is how the fully connected layer begins (deviation D26),
    ``pool_padding`` the border of the max pooling of ImageNet nets (D28), ``option_a`` where option A's zero channels
    lie (D24).
    """

    name: Literal["cifar_resnet", "imagenet_resnet"]
    depth: int
    shortcut: Literal["A", "B", "C", "none"]
    shortcut_subsample: Literal["stride", "avg_pool"]
    init: Literal["he_fan_in", "he_fan_out"]
    bn_group_size: int
    bn_momentum: float
    bn_eps: float
    stride_in: Literal["1x1", "3x3"] = "1x1"
    constructed_from: int | None = None
    fc_init: Literal["he", "torch", "normal_0.01"] = "he"
    pool_padding: Literal[0, 1] = 1
    option_a: Literal["end", "both_sides"] = "end"

    @property
    def bottleneck(self) -> bool:
        """Whether blocks have three layers (Table 1: the ImageNet nets from 50 layers on)."""
        return self.name == "imagenet_resnet" and self.depth >= 50

    @property
    def label(self) -> str:
        """The paper's name of the net: ``ResNet-20``, ``plain-20``, ``ResNet-34 B``, ``ResNet-50`` (option B)."""
        usual = {"cifar_resnet": "A", "imagenet_resnet": "B" if self.bottleneck else ""}[self.name]
        option = "" if self.shortcut in ("none", usual) else f" {self.shortcut}"
        option += " both sides" if self.option_a == "both_sides" else ""
        origin = "" if self.constructed_from is None else f" from {self.constructed_from}"
        return f"{'plain' if self.shortcut == 'none' else 'ResNet'}-{self.depth}{option}{origin}"

    def validate(self) -> None:
        if self.name == "imagenet_resnet":
            require(
                self.depth in IMAGENET_DEPTHS,
                f"model.depth={self.depth} is not a depth of Table 1: {', '.join(map(str, IMAGENET_DEPTHS))}",
            )
            require(self.constructed_from is None, "model.constructed_from is for model=cifar_resnet")
        else:
            below = max(8, self.depth - (self.depth - 2) % 6)
            require(
                is_cifar_depth(self.depth),
                f"model.depth={self.depth} is not a CIFAR depth: it must be 6n+2 (paper, section 4.2), "
                f"for example {below} or {below + 6}",
            )
            require(
                self.pool_padding == 1,
                f"model.pool_padding={self.pool_padding} is for model=imagenet_resnet: CIFAR nets have no max pooling",
            )
        origin = self.constructed_from
        require(
            origin is None or (is_cifar_depth(origin) and origin < self.depth),
            f"model.constructed_from={origin} must be a smaller depth of 6n+2 layers than model.depth={self.depth}",
        )
        require(
            self.option_a == "end" or self.shortcut == "A",
            f"model.option_a={self.option_a} is for model.shortcut=A: model.shortcut={self.shortcut} pads no channels",
        )
        require(0 < self.bn_momentum <= 1, f"model.bn_momentum={self.bn_momentum} must be above 0 and at most 1")
        require(self.bn_eps > 0, f"model.bn_eps={self.bn_eps} must be above 0")


@dataclass(frozen=True)
class DataConfig:
    """What is trained and evaluated on, and the augmentation (paper, sections 3.4 and 4.2).

    Photographs (``imagenet``, ``tiny_imagenet``) lie in folders: in training their shorter side is resized to a length
    drawn from ``resize`` (two lengths, from and to) and a crop of ``image_size`` is taken; for testing the shorter side
    is ``eval_resize``. ``partial`` allows a folder that is not the whole set.
    """

    name: Literal["cifar10", "synthetic", "imagenet", "tiny_imagenet"]
    split: Literal["train", "train45k"]
    image_size: int
    train_images: int | None
    test_images: int | None
    mean: Literal["per_pixel", "per_channel"]
    std: Literal["none", "per_channel"]
    pad: int
    pad_order: Literal["after_mean", "before_mean"]
    flip: bool
    resize: tuple[int, ...] = ()
    eval_resize: int | None = None
    colour: Literal["none", "pca", "pca_std"] = "none"
    decoder: Literal["pillow", "torchvision", "nvjpeg"] = "pillow"
    skip_corrupt: bool = False
    partial: bool = False

    @property
    def num_classes(self) -> int:
        """Of the whole set; a partial folder may have fewer."""
        return {"imagenet": 1000, "tiny_imagenet": 200}.get(self.name, 10)

    @property
    def photos(self) -> bool:
        """Whether images are files of their own sizes, decoded as they are needed."""
        return self.name in ("imagenet", "tiny_imagenet")

    @property
    def eval_split(self) -> str:
        """The split that the run is evaluated on: the validation set of photographs, else the test set, or what
        ``train45k`` leaves out."""
        if self.photos:
            return "val"
        return "test" if self.split == "train" else "val5k"

    def validate(self) -> None:
        if self.photos:
            self.validate_photos()
        else:
            require(self.image_size in (8, 16, 32), f"data.image_size={self.image_size} must be 8, 16 or 32")
            for name in ("resize", "eval_resize"):
                value = getattr(self, name)
                require(not value, f"data.{name}={value} is for photographs (data=imagenet, data=tiny_imagenet)")
            require(self.colour == "none", f"data.colour={self.colour} is for photographs (data=imagenet)")
            require(self.decoder == "pillow", f"data.decoder={self.decoder} is for photographs (data=imagenet)")
            for name in ("skip_corrupt", "partial"):
                require(not getattr(self, name), f"data.{name}=true is for photographs (data=imagenet)")
        require(0 <= self.pad <= self.image_size, f"data.pad={self.pad} must be between 0 and data.image_size")
        for name in ("train_images", "test_images"):
            value = getattr(self, name)
            require(value is None or value > 0, f"data.{name}={value} must be above 0, or null for all images")

    def validate_photos(self) -> None:
        size = self.image_size
        require(size >= 32 and size % 8 == 0, f"data.image_size={size} must be a multiple of 8, at least 32")
        require(self.pad == 0, f"data.pad={self.pad} must be 0 for photographs: they are cropped from a larger image")
        require(
            self.split == "train",
            f"data.split={self.split} is for CIFAR-10; photographs have a folder val of their own",
        )
        rising = len(self.resize) == 2 and size <= self.resize[0] <= self.resize[1]
        require(
            rising,
            f"data.resize={list(self.resize)} must be two lengths of the shorter side, from and to, "
            f"not below data.image_size={size}",
        )
        require(
            self.eval_resize is not None and self.eval_resize >= size,
            f"data.eval_resize={self.eval_resize} must be a length of the shorter side, not below "
            f"data.image_size={size}",
        )


@dataclass(frozen=True)
class OptimConfig:
    """SGD and its schedule, counted in steps (the paper's iterations). ``batch_size`` is global."""

    lr: float
    batch_size: int
    steps: int
    milestones: tuple[int, ...]
    decay_factor: float
    momentum: float
    momentum_form: Literal["torch", "caffe"]
    nesterov: bool
    weight_decay: float
    decay_scope: Literal["weights", "convolutions", "all"]
    warmup: Literal["auto", "none", "fixed", "until_80"]
    warmup_steps: int
    warmup_lr: float
    precision: Literal["fp32", "tf32", "bf16"]
    schedule: Literal["milestones", "plateau"] = "milestones"
    plateau_evals: int = 5
    plateau_drops: int = 2

    def validate(self) -> None:
        for name in ("lr", "batch_size", "steps", "decay_factor", "warmup_lr", "plateau_evals", "plateau_drops"):
            value = getattr(self, name)
            require(value > 0, f"optim.{name}={value} must be above 0")
        for name in ("weight_decay", "warmup_steps"):
            value = getattr(self, name)
            require(value >= 0, f"optim.{name}={value} must not be negative")
        require(0 <= self.momentum < 1, f"optim.momentum={self.momentum} must be at least 0 and below 1")
        require(
            list(self.milestones) == sorted(set(self.milestones)) and all(m > 0 for m in self.milestones),
            f"optim.milestones={list(self.milestones)} must be rising step numbers",
        )
        require(not self.nesterov or self.momentum > 0, "optim.nesterov=true needs optim.momentum above 0")


@dataclass(frozen=True)
class EvalConfig:
    """When and how the run is evaluated. ``every_steps=null`` is once an epoch.

    ``views`` are further tests of the final net: ten crops, or fully convolutional at the shorter sides ``scales``
    (section 3.4). ``crops_of`` is what the ten crops have the corners of: the whole image or its centred square (D27).
    ``gradient_flow`` keeps the size of signals and gradients, layer by layer, at every evaluation.
    """

    every_steps: int | None
    train_error: bool
    train_images: int | None
    bn_stats: Literal["moving", "recomputed"]
    bn_batches: int
    views: tuple[Literal["10crop", "multiscale"], ...] = ()
    scales: tuple[int, ...] = (224, 256, 384, 480, 640)
    flip_scales: bool = True
    gradient_flow: bool = False
    crops_of: Literal["rectangle", "square"] = "rectangle"

    def validate(self) -> None:
        require(len(set(self.views)) == len(self.views), f"eval.views={list(self.views)} names a view twice")
        require(
            len(self.scales) > 0 and all(scale >= 32 for scale in self.scales),
            f"eval.scales={list(self.scales)} must be lengths of the shorter side, each at least 32",
        )
        for name in ("every_steps", "train_images"):
            value = getattr(self, name)
            require(value is None or value > 0, f"eval.{name}={value} must be above 0, or null")
        require(self.bn_batches > 0, f"eval.bn_batches={self.bn_batches} must be above 0")


@dataclass(frozen=True)
class Paths:
    """Where data is read, heavy output is written (git-ignored) and published evidence lies."""

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
        """Converts and checks a nested dictionary.

        Raises:
            InputError: An unknown or missing key, a value of the wrong type or an impossible combination.
        """
        config: RunConfig = build(cls, values)
        config.validate()
        return config

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, from which ``from_dict`` makes the same run in another process."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return values

    def validate(self) -> None:
        require(0 <= self.seed < 2**32, f"seed={self.seed} must be a whole number from 0 to 4294967295")
        require(
            self.model.name != "cifar_resnet" or not self.data.photos,
            f"data={self.data.name} has photographs and model={self.model.name} is a net for CIFAR-10: add "
            "model=imagenet_resnet, and optim=imagenet_sgd eval=imagenet to train and test it as the paper does",
        )
        for part in (self.model, self.data, self.optim, self.eval, self.execution):
            part.validate()
        require(
            self.model.bn_group_size > 0 and self.optim.batch_size % self.model.bn_group_size == 0,
            f"model.bn_group_size={self.model.bn_group_size} must divide optim.batch_size={self.optim.batch_size}",
        )
        require(
            self.data.photos or not self.eval.views,
            f"eval.views={list(self.eval.views)} is for photographs (data=imagenet, data=tiny_imagenet)",
        )
        require(
            self.model.name != "imagenet_resnet" or self.data.photos,
            f"model={self.model.name} is a net for photographs (data=imagenet, data=tiny_imagenet), and "
            f"data={self.data.name} has none: leave out model=, and optim=imagenet_sgd and eval=imagenet with it",
        )
        self.execution.validate_batch(self.optim.batch_size, self.model.bn_group_size)

    def science(self) -> dict[str, Any]:
        """All that can move a reported number, as plain JSON values."""
        return {
            "seed": self.seed,
            "model": plain(self.model),
            "data": plain(self.data),
            "optim": plain(self.optim),
            "eval": plain(self.eval),
        }

    @property
    def key(self) -> str:
        """A readable name of what is trained: data, net, and the scale where it is not the paper's."""
        net = self.model.label.lower().replace("-", "").replace(" ", "-")
        return "-".join([self.data.name, net] + ([] if self.scale == "paper" else [slug(self.scale)]))

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.science())

    @property
    def run_id(self) -> str:
        """The same command has the same id, so that it resumes what it left and skips what is done."""
        return f"{self.key}-s{self.seed}-{self.fingerprint[:8]}"

    @property
    def work_dir(self) -> Path:
        return self.paths.work / self.run_id


def fingerprint(science: dict[str, Any], version: int | None = None) -> str:
    """Return the digest (16 hexadecimal digits) of what ``RunConfig.science`` gives; None is today's version of it."""
    version = numerics_version(recipe_of(science)) if version is None else version
    text = json.dumps({"numerics_version": version, **science}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_of(science: dict[str, Any]) -> dict[str, Any]:
    """The science of a run without its seed, flat: ``{"optim.lr": 0.1, …}``. Runs that share it are seeds of one."""
    return {
        f"{group}.{name}": value
        for group, values in science.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }


def later_defaults() -> dict[str, Any]:
    """The science fields that came later, flat, at the defaults at which they are left out of a fingerprint."""
    groups = {"model": ModelConfig, "data": DataConfig, "optim": OptimConfig, "eval": EvalConfig}
    return {
        f"{group}.{field.name}": list(field.default) if isinstance(field.default, tuple) else field.default
        for group, kind in groups.items()
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }


def plain(part: Any) -> dict[str, Any]:
    """A config part as JSON values, without the later-added fields that stand at their default."""
    return {
        field.name: list(value) if isinstance(value := getattr(part, field.name), tuple) else value
        for field in dataclasses.fields(part)
        if field.default is dataclasses.MISSING or getattr(part, field.name) != field.default
    }


def slug(text: str) -> str:
    """``text`` as a part of a file name."""
    return "".join(c if c.isalnum() or c in "._" else "_" for c in text)
