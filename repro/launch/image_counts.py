"""Numbers of images of data sets, without reading them."""

from repro.config.run import RunConfig
from repro.config.split_sizes import SPLIT_SIZES


def image_counts(config: RunConfig) -> tuple[int, int]:
    """Count the images of the training and of the evaluated split."""
    data = config.data
    sizes = SPLIT_SIZES.get(data.name, {})
    train = min(data.train_images or 10**9, sizes.get(data.split, 10**9))
    limit = data.test_images or 10**9
    return train, min(limit, sizes.get(data.eval_split, 10**9))
