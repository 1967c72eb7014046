"""Scores on views of images, compared with torchvision and with written-out loops, and over ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import TenCrop, v2

from repro.config.run import RunConfig
from repro.data import Dataset, PhotoSplit, load
from repro.data.augment import PixelStats, generator_for
from repro.data.imagenet.decode import load_resized
from repro.errors import RunError
from repro.evaluation import multi_crop, predictions, scoring
from repro.evaluation.views import (
    FullyConvolutional,
    centre_crop,
    crop_scores,
    dense_scores,
    ten_crops,
    training_map,
)
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.runtime import distributed
from repro.runtime.stop import Stopped
from tests.pictures import draw, folder
from tests.ranks import on_ranks
from tests.runs import photo_config


def a_net(of: RunConfig, num_classes: int) -> BlockNet:
    """Build a net whose batch norms and outputs are far from their initial values, so that scores differ between
    classes."""
    net = build_model(of.model, num_classes, generator_for("net"))
    net.train()
    with torch.no_grad():
        for step in range(3):
            net(torch.randn(32, 3, 32, 32, generator=generator_for("batch", step)) / 4)
        net.fc.weight *= 30
    return net.eval()


def pixels_of(image: Tensor, mean: Tensor) -> Tensor:
    return image.float() / 255 - mean


def an_image(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=generator_for(height, width), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(256, 341), (301, 256), (255, 256), (224, 224)])
def test_ten_crops_are_torchvisions(height: int, width: int) -> None:
    image = an_image(height, width)
    ours = ten_crops(image, 224)
    assert torch.equal(ours, torch.stack(TenCrop(224)(image)))
    assert torch.equal(ours, torch.stack(v2.TenCrop(224)(image)))


def test_ten_crops_are_corners_and_centre_and_those_of_the_mirror_image() -> None:
    image = an_image(40, 50)
    crops = ten_crops(image, 32)
    places = [(0, 0), (0, 18), (8, 0), (8, 18), (4, 9)]
    for crop, (top, left) in zip(crops, places, strict=False):
        assert torch.equal(crop, image[:, top : top + 32, left : left + 32])
    assert torch.equal(crops[5:], crops[[1, 0, 3, 2, 4]].flip(-1))
    assert torch.equal(ten_crops(torch.stack([image, image.flip(0)]), 32)[0], crops)
    assert torch.equal(centre_crop(image, 32), crops[4])


def test_scores_are_averaged_after_the_softmax(tmp_path: Path) -> None:
    """One crop is sure of class 0 and nine lean to class 1, so that mean logits and mean scores disagree."""

    class Fixed(BlockNet):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            sure = x[:, 0, 0, 0] > 0
            return torch.where(sure[:, None], torch.tensor([30.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0]))

    crops = torch.zeros(1, 10, 3, 4, 4, dtype=torch.uint8)
    crops[0, 0] = 255
    net = Fixed()
    found = crop_scores(net, crops, PixelStats(torch.zeros(1), torch.ones(1)), "fp32")
    logits = net(crops[0].float())
    assert logits.mean(0).argmax() == 0
    assert found[0].argmax() == 1
    torch.testing.assert_close(found[0], logits.softmax(1).mean(0))


def test_a_whole_image_of_the_training_size_is_scored_as_in_training(tmp_path: Path) -> None:
    net = a_net(photo_config(tmp_path), 5)
    images = torch.randn(2, 3, 64, 64, generator=generator_for("images"))
    with torch.no_grad():
        assert training_map(net, 64) == 2
        torch.testing.assert_close(dense_scores(FullyConvolutional(net, 2), images, "fp32"), net(images).softmax(1))


def test_dense_scores_are_the_mean_over_every_window(tmp_path: Path) -> None:
    net = a_net(photo_config(tmp_path), 5)
    image = torch.randn(1, 3, 100, 150, generator=generator_for("image"))
    with torch.no_grad():
        dense = FullyConvolutional(net, 2)
        last = net.features(image)[0]
        assert last.shape[1:] == (4, 5)
        windows = [
            net.fc(last[:, top : top + 2, left : left + 2].mean((1, 2))).softmax(0)
            for top in range(3)
            for left in range(4)
        ]
        torch.testing.assert_close(dense_scores(dense, image, "fp32")[0], torch.stack(windows).mean(0))
        # A map smaller than the window is averaged as a whole.
        torch.testing.assert_close(dense_scores(FullyConvolutional(net, 9), image, "fp32"), net(image).softmax(1))
        mirrored = (dense_scores(dense, image, "fp32") + dense_scores(dense, image.flip(-1), "fp32")) / 2
        torch.testing.assert_close(dense_scores(dense, image, "fp32", flip=True), mirrored)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[RunConfig, Dataset, BlockNet]:
    folder(tmp_path / "data")
    of = photo_config(tmp_path)
    dataset = load(of.data, of.paths.data, may_fetch=False, workers=0)
    return of, dataset, a_net(of, dataset.num_classes)


def mean_scores(net: BlockNet, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return net(batch).softmax(1).mean(0)


def kept(of: RunConfig, view: str) -> predictions.Predictions:
    return predictions.read(predictions.path_of(of.work_dir, view))


def test_views_of_a_split_are_those_of_a_written_out_loop(photos: tuple[RunConfig, Dataset, BlockNet]) -> None:
    of, dataset, net = photos
    entries = multi_crop.test_views(net.train(), dataset, of, torch.device("cpu"))
    assert net.training
    net.eval()
    stats = dataset.photo_stats
    assert stats is not None
    mean_image = torch.from_numpy(stats.mean_image).float()
    mean_colour = torch.from_numpy(stats.channel_mean).float()[:, None, None]
    rows: dict[str, list[Tensor]] = {"10crop": [], "multiscale": []}
    assert isinstance(dataset.eval, PhotoSplit)
    for file in dataset.eval.files:
        at = {side: load_resized(dataset.eval.root / file, side, "pillow") for side in (32, 40, 48)}
        rows["10crop"].append(mean_scores(net, pixels_of(torch.stack(v2.TenCrop(32)(at[40])), mean_image)))
        scales = []
        for side in (32, 48):
            whole = pixels_of(at[side], mean_colour)[None]
            for image in (whole, whole.flip(-1)):
                with torch.no_grad():
                    maps = net.features(image)[0].flatten(1)  # the training map is 1x1, so every pixel is a position
                    scales.append(net.fc(maps.T).softmax(1).mean(0))
        rows["multiscale"].append(torch.stack(scales).mean(0))
    for entry in entries:
        view = entry["view"]
        expected = torch.stack(rows[view])
        found = kept(of, view)
        torch.testing.assert_close(torch.from_numpy(found.scores), expected, rtol=1e-4, atol=1e-5)
        assert found.labels.tolist() == dataset.eval.labels.tolist()
        errors = int((expected.argmax(1) != torch.from_numpy(dataset.eval.labels)).sum())
        assert entry == {
            "view": view,
            "split": "val",
            "errors": errors,
            "images": 9,
            "top1_error": 100 * errors / 9,
            "top5_errors": 0,  # among three classes
            "top5_error": 0.0,
        }
        assert 0 < errors < 9
    assert [entry["view"] for entry in entries] == ["10crop", "multiscale"]
    assert found.made.settings["scales"] == [32, 48]


def test_ten_crops_of_the_square_are_those_of_the_centred_square(photos: tuple[RunConfig, Dataset, BlockNet]) -> None:
    """Deviation D27."""
    of, dataset, net = photos
    square = dataclasses.replace(of, eval=dataclasses.replace(of.eval, crops_of="square", views=("10crop",)))
    multi_crop.test_views(net, dataset, square, torch.device("cpu"))
    found = kept(square, "10crop")
    assert found.made.settings["crops_of"] == "square"
    assert dataset.photo_stats is not None and isinstance(dataset.eval, PhotoSplit)
    mean_image = torch.from_numpy(dataset.photo_stats.mean_image).float()
    rows, others = [], []
    for file in dataset.eval.files:
        whole = load_resized(dataset.eval.root / file, 40, "pillow")
        crops = (torch.stack(v2.TenCrop(32)(image)) for image in (v2.CenterCrop(40)(whole), whole))
        scores = [mean_scores(net, pixels_of(c, mean_image)) for c in crops]
        rows.append(scores[0])
        others.append(scores[1])
    torch.testing.assert_close(torch.from_numpy(found.scores), torch.stack(rows), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found.scores, torch.stack(others).numpy())


def test_a_larger_crop_is_scored_by_the_average_of_its_whole_map(photos: tuple[RunConfig, Dataset, BlockNet]) -> None:
    """Deviation D102: one crop as large as the shorter side, without the mean image, which has the training size."""
    of, dataset, net = photos
    large = dataclasses.replace(of, eval=dataclasses.replace(of.eval, large_crop=96, views=("large_crop",)))
    (entry,) = multi_crop.test_views(net, dataset, large, torch.device("cpu"))
    assert dataset.photo_stats is not None and isinstance(dataset.eval, PhotoSplit)
    mean_colour = torch.from_numpy(dataset.photo_stats.channel_mean).float()[:, None, None]
    rows = []
    for file in dataset.eval.files:
        cropped = v2.CenterCrop(96)(load_resized(dataset.eval.root / file, 96, "pillow"))
        with torch.no_grad():
            maps = net.features(pixels_of(cropped, mean_colour)[None])
            assert maps.shape[-2:] == (3, 3)
            rows.append(net.fc(maps.mean((2, 3))).softmax(1)[0])
    found = kept(large, "large_crop")
    torch.testing.assert_close(torch.from_numpy(found.scores), torch.stack(rows), rtol=1e-4, atol=1e-5)
    assert (entry["images"], found.made.settings["large_crop"]) == (9, 96)


def test_mirror_images_are_left_out_where_they_are_not_wanted(photos: tuple[RunConfig, Dataset, BlockNet]) -> None:
    of, dataset, net = photos
    one_sided = dataclasses.replace(of, eval=dataclasses.replace(of.eval, flip_scales=False, views=("multiscale",)))
    multi_crop.test_views(net, dataset, of, torch.device("cpu"))
    multi_crop.test_views(net, dataset, one_sided, torch.device("cpu"))
    assert not np.allclose(kept(of, "multiscale").scores, kept(one_sided, "multiscale").scores)


def test_the_size_of_batches_changes_nothing_but_rounding(photos: tuple[RunConfig, Dataset, BlockNet]) -> None:
    of, dataset, net = photos
    small = dataclasses.replace(of, execution=dataclasses.replace(of.execution, eval_batch_size=1))
    images = multi_crop.evaluated_images(dataset, of, torch.device("cpu"))
    for view in multi_crop.VIEWS:
        one, other = (multi_crop.MultiView(net, images, c, torch.device("cpu"))(view) for c in (of, small))
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_photographs_of_one_shape_go_together_in_bounded_batches() -> None:
    shapes = [(4, 5), (5, 4), (4, 5), (4, 5), (9, 9), (4, 5), (5, 4)]
    given = [(i, torch.zeros(3, *shape, dtype=torch.uint8), 0) for i, shape in enumerate(shapes)]
    batches = [[position for position, _, _ in batch] for batch in scoring.batches_of_one_size(given, 60)]
    assert batches == [[0, 2, 3], [4], [1, 6], [5]]


def test_few_pixels_wait_for_others_of_their_shape() -> None:
    """A thousand images of a thousand shapes must not all be held at once."""
    taken = 0

    def photos():
        nonlocal taken
        for taken in range(1, 1001):
            yield taken, torch.zeros(3, 1, taken, dtype=torch.uint8), 0

    done: set[int] = set()
    for batch in scoring.batches_of_one_size(photos(), 1000):
        held = sum(set(range(1, taken + 1)) - done)
        done |= {position for position, _, _ in batch}
        assert held <= scoring.WAITING * 1000 + taken or taken == 1000
    assert len(done) == 1000


def test_a_stopped_test_goes_on_with_the_views_that_are_left(
    photos: tuple[RunConfig, Dataset, BlockNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, dataset, net = photos
    expected = multi_crop.test_views(net, dataset, of, torch.device("cpu"))
    first, second = (predictions.path_of(of.work_dir, view) for view in ("10crop", "multiscale"))
    first.unlink()
    second.unlink()
    with pytest.raises(Stopped):
        multi_crop.test_views(net, dataset, of, torch.device("cpu"), first.exists)
    assert first.exists() and not second.exists()
    crops = multi_crop.MultiView.crops
    monkeypatch.setattr(multi_crop.MultiView, "crops", lambda *_: pytest.fail("tested again"))
    assert multi_crop.test_views(net, dataset, of, torch.device("cpu")) == expected
    monkeypatch.setattr(multi_crop.MultiView, "crops", crops)
    before = kept(of, "10crop")
    with torch.no_grad():
        net.fc.bias[0] += 100
    multi_crop.test_views(net, dataset, of, torch.device("cpu"))
    assert not np.allclose(kept(of, "10crop").scores, before.scores), "those of other weights are not taken"


def test_scores_that_are_not_finite_are_an_error(photos: tuple[RunConfig, Dataset, BlockNet]) -> None:
    of, dataset, net = photos
    with torch.no_grad():
        net.fc.bias[0] = float("nan")
    with pytest.raises(RunError, match="not finite for 9 of 9"):
        multi_crop.test_views(net, dataset, of, torch.device("cpu"))
    assert not predictions.path_of(of.work_dir, "10crop").exists()


def test_an_image_that_was_left_out_is_an_error() -> None:
    part = scoring.Scored(np.arange(3), np.zeros(3, np.int64), np.full((3, 2), 0.5, np.float32))
    with pytest.raises(RunError, match="3 images were tested, but the split has 4"):
        scoring.gathered(part, 4)


def test_an_image_that_came_twice_is_an_error() -> None:
    part = scoring.Scored(np.array([0, 1, 1]), np.zeros(3, np.int64), np.full((3, 2), 0.5, np.float32))
    with pytest.raises(RunError, match="twice"):
        scoring.gathered(part, 3)


class SmallNet(BlockNet):
    """A convolution and an output layer, to test counting alone."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 8, 8)
        self.fc = nn.Linear(8, num_classes)
        for name, parameter in self.named_parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator_for(name))

    def features(self, x: Tensor) -> Tensor:
        return self.conv1(x)


