"""Numbers of images of each data set's splits, and settings that ask for more."""

from __future__ import annotations

from repro.config.evaluation import EvalConfig
from repro.config.science import DataConfig
from repro.errors import InputError

SPLIT_SIZES = {
    "cifar10": {"train": 50_000, "train45k": 45_000, "train45k_test": 45_000, "test": 10_000, "val5k": 5_000},
    "cifar100": {"train": 50_000, "train45k": 45_000, "train45k_test": 45_000, "test": 10_000, "val5k": 5_000},
    "svhn": {"train": 604_388, "test": 26_032},
    "imagenet": {"train": 1_281_167, "val": 50_000},
    "tiny_imagenet": {"train": 100_000, "val": 10_000},
    "shapes_photos": {"train": 300, "val": 100},
    "shapes": {"train": 1000, "test": 200},
    "voc": {"train": 16_551, "test": 4952},
    "coco": {"train": 82_783, "test": 40_504},
    "imagenet_det": {"train": 466_444, "test": 10_234},
}


def validate_counts(data: DataConfig, evaluation: EvalConfig) -> None:
    """Refuse more images than a split of classification has; a partial folder may hold any number."""
    sizes = {} if data.partial else SPLIT_SIZES.get(data.name, {})
    for key, count, split in (
        ("data.train_images", data.train_images, data.split),
        ("data.test_images", data.test_images, data.eval_split),
        ("eval.train_images", evaluation.train_images, data.split),
    ):
        size = sizes.get(split)
        if count is not None and size is not None and count > size:
            raise InputError(f"{key}={count} is more than the {size:,} images of the split {split}: use null for all")
