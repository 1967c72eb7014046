"""Settings that can change a reported number.

A field added later has a default that keeps the behaviour before it. At its default it is left out of the fingerprint,
so that older records keep theirs. The text beside a field describes it in docs/export.md.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from repro.config.detection import DetectionConfig
from repro.config.evaluation import EvalConfig
from repro.config.localization import LocalizationConfig
from repro.config.model import ModelConfig
from repro.config.numerics import numerics_version
from repro.config.parse import NOT_NEGATIVE, POSITIVE, Bound, build, plain, require

BOXES = ("shapes", "voc", "coco", "imagenet_det")
"""Data sets of images with boxes."""
OF_LISTS = ("lists", "test_lists", "classes")
"""Fields of ``data`` that only detectors have."""
OF_BOXES = (*OF_LISTS, "boxes", "skip_boxes")
"""Fields of ``data`` that classification does not have."""
SHARE = Bound("must be at least 0 and below 1", lambda value: 0 <= value < 1)


@dataclass(frozen=True)
class DataConfig:
    """The images for training and testing, and their augmentation (paper, sections 3.4 and 4.2)."""

    name: Annotated[
        Literal[
            "cifar10",
            "cifar100",
            "svhn",
            "synthetic",
            "imagenet",
            "tiny_imagenet",
            "shapes_photos",
            "shapes",
            "voc",
            "coco",
            "imagenet_det",
        ],
        "the data set",
    ]
    split: Annotated[
        Literal["train", "train45k", "train45k_test"],
        "`train`, or `train45k` where 5,000 images are held out (D7); `train45k_test` is tested on the test set (D37)",
    ]
    image_size: Annotated[int, "side of a training image or crop, in pixels"]
    train_images: Annotated[int | None, "number of training images; empty means all", POSITIVE]
    test_images: Annotated[int | None, "number of test images; empty means all", POSITIVE]
    mean: Annotated[Literal["per_pixel", "per_channel"], "mean that is subtracted, `per_pixel` or `per_channel`"]
    std: Annotated[Literal["none", "per_channel"], "deviation to divide by, `none` or `per_channel` (D11)"]
    pad: Annotated[int, "pixels added on each side before the random crop"]
    pad_order: Annotated[Literal["after_mean", "before_mean"], "padding before or after the mean is subtracted (D3)"]
    flip: Annotated[bool, "random horizontal flips"]
    resize: Annotated[tuple[int, ...], "range of the shorter side of an ImageNet image in training"] = ()
    eval_resize: Annotated[int | None, "shorter side of an ImageNet image in testing"] = None
    colour: Annotated[Literal["none", "pca", "pca_std"], "colour noise, `none`, `pca` or `pca_std` (D17)"] = "none"
    decoder: Annotated[Literal["pillow", "torchvision", "nvjpeg"], "decoder of ImageNet images (D20)"] = "pillow"
    skip_corrupt: Annotated[bool, "whether unreadable ImageNet images were left out"] = False
    partial: Annotated[bool, "whether the folder may hold only a part of the data set"] = False
    pad_mode: Annotated[Literal["zeros", "reflect"], "padding: `zeros`, or the mirrored border of the image"] = "zeros"
    whiten: Annotated[Literal["none", "zca"], "`none`, or whitening of whole images by `zca` (D50)"] = "none"
    crop: Annotated[
        Literal["scale", "scale_aspect"],
        "training crops of an ImageNet image: of random `scale`, or also of random aspect ratio, `scale_aspect` (D100)",
    ] = "scale"
    jitter: Annotated[
        float, "largest relative change of an ImageNet image's brightness, contrast and saturation (D101)", SHARE
    ] = 0.0
    # Of detectors, whose runs are not exported: without a text.
    lists: tuple[str, ...] = ()
    """Lists of training images with boxes, as in ``2007_trainval``."""
    test_lists: tuple[str, ...] = ()
    """Lists of test images with boxes."""
    classes: tuple[str, ...] = ()
    """Classes of VOC folders; empty means VOC's twenty. Of ImageNet's folders for detection their WordNet ids."""
    skip_boxes: bool = False
    """Leave out boxes that are empty or outside of their image, instead of refusing them."""
    boxes: bool = False
    """True if the objects of the images' classes have boxes, for localizers."""

    @property
    def num_classes(self) -> int:
        """Classes of the whole set; a partial folder may have fewer."""
        if self.classes:
            return len(self.classes)
        others = {"tiny_imagenet": 200, "cifar100": 100, "coco": 80, "voc": 20, "imagenet_det": 200}
        others |= {"shapes": 3, "shapes_photos": 3}
        return {"imagenet": 1000, **others}.get(self.name, 10)

    @property
    def photos(self) -> bool:
        """True if images are files of various sizes, decoded when they are needed."""
        return self.name in ("imagenet", "tiny_imagenet", "shapes_photos")

    @property
    def has_boxes(self) -> bool:
        """True if images have boxes of objects, for detectors."""
        return self.name in BOXES

    @property
    def is_boxed_shapes(self) -> bool:
        """True for drawn images of one class each, cropped as ImageNet images are."""
        return self.boxes and self.name == "shapes"

    @property
    def eval_split(self) -> str:
        """The split for evaluation: ImageNet's validation set, the test set, or the images held out by ``train45k``."""
        if self.photos or self.is_boxed_shapes:
            return "val"
        return "val5k" if self.split == "train45k" else "test"

    def validate(self) -> None:
        if self.photos or self.is_boxed_shapes:
            self.validate_photos()
        elif self.has_boxes:
            self.validate_boxes()
        else:
            held_out = self.name == "svhn" and self.split != "train"
            require(not held_out, f"data.split={self.split} is for CIFAR: SVHN has no images held out (D49)")
            require(self.image_size in (8, 16, 32), f"data.image_size={self.image_size} must be 8, 16 or 32")
            fields = {field.name: field.default for field in dataclasses.fields(self)}
            for name in ("resize", "eval_resize", "crop", "colour", "jitter", "decoder", "skip_corrupt", "partial"):
                value = getattr(self, name)
                shown = str(value).lower() if isinstance(value, bool) else value
                reason = "is for ImageNet images (data=imagenet, data=tiny_imagenet)"
                require(not value or value == fields[name], f"data.{name}={shown} {reason}")
        has_files = self.has_boxes and self.name != "shapes"
        require(has_files or not self.skip_boxes, f"data.skip_boxes=true is not for data={self.name}")
        fits = not self.boxes or self.photos or self.name == "shapes"
        require(fits, f"data.boxes=true is for data=imagenet_boxes and the like, not for data={self.name}")
        for name in OF_LISTS:
            value = list(getattr(self, name))
            owners = ("voc", "imagenet_det") if name == "classes" else ("voc", "coco", "imagenet_det")
            words = " and ".join(f"data={owner}" for owner in owners)
            require(not value or self.name in owners, f"data.{name}={value} is for {words}, not for data={self.name}")
        require(0 <= self.pad <= self.image_size, f"data.pad={self.pad} must be between 0 and data.image_size")
        if self.whiten == "zca":
            fits = not (self.photos or self.has_boxes) and (self.mean, self.std) == ("per_pixel", "none")
            require(fits, "data.whiten=zca is for CIFAR images with data.mean=per_pixel and data.std=none")
            require(
                self.pad_order == "after_mean",
                "data.whiten=zca needs data.pad_order=after_mean: whole images are whitened, then padded",
            )
        if self.pad_mode == "reflect":
            is_padded = not (self.photos or self.has_boxes)
            require(is_padded, "data.pad_mode=reflect is for CIFAR images: ImageNet images are not padded")
            require(self.pad < self.image_size, f"data.pad={self.pad} must be below data.image_size to be reflected")
            require(
                self.pad_order == "after_mean",
                "data.pad_mode=reflect needs data.pad_order=after_mean: before_mean pads with black",
            )

    def validate_boxes(self) -> None:
        require(self.image_size >= 32, f"data.image_size={self.image_size} must be a shorter side of at least 32")
        require(self.pad == 0, f"data.pad={self.pad} must be 0 for images with boxes: they are not cropped")
        require(self.split == "train", f"data.split={self.split} is for CIFAR-10: use data.split=train")
        require(
            self.mean == "per_channel",
            f"data.mean={self.mean} must be per_channel for images with boxes, which have many sizes (D63)",
        )
        is_plain = not self.resize and self.eval_resize is None and self.colour == "none"
        require(is_plain, "data.resize, data.eval_resize and data.colour are for ImageNet images, not for detectors")
        self._refuse_later_augmentation("detectors")
        if self.name != "shapes":
            for name in ("lists", "test_lists"):
                require(len(getattr(self, name)) > 0, f"data.{name}=[] must name lists of images of data={self.name}")

    def _refuse_later_augmentation(self, whose: str) -> None:
        for name, usual in (("crop", "scale"), ("jitter", 0.0)):
            value = getattr(self, name)
            require(value == usual, f"data.{name}={value} is for classification, not for {whose}: leave it out")

    def validate_photos(self) -> None:
        size = self.image_size
        if self.boxes:
            self._refuse_later_augmentation("localizers")
        require(size >= 32 and size % 8 == 0, f"data.image_size={size} must be a multiple of 8, at least 32")
        require(self.pad == 0, f"data.pad={self.pad} must be 0 for ImageNet images: they are cropped from larger ones")
        require(
            self.split == "train",
            f"data.split={self.split} is for CIFAR-10: ImageNet images have their own folder val",
        )
        require(
            len(self.resize) == 2 and size <= self.resize[0] <= self.resize[1],
            f"data.resize={list(self.resize)} must be the smallest and the largest shorter side, each at least "
            f"data.image_size={size}",
        )
        require(
            self.eval_resize is not None and self.eval_resize >= size,
            f"data.eval_resize={self.eval_resize} must be a shorter side of at least data.image_size={size}",
        )


