"""Runs of detectors: killed in every step, resumed, stopped, tested and recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from repro.config.run import RunConfig
from repro.data.detection import DetectionSplit
from repro.engine.detection import events, testing
from repro.engine.detection.feed import DetectionFeed
from repro.engine.detection.passes import read_rows
from repro.engine.detection.prepared import PreparedDetector, prepare_detector
from repro.engine.detection.run import run_detector
from repro.engine.detection.start import build_start
from repro.engine.detection.steps import PROPOSALS, TESTED
from repro.errors import InputError
from repro.models.detection.refinement import Found
from repro.results.detection_record import read_detection_record
from repro.results.read import read_record, read_records
from repro.runtime import checkpoint
from tests.detector_runs import detector_config, final_payload, shapes_of
from tests.runs import StopAfter

pytestmark = pytest.mark.slow


def trained(folder: Path, *words: str, stop: int | None = None, pictures: int = 0) -> RunConfig:
    """Train at smoke scale, with ``pictures`` for TensorBoard, which would take most of the time."""
    of = detector_config(folder, *words)
    with mock.patch.object(events, "IMAGES", pictures):
        run_detector(of, shapes_of(of), StopAfter(stop))
    return of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return trained(tmp_path_factory.mktemp("whole"), pictures=2)


def same(one: RunConfig, other: RunConfig) -> bool:
    """Compare weights, momentum and losses by their digests, and all detections."""
    first, second = final_payload(one), final_payload(other)
    assert first["model"].keys() == second["model"].keys()
    found = [(of.work_dir / "detections.json").read_text() for of in (one, other)]
    return checkpoint.digest(first) == checkpoint.digest(second) and found[0] == found[1]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("update", [0, 1])
@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_killed_in_any_step_it_ends_with_the_same_bits(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, update: int
) -> None:
    read = DetectionFeed.batch

    def kill(self: DetectionFeed, at: int, number: int, *more: int) -> object:
        if (at, number) == (part, update):
            raise Killed
        return read(self, at, number, *more)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionFeed, "batch", kill)
        with pytest.raises(Killed):
            trained(tmp_path)
    assert same(trained(tmp_path), whole)


def test_proposals_that_are_lost_or_damaged_are_made_again(whole: RunConfig, tmp_path: Path) -> None:
    of = trained(tmp_path, stop=2 + 7)  # after the first update of the region head
    (of.work_dir / PROPOSALS).write_bytes(b"PK damaged")
    trained(tmp_path, stop=0)
    (of.work_dir / PROPOSALS).unlink()
    assert same(trained(tmp_path), whole)


@pytest.mark.parametrize("before", [2, 6 + 7], ids=["for step 2", "for step 4"])
def test_a_detector_stopped_while_proposals_are_made_resumes_to_the_same_bits(
    whole: RunConfig, tmp_path: Path, before: int
) -> None:
    of = trained(tmp_path, stop=before + 3)
    stored = checkpoint.load_latest(of.work_dir)
    assert stored is not None
    assert (stored[1]["state"]["part"], stored[1]["state"]["update"]) == (1 if before == 2 else 3, 0)
    assert same(trained(tmp_path), whole)


def test_another_seed_gives_another_detector(whole: RunConfig, tmp_path: Path) -> None:
    assert not same(trained(tmp_path, "seed=1"), whole)


def test_a_detector_killed_in_its_test_is_tested_again(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("repro.engine.detection.run.run_test", kill)
        with pytest.raises(Killed):
            trained(tmp_path)
    assert (tmp_path / "work" / whole.run_id / checkpoint.FINAL).exists()
    assert same(trained(tmp_path), whole)


def test_a_detector_stopped_in_its_test_finds_the_rest_alone(
    whole: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = trained(tmp_path, "execution.checkpoint_seconds=999", stop=8 + 2 * 7 + 1)  # after the second image
    assert not (of.work_dir / "record.json").exists()
    with np.load(of.work_dir / TESTED) as stored:
        assert stored["positions"].tolist() == [0, 1]
    assert read_rows(testing.pass_over_tests(prepare_detector(of, shapes_of(of)))) == {}  # detections of other weights
    tested: list[int] = []
    look = testing.find

    def find(net: PreparedDetector, split: DetectionSplit, position: int) -> Found:
        tested.append(position)
        return look(net, split, position)

    monkeypatch.setattr(testing, "find", find)
    assert same(trained(tmp_path), whole)
    assert tested == [2, 3] and not (of.work_dir / TESTED).exists()


def test_tensorboard_shows_proposals_and_detections_of_the_same_images_in_every_step(whole: RunConfig) -> None:
    shown = EventAccumulator(str(whole.work_dir), size_guidance={"scalars": 0, "images": 0})
    shown.Reload()
    steps = {
        "proposals in step 1": 2,
        "detections in step 2 on untrained proposals": 4,
        "proposals in step 3": 6,
        "detections in step 4": 8,
    }
    assert sorted(shown.Tags()["images"]) == sorted(f"{name}/{number}" for name in steps for number in ("1 0", "2 1"))
    assert all([event.step for event in shown.Images(f"{name}/2 1")] == [step] for name, step in steps.items())
    assert [event.step for event in shown.Scalars("loss/head_boxes")] == [3, 4, 7, 8]
    (precision,) = shown.Scalars("average_precision/test")
    record = read_detection_record(whole.work_dir / "record.json")
    assert precision.value == pytest.approx(record.detection.map) and precision.step == 8


def test_the_record_has_the_precision_of_each_class_and_comes_back(whole: RunConfig) -> None:
    record = read_detection_record(whole.work_dir / "record.json")
    result = record.detection
    assert (result.split, result.images, result.metric) == ("test", 4, "voc07")
    assert [one.name for one in result.classes] == ["disc", "frame", "cross"]
    assert record.science == whole.science and record.steps == 8
    assert result.detections == sum(
        len(one["labels"]) for one in json.loads((whole.work_dir / "detections.json").read_text())["images"].values()
    )
    assert json.loads((whole.work_dir / "record.json").read_text()) == json.loads(json.dumps(record.to_json()))
    lines = (whole.work_dir / "losses.csv").read_text().splitlines()
    assert len(lines) == 9 and [line.split(",")[1] for line in lines[1:]] == list("11223344")


def test_readers_of_classification_pass_over_detectors(whole: RunConfig) -> None:
    work = whole.paths.work
    found = read_records([work])
    assert (found.records, found.left_out) == ((), ())
    assert [record.run_id for record in found.detectors] == [whole.run_id]
    with pytest.raises(InputError, match="detector"):
        read_record(whole.work_dir / "record.json")


def test_a_detector_starts_from_body_and_top_of_another(whole: RunConfig) -> None:
    folder, start = whole.paths.work.parent, f"detection.start={whole.run_id}"
    with pytest.raises(InputError, match=r"detection\.pretrained=classifier.*set detection\.pretrained=detector"):
        build_start(detector_config(folder, start), shapes_of(whole), torch.device("cpu"))
    with pytest.raises(InputError, match=r"detection\.pretrained=coco.*set detection\.pretrained=detector"):
        build_start(detector_config(folder, start, "detection.pretrained=coco"), shapes_of(whole), torch.device("cpu"))
    of = detector_config(folder, start, "detection.pretrained=detector", "detection.pooled_size=7")
    assert of.fingerprint != whole.fingerprint
    net, stored = prepare_detector(of, shapes_of(of)), checkpoint.load(whole.work_dir / checkpoint.FINAL)
    same = {name for name, value in net.model.state_dict().items() if torch.equal(value, stored["model"][name])}
    assert {name for name in stored["model"] if name.startswith(("body.", "head.top."))} <= same
    drawn = [name for name in stored["model"] if name.startswith(("rpn.", "head.scores.", "head.codes."))]
    assert drawn and not [name for name in same if name in drawn and name.endswith("weight")]
    assert torch.equal(net.feed.stats.mean, stored["pixels"]["mean"])


def test_after_training_only_the_final_detector_is_kept(whole: RunConfig) -> None:
    assert not list(whole.work_dir.glob("end_of_*")) and not (whole.work_dir / PROPOSALS).exists()


def test_a_record_whose_mean_is_not_that_of_its_classes_is_refused(whole: RunConfig, tmp_path: Path) -> None:
    values = json.loads((whole.work_dir / "record.json").read_text())
    values["detection"]["map"] = 99.0
    folder = tmp_path / whole.run_id
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"detection\.map=99\.0"):
        read_detection_record(folder / "record.json")


JOINT = ("detection.training=joint", "detection.steps=[3]", "detection.drops=[2]")


def test_joint_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    straight = trained(tmp_path / "one", *JOINT)
    trained(tmp_path / "two", *JOINT, stop=1)
    assert same(trained(tmp_path / "two", *JOINT), straight)


def test_a_detector_is_not_resumed_on_other_images(tmp_path: Path) -> None:
    of = trained(tmp_path, *JOINT, stop=1)
    other = replace(shapes_of(of), digests={"train": "0" * 64})
    with pytest.raises(InputError, match=r"\(train\).*paths\.work="):
        run_detector(of, other, StopAfter(0))


def test_test_time_choices_change_the_detections_alone(whole: RunConfig, tmp_path: Path) -> None:
    refined = trained(tmp_path, "detection.refine=true", "detection.scales=[64,96]")
    assert checkpoint.digest(final_payload(refined)["model"]) == checkpoint.digest(final_payload(whole)["model"])
    assert not same(refined, whole)
