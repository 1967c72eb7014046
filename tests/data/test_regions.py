"""Proposals, warped to crops of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from repro.data.augment import PixelStats
from repro.data.imagenet.decode import PillowPhoto, TensorPhoto
from repro.data.imagenet.loader import noise_of
from repro.data.localization.regions import RegionFeed, Shuffled, warped
from tests.localizer_runs import boxed, localizer_config

GREY = torch.tensor([100, 101, 102])


def painted(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return a black image with a white box."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


@pytest.mark.parametrize("kind", ["pillow", "torchvision"])
def test_a_region_fills_its_crop_but_for_the_context(kind: str) -> None:
    box = (30, 20, 60, 80)
    image = painted(120, 100, box)
    photo = PillowPhoto(Image.fromarray(image)) if kind == "pillow" else TensorPhoto(torch.tensor(image).movedim(2, 0))
    crop = warped(photo, box, 64, 16, GREY)
    assert crop.shape == (3, 64, 64) and crop.dtype == torch.uint8
    # Its 32 pixels in the middle are white, and black begins right beside them.
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[16:48, 16:48] = True
    assert crop[0][inside].float().mean() > 235 and crop[0][~inside].float().mean() < 12
    assert warped(photo, box, 64, 0, GREY).float().mean() > 235


def test_outside_of_the_image_a_crop_has_the_mean_colour() -> None:
    photo = PillowPhoto(Image.fromarray(painted(40, 40, (0, 0, 40, 40))))
    crop = warped(photo, (0.0, 0.0, 40.0, 40.0), 64, 16, GREY)
    assert (crop[:, :16] == GREY[:, None, None]).all() and (crop[:, :, 48:] == GREY[:, None, None]).all()
    assert (crop[:, 16:48, 16:48] == 255).all()


@settings(max_examples=60, deadline=None)
@given(
    corners=st.tuples(*(st.floats(0, 1) for _ in range(4))),
    size=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    context=st.integers(0, 20),
)
@example(corners=(0.0, 1.0, 0.0, 1.0), size=(2, 2), context=0)
def test_any_region_of_an_image_can_be_warped(
    corners: tuple[float, float, float, float], size: tuple[int, int], context: int
) -> None:
    height, width = size
    edges = []
    for axis, side in ((0, width), (1, height)):
        low, high = sorted((corners[axis] * side, corners[axis + 2] * side))
        low = min(low, side - 1e-3)  # a proposal has some width and height in the image
        edges.append((low, max(high, low + 1e-3)))
    (left, right), (top, bottom) = edges
    box = (left, top, right, bottom)
    for photo in (
        PillowPhoto(Image.fromarray(np.full((height, width, 3), 255, np.uint8))),
        TensorPhoto(torch.full((3, height, width), 255, dtype=torch.uint8)),
    ):
        crop = warped(photo, box, 48, context, GREY)
        is_grey = (crop == GREY[:, None, None]).all(0)
        assert ((crop >= 254).all(0) | is_grey).all() and not is_grey.all()


def feed_of(folder: Path, *words: str) -> RegionFeed:
    of = localizer_config(folder, "localization.method=rcnn", *words)
    dataset = boxed(of)
    feed = RegionFeed(of, dataset, PixelStats(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)), torch.empty(0))
    # One proposal on the object, three beside it; the second image has none.
    feed.proposals = [
        np.concatenate([own[:1] + 1, np.tile(np.array([[0, 0, 2, 2]]), (3, 1))]).astype(np.float32)
        for own in dataset.train.boxes
    ]
    feed.proposals[1] = np.zeros((0, 4), np.float32)
    return feed


def test_a_quarter_of_a_batch_is_of_objects_and_an_image_without_proposals_has_its_own_box(tmp_path: Path) -> None:
    feed = feed_of(tmp_path)
    chosen = [feed.choose(position, step) for step in range(60) for position in range(16)]
    share = np.mean([choice.label for choice in chosen if choice.position != 1])
    assert share == pytest.approx(0.25, abs=0.05)
    for choice in chosen:
        own = feed.split.boxes[choice.position]
        assert any(np.array_equal(choice.wanted, box) for box in own)
        if choice.position == 1:
            assert choice.label == 1 and np.array_equal(choice.box, own[0])
        elif choice.label:
            assert np.array_equal(choice.box, own[0] + 1)
    assert 0.4 < np.mean([choice.flip for choice in chosen]) < 0.6
    assert {len({c.label for c in chosen if c.position == p}) for p in range(2, 16)} == {2}


def test_crops_have_the_colour_noise_of_classification(tmp_path: Path) -> None:
    """Section 3.4: a colour of its own is added to each image, of the components of all pixels."""
    plain, noisy = feed_of(tmp_path), feed_of(tmp_path, "data.colour=pca")
    noisy._colours = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))  # drawn images have none
    for step in (0, 1):
        images, others = plain.batch(step).images, noisy.batch(step).images
        added = (others - images).flatten(2)
        assert torch.allclose(added, added[:, :, :1].expand_as(added), atol=1e-6)
        draws = noisy.order.drawn(step)
        assert torch.allclose(added[:, :, 0], noise_of(draws[4], noisy._colours), atol=1e-6)
        assert len(added[:, :, 0].unique(dim=0)) == len(images) and added.abs().max() > 1e-3
    plain.close()
    noisy.close()


def test_boxes_and_crops_are_flipped_together_and_read_in_the_same_order_from_any_step(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, "localization.context=0", "localization.positive_share=0.99")
    for image, own in zip(feed.split.drawn, feed.split.boxes, strict=True):
        image[:] = 0
        x0, y0, x1, y1 = own[0].astype(int)
        image[y0:y1, x0 : (x0 + x1) // 2] = 255  # the left half of the first object
    later = {step: feed.batch(step) for step in (3, 4)}
    flips = set()
    for step in (4, 3):
        batch = feed.batch(step)
        assert all(torch.equal(a, b) for a, b in zip(vars(batch).values(), vars(later[step]).values(), strict=True))
        for crop, label in zip(batch.images, batch.labels.tolist(), strict=True):
            left, right = crop[0, :, :32].mean(), crop[0, :, 32:].mean()
            if label:
                flips.add(bool(right > left))
    assert flips == {False, True}
    feed.close()
    # Ranks have consecutive parts of the batch that one process has.
    of = localizer_config(tmp_path, "optim.batch_size=8")
    whole = Shuffled(of, 16, 0, 1).drawn(5)[0]
    parts = [Shuffled(of, 16, rank, 4).drawn(5)[0] for rank in range(4)]
    assert torch.equal(torch.cat(parts), whole)
