"""Decoding, resizing and cropping of image files.

The shorter side is resized as in the paper, section 3.4, bilinearly, with antialiasing when it shrinks (deviation D20).
The decoder is a science setting, because decoders give different pixels. The EXIF orientation of data sets is ignored,
as in the tools of the paper's time.
"""

import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Place = tuple[float, float]  # position of a crop among all possible ones, in [0, 1), downwards and to the right
Edges = tuple[float, float, float, float]  # left, upper, right and lower edge, in pixels of the image
Box = tuple[int, int, int, int]  # first row and column of a rectangle, its height and its width

AREA = (0.08, 1.0)  # of a crop of random aspect ratio, in areas of its image (deviation D100)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10

BILINEAR = Image.Resampling.BILINEAR


class UnreadableError(Exception):
    """A file that cannot be decoded; the message is the reason, without the path."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return self.reason


class PillowPhoto:
    """An image in Pillow."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self.width, self.height = image.size

    def resized(self, height: int, width: int) -> Tensor:
        """Resize the image: uint8 (3, height, width)."""
        return to_tensor(self._image.resize((width, height), BILINEAR))

    def crop(self, height: int, width: int, top: int, left: int, size: int) -> Tensor:
        """Cut a part of the image as resized to ``height`` and ``width``: uint8 (3, size, size)."""
        # Resampling only the crop is several times faster; its pixels agree with those of the whole up to rounding.
        down, across = self.height / height, self.width / width
        right, bottom = min((left + size) * across, self.width), min((top + size) * down, self.height)
        return self.region((left * across, top * down, right, bottom), size, size)

    def region(self, edges: Edges, height: int, width: int) -> Tensor:
        """Cut a part of the image, between pixels too, and resize it: uint8 (3, height, width)."""
        return to_tensor(self._image.resize((width, height), BILINEAR, box=edges))

    def part(self, box: Box, size: int) -> Tensor:
        """Cut a rectangle of the image and resize it to a square: uint8 (3, size, size)."""
        top, left, height, width = box
        cut = self._image.crop((left, top, left + width, top + height))
        return to_tensor(cut.resize((size, size), BILINEAR))