def on_this_rank(root: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the entries of all views, and the positions of this rank's images."""
    of = photo_config(Path(root), f"paths.work={root}/work{distributed.size()}")
    dataset = load(of.data, of.paths.data, may_fetch=False, workers=0, cache=Path(root) / "cache")
    net = SmallNet(dataset.num_classes)
    images = multi_crop.evaluated_images(dataset, of, torch.device("cpu")).images
    with pytest.raises(Stopped):  # on all ranks if one is asked
        multi_crop.test_views(
            net, dataset, of, torch.device("cpu"), lambda: distributed.rank() == distributed.size() - 1
        )
    return multi_crop.test_views(net, dataset, of, torch.device("cpu")), images.positions.tolist()


def test_two_ranks_count_1001_images_once_each_and_keep_all_scores(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", val=0)
    for number in range(1001):
        shape = [(32, 36), (36, 32)][number % 2]
        draw(data / "val" / f"n{number % 3:08}" / f"{number:04}.JPEG", number % 3, number, shape)
    (alone, positions), *_ = on_ranks(1, on_this_rank, str(tmp_path))
    assert positions == list(range(1001))
    (first, of_first), (second, of_second) = on_ranks(2, on_this_rank, str(tmp_path))
    assert (len(of_first), len(of_second)) == (501, 500)
    assert sorted(of_first + of_second) == positions
    assert first == second
    assert [entry["images"] for entry in first] == [1001, 1001]
    for one, both, view in zip(alone, first, ("10crop", "multiscale"), strict=True):
        apart, together = (read_all(tmp_path / f"work{ranks}", view) for ranks in (1, 2))
        assert apart.labels.tolist() == together.labels.tolist()
        np.testing.assert_allclose(apart.scores, together.scores, atol=1e-5)
        assert apart.made == together.made
        assert both["errors"] == together.counts.errors
        assert one["errors"] == apart.counts.errors
        assert 100 < one["errors"] < 900


def read_all(work: Path, view: str) -> predictions.Predictions:
    (path,) = work.glob(f"*/predictions/{view}.npz")
    return predictions.read(path)
