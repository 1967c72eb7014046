"""Augmentation: crops, flips, padding, means, and the stream of batches."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.config.run import DataConfig
from repro.data import Split
from repro.data.augment import Draws, augment, draw_epoch, normalize, pixel_stats
from repro.data.in_memory import MemoryFeed
from tests.runs import config


def images(count: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.manual_seed(seed))


def by_hand(image: np.ndarray, mean: np.ndarray, top: int, left: int, flip: bool, pad: int, order: str) -> np.ndarray:
    """Augment one image (3, H, W) as in section 4.2, written out."""
    size = image.shape[-1]
    pixels = image.astype(np.float32) / np.float32(255)
    if order == "after_mean":
        pixels = pixels - mean
    padded = np.pad(pixels, [(0, 0), (pad, pad), (pad, pad)])
    crop = padded[:, top : top + size, left : left + size]
    if flip:
        crop = crop[:, :, ::-1]
    return crop if order == "after_mean" else crop - mean


@pytest.mark.parametrize("order", ["after_mean", "before_mean"])
def test_augmentation_is_pad_crop_flip_and_mean_written_out(order: str) -> None:
    batch = images(64)
    stats = pixel_stats(batch, "per_pixel", "none")
    draws = draw_epoch(64, 4, True, 0, 0)
    found = augment(batch, draws, stats, 4, order)
    for i in range(64):
        expected = by_hand(
            batch[i].numpy(),
            stats.mean.numpy(),
            int(draws.top[i]),
            int(draws.left[i]),
            bool(draws.flip[i]),
            4,
            order,
        )
        assert np.array_equal(found[i].numpy(), expected)


def test_the_border_is_the_mean_image_or_black() -> None:
    batch = images(1)
    stats = pixel_stats(batch, "per_pixel", "none")
    corner = Draws(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), torch.tensor([False]))
    assert augment(batch, corner, stats, 4, "after_mean")[0, :, :4].abs().max() == 0
    assert torch.equal(augment(batch, corner, stats, 4, "before_mean")[0, :, :4], -stats.mean[:, :4])


def test_a_reflected_border_is_the_images_own_pixels() -> None:
    batch = images(8)
    stats, draws = pixel_stats(batch, "per_channel", "per_channel"), draw_epoch(8, 4, True, 0, 0)
    found = augment(batch, draws, stats, 4, "after_mean", "reflect")
    size = batch.shape[-1]
    for i in range(8):
        padded = np.pad(normalize(batch, stats)[i].numpy(), [(0, 0), (4, 4), (4, 4)], mode="reflect")
        crop = padded[:, int(draws.top[i]) :, int(draws.left[i]) :][:, :size, :size]
        assert np.array_equal(found[i].numpy(), crop[:, :, ::-1] if draws.flip[i] else crop)


def test_every_crop_offset_and_both_flips_occur_about_equally() -> None:
    draws = draw_epoch(81 * 200, 4, True, 0, 0)
    counts = torch.bincount(draws.top * 9 + draws.left, minlength=81)
    assert len(counts) == 81
    assert counts.min() > 130
    assert counts.max() < 270
    assert 0.45 < draws.flip.float().mean() < 0.55
    assert not draw_epoch(100, 4, False, 0, 0).flip.any()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_an_epoch_is_a_permutation_and_a_function_of_seed_and_epoch(count: int, seed: int, epoch: int) -> None:
    first, again = draw_epoch(count, 4, True, seed, epoch), draw_epoch(count, 4, True, seed, epoch)
    assert torch.equal(first.order, again.order)
    assert torch.equal(first.top, again.top)
    assert sorted(first.order.tolist()) == list(range(count))
    assert count < 20 or not torch.equal(first.order, draw_epoch(count, 4, True, seed, epoch + 1).order)


@pytest.mark.parametrize("mean", ["per_pixel", "per_channel"])
@pytest.mark.parametrize("std", ["none", "per_channel"])
def test_pixel_statistics_agree_with_numpy(mean: str, std: str) -> None:
    batch = torch.cat([images(50)] * 121)  # more than are summed at a time
    stats = pixel_stats(batch, mean, std)
    x = batch.double().numpy() / 255
    expected = x.mean(0) if mean == "per_pixel" else x.mean((0, 2, 3)).reshape(3, 1, 1)
    assert np.allclose(stats.mean.numpy(), expected, atol=1e-6)
    deviation = x.std((0, 2, 3)).reshape(3, 1, 1) if std == "per_channel" else np.ones((3, 1, 1))
    assert np.allclose(stats.std.numpy(), deviation, atol=1e-6)
    assert normalize(batch, stats).double().mean().abs() < 1e-5


@functools.cache
def data_config() -> DataConfig:
    return config(Path("unused")).data


def stream(count: int, batch_size: int, seed: int = 0) -> MemoryFeed:
    split = Split("train", images(count).permute(0, 2, 3, 1).numpy(), np.arange(count, dtype=np.int64))
    return MemoryFeed(split, data_config(), batch_size, seed, torch.device("cpu"))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), steps=st.integers(1, 12))
def test_steps_take_the_concatenated_permutations(count: int, batch_size: int, steps: int) -> None:
    """For all sizes, no batch is short and no image is dropped."""
    whole = stream(count, batch_size)
    seen = torch.cat([whole.load(step)[0][0] for step in range(steps)])
    epochs = [draw_epoch(count, 1, True, 0, epoch).order for epoch in range(steps * batch_size // count + 1)]
    assert torch.equal(seen, torch.cat(epochs)[: steps * batch_size])


def test_a_step_depends_on_nothing_that_went_before() -> None:
    played, fresh = stream(100, 16), stream(100, 16)
    for step in range(20):
        expected = played.batch(step)
    found = fresh.batch(19)
    assert torch.equal(expected[0], found[0])
    assert torch.equal(expected[1], found[1])
    assert not torch.equal(stream(100, 16, seed=1).batch(19)[0], found[0])


def test_labels_follow_their_images() -> None:
    whole = stream(30, 10)
    assert torch.equal(whole.batch(0)[1], whole.load(0)[0][0]), "the label of image i is i here"
