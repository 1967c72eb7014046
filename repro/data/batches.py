"""What a step and an evaluation take images from, whether they lie in memory or are decoded from files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from repro.data.augment import PixelStats


class Feed(Protocol):
    """Training batches by step. A step is fed tensors of the same shapes and types every time, as a CUDA graph needs,
    and makes its augmented batch of them on the device alone."""

    device: torch.device
    part_size: int
    """Images of a step on this rank."""
    stats: PixelStats

    def __len__(self) -> int:
        """Images in an epoch."""

    def fed(self, step: int) -> tuple[Tensor, ...]:
        """What ``augmented`` needs for ``step``, counted from 0: on the device, or in host memory (pinned for CUDA)."""

    def augmented(self, fed: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Float32 images (B, 3, H, W), augmented and normalized, and labels (B,); B is this rank's part."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What ``augmented`` gives for ``step``."""

    def close(self) -> None:
        """Ends what was started to read ahead."""


class Images(Protocol):
    """Images of a split that are evaluated: this rank's part of them."""

    num_images: int
    """Of all ranks together."""

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 images (N, 3, H, W) and labels (N,) on the device; every batch is full but the last. No image comes
        twice, on whichever rank."""
