"""The built-in images: always the same bytes, balanced, and not separable by a linear model."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from repro.data import load
from repro.data.synthetic import make_synthetic
from repro.errors import InputError
from tests.tiny_cifar10 import config


def test_the_bytes_are_the_same_on_every_machine_and_version():
    """The digest is part of the contract: changing it changes numerics and needs an entry in the CHANGELOG."""
    train, test = make_synthetic(300, 20, 16)
    digest = hashlib.sha256(
        train.images.tobytes() + train.labels.astype("<i8").tobytes() + test.images.tobytes()
    ).hexdigest()
    assert digest == "a19ccc8b5c3aacde11955daff9160ba8384d81d8f24daf5b0d395544b584155b"


def test_shapes_types_and_names():
    train, test = make_synthetic(30, 20, 8)
    assert (train.name, train.images.shape, train.images.dtype) == ("train", (30, 8, 8, 3), np.uint8)
    assert (test.name, test.labels.shape, test.labels.dtype) == ("test", (20,), np.int64)


def test_labels_are_balanced_and_in_random_order():
    train, test = make_synthetic(1000, 105, 8)
    assert np.bincount(train.labels).tolist() == [100] * 10
    assert sorted(np.bincount(test.labels).tolist()) == [10] * 5 + [11] * 5
    assert len(set(train.labels[:50].tolist())) == 10
    assert (np.diff(train.labels[:50]) < 0).any()
    assert (train.labels[:100] != test.labels[:100]).any()


def test_no_image_occurs_twice():
    train, test = make_synthetic(1000, 500, 8)
    images = np.concatenate([train.images, test.images]).reshape(1500, -1)
    assert len(np.unique(images, axis=0)) == 1500


def test_the_seed_decides():
    first, again, other = (make_synthetic(50, 10, 8, seed)[0].images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.slow
def test_the_default_set_has_the_usual_size():
    dataset: Any = load(config("synthetic"), root=None, may_fetch=False)  # type: ignore[arg-type]
    assert (len(dataset.train), len(dataset.eval)) == (5000, 1000)
    assert dataset.train.images.shape[1:] == (32, 32, 3)


def spectrum(images: np.ndarray) -> np.ndarray:
    """Return the power of each wave, summed over colours, which a shift does not change."""
    waves = np.abs(np.fft.fft2(images.astype(float) - 128, axes=(1, 2))) ** 2
    return np.sqrt(waves.sum(axis=-1)).reshape(len(images), -1)


def nearest_mean_error(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Return the test error in percent of a classifier by the nearest class mean."""
    means = np.stack([train[labels == k].mean(axis=0) for k in range(10)])
    distances = ((test[:, None] - means) ** 2).sum(axis=-1)
    return float(100 * (distances.argmin(axis=1) != truth).mean())


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 32])
def test_classes_are_learnable_but_not_by_a_linear_model(size):
    train, test = make_synthetic(2000, 500, size)
    pixels = [split.images.reshape(len(split), -1).astype(float) for split in (train, test)]
    assert nearest_mean_error(pixels[0], train.labels, pixels[1], test.labels) > 80
    waves = [spectrum(split.images) for split in (train, test)]
    assert 1 < nearest_mean_error(waves[0], train.labels, waves[1], test.labels) < 60


def test_load_gives_digests_and_the_held_out_tenth():
    dataset: Any = load(config("synthetic", split="train45k", train_images=100, image_size=8), None, may_fetch=False)  # type: ignore[arg-type]
    whole, _ = make_synthetic(100, 1000, 8)
    assert (dataset.train.name, dataset.eval.name, len(dataset.train), len(dataset.eval)) == (
        "train45k",
        "val5k",
        90,
        10,
    )
    np.testing.assert_array_equal(np.concatenate([dataset.train.images, dataset.eval.images]), whole.images)
    assert dataset.digests["train_images"] == hashlib.sha256(whole.images.tobytes()).hexdigest()
    assert sorted(dataset.digests) == ["test_images", "test_labels", "train_images", "train_labels"]


def test_too_few_images_to_hold_any_out():
    with pytest.raises(InputError, match=r"data\.split=train45k"):
        load(config("synthetic", split="train45k", train_images=5), None, may_fetch=False)  # type: ignore[arg-type]
