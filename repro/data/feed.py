"""Training batches, cut from consecutive epochs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from repro.data.augment import PixelStats


class Feed:
    """This rank's part of the training batches, by step from 0.

    Step t has images [B*t, B*t + B) of the concatenated permutations (deviation D15). No batch is short and no image is
    dropped: a step may end one epoch and begin the next. Ranks have consecutive parts of a batch. ``load`` always
    returns tensors of the same shapes and types, and ``augment`` works only on the device, as a CUDA graph needs.
    """

    stats: PixelStats

    def __init__(self, num_images: int, batch_size: int, device: torch.device, rank: int, num_ranks: int) -> None:
        self.num_images, self.batch_size, self.device = num_images, batch_size, device
        self.part_size = batch_size // num_ranks  # images of a step on this rank, B
        self._part_start = rank * self.part_size
        self._epochs: dict[int, Sequence[Tensor]] = {}

    def __len__(self) -> int:
        return self.num_images

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return ``augment`` of ``load``."""
        return self.augment(tuple(t.to(self.device, non_blocking=True) for t in self.load(step)))

    def load(self, step: int) -> tuple[Tensor, ...]:
        """Return the input of ``augment`` for ``step``: on the device, or in host memory (pinned for CUDA)."""
        raise NotImplementedError

    def augment(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return float32 images (B, 3, H, W), augmented and normalized, and labels (B,)."""
        raise NotImplementedError

    def close(self) -> None:
        """End the processes that read ahead, if there are any."""

    def draw(self, epoch: int) -> Sequence[Tensor]:
        """Draw an epoch, as tensors with the images in the last dimension."""
        raise NotImplementedError

    def drawn(self, step: int) -> Sequence[Tensor]:
        """Return the draws of this rank's images of ``step``."""
        first = step * self.batch_size + self._part_start
        last = first + self.part_size
        parts = []
        for epoch in range(first // self.num_images, (last - 1) // self.num_images + 1):
            if epoch not in self._epochs:
                # A step needs at most the epoch that ends and the one that begins.
                self._epochs = {e: draws for e, draws in self._epochs.items() if e == epoch - 1}
                self._epochs[epoch] = self.draw(epoch)
            start = epoch * self.num_images
            cut = slice(max(first - start, 0), min(last - start, self.num_images))
            parts.append([draws[..., cut] for draws in self._epochs[epoch]])
        return parts[0] if len(parts) == 1 else [torch.cat(draws, -1) for draws in zip(*parts, strict=True)]
