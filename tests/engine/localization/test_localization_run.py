"""Runs of localizers: crops with boxes, killed, resumed, tested and recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from repro.config.run import RunConfig
from repro.data.augment import normalize
from repro.data.localization.feed import LocalizationFeed, centre, in_crop, photo_of
from repro.engine.localization import testing
from repro.engine.localization.candidates import in_own_pixels
from repro.engine.localization.classes import check_classes
from repro.engine.localization.members import check_members, load_members
from repro.engine.localization.prepared import Member, PreparedLocalizer
from repro.engine.localization.run import prepare_localizer, run_localizer
from repro.engine.localization.testing import located
from repro.errors import InputError
from repro.models.detection.localizer import Localizer, likeliest
from repro.results.localization_record import read_localization_record
from repro.results.read import read_record, read_records
from repro.runtime import checkpoint
from tests.detector_runs import final_payload
from tests.localizer_runs import boxed, boxes_of, localizer_config
from tests.runs import StopAfter

pytestmark = pytest.mark.slow


def trained(folder: Path, *words: str, stop: int | None = None) -> RunConfig:
    of = localizer_config(folder, *words)
    run_localizer(of, boxed(of), StopAfter(stop))
    return of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return trained(tmp_path_factory.mktemp("whole"))


def same(one: RunConfig, other: RunConfig) -> bool:
    """Compare weights, momentum and losses by their digests, and all boxes."""
    found = [(of.work_dir / "boxes.json").read_text() for of in (one, other)]
    digests = [checkpoint.digest(final_payload(of)) for of in (one, other)]
    return digests[0] == digests[1] and found[0] == found[1]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", [2, None])
def test_killed_at_any_step_or_in_its_test_it_ends_with_the_same_bits(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int | None
) -> None:
    read = LocalizationFeed.batch

    def kill(self: object, at: object) -> object:
        if step is None or at == step:
            raise Killed
        return read(self, at)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        if step is None:
            patch.setattr("repro.engine.localization.run.run_test", lambda net, hooks: kill(net, None))
        else:
            patch.setattr(LocalizationFeed, "batch", kill)
        with pytest.raises(Killed):
            trained(tmp_path)
    assert len(checkpoint.checkpoints(tmp_path / "work" / whole.run_id)) > 0
    assert same(trained(tmp_path), whole)


def test_stopped_it_resumes_to_the_same_bits_and_another_seed_differs(whole: RunConfig, tmp_path: Path) -> None:
    trained(tmp_path, stop=1)
    assert not (tmp_path / "work" / whole.run_id / "record.json").exists()
    assert same(trained(tmp_path), whole)
    assert not same(trained(tmp_path, "seed=1", "localization.scales=[]"), whole)


def test_stopped_in_its_test_it_sees_the_other_images_alone(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = trained(tmp_path, "execution.checkpoint_seconds=999", stop=4 + 2)  # after the third image in the dense view
    assert not (of.work_dir / "record.json").exists()
    looked: list[int] = []
    look = testing.in_whole

    def in_whole(net: PreparedLocalizer, positions: Sequence[int], classes: np.ndarray) -> np.ndarray:
        looked.extend(positions)
        return look(net, positions, classes)

    monkeypatch.setattr(testing, "in_whole", in_whole)
    assert same(trained(tmp_path), whole)
    assert looked == [3, 4, 5] and not list(of.work_dir.glob("*.npz"))


def test_the_record_has_the_errors_of_both_views_and_comes_back(whole: RunConfig, tmp_path: Path) -> None:
    record = read_localization_record(whole.work_dir / "record.json")
    result = record.localization
    assert [view.view for view in result.views] == ["1crop", "dense"] and (result.images, result.left_out) == (6, 0)
    assert record.science == whole.science and record.steps == 4 and record.params > 0
    values = json.loads((whole.work_dir / "record.json").read_text())
    assert values == json.loads(json.dumps(record.to_json()))
    boxes = json.loads((whole.work_dir / "boxes.json").read_text())["boxes"]
    assert len(boxes["dense"]) == 6 and len((whole.work_dir / "losses.csv").read_text().splitlines()) == 5
    values["localization"]["views"][0]["error"] = 1.0
    folder = tmp_path / whole.run_id
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"1crop are not 1\.0"):
        read_localization_record(folder / "record.json")


def test_an_ensemble_has_the_mean_of_its_localizers(whole: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(whole.work_dir, tmp_path / "work" / whole.run_id)
    of = localizer_config(tmp_path, "seed=1", f"localization.members=[{whole.run_id}]", "localization.scales=[]")
    net = prepare_localizer(of, boxed(of))
    (member,) = net.members = load_members(of, net.classes, net.device)
    weights = final_payload(whole)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in member.model.state_dict().items())
    split, classes = net.dataset.eval, torch.from_numpy(net.dataset.eval.photos.labels[:, None])
    pixels = torch.stack([centre(photo_of(split, at, "pillow"), 72, 64)[0] for at in range(len(split))])
    with torch.no_grad():
        nets = [one.model.eval() for one in net.ensemble]
        each = [one.candidates(normalize(pixels, net.stats), classes) for one in nets if isinstance(one, Localizer)]
    (scores, boxes), (other_scores, other_boxes) = each
    wanted = likeliest((scores + other_scores) / 2, (boxes + other_boxes) / 2, vote=True)
    assert torch.allclose(located(net, pixels, classes).boxes, wanted.boxes, atol=1e-4)
    assert not torch.allclose(wanted.boxes, likeliest(scores, boxes, vote=True).boxes, atol=1e-2)
    # A net with itself is that net.
    net.members = [Member(net.model, net.stats)]
    twice = boxes_of(net, classes.numpy(), "1crop")
    net.members = []
    assert np.array_equal(twice, boxes_of(net, classes.numpy(), "1crop"))


def test_members_of_an_ensemble_must_exist_and_have_the_same_anchors(whole: RunConfig) -> None:
    word = f"localization.members=[{whole.run_id}]"
    folder = whole.paths.work.parent
    check_members(localizer_config(folder, word, "seed=1"))
    for words, said in (
        ([word, "localization.anchor_scales=[1,2]"], "anchor_scales"),
        ([word.replace("-s0-", "-s9-")], "-s9-"),
        ([word], "same net as this run's own, only tested otherwise"),
        ([word, "localization.scales=[]"], "same net as this run's own"),
        ([word, "localization.vote=false", "data.test_images=3"], "same net as this run's own"),
        ([word, "localization.classes_of=[a-b]"], "same net as this run's own"),
    ):
        with pytest.raises(InputError, match=said) as error:
            check_members(localizer_config(folder, *words))
        assert "localization.members=" in str(error.value) and "\n" not in str(error.value)


def test_two_tests_of_one_net_are_no_two_members(whole: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(whole.work_dir, tmp_path / "work" / whole.run_id)
    again = trained(tmp_path, "localization.scales=[]", "localization.vote=false")
    of = localizer_config(tmp_path, f"localization.members=[{whole.run_id},{again.run_id}]", "seed=1")
    for check in (check_members, lambda one: load_members(one, (), torch.device("cpu"))):
        with pytest.raises(InputError, match=rf"{again.run_id} is the same net as {whole.run_id}"):
            check(of)


def test_a_localizer_predicts_no_classes(whole: RunConfig) -> None:
    for name in (whole.run_id, "nothing-s0"):
        of = localizer_config(whole.paths.work.parent, f"localization.classes_of=[{name}]", "seed=1")
        with pytest.raises(InputError, match=rf"localization\.classes_of={name} is not a finished run of") as error:
            check_classes(of)
        assert "\n" not in str(error.value)


def test_readers_of_classification_pass_over_localizers(whole: RunConfig) -> None:
    work = whole.paths.work
    assert read_records([work]).records == () and read_records([work]).left_out == ()
    assert [record.run_id for record in read_records([work]).localizers] == [whole.run_id]
    with pytest.raises(InputError, match="localizer"):
        read_record(whole.work_dir / "record.json")


def test_boxes_in_crops_lie_on_the_pixels_of_their_shapes(tmp_path: Path) -> None:
    of = localizer_config(tmp_path, "data.train_images=40", "optim.batch_size=40")
    dataset = boxed(of)
    # Paint every box of a class white on black: then the white pixels of a crop are its boxes.
    for image, own in zip(dataset.train.drawn, dataset.train.boxes, strict=True):
        image[:] = 0
        for x0, y0, x1, y1 in own.astype(int).tolist():
            image[y0:y1, x0:x1] = 255
    net = prepare_localizer(of, dataset)
    assert isinstance(net.feed, LocalizationFeed)
    batch = net.feed.batch(0)
    counted = 0
    for pixels, boxes in zip(batch.images, batch.boxes, strict=True):
        white = pixels[0] > 0.5 * (pixels[0].min() + pixels[0].max())
        if len(boxes) != 1 or pixels[0].max() - pixels[0].min() < 0.5:
            continue
        x0, y0, x1, y1 = boxes[0].round().int().tolist()
        inside = white[y0:y1, x0:x1]
        counted += int(inside.float().mean() > 0.9)
        assert inside.float().mean() > 0.8
    assert counted > 5 and {bool(flip) for flip in net.feed.crops.draws(0).flip} == {False, True}


def test_a_box_that_is_mostly_outside_a_crop_is_left_out() -> None:
    boxes = np.array([[-10.0, 0, 10, 20], [-11, 0, 10, 20], [70, 0, 80, 9], [0, 0, 64, 64]])
    assert in_crop(boxes, 64, False, 0.5).tolist() == [[0, 0, 10, 20], [0, 0, 64, 64]]
    assert in_crop(boxes[:1], 64, True, 0.5).tolist() == [[54, 0, 64, 20]]


def test_boxes_go_back_to_the_pixels_of_the_image() -> None:
    found = in_own_pixels(torch.tensor([[[8.0, 0, 200, 64]]]), np.array([[32, 64]]), 64)
    assert found.tolist() == [[[4, 0, 64, 32]]]


def test_dense_and_centre_views_find_a_shape_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = localizer_config(tmp_path, "localization.scales=[64,128]", "localization.vote=false")
    net = prepare_localizer(of, boxed(of))

    def candidates(images: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # The whole view, surer in larger ones.
        height, width = images.shape[-2:]
        boxes = torch.tensor([0.0, 0, width, height]).expand(*classes.shape, 1, 4)
        return torch.full((*classes.shape, 1), float(height)), boxes

    monkeypatch.setattr(net.model, "candidates", candidates)
    labels = net.dataset.eval.photos.labels[:, None]
    heights, widths = net.dataset.eval.sizes.T
    whole = boxes_of(net, labels, "dense")[:, 0]
    assert np.array_equal(whole[:, 2:], np.stack([widths, heights], 1)) and not whole[:, :2].any()
    part = boxes_of(net, labels, "1crop")[:, 0]
    sides = part[:, 2:] - part[:, :2]
    wanted = 64 * np.minimum(heights, widths) / 72
    assert np.allclose(sides, wanted[:, None]) and np.allclose(part[:, 0] + part[:, 2], widths, atol=1.5)
    assert Image.fromarray(net.dataset.eval.drawn[0]).size == (widths[0], heights[0])
