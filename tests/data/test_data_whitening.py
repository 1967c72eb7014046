"""ZCA whitening: its matrix, its cache, and the nets that are trained and tested on whitened images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from repro.config.compose import plan
from repro.data import Split, whitening
from repro.data.augment import PixelStats, normalize
from repro.data.in_memory import MemoryFeed
from repro.data.whitening import FLOOR, covariance, zca
from repro.errors import InputError
from repro.evaluation.stored_net import stored_net, write_net
from repro.results.read import read_record
from tests.engine.test_run import dataset, go
from tests.runs import config, same_weights

ZCA = ("data.whiten=zca", "data.mean=per_pixel", "data.std=none")


def images(count: int = 400, size: int = 4) -> np.ndarray:
    """Images whose neighbouring pixels are alike."""
    random = np.random.default_rng(0)
    rough = random.normal(size=(count, size, size, 3)).cumsum(1).cumsum(2)
    return np.clip(128 + 20 * rough, 0, 255).astype(np.uint8)


def test_whitened_images_are_uncorrelated_but_for_the_floor() -> None:
    made = images()
    pixels = made.transpose(0, 3, 1, 2).reshape(len(made), -1) / 255
    spread = np.cov(pixels.T, bias=True)
    assert np.allclose(covariance(made), spread)
    matrix = zca(made)
    assert np.allclose(matrix, matrix.T)
    floor = FLOOR * np.trace(spread) / len(spread)
    assert np.allclose(matrix @ (spread + floor * np.eye(len(spread))) @ matrix, np.eye(len(spread)))


def test_the_matrix_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zca(images(), tmp_path)
    monkeypatch.setattr(whitening, "covariance", lambda images: pytest.fail("it is kept"))
    assert np.array_equal(zca(images(), tmp_path), first)
    monkeypatch.undo()
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"damaged")
    assert np.array_equal(zca(images(), tmp_path), first)
    assert not np.array_equal(zca(images(300), tmp_path), first), "of other images"


def test_a_batch_is_whitened_as_a_whole_before_it_is_padded() -> None:
    (run,) = plan(["data=synthetic", *ZCA, "data.flip=false", "data.pad=0"]).runs
    made = images(64, 8)
    split = Split("train", made, np.zeros(64, np.int64), zca(made))
    feed = MemoryFeed(split, run.data, 16, 0, torch.device("cpu"))
    batch, _ = feed.batch(0)
    (order, *_) = feed.drawn(0)[0]
    pixels = torch.from_numpy(made.transpose(0, 3, 1, 2)).double().flatten(1) / 255
    wanted = (pixels - pixels.mean(0))[order] @ torch.from_numpy(zca(made))
    assert torch.allclose(batch.flatten(1).double(), wanted, atol=1e-5)
    alone = PixelStats(feed.stats.mean, feed.stats.std)
    assert not torch.allclose(normalize(feed.images[:2], feed.stats), normalize(feed.images[:2], alone))


@pytest.mark.slow
def test_a_net_is_trained_tested_and_stored_with_its_whitening(tmp_path: Path) -> None:
    run, plain = config(tmp_path, *ZCA), config(tmp_path, "data.mean=per_pixel")
    assert go(run) is not None and go(plain) is not None
    assert not same_weights(run, plain) and run.run_id != plain.run_id
    record = read_record(run.work_dir / "record.json")
    stored = stored_net(record, run.paths.work, run.paths.results, run.paths.data)
    train = dataset(run).train
    assert isinstance(train, Split) and train.whitening is not None and stored.stats.whitening is not None
    assert np.array_equal(stored.stats.whitening.numpy(), train.whitening)
    folder = run.paths.results / "runs" / run.run_id
    folder.mkdir(parents=True)
    write_net(folder / "weights.safetensors", record, stored)
    (run.work_dir / "final.pt").unlink()
    again = stored_net(record, run.paths.work, run.paths.results, run.paths.data).stats.whitening
    assert again is not None and torch.equal(again, stored.stats.whitening)


@pytest.mark.parametrize(
    "words", [("data.std=per_channel",), ("data.mean=per_channel",), ("data.pad_order=before_mean",)]
)
def test_settings_that_do_not_fit_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"data\.whiten=zca"):
        plan(["data.whiten=zca", *words])
