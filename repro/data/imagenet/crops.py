"""What a process that decodes is told, and what it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.data.imagenet import decode
from repro.data.imagenet.folders import printable
from repro.errors import AloneError, InputError

CHUNK = 32
"""Images that a process decodes at a time: a batch is made of several, so that its parts are decoded side by side."""


@dataclass(frozen=True)
class Crops:
    """Images to crop, one entry each: a process needs no list of all files. No ``places`` are centre crops."""

    paths: list[str]
    shorter_sides: list[int]
    places: list[decode.Place] | None
    flips: list[bool]


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be decoded after all: errors do not pass from one process to another well."""

    path: str
    reason: str


@dataclass(frozen=True)
class Cropper:
    """Makes uint8 crops (n, 3, size, size)."""

    size: int
    decoder: str

    def __call__(self, task: Crops) -> Tensor | Unreadable:
        crops = []
        for i, path in enumerate(task.paths):
            place = None if task.places is None else task.places[i]
            try:
                crop = decode.load_crop(path, task.shorter_sides[i], self.size, self.decoder, place, task.flips[i])
            except decode.UnreadableError as error:
                return Unreadable(path, str(error))
            crops.append(crop)
        return torch.stack(crops)


@dataclass(frozen=True)
class Resizer:
    """Makes whole images, uint8 (3, H, W)."""

    shorter_side: int
    decoder: str

    def __call__(self, path: str) -> Tensor | Unreadable:
        try:
            return decode.load_resized(path, self.shorter_side, self.decoder)
        except decode.UnreadableError as error:
            return Unreadable(path, str(error))


def checked(result: Tensor | Unreadable) -> Tensor:
    """
    Raises:
        AloneError: The image could not be decoded.
    """
    if isinstance(result, Unreadable):
        raise AloneError(f"{printable(result.path)} can no longer be read ({result.reason})")
    return result


def joined(crops: Sequence[Tensor], device: torch.device) -> Tensor:
    """One batch of its parts, in memory that a GPU can read by itself."""
    if device.type != "cuda" or crops[0].is_cuda:
        return torch.cat(list(crops))
    shape = (sum(map(len, crops)), *crops[0].shape[1:])
    return torch.cat(list(crops), out=torch.empty(shape, dtype=torch.uint8, pin_memory=True))


def decoding_workers(decoder: str, workers: int, device: torch.device) -> int:
    """nvJPEG decodes in this process, which has the GPU.

    Raises:
        InputError: It is asked for without a GPU.
    """
    if decoder != "nvjpeg":
        return workers
    if device.type != "cuda":
        raise InputError("data.decoder=nvjpeg needs device=cuda; data.decoder=pillow decodes on the processors")
    return 0
