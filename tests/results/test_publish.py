"""Publishing: checked before anything is written; equal runs are left alone, and no result is replaced unasked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from repro.cli.main import main
from repro.errors import InputError
from repro.results.channels import CHANNELS
from repro.results.lesions import LESIONS
from repro.results.publish import beside_published, plan_publication, publish
from repro.results.read import read_records
from tests.planted import DEMO, edit, plant, plant_channels, plant_lesions
from tests.planted_detectors import plant_detector
from tests.planted_imagenet import plant_ensemble, plant_imagenet

OTHER_MACHINE: dict[str, Any] = {"device": "Apple M4", "finished": "2027-01-01T00:00:00+00:00", "commit": "f" * 40}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPRO_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path / "work"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one sentence with which `repro publish` ends."""
    assert main(["publish", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_new_runs_are_copied_and_equal_ones_left_as_they_are(work, tmp_path, capsys):
    published = tmp_path / "results" / "runs"
    equal = plant(published, seed=0, **OTHER_MACHINE)
    edit(equal, "wall_seconds", value=7.0)
    edit(equal, "execution", "threads", value=64)
    (equal / "weights.pt").write_bytes(b"a net")
    before = contents(equal)
    plant(work, seed=0)
    new = plant(work, seed=1)
    assert main(["publish"]) == 0
    assert capsys.readouterr().out == f"{equal.name} equals the published one, to the bit\n{published / new.name}\n"
    assert contents(equal) == before
    assert contents(published / new.name) == contents(new)
    assert main(["publish"]) == 0
    assert capsys.readouterr().out.count("equals the published one, to the bit") == 2


def test_measurements_of_a_net_are_copied_beside_its_record(work, tmp_path, capsys):
    folder = plant(work)
    plant_lesions(folder, 20)
    plant_channels(folder, 0.4, 0.7)
    capsys.readouterr()
    assert main(["publish"]) == 0
    published = tmp_path / "results" / "runs" / folder.name
    assert contents(published) == contents(folder)
    assert capsys.readouterr().out.split() == [str(published / name) for name in ("", LESIONS.file, CHANNELS.file)]
    plant_channels(folder, 0.5, 0.7)
    capsys.readouterr()
    assert str(published / CHANNELS.file) in refused(capsys)


@pytest.mark.parametrize("what", ["record", "curve", "broken", "no curve"])
def test_another_result_is_refused_and_nothing_of_the_call_is_written(work, tmp_path, capsys, what):
    published = tmp_path / "results" / "runs"
    theirs = plant(published, seed=0, error=9.0 if what == "record" else 8.75)
    mine, new = plant(work, seed=0), plant(work, seed=1)
    curve = theirs / "curve.csv"
    if what == "curve":
        curve.write_text(curve.read_text().replace("0.4,", "0.5,", 1))
    if what == "broken":
        (theirs / "record.json").write_text("{")
    if what == "no curve":
        curve.unlink()
    before = contents(tmp_path)
    said = refused(capsys)
    for part in (str(mine), str(theirs), "--replace", f"`repro publish {new.name}`"):
        assert part in said
    assert contents(tmp_path) == before
    assert main(["publish", "--replace", mine.name]) == 0
    assert contents(theirs) == contents(mine) and not (published / new.name).exists()


def test_detectors_are_published_and_compared_like_other_runs(work, tmp_path, capsys):
    published = tmp_path / "results" / "runs"
    new, other = plant_detector(work, 76.5), plant(work)
    assert main(["publish"]) == 0
    assert contents(published / new.name) == contents(new) and contents(published / other.name) == contents(other)
    edit(new, "provenance", "device", value="Apple M4")
    assert main(["publish", new.name]) == 0
    assert "equals the published one, to the bit" in capsys.readouterr().out
    assert beside_published(read_records([work]).detectors, published).startswith("1 run equals its published record")
    losses = new / "losses.csv"
    losses.write_text(losses.read_text().replace("0.7", "0.8"))
    assert new.name in refused(capsys) and "--replace" in refused(capsys)
    edit(new, "execution", "threads", value=8)
    assert f"{new.name} differs" in beside_published(read_records([work]).detectors, published)


@pytest.mark.parametrize("content", [None, "step\n1\n", "update\n", "update\n2\n1\n", "update\n1\n", "update\nx\n"])
def test_a_detector_whose_losses_do_not_fit_its_record_is_not_published(work, tmp_path, capsys, content):
    losses = plant_detector(work, 76.5) / "losses.csv"
    losses.unlink() if content is None else losses.write_text(content)
    assert "losses.csv" in refused(capsys) and not (tmp_path / "results").exists()


def damaged(work: Path, kind: str) -> Path:
    folder = plant(work, seed=1)
    match kind:
        case "renamed":
            return folder.rename(work / "my-best-run")
        case "edited":
            edit(folder, "result", "final", "errors", value=0)
        case "no JSON":
            (folder / "record.json").write_text("{")
        case "no curve":
            (folder / "curve.csv").unlink()
        case "short curve":
            (folder / "curve.csv").write_text("step,epoch\n")
    return folder


@pytest.mark.parametrize("kind", ["renamed", "edited", "no JSON", "no curve", "short curve"])
def test_what_no_command_accepts_is_not_published(work, tmp_path, capsys, kind):
    good, bad = plant(work, seed=0), damaged(work, kind)
    said = refused(capsys)
    assert bad.name in said and f"`repro publish {good.name}` leaves" in said
    refused(capsys, "--replace", bad.name)
    assert not (tmp_path / "results").exists()
    assert main(["publish", good.name]) == 0
    assert read_records([tmp_path / "results" / "runs"]).left_out == ()


def test_ensembles_are_left_or_refused_like_runs(work, tmp_path, capsys):
    members = [plant_imagenet(work, 34, "B", seed, views={"multiscale": (25.0, 8.0)}) for seed in (0, 1)]
    folder = work / "ensembles" / plant_ensemble(work, members, 5.0).ensemble_id
    theirs = tmp_path / "results" / "ensembles" / folder.name
    assert main(["publish"]) == 0
    assert capsys.readouterr().out.endswith(f"{theirs}\n") and contents(theirs) == contents(folder)
    file = folder / "ensemble.json"
    text = file.read_text()
    file.write_text(text.replace("2026-01-01", "2027-01-01"))
    assert main(["publish"]) == 0 and (theirs / "ensemble.json").read_text() == text
    shutil.rmtree(folder)
    plant_ensemble(work, members, 5.5)
    new = plant(work, 20)
    capsys.readouterr()
    assert str(theirs) in refused(capsys) and not (tmp_path / "results" / "runs" / new.name).exists()
    assert (theirs / "ensemble.json").read_text() == text
    assert main(["publish", "--replace"]) == 0 and contents(theirs) == contents(folder)


def test_a_command_says_which_of_its_runs_equal_the_published_ones(tmp_path):
    work, published = tmp_path / "work", tmp_path / "published"
    for seed in range(4):
        plant(work, seed=seed, scale="demo", science=DEMO)
    for seed, error in ((0, 8.75), (1, 8.75), (2, 9.0)):
        other = plant(published, seed=seed, error=error, scale="demo", science=DEMO, device="Apple M4", cuda=None)
    edit(other, "execution", "threads", value=8)
    edit(work / other.name, "provenance", "cuda", value=None)
    records = read_records([work]).records
    first, second = beside_published(records, published).splitlines()
    assert first == "2 runs equal their published records to the bit"
    assert second.startswith(f"{other.name} differs from the published run")
    assert "NVIDIA H200, 2 threads" in second and "Apple M4, 8 threads" in second
    assert beside_published(records, tmp_path / "nowhere") == beside_published(records, work) == ""


def test_a_plan_needs_a_finished_run(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        plan_publication([], tmp_path, tmp_path)
    run = plant(tmp_path / "work")
    planned = plan_publication([run.name, run.name], tmp_path / "work", tmp_path)
    assert planned.run_ids == [run.name] and publish(planned, tmp_path) == [tmp_path / "runs" / run.name]
