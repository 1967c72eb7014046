"""Plans of several experiments: what is left out for lack of data or weights, and runs that wait for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli import parts, show
from repro.config.compose import Plan
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.launch.lacking import part, starts, text_of
from repro.launch.outcome import Outcome
from repro.launch.plan import Result, check, launch
from repro.launch.pool import Pool, Worker
from repro.launch.slots import Slot
from tests.runs import config, configs

NAMED = ("localization.method=rcnn", "localization.proposals_of=a-b")


def chain(folder: Path, data: str = "data=shapes_photos") -> list[RunConfig]:
    """Compose a classification run, a detector that starts from it, and one of random weights."""
    (net,) = configs(folder, "exp=imagenet_depth", "model.depth=50", data)
    words = ("exp=voc_detection", "data=shapes", "model.depth=50")
    return [net, config(folder, *words, f"detection.start={net.run_id}"), config(folder, *words)]


def test_what_has_no_data_is_left_out_with_all_that_starts_from_it(tmp_path: Path) -> None:
    net, detector, other = runs = chain(tmp_path, "data=imagenet")
    parted = part(runs)
    assert parted.there == [other]
    assert list(parted.lacking) == [net.run_id, detector.run_id]
    (images,), (weights,) = parted.lacking[net.run_id], parted.lacking[detector.run_id]
    assert str(tmp_path / "data") in images, "it says where images are looked for"
    assert net.run_id in weights and "left out" in weights
    text = text_of(parted, runs)
    assert "2 of 3 runs" in text and "imagenet_depth (1 run)" in text
    assert text.count("\n") == 2, "a line for each reason"


@pytest.mark.parametrize("words", ["exp=voc_detection data=voc", "exp=coco_detection data=coco", "data=cifar10"])
def test_each_data_set_that_is_not_there_is_named(tmp_path: Path, words: str) -> None:
    there = config(tmp_path)
    lacking = config(tmp_path, *words.split())
    assert part([there, lacking]).lacking.keys() == {lacking.run_id}
    with pytest.raises(InputError, match="data"):
        part([lacking])


def test_all_that_a_run_lacks_is_named_its_data_first(tmp_path: Path) -> None:
    words = ("exp=voc_detection_vgg", "detection.start=vgg16-397923af.pth")
    runs = [config(tmp_path), config(tmp_path, *words, "data=voc"), config(tmp_path, *words, "data=shapes")]
    parted = part(runs)
    first, second = (parted.lacking[run.run_id] for run in runs[1:])
    assert [("VOCdevkit" in thing, "vgg16-397923af.pth" in thing) for thing in first] == [(True, False), (False, True)]
    assert second == first[1:]
    lines = text_of(parted, runs).splitlines()[1:]
    assert ["(1 run)" in lines[0], "(2 runs)" in lines[1]] == [True, True] and len(lines) == 2


def test_a_plan_that_can_train_nothing_still_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, detector, _ = runs = chain(tmp_path, "data=imagenet")
    monkeypatch.setattr(parts, "speeds_for", lambda runs: ([parts.REFERENCE] * len(runs), "here"))
    exps = {"imagenet_depth": [net.run_id], "voc_detection": [detector.run_id]}
    text = parts.show_experiments(Plan(runs[:2], "paper", [], {}, exps))
    assert "left out, 2 of 2 runs" in text and "imagenet" in text and str(tmp_path / "data") in text


def test_show_of_one_experiment_notes_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "speeds_of", lambda configs: [show.UNKNOWN] * len(configs))
    monkeypatch.setattr(show, "source", lambda speeds: "none")
    notes = [
        line
        for line in show.show([config(tmp_path, "exp=voc_final", "data=voc", "detection.start=null")]).splitlines()
        if line.startswith("note: ")
    ]
    assert ["VOCdevkit" in notes[0], "detection.start=null" in notes[1]] == [True, True] and len(notes) == 2
    words = ("exp=imagenet_localization", "data=shapes_boxes", "scale=smoke")
    assert "note: " not in show.show(configs(tmp_path, *words)), "the second run waits for the first"


def test_weights_of_an_earlier_run_of_the_plan_count_as_there(tmp_path: Path) -> None:
    runs = chain(tmp_path)
    assert part(runs).there == runs
    check(runs)
    assert starts(runs[1]) == [runs[0].run_id] and starts(runs[2]) == []
    assert part(runs[1:]).lacking.keys() == {runs[1].run_id}, "without that run they are missing"
    with pytest.raises(InputError, match=runs[0].run_id):
        check(runs[1:])


def test_an_ensemble_needs_the_weights_of_all_its_detectors(tmp_path: Path) -> None:
    words = ("exp=voc_detection", "data=shapes", "model.depth=50")
    members = [config(tmp_path, *words, f"seed={seed}") for seed in (1, 2)]
    ids = [member.run_id for member in members]
    ensemble = config(tmp_path, *words, f"detection.members=[{','.join(ids)}]")
    assert starts(ensemble) == ids
    assert part([*members, ensemble]).there == [*members, ensemble]
    parted = part([members[0], ensemble])
    # Of what it needs, only that counts as missing which the plan does not train before.
    assert parted.lacking.keys() == {ensemble.run_id}
    assert f"detection.members={ids[1]}" in parted.lacking[ensemble.run_id][0]
    with pytest.raises(InputError, match=rf"detection\.members={ids[0]} .* finished"):
        check([ensemble])


def test_a_localizer_and_the_net_for_its_proposals_can_be_planned_together(tmp_path: Path) -> None:
    runs = configs(tmp_path, "exp=imagenet_localization", "data=shapes_boxes", "scale=smoke")
    assert len(runs) == 2 and starts(runs[1]) == [runs[0].run_id]
    check(runs)
    with pytest.raises(InputError, match=rf"needs the finished localizer {runs[0].run_id} \(its own") as error:
        check(runs[1:])
    assert "did you mean" not in str(error.value) and str(error.value).endswith("localization.proposals_of=")
    named = config(tmp_path, "exp=imagenet_localization", "data=shapes_boxes", *NAMED)
    with pytest.raises(InputError, match=r"localization\.proposals_of=a-b is not a run of"):
        check([named])


def test_one_after_another_a_run_waits_for_those_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("exp=imagenet_localization", "data=shapes_boxes", "scale=smoke", "localization.method=rcnn,rpn")
    runs = configs(tmp_path, *words)
    assert [run.localization.method for run in runs if run.localization] == ["rcnn", "rpn"]
    trained: list[str] = []

    def attempt(of: RunConfig, *_: object) -> Outcome:
        trained.append(of.run_id)
        return Outcome("failed", "not trained here")

    monkeypatch.setattr("repro.launch.plan.attempt", attempt)
    assert launch(runs, lambda run: None).exit_code == 1
    assert trained == [runs[1].run_id, runs[0].run_id]


def test_jobs_of_slurm_start_from_finished_runs_only(tmp_path: Path) -> None:
    (net,) = configs(tmp_path, "exp=imagenet_depth", "model.depth=50", "data=imagenet", "execution=slurm")
    words = ("exp=voc_detection", "data=shapes", "model.depth=50", "execution=slurm", f"detection.start={net.run_id}")
    detector = config(tmp_path, *words)
    parted = part([net, detector])
    assert parted.there == [net], "the images of jobs may be elsewhere"
    assert net.run_id in parted.lacking[detector.run_id][0]


def test_a_parallel_run_waits_for_the_run_that_it_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, detector, other = chain(tmp_path)
    given: list[list[str]] = [[]]

    def give(worker: Worker, run: RunConfig, alone: bool) -> None:
        worker.runs[run.run_id] = run
        given[-1].append(run.run_id)

    monkeypatch.setattr(Worker, "give", give)
    monkeypatch.setattr(Worker, "takes", lambda worker, run, alone: not worker.runs)
    pool = Pool([Slot(), Slot()], {}, lambda run, outcome: None, lambda running, waiting: None)
    pool._queue, pool._planned = [detector, net, other], 3
    pool._hand_out()
    assert given == [[net.run_id, other.run_id]]
    for worker in pool._workers:
        worker.runs.clear()
    given.append([])
    pool._hand_out()
    assert given[1] == [detector.run_id]


def test_a_plan_of_one_experiment_is_refused_as_a_whole_and_one_of_several_goes_on(
    tmp_path: Path, told: list[str]
) -> None:
    net, detector, other = runs = chain(tmp_path, "data=imagenet")
    one = Plan(runs, "paper", [], {}, {"imagenet_depth": [run.run_id for run in runs]})
    assert parts.what_is_there(one) == runs
    assert told == []
    several = Plan(
        runs, "paper", [], {}, {"imagenet_depth": [net.run_id], "voc_detection": [detector.run_id, other.run_id]}
    )
    assert parts.what_is_there(several) == [other]
    assert len(told) == 1 and net.run_id in told[0]


@pytest.mark.parametrize(("code", "tested"), [(0, True), (75, False)])
def test_the_ensemble_is_tested_once_its_runs_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, tested: bool
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("repro.evaluation.command.evaluate", lambda words, ensemble: called.append(words))
    runs = configs(tmp_path, "exp=imagenet_ensemble", "data=shapes_photos")
    ids = [run.run_id for run in runs]
    plan = Plan(runs, "paper", [], {}, {"imagenet_ensemble": ids, "imagenet_depth": ids[2:5]})
    parts.score_ensembles(plan, Result(finished=runs[1:], exit_code=code))
    assert called == [], "one run is missing"
    parts.score_ensembles(plan, Result(finished=runs, exit_code=code))
    assert [words[:6] for words in called] == ([ids] if tested else [])


def test_show_names_each_experiment_with_its_runs_its_data_and_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, detector, other = runs = chain(tmp_path, "data=imagenet")
    monkeypatch.setattr(parts, "speeds_for", lambda runs: ([parts.REFERENCE] * len(runs), "here"))
    several = Plan(
        runs, "paper", [], {}, {"imagenet_depth": [net.run_id], "voc_detection": [detector.run_id, other.run_id]}
    )
    lines = parts.show_experiments(several).splitlines()
    words = {line.split()[0]: line.split() for line in reversed(lines) if line}
    assert words["imagenet_depth"][1:4] == ["1", "1", "imagenet"]
    assert words["voc_detection"][1:4] == ["2", "2", "shapes"] and words["voc_detection"][-3:] == ["1", "left", "out"]
    assert any(line.startswith("3 runs") and "1 of them" in line for line in lines)
    other.work_dir.mkdir(parents=True)
    (other.work_dir / "record.json").write_text("{")
    text = parts.show_experiments(several)
    (row,) = (line for line in text.splitlines() if line.startswith("voc_detection"))
    assert row.split()[-5:] == ["1", "invalid,", "1", "left", "out"], "a broken record is not done"
    assert f"will refuse {other.run_id}" in text
