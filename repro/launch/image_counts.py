"""Numbers of images of data sets, without reading them."""

from repro.config.run import RunConfig

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


def image_counts(config: RunConfig) -> tuple[int, int]:
    """Count the images of the training and of the evaluated split."""
    data = config.data
    sizes = SPLIT_SIZES.get(data.name, {})
    train = min(data.train_images or 10**9, sizes.get(data.split, 10**9))
    limit = data.test_images or 10**9
    return train, min(limit, sizes.get(data.eval_split, 10**9))
