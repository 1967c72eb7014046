"""Ensembles of detectors in the test of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data.detection.scaled import photo_of
from repro.engine.detection import events
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.members import check_members, load_own_members
from repro.engine.detection.passes import read_rows, write_rows
from repro.engine.detection.prepared import Member, PreparedDetector, prepare_detector
from repro.engine.detection.run import run_detector
from repro.engine.detection.stored import load_detector
from repro.engine.detection.testing import find, find_all, pass_over_tests
from repro.errors import InputError
from repro.models.detection.refinement import Found
from repro.report.detection import line
from repro.results.detection_record import read_detection_record
from repro.runtime import checkpoint
from tests.detector_runs import detector_config, final_payload, shapes_of
from tests.ranks import on_ranks
from tests.runs import StopAfter

pytestmark = pytest.mark.slow

JOINT = ("detection.training=joint", "detection.steps=[2]", "detection.drops=[1]")


def trained(folder: Path, *words: str) -> RunConfig:
    of = detector_config(folder, *JOINT, *words)
    with mock.patch.object(events, "IMAGES", 0):
        run_detector(of, shapes_of(of), StopAfter(None))
    return of


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return trained(tmp_path_factory.mktemp("member"), "detection.context=true")


@pytest.fixture(scope="module")
def ensemble(member: RunConfig) -> RunConfig:
    """A run of another seed, without context, whose test joins the member."""
    return trained(member.paths.work.parent, *joined_to(member))


def joined_to(member: RunConfig) -> tuple[str, ...]:
    return "seed=1", "detection.refine=true", "detection.scales=[64,96]", f"detection.members=[{member.run_id}]"


def all_of(net: PreparedDetector) -> list[Found]:
    found = find_all(net, DetectionHooks())
    assert found is not None
    return found


def is_same(one: Found, other: Found) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def prepared(of: RunConfig, *, joined: bool = True) -> PreparedDetector:
    """Return the trained detector of a finished run, with its ensemble."""
    net = prepare_detector(of, shapes_of(of))
    net.model.load_state_dict(final_payload(of)["model"])
    net.members = load_own_members(of, net.classes, net.feed.like) if joined else []
    return net


def test_the_test_of_a_run_is_that_of_its_ensemble(member: RunConfig, ensemble: RunConfig) -> None:
    net, weights = prepared(ensemble), final_payload(member)["model"]
    (joined,) = net.members
    assert all(torch.equal(value, weights[name]) for name, value in joined.model.state_dict().items())
    stored = json.loads((ensemble.work_dir / "detections.json").read_text())["images"]
    found = all_of(net)
    assert [one["scores"] for one in stored.values()] == [one.scores.tolist() for one in found]
    alone = all_of(prepared(ensemble, joined=False))
    assert not any(is_same(one, other) for one, other in zip(found, alone, strict=True))
    record = read_detection_record(ensemble.work_dir / "record.json")
    assert record.science == ensemble.science and "ensemble of 2" in line(record)
    assert "ensemble" not in line(read_detection_record(member.work_dir / "record.json"))


def test_an_ensemble_changes_no_training(ensemble: RunConfig, tmp_path: Path) -> None:
    alone = trained(tmp_path, "seed=1")
    digests = [checkpoint.digest(final_payload(of)["model"]) for of in (alone, ensemble)]
    assert digests[0] == digests[1] and alone.run_id != ensemble.run_id


def test_an_ensemble_of_one_is_the_single_net_to_the_bit(member: RunConfig) -> None:
    net = prepared(member)
    assert net.members == []
    stored = json.loads((member.work_dir / "detections.json").read_text())["images"]
    for position, name in enumerate(net.dataset.eval.ids):
        found = find(net, net.dataset.eval, position)
        assert found.boxes.tolist() == stored[name]["boxes"] and found.scores.tolist() == stored[name]["scores"]
    alone = find(net, net.dataset.eval, 0)
    net.members = [Member(net.model, net.stats)]
    assert is_same(find(net, net.dataset.eval, 0), alone)


def test_each_net_of_an_ensemble_has_its_own_statistics_of_pixels(ensemble: RunConfig) -> None:
    net = prepared(ensemble)
    before = find(net, net.dataset.eval, 0)
    stats = net.members[0].stats
    net.members = [Member(net.members[0].model, type(stats)(stats.mean + 0.3, stats.std))]
    assert not is_same(find(net, net.dataset.eval, 0), before)


def test_detections_of_an_unfinished_test_are_those_of_the_same_ensemble(
    member: RunConfig, ensemble: RunConfig, tmp_path: Path
) -> None:
    shutil.copytree(ensemble.paths.work, tmp_path / "work")
    net = prepared(detector_config(tmp_path, *JOINT, *joined_to(member)))
    write_rows(pass_over_tests(net), {0: (np.zeros((1, 4)), np.zeros(1, np.int64), np.ones(1))})
    assert list(read_rows(pass_over_tests(net))) == [0]
    net.members = []
    assert read_rows(pass_over_tests(net)) == {}


def test_pictures_are_shown_to_the_whole_ensemble(
    member: RunConfig, ensemble: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ensemble.paths
    net = load_detector(ensemble.run_id, paths.work, paths.results, torch.device("cpu"))
    split = shapes_of(ensemble).eval
    every = all_of(prepared(ensemble))
    found = net.find(photo_of(split, 0))
    assert np.array_equal(found.scores, every[0].scores.double().numpy())
    # Published nets do as well, and a net that is nowhere is named.
    folders = [f"paths.{name}={getattr(paths, name)}" for name in ("data", "work")]
    results = f"paths.results={tmp_path / 'results'}"
    assert main(["publish", member.run_id, ensemble.run_id, "--weights", *folders, results]) == 0
    elsewhere = load_detector(ensemble.run_id, tmp_path / "none", tmp_path / "results", torch.device("cpu"))
    assert np.array_equal(elsewhere.find(photo_of(split, 0)).scores, found.scores)
    shutil.rmtree(tmp_path / "results" / "runs" / member.run_id)
    capsys.readouterr()
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    words = ["detect", ensemble.run_id, str(picture), "--device", "cpu"]
    assert main([*words, *folders]) == 0 and "ensemble of 2" in capsys.readouterr().out
    assert main([*words, f"paths.work={tmp_path}", results]) == 2
    said = capsys.readouterr().err
    assert f"detection.members={member.run_id}" in said and said.count("\n") == 1


def test_members_that_do_not_fit_are_refused_in_one_sentence(member: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(member.work_dir, tmp_path / "work" / member.run_id)
    word = f"detection.members=[{member.run_id}]"
    check_members(detector_config(tmp_path, *JOINT, word, "seed=1"))
    for words, said in (
        ((word.replace("-s0-", "-s9-"),), "-s9-"),
        ((f"detection.members=[{member.run_id.rsplit('-', 1)[0]}]",), "whole id of a run"),
        ((word, "detection.context=true"), "same net as this run's own"),
        (
            (word, "data=voc", "data.lists=[2007_trainval]", "data.test_lists=[2007_test]"),
            "data.name is shapes, not voc",
        ),
    ):
        with pytest.raises(InputError) as error:
            check_members(detector_config(tmp_path, *JOINT, *words))
        assert said in str(error.value) and "detection.members=" in str(error.value)
        assert "\n" not in str(error.value)
    of = detector_config(tmp_path, *JOINT, word, "seed=1")
    with pytest.raises(InputError, match="other classes"):
        load_own_members(of, ("disc", "frame"), torch.empty(0))
    (tmp_path / "work" / member.run_id / checkpoint.FINAL).unlink()
    with pytest.raises(InputError, match=checkpoint.FINAL):
        check_members(of)


def test_two_tests_of_one_net_are_no_two_members(member: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(member.work_dir, tmp_path / "work" / member.run_id)
    again = trained(tmp_path, "detection.context=true", "detection.refine=true")
    of = detector_config(tmp_path, *JOINT, f"detection.members=[{member.run_id},{again.run_id}]", "seed=1")
    with pytest.raises(InputError, match=rf"{again.run_id} is the same net as {member.run_id}"):
        check_members(of)


def found_in_double(of: RunConfig) -> list[Found]:
    """Detect in float64 with the ensemble of an untrained detector, on this rank."""
    net = prepare_detector(of, shapes_of(of))
    net.model.double()
    net.feed.like = torch.empty(0, dtype=torch.float64)
    net.members = load_own_members(of, net.classes, net.feed.like)
    return all_of(net)


def test_two_ranks_find_what_one_finds(ensemble: RunConfig) -> None:
    expected = found_in_double(ensemble)
    for found in on_ranks(2, found_in_double, ensemble):
        for one, wanted in zip(found, expected, strict=True):
            assert torch.equal(one.labels, wanted.labels)
            assert torch.allclose(one.boxes, wanted.boxes, rtol=1e-9) and torch.allclose(one.scores, wanted.scores)
