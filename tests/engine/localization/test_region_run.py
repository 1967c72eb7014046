"""Runs of R-CNN on the proposals of a localizer: killed, resumed, tested and joined to ensembles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from repro.config.run import RunConfig
from repro.data.localization.regions import RegionFeed
from repro.engine.localization import regions
from repro.engine.localization.members import check_members, load_members
from repro.engine.localization.prepared import Member
from repro.engine.localization.proposals import likely
from repro.engine.localization.regions import PROPOSALS, PreparedRegionNet, updated, updated_boxes
from repro.engine.localization.run import optim_of, prepare_localizer, run_localizer
from repro.errors import InputError
from repro.launch.lacking import starts
from repro.results.localization_record import read_localization_record
from tests.localizer_runs import boxed, boxes_of, localizer_config
from tests.runs import StopAfter

pytestmark = pytest.mark.slow
RCNN = "localization.method=rcnn"


def finished(folder: Path, *words: str, stop: int | None = None) -> RunConfig:
    of = localizer_config(folder, *words)
    run_localizer(of, boxed(of), StopAfter(stop))
    return of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A finished run on the proposals of the localizer beside it."""
    folder = tmp_path_factory.mktemp("whole")
    finished(folder)
    return finished(folder, RCNN)


def beside(whole: RunConfig, folder: Path) -> Path:
    """Copy the localizer that proposes into another folder."""
    assert whole.proposals_of is not None
    shutil.copytree(whole.paths.work / whole.proposals_of, folder / "work" / whole.proposals_of)
    return folder


def prepared(of: RunConfig) -> PreparedRegionNet:
    net = prepare_localizer(of, boxed(of))
    assert isinstance(net, PreparedRegionNet)
    net.model.eval()
    return net


def same(one: RunConfig, other: RunConfig) -> bool:
    found = []
    for of in (one, other):
        weights = torch.load(of.work_dir / "final.pt", weights_only=False)["model"]
        found.append((weights, (of.work_dir / "boxes.json").read_text()))
    (weights, boxes), (others, other_boxes) = found
    return boxes == other_boxes and all(torch.equal(value, others[name]) for name, value in weights.items())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", ["proposals", "training", "test"])
def test_killed_anywhere_it_ends_with_the_same_bits(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    beside(whole, tmp_path)

    def kill(*_: object) -> object:
        raise Killed

    with monkeypatch.context() as patch:
        if place == "proposals":
            patch.setattr(regions, "run_pass", kill)
        elif place == "training":
            read = RegionFeed.batch
            patch.setattr(RegionFeed, "batch", lambda self, step: kill() if step == 2 else read(self, step))
        else:
            patch.setattr("repro.engine.localization.run.run_test", kill)
        with pytest.raises(Killed):
            finished(tmp_path, RCNN)
    assert (tmp_path / "work" / whole.run_id / PROPOSALS).exists() == (place != "proposals")
    resumed = finished(tmp_path, RCNN)
    assert same(resumed, whole) and not (resumed.work_dir / PROPOSALS).exists()


def test_the_record_names_the_localizers_that_proposed(whole: RunConfig, tmp_path: Path) -> None:
    digests = read_localization_record(whole.work_dir / "record.json").provenance.data_digests
    proposer = read_localization_record(whole.paths.work / str(whole.proposals_of) / "record.json")
    assert digests is not None and digests[f"proposals of {proposer.run_id}"] == proposer.fingerprint
    joined = finished(beside(whole, tmp_path), "seed=1", f"localization.members=[{proposer.run_id}]")
    of = localizer_config(tmp_path, RCNN, f"localization.proposals_of={joined.run_id}")
    assert {f"proposals of {one}" for one in (joined.run_id, proposer.run_id)} <= prepared(of).digests.keys()


def test_stopped_during_the_proposals_it_goes_on(whole: RunConfig, tmp_path: Path) -> None:
    beside(whole, tmp_path)
    stopped = finished(tmp_path, RCNN, stop=0)
    assert not (stopped.work_dir / "record.json").exists()
    assert same(finished(tmp_path, RCNN), whole)


def test_stopped_in_its_test_it_keeps_the_boxes_of_the_images_before(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.engine.localization.testing.ROUND", 2)
    stopped = finished(beside(whole, tmp_path), RCNN, "execution.checkpoint_seconds=999", stop=4 + 1)
    with np.load(stopped.work_dir / "tested_dense.npz") as stored:
        assert stored["positions"].tolist() == [0, 1, 2, 3]
    assert not (stopped.work_dir / "record.json").exists()
    assert same(finished(tmp_path, RCNN), whole) and not list(stopped.work_dir.glob("*.npz"))


def test_its_record_has_one_view_and_names_what_it_needs(whole: RunConfig) -> None:
    record = read_localization_record(whole.work_dir / "record.json")
    assert [view.view for view in record.localization.views] == ["dense"] and record.label.startswith("R-CNN")
    boxes = json.loads((whole.work_dir / "boxes.json").read_text())["boxes"]["dense"]
    assert len(boxes) == 6 and record.params > 0 and record.macs > 0
    assert starts(whole) == [whole.proposals_of]


def test_it_may_have_a_learning_rate_of_its_own(whole: RunConfig, tmp_path: Path) -> None:
    rate = "localization.region_lr=0.25"
    proposer = f"localization.proposals_of={whole.proposals_of}"
    of = finished(beside(whole, tmp_path), RCNN, rate, proposer, "optim.steps=2", "optim.milestones=[1]")
    _, first, second = (of.work_dir / "losses.csv").read_text().splitlines()
    assert [float(row.split(",")[2]) for row in (first, second)] == [0.25, 0.025]
    assert optim_of(localizer_config(tmp_path, rate)).lr == whole.optim.lr != 0.25


def test_only_the_proposals_of_a_box_apart_are_kept_the_likeliest_first(whole: RunConfig) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9.5], [20, 0, 30, 10], [5, 5, 5, 9], [40, 0, 50, 10]])
    scores = torch.tensor([2.0, 1, 3, 9, 0])
    ((found,),) = likely(scores[None, None], boxes[None, None], whole)
    assert found.tolist() == [[20, 0, 30, 10], [0, 0, 10, 10], [40, 0, 50, 10]]


