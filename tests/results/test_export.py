"""The CSV of all runs: documented columns, one row per run or evaluation, and values that read back."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import subprocess
from pathlib import Path

import pandas
import pytest

from repro.cli.main import main
from repro.errors import InputError
from repro.report.render import filled, read_evidence
from repro.results.export import curve_columns, curves, run_columns, runs, sections, to_csv
from repro.results.read import read_records
from repro.runtime.files import write_asked_for
from repro.runtime.provenance import CURVE_COLUMNS
from tests.planted import DEMO, edit, plant
from tests.planted_detectors import plant_detector
from tests.planted_localizers import plant_localizer
from tests.runs import full_disk

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
COLUMNS = (Path(__file__).resolve().parent / "export_columns.txt").read_text(encoding="utf-8").split()
"""Published column names: programs read them by name and place."""


def back(frame):
    return pandas.read_csv(io.StringIO(to_csv(frame)))


def test_the_columns_and_their_order_stay():
    assert run_columns() == COLUMNS


def test_the_meaning_of_a_column_is_the_text_beside_its_field():
    assert sections()["settings"]["model.name"].startswith("family of nets"), "the text stands after a limit"


def test_the_page_is_what_the_dataclasses_say():
    made = filled(read_evidence(Path("nowhere")), PAGE)
    assert made == PAGE, "`repro render` makes docs/export.md anew"


@pytest.mark.parametrize("columns", [run_columns, curve_columns])
def test_the_page_explains_every_column_and_no_other(columns):
    rows, curve = PAGE.split("## One row a run and evaluation")
    part = curve if columns is curve_columns else rows.split("## One row a run")[1]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    cells += [line for line in part.splitlines() if line.startswith("The first columns are")]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert sorted(named) == sorted(columns())


def test_one_row_a_run_with_what_was_set_and_measured(tmp_path):
    plant(tmp_path, 20, "none", seed=1, error=9.25)
    edit(plant(tmp_path, 56, seed=0, error=60.0, scale="demo", science=DEMO), "below_80_step", value=150)
    table = back(runs(read_records([tmp_path]))).set_index("run_id")
    assert list(table.columns) == run_columns()[1:]
    plain = table[table["scale"] == "paper"].iloc[0]
    assert (plain["model.shortcut"], plain["model.depth"], plain["seed"]) == ("none", 20, 1)
    assert (plain["final.top1_error"], plain["final.errors"], plain["final.images"]) == (9.25, 925, 10000)
    assert plain["optim.milestones"] == "[32000, 48000]"
    assert not plain["provenance.dirty"]
    assert pandas.isna(plain["below_80_step"]), "records of older code do not say it"
    assert pandas.isna(plain["10crop.top1_error"]) and pandas.isna(plain["construction.gap"])
    proxy = table[table["scale"] == "demo"].iloc[0]
    assert (proxy["optim.lr"], proxy["steps"], proxy["below_80_step"]) == (0.01, 400, 150)


def test_views_and_constructions_have_their_columns(tmp_path):
    folder = plant(tmp_path)
    view = {"view": "10crop", "split": "test", "errors": 30, "images": 100, "top1_error": 30.0}
    edit(folder, "result", "views", value=[{**view, "top5_errors": 10, "top5_error": 10.0}])
    begun = {"from_run": "a-run", "shallow_errors": 3, "deep_errors": 4, "images": 100, "gap": 0.5}
    edit(folder, "construction", value={**begun, "shallow_batch_error": 3.0, "deep_batch_error": 4.0})
    row = back(runs(read_records([tmp_path]))).iloc[0]
    assert (row["10crop.top1_error"], row["10crop.top5_errors"]) == (30.0, 10)
    assert (row["construction.from_run"], row["construction.deep_errors"]) == ("a-run", 4)


def test_curves_have_one_row_an_evaluation_and_name_a_run_without(tmp_path):
    whole, broken = plant(tmp_path, 20, seed=0), plant(tmp_path, 20, seed=1)
    (broken / "curve.csv").unlink()
    frame, left_out = curves(read_records([tmp_path]))
    table = back(frame)
    assert list(table.columns) == curve_columns()
    assert set(table["run_id"]) == {whole.name} and set(table["eval_split"]) == {"test"}
    stored = pandas.read_csv(whole / "curve.csv")
    pandas.testing.assert_frame_equal(table[[*CURVE_COLUMNS]], stored)
    assert [(out.name, out.reason) for out in left_out] == [(broken.name, "it has no curve.csv")]


@pytest.mark.parametrize("options", [[], ["--curves"]])
def test_runs_of_other_tasks_are_left_out_and_counted(options, tmp_path, capsys):
    work = [f"paths.work={tmp_path}", "--unpublished", *options]
    run = plant(tmp_path)
    assert main(["export", *work]) == 0
    assert "left out" not in capsys.readouterr().err
    plant_detector(tmp_path, 76.0)
    assert main(["export", *work]) == 0
    said = capsys.readouterr()
    assert "left out: 1 run of detectors and localizers" in said.err
    assert {line.split(",")[0] for line in said.out.splitlines()[1:]} == {run.name}
    plant_localizer(tmp_path, {"error": (100, None)})
    assert main(["export", *work]) == 0
    assert "left out: 2 runs of detectors and localizers" in capsys.readouterr().err


def test_no_run_is_a_header(tmp_path):
    reading = read_records([tmp_path])
    assert to_csv(runs(reading)) == ",".join(run_columns()) + "\n"
    assert to_csv(curves(reading)[0]) == ",".join(curve_columns()) + "\n"


@pytest.mark.parametrize("digits", ["1234567e00000000", "12e4567800000000", "1" * 16, "0" * 16, "1e99999999999999"])
def test_pandas_reads_a_fingerprint_as_text(tmp_path, digits):
    plant(tmp_path)
    reading = read_records([tmp_path])
    frame = runs(dataclasses.replace(reading, records=(dataclasses.replace(reading.records[0], fingerprint=digits),)))
    assert back(frame)["fingerprint"].tolist() == [f"fp-{digits}"]


def test_a_full_disk_leaves_the_older_file_as_it_is(tmp_path, monkeypatch):
    plant(tmp_path / "work")
    frame, file = runs(read_records([tmp_path / "work"])), tmp_path / "runs.csv"
    file.write_text("older\n")
    with full_disk(), pytest.raises(InputError, match=r"runs\.csv cannot be written"):
        write_asked_for(file, to_csv(frame))
    assert file.read_text() == "older\n" and [path.name for path in tmp_path.glob("runs*")] == ["runs.csv"]
    write_asked_for(file, to_csv(frame))
    assert file.read_text() == to_csv(frame)


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    plant(tmp_path / "work")
    frame, file, link, pipe = runs(read_records([tmp_path / "work"])), *(tmp_path / name for name in ("a", "b", "c"))
    file.write_text("older\n")
    link.symlink_to(file)
    write_asked_for(link, to_csv(frame))
    assert link.is_symlink() and file.read_text() == to_csv(frame)
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        write_asked_for(pipe, to_csv(frame))
        assert reader.communicate()[0] == to_csv(frame)
    assert pipe.is_fifo()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_asked_for(tmp_path / "missing" / "runs.csv", to_csv(runs(read_records([tmp_path]))))
