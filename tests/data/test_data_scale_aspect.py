"""The augmentation of later papers on ImageNet: crops of random scale and aspect ratio, and colours that change."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from repro.data import Dataset, PhotoSplit, load
from repro.data.augment import PixelStats, generator_for, jitter, jitter_weights, normalize
from repro.data.imagenet import decode
from repro.data.imagenet.decode import draw_box, random_part
from repro.data.imagenet.loader import PhotoFeed, draw_photo_epoch
from tests.photos import config, make_imagenet, picture

LATER = config(crop="scale_aspect", jitter=0.4, mean="per_channel", std="per_channel")
BRIGHTNESS, CONTRAST, SATURATION = range(3)
ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = make_imagenet(tmp_path_factory.mktemp("photos"), train=7, val=5)
    return load(config(), root, may_fetch=False, workers=0)


def feed(dataset: Dataset, rank: int = 0, num_ranks: int = 1, workers: int = 0) -> PhotoFeed:
    assert isinstance(dataset.train, PhotoSplit) and dataset.photo_stats is not None
    cpu = torch.device("cpu")
    return PhotoFeed(dataset.train, dataset.photo_stats, LATER, 4, 3, cpu, rank, num_ranks, workers)


def batches(stream: PhotoFeed, steps: range) -> list[torch.Tensor]:
    try:
        return [stream.batch(step)[0] for step in steps]
    finally:
        stream.close()


# --- crops --------------------------------------------------------------------------------------------------------


@given(st.integers(16, 700), st.integers(16, 700), st.integers(0, 2**62))
def test_a_part_lies_in_its_image_and_has_the_area_and_the_ratio_of_the_draws(height: int, width: int, seed: int):
    box = draw_box(height, width, random.Random(seed).random)
    if box is None:
        assert max(height, width) / min(height, width) > 4 / 3, "of a square a part fits within ten tries"
        return
    top, left, down, across = box
    assert 0 <= top <= height - down and 0 <= left <= width - across
    # Sides are rounded, by half a pixel at most.
    assert (down + 0.5) * (across + 0.5) >= 0.08 * height * width
    assert (down - 0.5) * (across - 0.5) <= height * width
    assert (across + 0.5) / (down - 0.5) >= 3 / 4 and (across - 0.5) / (down + 0.5) <= 4 / 3


def test_parts_cover_areas_ratios_and_places():
    uniform = random.Random(1).random
    boxes = np.array([draw_box(400, 400, uniform) for _ in range(4000)])
    area, ratio = boxes[:, 2] * boxes[:, 3] / 400**2, boxes[:, 3] / boxes[:, 2]
    assert area.min() < 0.09 and area.max() > 0.97 and abs(np.mean(area < 0.3) - 0.25) < 0.04
    assert abs(np.mean(ratio > 1) - 0.5) < 0.03, "as many wide parts as high ones"
    assert ratio.min() < 0.76 and ratio.max() > 1.31
    room = 400 - boxes[:, 2]
    share = boxes[room > 50, 0] / room[room > 50]
    assert share.min() < 0.01 and share.max() == 1 and abs(share.mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("side", "uniform", "box"),
    [
        # The first part is as large as the image but too wide; the second one is the image.
        (60, [1.0, 1.0, 0.0, 1.0, 0.25 / (4 / 3 - 3 / 4), 0.0, 0.999, 0.0], (0, 0, 60, 60)),
        # 8 % of the area, a ratio of 3/4 that is turned over, in the last row of places.
        (100, [0.0, 0.0, 0.9, 0.999, 0.0], (76, 0, 24, 33)),
    ],
)
def test_a_part_is_drawn_as_by_hand(side: int, uniform: list[float], box: decode.Box):
    draws = iter(uniform)
    assert draw_box(side, side, lambda: next(draws)) == box


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_a_part_is_cut_out_resized_and_flipped(tmp_path: Path, decoder: str):
    path = tmp_path / "a.png"
    picture(1, 60, 90).save(path)
    photo = decode.open_photo(path, decoder)
    box = draw_box(60, 90, random.Random(5).random)
    assert box is not None
    top, left, height, width = box
    cut = Image.open(path).crop((left, top, left + width, top + height))
    expected = decode.to_tensor(cut.resize((32, 32), Image.Resampling.BILINEAR)).int()
    found = random_part(photo, 32, 5)
    assert found.dtype == torch.uint8 and (found - expected).abs().max() <= 1
    assert torch.equal(random_part(photo, 32, 5, flip=True), found.flip(-1))
    assert not torch.equal(random_part(photo, 32, 6), found)


def test_an_image_that_no_part_fits_is_cropped_in_its_middle():
    photo = decode.PillowPhoto(picture(2, 20, 400))
    assert draw_box(20, 400, random.Random(0).random) is None
    whole = photo.resized(32, 640)
    assert torch.equal(random_part(photo, 32, 0), whole[:, :, 304:336])


def test_draws_before_the_later_ones_are_what_they_were():
    """The draws of published recipes come first, so that their runs stay the same."""
    draws = draw_photo_epoch(20, LATER, 1, 2)
    generator = generator_for(1, "epoch", 2)
    assert torch.equal(draws.order, torch.randperm(20, generator=generator))
    assert torch.equal(draws.shorter_side, torch.randint(36, 49, (20,), generator=generator))
    assert torch.equal(draws.place, torch.rand(2, 20, generator=generator, dtype=torch.float64))
    assert torch.equal(draws.flip, torch.randint(0, 2, (20,), generator=generator).bool())
    assert torch.equal(draws.alpha, 0.1 * torch.randn(3, 20, generator=generator, dtype=torch.float64))
    for column, usual in zip(draws, draw_photo_epoch(20, config(), 1, 2), strict=True):
        assert torch.equal(column, usual), "a switch changes no draw"


def test_ranks_processes_and_restarts_give_the_same_images(dataset: Dataset):
    whole = batches(feed(dataset), range(7))
    for other in (batches(feed(dataset, workers=1), range(7)), batches(feed(dataset), range(3, 7))):
        assert all(map(torch.equal, whole[-len(other) :], other))
    ranks = [batches(feed(dataset, rank, 2), range(7)) for rank in range(2)]
    # Reductions over an image may be in another order in another batch.
    for one, *parts in zip(whole, *ranks, strict=True):
        torch.testing.assert_close(torch.cat(parts), one, rtol=1e-5, atol=1e-5)
    assert not torch.equal(whole[0], batches(feed(dataset), range(1, 2))[0])


def test_a_batch_has_the_parts_of_its_draws_with_their_colours(dataset: Dataset):
    stream, stats = feed(dataset), dataset.photo_stats
    assert stats is not None and isinstance(dataset.train, PhotoSplit)
    draws, (crops, _, noise, weights) = stream.draws(2), stream.load(2)
    for i, position in enumerate(draws.order.tolist()):
        photo = decode.open_photo(dataset.train.path(position), "pillow")
        assert torch.equal(crops[i], random_part(photo, 32, int(draws.crop_seed[i]), bool(draws.flip[i])))
    changes = 0.4 * draws.jitter
    assert torch.equal(weights, jitter_weights(changes, draws.jitter_order))
    changed = torch.stack([by_hand(c, changes[:, i], int(draws.jitter_order[i])) for i, c in enumerate(crops)])
    deviation = torch.from_numpy(np.sqrt(np.diag(stats.covariance))).float().view(3, 1, 1)
    mean = torch.from_numpy(stats.channel_mean).float().view(3, 1, 1)
    expected = (changed / 255 + noise[:, :, None, None] - mean) / deviation
    torch.testing.assert_close(stream.batch(2)[0], expected, rtol=1e-4, atol=1e-4)
    stream.close()


# --- colours ------------------------------------------------------------------------------------------------------


def grey(image: torch.Tensor) -> torch.Tensor:
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


def by_hand(image: torch.Tensor, changes: torch.Tensor, order: int) -> torch.Tensor:
    """Blend one change after another, as fb.resnet.torch does."""
    image = image.float()
    for change in ORDERS[order]:
        factor = 1 + float(changes[change])
        others = {
            BRIGHTNESS: torch.zeros_like(image),
            CONTRAST: torch.full_like(image, float(grey(image).mean())),
            SATURATION: grey(image).expand_as(image),
        }
        image = factor * image + (1 - factor) * others[change]
    return image


def test_colours_change_as_by_hand_in_every_order():
    images = torch.randint(0, 256, (6, 3, 8, 8), generator=generator_for("images"), dtype=torch.uint8)
    changes = 0.8 * torch.rand(3, 6, generator=generator_for("changes")) - 0.4
    found = jitter(images, jitter_weights(changes, torch.arange(6, dtype=torch.int8)))
    for i, image in enumerate(images):
        torch.testing.assert_close(found[i], by_hand(image, changes[:, i], i), rtol=1e-5, atol=1e-3)
    assert found.max() > 255, "nothing is clipped"


def test_each_change_keeps_what_it_should():
    image = torch.randint(0, 256, (1, 3, 8, 8), generator=generator_for("image"), dtype=torch.uint8)
    orders = torch.zeros(1, dtype=torch.int8)

    def changed(which: int) -> torch.Tensor:
        changes = torch.zeros(3, 1)
        changes[which] = 0.4
        return jitter(image, jitter_weights(changes, orders))[0]

    plain = image[0].float()
    torch.testing.assert_close(changed(BRIGHTNESS), 1.4 * plain)
    torch.testing.assert_close(grey(changed(SATURATION)), grey(plain), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(grey(changed(CONTRAST)).mean(), grey(plain).mean())
    torch.testing.assert_close(grey(changed(CONTRAST)).std(), 1.4 * grey(plain).std())
    torch.testing.assert_close(jitter(image, jitter_weights(torch.zeros(3, 1), orders))[0], plain)


def test_changes_and_their_orders_cover_their_ranges():
    draws = draw_photo_epoch(20_000, LATER, 0, 0)
    assert draws.jitter.min() < -0.999 and draws.jitter.max() > 0.999 and abs(draws.jitter.mean()) < 0.01
    counts = torch.bincount(draws.jitter_order.long(), minlength=6)
    assert len(counts) == 6 and counts.min() > 3000
    assert len(set(draws.crop_seed.tolist())) == 20_000


def test_changed_images_are_normalized_like_others():
    images = torch.randint(0, 256, (1, 3, 4, 4), generator=generator_for("n"), dtype=torch.uint8)
    stats = PixelStats(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))
    assert torch.equal(normalize(images, stats), normalize(images.float(), stats))