def test_a_class_that_is_asked_for_twice_has_the_same_box_and_one_without_proposals_the_image(
    whole: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = prepared(whole)
    classes = np.array([[2, 0, 2], [1, 1, 1], [0, 1, 2]])
    found = updated_boxes(net, [0, 1, 4], classes)
    assert np.array_equal(found[0][0], found[0][2]) and not np.array_equal(found[0][0], found[0][1])
    alone = updated_boxes(net, [4], np.array([[1]]))
    assert np.allclose(alone[0][0], found[2][1], atol=1e-4)
    nothing = np.zeros((0, 4), np.float32)
    monkeypatch.setattr(regions, "proposed", lambda *given: iter([[nothing, nothing]]))
    height, width = net.dataset.eval.sizes[4].tolist()
    assert updated_boxes(net, [4], np.array([[0, 1]]))[0].tolist() == [[0, 0, width, height]] * 2


def test_an_ensemble_has_the_mean_of_its_nets_and_one_with_itself_is_that_net(whole: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(whole.work_dir, beside(whole, tmp_path) / "work" / whole.run_id)
    proposer = f"localization.proposals_of={whole.proposals_of}"
    net = prepared(localizer_config(tmp_path, RCNN, "seed=1", proposer, f"localization.members=[{whole.run_id}]"))
    (member,) = load_members(net.config, net.classes, net.device)
    crops = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    classes, boxes = torch.tensor([0, 1, 2, 0]), torch.tensor([[0.0, 0, 30, 20]]).repeat(4, 1)
    apart = []
    for one in (Member(net.model, net.stats), member):
        alone = prepared(whole)
        alone.model.load_state_dict(one.model.state_dict())
        alone.feed.stats = one.stats
        apart.append(updated(alone, crops, classes, boxes))
    net.members = [member]
    together = updated(net, crops, classes, boxes)
    for joined, values in zip(together, zip(*apart, strict=True), strict=True):
        assert torch.allclose(joined, torch.stack(values).mean(0)) and not torch.allclose(values[0], values[1])
    net.members = []
    labels = net.dataset.eval.photos.labels[:, None]
    once = boxes_of(net, labels, "dense")
    net.members = [Member(net.model, net.stats)]
    assert np.array_equal(boxes_of(net, labels, "dense"), once)


def test_what_it_needs_must_be_there_and_fit(whole: RunConfig, tmp_path: Path) -> None:
    folder = whole.paths.work.parent
    check_members(whole)
    for words, said in (
        (["localization.method=rpn", f"localization.members=[{whole.run_id}]"], "localization.method is rcnn, not rpn"),
        ([RCNN, f"localization.proposals_of={whole.run_id}"], "localization.method is rcnn, not rpn"),
        ([RCNN, f"localization.members=[{whole.proposals_of}]"], "localization.method is rpn, not rcnn"),
        ([RCNN, "seed=5"], "needs the finished localizer shapes-rpn"),
    ):
        with pytest.raises(InputError, match=said) as error:
            check_members(localizer_config(folder, *words))
        assert "\n" not in str(error.value)


def test_a_net_of_an_ensemble_sees_crops_as_it_was_trained_on(whole: RunConfig) -> None:
    folder = whole.paths.work.parent
    proposer = f"localization.proposals_of={whole.proposals_of}"
    words = (RCNN, f"localization.members=[{whole.run_id}]", proposer, "seed=1")
    check_members(localizer_config(folder, *words))
    for word, said in (
        ("localization.context=6", r"localization\.context is 4, not 6"),
        ("data.image_size=56", r"data\.image_size is 64, not 56"),
    ):
        with pytest.raises(InputError, match=said) as error:
            check_members(localizer_config(folder, *words, word))
        assert f"localization.members={whole.run_id} does not fit" in str(error.value)


def test_the_same_net_is_no_member_whoever_names_the_localizer_that_proposes(whole: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(whole.work_dir, beside(whole, tmp_path) / "work" / whole.run_id)
    member, proposer = f"localization.members=[{whole.run_id}]", f"localization.proposals_of={whole.proposals_of}"
    # Without ``proposer``, the localizer of the run's own settings is another run than the member's, of the same net.
    for words in ([], [proposer], ["localization.vote=false"], ["data.test_images=3", proposer]):
        of = localizer_config(tmp_path, RCNN, member, *words)
        with pytest.raises(InputError, match="same net as this run's own") as error:
            check_members(of)
        assert "\n" not in str(error.value)
    # What decides the proposals decides the training, too.
    for word in ("localization.proposals=5", "localization.suppress=0.6", "localization.foreground=0.6", "seed=1"):
        check_members(localizer_config(tmp_path, RCNN, member, proposer, word))