@dataclass(frozen=True)
class OptimConfig:
    """SGD and its schedule, counted in steps (the paper's iterations)."""

    lr: Annotated[float, "initial learning rate", POSITIVE]
    batch_size: Annotated[int, "images of a step, on all devices together", POSITIVE]
    steps: Annotated[int, "optimizer updates", POSITIVE]
    milestones: Annotated[tuple[int, ...], "steps after which the learning rate drops"]
    decay_factor: Annotated[float, "the learning rate is divided by this at each drop", POSITIVE]
    momentum: Annotated[float, "momentum of SGD", SHARE]
    momentum_form: Annotated[Literal["torch", "caffe"], "`torch` or `caffe` (D5)"]
    nesterov: Annotated[bool, "Nesterov's momentum (D13)"]
    weight_decay: Annotated[float, "factor of the L2 penalty", NOT_NEGATIVE]
    decay_scope: Annotated[
        Literal["weights", "convolutions", "all"], "what decays: `weights`, `convolutions` or `all` (D2)"
    ]
    warmup: Annotated[Literal["auto", "none", "fixed", "until_80"], "`auto`, `none`, `fixed` or `until_80` (D9)"]
    warmup_steps: Annotated[int, "length of a fixed warm-up", NOT_NEGATIVE]
    warmup_lr: Annotated[float, "learning rate of the warm-up", POSITIVE]
    precision: Annotated[Literal["fp32", "tf32", "bf16"], "requested arithmetic (D10)"]
    schedule: Annotated[
        Literal["milestones", "plateau", "cosine"], "`milestones`, `plateau` (D18) or `cosine` (D47)"
    ] = "milestones"
    plateau_evals: Annotated[int, "evaluations without progress before the learning rate drops", POSITIVE] = 5
    plateau_drops: Annotated[int, "the most drops of schedule `plateau`", POSITIVE] = 2
    label_smoothing: Annotated[float, "share of the target that all classes divide among them (D47)", SHARE] = 0.0

    def validate(self) -> None:
        require(
            list(self.milestones) == sorted(set(self.milestones)) and all(m > 0 for m in self.milestones),
            f"optim.milestones={list(self.milestones)} must be increasing step numbers",
        )
        # Checked here, not as bounds of the fields, so that records of earlier runs can still be read.
        factor, decay = self.decay_factor, self.weight_decay
        require(factor >= 1, f"optim.decay_factor={factor} must be at least 1: the learning rate is divided by it")
        require(decay < 1, f"optim.weight_decay={decay} must be below 1")
        require(not self.nesterov or self.momentum > 0, "optim.nesterov=true needs optim.momentum above 0")


