"""ImageNet images decoded ahead: an image depends only on seed, epoch and file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from repro.data import Dataset, PhotoSplit, load
from repro.data.imagenet import decode
from repro.data.imagenet.loader import PhotoFeed, PhotoImages, draw_photo_epoch, pixel_stats
from repro.data.imagenet.workers import read_ahead
from repro.errors import InputError, RunError
from tests.photos import CLASSES, config, make_imagenet, picture, truncate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = make_imagenet(tmp_path_factory.mktemp("photos"), train=7, val=5)
    return load(config(), root, may_fetch=False, workers=0)


def split_of(dataset: Dataset, name: str = "train") -> PhotoSplit:
    split = getattr(dataset, name)
    assert isinstance(split, PhotoSplit)
    return split


def feed(dataset: Dataset, batch_size: int = 4, seed: int = 3, **more: object) -> PhotoFeed:
    data = more.pop("config", config())
    assert dataset.photo_stats is not None
    return PhotoFeed(split_of(dataset), dataset.photo_stats, data, batch_size, seed, CPU, **more)  # type: ignore[arg-type]


def steps(stream: PhotoFeed, wanted: range) -> list[tuple[torch.Tensor, ...]]:
    try:
        return [stream.load(step) for step in wanted]
    finally:
        stream.close()


def assert_same(first: list[tuple[torch.Tensor, ...]], second: list[tuple[torch.Tensor, ...]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


# --- decoding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_the_shorter_side_is_resized(tmp_path, decoder):
    path = tmp_path / "wide.JPEG"
    picture(1, 50, 77).save(path, "JPEG")
    assert decode.load_resized(path, 40, decoder).shape == (3, 40, 61)
    assert decode.load_resized(path, 64, decoder).shape == (3, 64, 98)
    picture(1, 77, 50).save(path, "JPEG")
    assert decode.load_resized(path, 40, decoder).shape == (3, 61, 40)


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_a_crop_is_a_part_of_the_resized_image(tmp_path, decoder):
    path = tmp_path / "a.JPEG"
    picture(2, 90, 70).save(path, "JPEG", quality=95)
    whole = decode.load_resized(path, 44, decoder)  # 56 x 44
    assert whole.shape == (3, 56, 44)
    for place, top, left in (((0.0, 0.0), 0, 0), ((0.999, 0.999), 24, 12), ((0.5, 0.1), 12, 1)):
        crop = decode.crop(decode.open_photo(path, decoder), 44, 32, place)
        part = whole[:, top : top + 32, left : left + 32]
        assert crop.shape == (3, 32, 32) and crop.dtype == torch.uint8
        assert (crop.int() - part.int()).abs().max() <= 2
        flipped = decode.crop(decode.open_photo(path, decoder), 44, 32, place, flip=True)
        assert torch.equal(flipped, crop.flip(-1))
    assert torch.equal(decode.crop(decode.open_photo(path, decoder), 44, 32), whole[:, 12:44, 6:38])


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_all_kinds_of_images_become_rgb(tmp_path, decoder):
    image = picture(3, 40, 40)
    kinds = {
        "grey.JPEG": (image.convert("L"), "JPEG", image.convert("L").convert("RGB")),
        "cmyk.JPEG": (image.convert("CMYK"), "JPEG", image),
        "png named so.JPEG": (image, "PNG", image),
        "palette.PNG": (image.convert("P"), "PNG", image.convert("P").convert("RGB")),
        "alpha.png": (image.convert("RGBA"), "PNG", image),
        "鳥.bmp": (image, "BMP", image),
    }
    for name, (stored, kind, expected) in kinds.items():
        stored.save(tmp_path / name, kind, **({"quality": 95} if kind == "JPEG" else {}))
        pixels = decode.load_resized(tmp_path / name, 40, decoder)
        distance = np.abs(pixels.numpy().transpose(1, 2, 0).astype(int) - np.asarray(expected).astype(int))
        assert pixels.shape == (3, 40, 40) and distance.max() <= (12 if kind == "JPEG" else 0), name


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_of_sixteen_bits_the_high_byte_counts(tmp_path, decoder):
    levels = (np.arange(1600, dtype=np.uint32) * 40).reshape(40, 40).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    pixels = decode.load_resized(tmp_path / "a.png", 40, decoder).numpy()
    for channel in pixels:
        np.testing.assert_array_equal(channel, levels >> 8)


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_the_orientation_in_the_metadata_is_ignored(tmp_path, decoder):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture(4, 40, 60).save(tmp_path / "a.JPEG", exif=exif)
    assert decode.load_resized(tmp_path / "a.JPEG", 40, decoder).shape == (3, 40, 60)


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_what_cannot_be_decoded_says_why(tmp_path, decoder):
    path = tmp_path / "a.JPEG"
    with pytest.raises(decode.UnreadableError, match="No such file"):
        decode.load_resized(path, 40, decoder)
    path.write_text("words")
    with pytest.raises(decode.UnreadableError, match="not an image"):
        decode.load_resized(path, 40, decoder)
    picture(5, 60, 60).save(path)
    truncate(path)
    with pytest.raises(decode.UnreadableError, match=r"(?i)truncated"):
        decode.load_resized(path, 40, decoder)


# --- training -----------------------------------------------------------------------------------------------------


def test_batches_are_the_same_with_any_number_of_processes(dataset):
    alone = steps(feed(dataset), range(7))
    for workers in (1, 2):
        assert_same(alone, steps(feed(dataset, workers=workers), range(7)))


def test_a_batch_of_several_chunks_keeps_its_order(dataset, monkeypatch):
    whole = steps(feed(dataset, batch_size=10), range(3))
    monkeypatch.setattr("repro.data.imagenet.loader.CHUNK", 4)
    assert_same(whole, steps(feed(dataset, batch_size=10, workers=2), range(3)))


def test_a_restart_at_any_step_gives_the_same_bytes(dataset):
    straight = steps(feed(dataset), range(12))
    assert_same(straight[9:], steps(feed(dataset, workers=1), range(9, 12)))
    stream = feed(dataset, workers=1)
    jumped = [stream.load(step) for step in (5, 6, 0, 1, 11)]
    stream.close()
    assert_same([straight[step] for step in (5, 6, 0, 1, 11)], jumped)


def test_ranks_take_consecutive_parts(dataset):
    whole = steps(feed(dataset), range(6))
    ranks = [steps(feed(dataset, rank=rank, num_ranks=2), range(6)) for rank in range(2)]
    assert feed(dataset, num_ranks=2).part_size == 2
    together = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(*ranks, strict=True)]
    assert_same(whole, together)


def test_every_image_once_an_epoch_in_an_order_of_its_own(dataset):
    stream = feed(dataset, batch_size=4)  # 21 images: epochs end within a step
    order = torch.cat([stream.draws(step).order for step in range(11)])
    assert sorted(order[:21].tolist()) == sorted(order[21:42].tolist()) == list(range(21))
    assert order[:21].tolist() != order[21:42].tolist()
    labels = torch.cat([fed[1] for fed in steps(stream, range(5))])
    assert torch.equal(labels, torch.from_numpy(split_of(dataset).labels)[order[:20]])


def test_another_seed_or_epoch_draws_otherwise():
    first, again, seed, epoch = (draw_photo_epoch(50, config(), *names) for names in ((1, 0), (1, 0), (2, 0), (1, 1)))
    for column, same, other, later in zip(first, again, seed, epoch, strict=True):
        assert torch.equal(column, same)
        assert not torch.equal(column, other) and not torch.equal(column, later)


def test_draws_cover_their_ranges():
    draws = draw_photo_epoch(20_000, config(resize=(36, 48)), 0, 0)
    assert sorted(set(draws.shorter_side.tolist())) == list(range(36, 49))
    assert 0 <= draws.place.min() < 0.001 and 0.999 < draws.place.max() < 1
    assert abs(draws.flip.float().mean() - 0.5) < 0.02
    assert abs(draws.alpha.std() - 0.1) < 0.002 and abs(draws.alpha.mean()) < 0.002


def test_switches_change_only_what_they_name():
    usual = draw_photo_epoch(50, config(), 0, 0)
    plain = draw_photo_epoch(50, config(flip=False, colour="none"), 0, 0)
    assert torch.equal(usual.order, plain.order) and torch.equal(usual.place, plain.place)
    assert not plain.flip.any() and not plain.alpha.any()


def test_crops_are_those_of_the_draws(dataset):
    stream, split = feed(dataset), split_of(dataset)
    draws = stream.draws(1)
    crops, labels, noise = stream.load(1)
    for i, position in enumerate(draws.order.tolist()):
        down, across = draws.place[:, i].tolist()
        photo = decode.open_photo(split.path(position), "pillow")
        crop = decode.crop(photo, int(draws.shorter_side[i]), 32, (down, across), bool(draws.flip[i]))
        assert torch.equal(crops[i], crop)
    assert (crops.dtype, labels.dtype, noise.dtype) == (torch.uint8, torch.int64, torch.float32)
    assert (crops.shape, labels.shape, noise.shape) == ((4, 3, 32, 32), (4,), (4, 3))


def test_the_mean_image_is_subtracted_and_the_noise_added(dataset):
    stream, stats = feed(dataset), dataset.photo_stats
    assert stats is not None
    crops, labels, _ = stream.load(0)
    images, same_labels = stream.batch(0)
    alpha = stream.draws(0).alpha.numpy()
    assert images.dtype == torch.float32 and torch.equal(labels, same_labels)
    for i in range(4):
        noise = sum(stats.eigenvectors[:, k] * stats.eigenvalues[k] * alpha[k, i] for k in range(3))
        assert isinstance(noise, np.ndarray) and np.abs(noise).max() > 0
        expected = crops[i].numpy() / 255 - stats.mean_image + noise[:, None, None]
        np.testing.assert_allclose(images[i].numpy(), expected, atol=1e-6)


def test_noise_by_standard_deviations_is_that_of_krizhevskys_code(dataset):
    """Deviation D17: the roots of the eigenvalues, and noisy images divided by 1.1."""
    usual, stream, stats = feed(dataset), feed(dataset, config=config(colour="pca_std")), dataset.photo_stats
    assert stats is not None
    crops, alpha = stream.load(0)[0], stream.draws(0).alpha
    assert torch.equal(alpha, usual.draws(0).alpha)
    images = stream.batch(0)[0]
    for i in range(4):
        noise = stats.eigenvectors @ (np.sqrt(stats.eigenvalues) * alpha[:, i].numpy())
        expected = (crops[i].numpy() / 255 - stats.mean_image + noise[:, None, None]) / 1.1
        np.testing.assert_allclose(images[i].numpy(), expected, atol=1e-6)


def test_without_noise_the_images_are_only_normalized(dataset):
    stream = feed(dataset, config=config(colour="none", mean="per_channel", std="per_channel"))
    stats = dataset.photo_stats
    assert stats is not None
    crops, _, noise = stream.load(0)
    assert not noise.any()
    expected = (crops.numpy() / 255 - stats.channel_mean.reshape(3, 1, 1)) / np.sqrt(np.diag(stats.covariance)).reshape(
        3, 1, 1
    )
    np.testing.assert_allclose(stream.batch(0)[0].numpy(), expected, atol=1e-5)


def test_the_shared_generator_is_left_alone(dataset):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    steps(feed(dataset, workers=1), range(2))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_went_away_is_named(tmp_path, workers):
    root = make_imagenet(tmp_path)
    there = load(config(), root, may_fetch=False, workers=0)
    gone = root / "train" / CLASSES[1] / "n01443537_3.JPEG"
    gone.unlink()
    stream = feed(there, batch_size=18, workers=workers)
    with pytest.raises(RunError, match=r"n01443537_3\.JPEG can no longer be read \(No such file"):
        stream.load(0)
    stream.close()


def _end(task: int) -> int:
    import os

    if task == 3:
        os._exit(9)
    return task


def test_a_process_that_dies_is_one_sentence():
    with pytest.raises(RunError, match=r"execution\.workers"):
        list(read_ahead(_end, range(20), 1))


def _too_large(task: int) -> torch.Tensor:
    def full(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    torch.Tensor.share_memory_ = full  # type: ignore[method-assign]  # of this process alone
    return torch.ones(3)


def test_shared_memory_that_is_full_is_one_sentence_and_no_endless_wait():
    with pytest.raises(RunError, match=r"/dev/shm.*execution\.workers"):
        list(read_ahead(_too_large, range(4), 1))


def test_nvjpeg_needs_a_gpu(dataset):
    with pytest.raises(InputError, match=r"data\.decoder=nvjpeg"):
        feed(dataset, config=config(decoder="nvjpeg"))
    with pytest.raises(InputError, match=r"data\.decoder=nvjpeg"):
        PhotoImages(split_of(dataset, "eval"), config(decoder="nvjpeg"), CPU)


# --- evaluation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluated_images_are_centre_crops(dataset, workers, monkeypatch):
    monkeypatch.setattr("repro.data.imagenet.loader.CHUNK", 3)
    split = split_of(dataset, "eval")
    images = PhotoImages(split, config(), CPU, workers=workers)
    batches = list(images.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 4, 3] and images.num_images == 15
    crops, labels = map(torch.cat, zip(*batches, strict=True))
    assert crops.dtype == torch.uint8 and torch.equal(labels, torch.from_numpy(split.labels))
    for crop, file in zip(crops, split.files, strict=True):
        whole = decode.load_resized(split.root / file, 40, "pillow")
        top, left = (round((side - 32) / 2) for side in whole.shape[1:])
        assert torch.equal(crop, whole[:, top : top + 32, left : left + 32])


def test_every_image_on_one_rank(dataset):
    split = split_of(dataset, "eval")
    parts = [PhotoImages(split, config(), CPU, rank, 4) for rank in range(4)]
    assert [len(part.positions) for part in parts] == [4, 4, 4, 3]
    assert np.concatenate([part.positions for part in parts]).tolist() == list(range(15))
    assert {part.num_images for part in parts} == {15}
    labels = [label for part in parts for _, batch in part.batches(3) for label in batch.tolist()]
    assert labels == split.labels.tolist()


def test_a_limit_is_spread_over_the_classes(dataset):
    images = PhotoImages(split_of(dataset, "eval"), config(), CPU, limit=6)
    assert images.num_images == 6
    assert torch.cat([labels for _, labels in images.batches(4)]).tolist() == [0, 0, 1, 1, 2, 2]
    assert PhotoImages(split_of(dataset, "eval"), config(), CPU, limit=100).num_images == 15


def test_more_ranks_than_images(dataset):
    images = PhotoImages(split_of(dataset, "eval"), config(), CPU, rank=2, num_ranks=3, limit=2)
    assert list(images.batches(4)) == [] and list(images.whole(40)) == [] and images.num_images == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_images(dataset, workers):
    split = split_of(dataset, "eval")
    images = PhotoImages(split, config(), CPU, rank=1, num_ranks=2, workers=workers)
    found = list(images.whole(56))
    assert [position for position, _, _ in found] == list(range(8, 15))
    for position, image, label in found:
        assert label == split.labels[position] and min(image.shape[1:]) == 56
        assert torch.equal(image, decode.load_resized(split.root / split.files[position], 56, "pillow"))
    assert [position for position, _, _ in images.whole(40, order=[9, 8, 14])] == [9, 8, 14]


def test_pixel_stats_of_all_kinds(dataset):
    stats = dataset.photo_stats
    assert stats is not None
    per_pixel, per_channel = (pixel_stats(stats, mean, "none", CPU) for mean in ("per_pixel", "per_channel"))
    assert per_pixel.mean.shape == (3, 32, 32) and per_channel.mean.shape == (3, 1, 1)
    torch.testing.assert_close(per_pixel.mean.mean((1, 2)), per_channel.mean.flatten())
    assert torch.equal(per_pixel.std, torch.ones(3, 1, 1))


def test_the_crops_of_every_shorter_side_fit(dataset):
    narrow = dataclasses.replace(config(), resize=(32, 32))
    for crops, _, _ in steps(feed(dataset, config=narrow, batch_size=21), range(2)):
        assert crops.shape == (21, 3, 32, 32)


def test_paths_may_be_relative(dataset, monkeypatch):
    split = split_of(dataset)
    monkeypatch.chdir(split.root.parent)
    moved = dataclasses.replace(dataset, train=dataclasses.replace(split, root=Path(split.root.name)))
    assert_same(steps(feed(dataset), range(2)), steps(feed(moved, workers=1), range(2)))
