"""Scores of a net from several views of an image (paper, section 3.4).

Softmax scores are averaged, never logits, which would rank classes differently.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from repro.data.augment import PixelStats
from repro.evaluation.predict import predict
from repro.models.blocks import BlockNet
from repro.models.forward import forward


def ten_crops(image: Tensor, size: int) -> Tensor:
    """Cut out the four corners and the centre of an image and of its flip (AlexNet's ten-crop testing).

    Args:
        image: (3, H, W), or a batch (N, 3, H, W), both sides at least ``size``.

    Returns:
        (10, 3, size, size), or (N, 10, 3, size, size).
    """
    return torch.stack(vision.ten_crop(image, [size, size]), -4)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """Cut (..., 3, size, size) out of (..., 3, H, W), both sides at least ``size``."""
    cropped: Tensor = vision.center_crop(image, [size, size])
    return cropped


def crop_scores(model: BlockNet, crops: Tensor, stats: PixelStats, precision: str) -> Tensor:
    """Average the softmax scores of an image's crops: uint8 (N, V, 3, S, S) to float32 (N, classes)."""
    num_images, num_views = crops.shape[:2]
    logits = predict(model, crops.flatten(0, 1), stats, precision)
    return logits.float().softmax(1).view(num_images, num_views, -1).mean(1)


class FullyConvolutional(nn.Module):
    """A net that computes logits (N, h, w, classes) at every position of images of any size (deviation D19).

    As in training, the input of the fully connected layer is the mean over ``window`` x ``window`` values of the last
    map (``training_map``). A smaller map is averaged as a whole.
    """

    def __init__(self, model: BlockNet, window: int) -> None:
        super().__init__()
        self.model, self.window = model, window

    def forward(self, images: Tensor) -> Tensor:
        maps = self.model.features(images)
        window = (min(self.window, maps.shape[2]), min(self.window, maps.shape[3]))
        logits: Tensor = self.model.fc(F.avg_pool2d(maps, window, stride=1).permute(0, 2, 3, 1))
        return logits


def dense_scores(model: FullyConvolutional, images: Tensor, precision: str, flip: bool = False) -> Tensor:
    """Average the softmax scores over all positions (and flips): normalized (N, 3, H, W) to (N, classes)."""
    scores = forward(model, images, precision).float().softmax(-1).mean((1, 2))
    return (scores + dense_scores(model, images.flip(-1), precision)) / 2 if flip else scores


def training_map(model: BlockNet, image_size: int) -> int:
    """Return the side of the last map for images of the training size: 7 for the nets of Table 1 at 224."""
    weight = model.fc.weight
    return model.features(torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype)).shape[-1]
