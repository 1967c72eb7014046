"""Several views of an image, and the scores of a net on them (paper, section 3.4): pure functions on tensors.

Scores are always softmax scores, averaged; averaged logits would rank classes differently.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from repro.models.blocks import BlockNet

Normalize = Callable[[Tensor], Tensor]
"""From uint8 pixels (N, 3, H, W) to what the net takes."""


def ten_crops(image: Tensor, size: int) -> Tensor:
    """The four corners and the centre of an image, then those of its mirror image (AlexNet's ten-crop testing).

    Args:
        image: (3, H, W), or a batch (N, 3, H, W), both sides at least ``size``.

    Returns:
        (10, 3, size, size), or (N, 10, 3, size, size).
    """
    return torch.stack(vision.ten_crop(image, [size, size]), -4)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """(..., 3, H, W) to (..., 3, size, size), both sides at least ``size``."""
    cropped: Tensor = vision.center_crop(image, [size, size])
    return cropped


def crop_scores(model: BlockNet, crops: Tensor, normalize: Normalize) -> Tensor:
    """The mean of the softmax scores of an image's crops: uint8 (N, V, 3, S, S) to float32 (N, classes)."""
    num_images, num_views = crops.shape[:2]
    logits: Tensor = model(normalize(crops.flatten(0, 1)))
    return logits.float().softmax(1).view(num_images, num_views, -1).mean(1)


def dense_scores(model: BlockNet, images: Tensor, window: int) -> Tensor:
    """The net applied fully convolutionally: the mean over positions of the softmax scores at each (deviation D19).

    At a position the fully connected layer sees what it saw in training: the mean over ``window`` x ``window`` of the
    last map. Where the map is smaller than the window, the window is the map.

    Args:
        images: Normalized pixels (N, 3, H, W) of any size.
        window: Side of the last map in training (``training_map``).

    Returns:
        float32 (N, classes).
    """
    maps = model.features(images)
    pooled = F.avg_pool2d(maps, (min(window, maps.shape[2]), min(window, maps.shape[3])), stride=1)
    logits: Tensor = model.fc(pooled.permute(0, 2, 3, 1))
    return logits.float().softmax(-1).mean((1, 2))


def whole_scores(model: BlockNet, images: Tensor, window: int, flip: bool) -> Tensor:
    """``dense_scores``, averaged with those of the mirror images where ``flip``."""
    scores = dense_scores(model, images, window)
    return (scores + dense_scores(model, images.flip(-1), window)) / 2 if flip else scores


def training_map(model: BlockNet, image_size: int) -> int:
    """Side of the last map of a net on the images that it was trained on: 7 for those of Table 1 at 224."""
    weight = model.fc.weight
    return model.features(torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype)).shape[-1]