class TensorPhoto:
    """An image from torchvision, (3, H, W), in host memory or on a GPU, with the methods of ``PillowPhoto``."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[-2:]

    def resized(self, height: int, width: int) -> Tensor:
        return bilinear(self._pixels, height, width)

    def crop(self, height: int, width: int, top: int, left: int, size: int) -> Tensor:
        return self.resized(height, width)[:, top : top + size, left : left + size]

    def part(self, box: Box, size: int) -> Tensor:
        top, left, height, width = box
        return bilinear(self._pixels[:, top : top + height, left : left + width], size, size)

    def region(self, edges: Edges, height: int, width: int) -> Tensor:
        """Cut a part of the image, to whole pixels, and resize it: uint8 (3, height, width)."""
        left, top = (math.floor(value) for value in edges[:2])
        right, bottom = (math.ceil(value) for value in edges[2:])
        return bilinear(self._pixels[:, top:bottom, left:right], height, width)


Photo = PillowPhoto | TensorPhoto


def load_resized(path: Path | str, shorter_side: int, decoder: str) -> Tensor:
    """Load a whole image, uint8 (3, H, W), resized to ``shorter_side``; raise the errors of ``open_photo``."""
    photo = open_photo(path, decoder)
    return photo.resized(*resized_size(photo, shorter_side))


def crop(photo: Photo, shorter_side: int, size: int, place: Place | None = None, flip: bool = False) -> Tensor:
    """Crop the resized image at ``place`` or its centre, and flip it if ``flip``: uint8 (3, size, size)."""
    height, width = resized_size(photo, shorter_side)
    if place is None:
        # Crop the whole resized image, so that the pixels are exactly those of ``load_resized``, at the place where
        # torchvision tested its published weights.
        top, left = round((height - size) / 2), round((width - size) / 2)
        pixels = photo.resized(height, width)[:, top : top + size, left : left + size]
    else:
        top, left = int(place[0] * (height - size + 1)), int(place[1] * (width - size + 1))
        pixels = photo.crop(height, width, top, left, size)
    return pixels.flip(-1) if flip else pixels


def random_part(photo: Photo, size: int, seed: int, flip: bool = False) -> Tensor:
    """Cut a part of random area and aspect ratio, resize it to a square and flip it if ``flip``: uint8 (3, size, size).

    If no part fits in ``TRIES`` tries, as in an image that is very wide, it is the centre crop of the image whose
    shorter side is resized to ``size``.
    """
    box = draw_box(photo.height, photo.width, random.Random(seed).random)
    if box is None:
        return crop(photo, size, size, flip=flip)
    pixels = photo.part(box, size)
    return pixels.flip(-1) if flip else pixels


def draw_box(height: int, width: int, uniform: Callable[[], float]) -> Box | None:
    """Draw a rectangle inside an image as fb.resnet.torch does (deviation D100); return None if none fits.

    Args:
        uniform: Draws a number in [0, 1).
    """
    for _ in range(TRIES):
        area = between(AREA, uniform()) * height * width
        aspect = between(ASPECT, uniform())
        # Ratios are uniform between 3/4 and 4/3 and then turned over by a fair draw, as there.
        aspect = aspect if uniform() < 0.5 else 1 / aspect
        across, down = max(1, round(math.sqrt(area * aspect))), max(1, round(math.sqrt(area / aspect)))
        if down <= height and across <= width:
            return int(uniform() * (height - down + 1)), int(uniform() * (width - across + 1)), down, across
    return None


def between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])


def bilinear(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 pixels (3, H, W) to (3, height, width), with antialiasing."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    resized: Tensor = resize(pixels, [height, width], InterpolationMode.BILINEAR, antialias=True)
    return resized


def resized_size(photo: Photo, shorter_side: int) -> tuple[int, int]:
    """Return height and width for a shorter side; the other is in proportion, rounded down as in torchvision."""
    shorter = min(photo.height, photo.width)
    return shorter_side * photo.height // shorter, shorter_side * photo.width // shorter


def open_photo(path: Path | str, decoder: str, *, upright: bool = False) -> Photo:
    """Decode a file by its content, not its name, with ``pillow``, ``torchvision`` or ``nvjpeg`` (on the GPU).

    Args:
        upright: Whether Pillow turns the image as its EXIF orientation says, for pictures of a camera.

    Raises:
        UnreadableError: The file cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata: only pixels count
        if decoder != "pillow" and (decoded := with_torchvision(path, decoder)) is not None:
            return decoded
        try:  # Pillow also decodes files that the other two cannot
            with Image.open(path) as image:
                photo = PillowPhoto(to_rgb(ImageOps.exif_transpose(image) if upright else image))
        except MemoryError:
            raise
        except UnidentifiedImageError as error:
            raise UnreadableError(path, "not an image") from error
        except Exception as error:  # Pillow's readers raise many kinds of error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreadableError(path, reason) from error
    return TensorPhoto(photo.resized(photo.height, photo.width).cuda()) if decoder == "nvjpeg" else photo


def with_torchvision(path: Path | str, decoder: str) -> TensorPhoto | None:
    """Decode with torchvision; return None if it cannot decode the file to one image of 8 bits per colour."""
    from torchvision.io import ImageReadMode, decode_image, decode_jpeg

    try:
        content = torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
        if decoder == "nvjpeg":
            pixels = decode_jpeg(content, mode=ImageReadMode.RGB, device="cuda")
        else:
            pixels = decode_image(content, mode=ImageReadMode.RGB)
    except (OSError, RuntimeError, ValueError):
        return None
    return TensorPhoto(pixels) if pixels.dtype == torch.uint8 and pixels.dim() == 3 else None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB of 8 bits: from 16 bits take the high byte, and drop an alpha channel."""
    if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        high = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        image = Image.fromarray(high.astype(np.uint8))
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image).transpose(2, 0, 1))