@dataclass(frozen=True)
class Science:
    """All settings that can change a reported number; runs that differ only in the seed have the same recipe."""

    seed: int
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    eval: EvalConfig
    detection: DetectionConfig | None = None
    """Of a detector; None for classification."""
    localization: LocalizationConfig | None = None
    """Of a localizer; None for all others."""

    @property
    def kind(self) -> Literal["classification", "detection", "localization"]:
        """The task: that of a net that classifies images, of a detector or of a localizer."""
        if self.localization is not None:
            return "localization"
        return "classification" if self.detection is None else "detection"

    @property
    def is_classification(self) -> bool:
        return self.kind == "classification"

    @classmethod
    def from_dict(cls, values: Any) -> Science:
        """Convert JSON values, as ``to_dict`` returns them.
        Raises:
            InputError: A key is unknown or missing, or a value has the wrong type.
        """
        science: Science = build(cls, values, "science")
        return science

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; fields added later are left out at their default."""
        values: dict[str, Any] = plain(self)
        return values

    @classmethod
    def from_flat(cls, fields: Mapping[str, Any], seed: int = 0) -> Science:
        """Convert flat fields, as ``flat`` returns them; fields added later may be missing.

        Raises:
            InputError: A field is unknown or missing, or a value has the wrong type.
        """
        values: dict[str, Any] = {"seed": seed}
        for key, value in fields.items():
            group, _, name = key.partition(".")
            values.setdefault(group, {})[name] = value
        science: Science = build(cls, values)
        return science

    def flat(self) -> dict[str, Any]:
        """Return all fields except the seed: ``{"optim.lr": 0.1, …}``, with lists for tuples.

        Those of ``detection`` and ``localization``, and those of ``data`` for images with boxes, are there for runs
        of these kinds only.
        """
        return dict(self._flat)

    @functools.cached_property
    def _flat(self) -> dict[str, Any]:
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            f"{group}.{name}": list(value) if isinstance(value, tuple) else value
            for group, part in parts.items()
            if group != "seed" and part is not None
            for name, value in vars(part).items()
            if not (self.is_classification and group == "data" and name in OF_BOXES)
        }

    @property
    def numerics_version(self) -> int:
        """The version that the current code gives this run."""
        return numerics_version(self.flat())

    def fingerprint(self, version: int | None = None) -> str:
        """Return the digest of the science and of a numerics version (default: current), 16 hexadecimal digits."""
        version = self.numerics_version if version is None else version
        text = json.dumps({"numerics_version": version, **self.to_dict()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def groups() -> Mapping[str, Any]:
    """Return the groups that all runs have, by name, with their dataclasses."""
    return {name: kind for name, kind in get_type_hints(Science).items() if dataclasses.is_dataclass(kind)}


@functools.cache
def later_defaults() -> Mapping[str, Any]:
    """Return the fields added later, flat, at their defaults, at which the fingerprint leaves them out."""
    return {
        f"{group}.{field.name}": list(field.default) if isinstance(field.default, tuple) else field.default
        for group, kind in groups().items()
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING and not (group == "data" and field.name in OF_BOXES)
    }
