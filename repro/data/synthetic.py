"""Synthetic images of ten classes, learnable but not trivial.

A class is a pair of five colour gratings (five choose two is ten). An image shows its pair at random contrast and
position, a weaker third grating as a distraction, and noise. Because positions are random, the mean image of every
class is grey: a linear model learns almost nothing, a small convolutional net learns in some hundred steps.

The images are made by integer arithmetic from the raw output of PCG64, the part of NumPy's random numbers that never
changes, so that every machine and version makes the same bytes.
"""

import itertools
import math

import numpy as np

from repro.data import Split

# Cycles across the image, horizontally and vertically. No two are flips of each other: a flipped image keeps its class.
WAVES = np.array([(2, 0), (0, 2), (2, 2), (1, 3), (3, 1)], np.int32)
# Strength of a grating in red, green and blue, in eighths. It is drawn for each image, independently of the class.
COLOURS = np.array([(8, 2, -4), (-4, 8, 2), (2, -4, 8), (6, 6, -6), (-6, 6, 6), (5, 5, 5)], np.int32)
PAIRS = np.array(list(itertools.combinations(range(5), 2)), np.int64)
TURN = 256  # parts of a full turn: a multiple of every image size, so that phases are whole numbers
COSINE = np.array([round(64 * math.cos(2 * math.pi * i / TURN)) for i in range(TURN)], np.int32)
CONTRAST = (16, 40)
DISTRACTION = (0, 18)
NOISE = 40  # grey levels: the ranges of the amplitudes, and the standard deviation of the noise
CHUNK = 250  # images made at a time, to limit the memory


def make_synthetic(train_images: int, test_images: int, image_size: int, seed: int = 0) -> tuple[Split, Split]:
    """Make training and test images of 8, 16 or 32 pixels a side, with balanced labels of the same ten classes."""
    return (
        make_split("train", train_images, image_size, np.random.SeedSequence([seed, 0])),
        make_split("test", test_images, image_size, np.random.SeedSequence([seed, 1])),
    )


def make_split(name: str, count: int, image_size: int, entropy: np.random.SeedSequence) -> Split:
    """Make ``count`` images from one stream of random bits; class sizes differ by at most one."""
    bits = np.random.PCG64(entropy)
    order = np.argsort(bits.random_raw(count), kind="stable")
    labels = (np.arange(count, dtype=np.int64) % len(PAIRS))[order]
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    for start in range(0, count, CHUNK):
        images[start : start + CHUNK] = draw(labels[start : start + CHUNK], image_size, bits)
    return Split(name, images, labels)


def draw(labels: np.ndarray, image_size: int, bits: np.random.PCG64) -> np.ndarray:
    """Draw an image for each label (N,): uint8 (N, image_size, image_size, 3)."""
    count = len(labels)
    numbers = whole_numbers(bits, (count, 10), 2)
    pair = PAIRS[labels]
    # The distraction is one of the three gratings that are not in the class.
    absent = np.array([[g for g in range(len(WAVES)) if g not in p] for p in PAIRS.tolist()])
    third = absent[labels, numbers[:, 0] % 3]
    shown = np.column_stack([pair, third])
    phases = numbers[:, 1:4] % TURN
    colours = COLOURS[numbers[:, 4:7] % len(COLOURS)]
    amplitudes = np.column_stack([between(numbers[:, 7:9], CONTRAST), between(numbers[:, 9:], DISTRACTION)])

    turns = np.arange(image_size, dtype=np.int32) * (TURN // image_size)
    pixels = np.zeros((count, image_size, image_size, 3), np.int32)
    for which in range(3):
        wave = WAVES[shown[:, which]]
        across = wave[:, 0, None, None] * turns[None, None, :]
        down = wave[:, 1, None, None] * turns[None, :, None]
        grating = COSINE[(across + down + phases[:, which, None, None]) % TURN]
        strength = amplitudes[:, which, None] * colours[:, which]
        pixels += grating[..., None] * strength[:, None, None, :].astype(np.int32)
    # 64 is the amplitude of COSINE, 8 the unit of COLOURS. The sum of two bytes has a standard deviation of 104.5.
    pixels //= 64 * 8
    noise = whole_numbers(bits, (*pixels.shape, 2), 1).sum(axis=-1, dtype=np.int32) - 255
    pixels += 128 + noise * NOISE // 105
    return np.clip(pixels, 0, 255).astype(np.uint8)


def whole_numbers(bits: np.random.PCG64, shape: tuple[int, ...], num_bytes: int) -> np.ndarray:
    """Return uniform unsigned integers of one or two bytes, the same on little-endian and big-endian machines."""
    total = math.prod(shape)
    raw = bits.random_raw(-(-total * num_bytes // 8)).astype("<u8")
    numbers = raw.view(f"<u{num_bytes}")[:total].reshape(shape)
    return numbers if num_bytes == 1 else numbers.astype(np.int32)


def between(numbers: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """Map two-byte numbers evenly to the inclusive ``limits``."""
    low, high = limits
    return low + (numbers * (high - low + 1) >> 16)
