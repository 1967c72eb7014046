"""The command ``repro evaluate``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from repro.config.arguments import is_setting
from repro.config.compose import plan
from repro.config.parse import require
from repro.errors import nearest
from repro.evaluation.counts import Counts
from repro.evaluation.ensemble import make_ensemble, write_ensemble
from repro.evaluation.foreign import OUR_OWN, Pixels, foreign_net
from repro.evaluation.multi_crop import VIEWS
from repro.evaluation.reevaluate import NetTester, Tested, beside_record
from repro.evaluation.trained import record_of
from repro.evaluation.weight_files import read_weights
from repro.results.ensembles import Ensemble
from repro.results.read import Record
from repro.runtime.device import device_name
from repro.runtime.files import check_writable
from repro.runtime.provenance import commit, now, write_json

log = logging.getLogger(__name__)

SUFFIXES = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin", ".pkl", ".safetensors")
"""File name endings of weights; no run id ends like this."""
SETTINGS = ("paths.", "execution", "device=")
"""Settings allowed for a finished run; its record has the others."""


def evaluate(
    words: Sequence[str],
    *,
    views: Sequence[str] = (),
    ensemble: bool = False,
    weights: Path | None = None,
    pixels: Pixels = OUR_OWN,
    json: Path | None = None,
) -> int:
    """Test nets again and show their errors; return the exit code.

    Args:
        words: Run ids, and settings as ``key=value``.
        views: Some of ``VIEWS``; by default those of the run's own test, and ``multiscale`` for an ensemble.
        ensemble: Whether to average the runs.
        weights: A file of weights to test instead of runs; the settings describe its net.
        pixels: The pixel statistics of ``weights``; by default those of their origin if it is known, else our own.
        json: A file to which the errors are written.

    Raises:
        InputError: The words do not fit together, or a run or file does not exist or is invalid.
        RunError: A score is not finite, or a file cannot be written.
    """
    run_ids = [word for word in words if not is_setting(word)]
    settings = [word for word in words if is_setting(word)]
    for view in views:
        require(view in VIEWS, f"unknown view {view!r}: {nearest(view, VIEWS)}")
    check_writable("--json", json)
    ensembles: list[Ensemble] = []
    if weights is not None:
        check_foreign(run_ids, ensemble, pixels)
        testing, rows = test_file(weights, settings, views, pixels)
    else:
        check_runs(run_ids, settings, ensemble, pixels)
        testing = NetTester(plan(settings).runs[0])
        # All records are read before the first test, which may take hours.
        records = [record_of(run_id, testing.base) for run_id in run_ids]
        if ensemble:
            rows, ensembles = averaged(testing, records, views)
        else:
            rows = [row for record in records for row in testing.test_run(record, views)]
    for one in ensembles:
        log.info(f"wrote {write_ensemble(testing.base.paths.work, one)}")
    log.info("\n" + table(rows, ensembles))
    if any(row.equal is False for row in rows):
        log.info("\nAnother device, precision or version of torch rounds differently, which can change a few errors.")
    if json is not None:
        measured = {
            "results": [row.values() for row in rows],
            "ensembles": [dataclasses.asdict(one) for one in ensembles],
            "device": device_name(testing.device),
            "torch": torch.__version__,
            "commit": commit(),
            "finished": now(),
        }
        write_json(json, measured)
    return 0


def check_foreign(run_ids: Sequence[str], ensemble: bool, pixels: Pixels) -> None:
    """Raise ``InputError`` if arguments do not fit ``--weights``."""
    require(not run_ids, f"--weights is tested instead of runs: leave out {', '.join(run_ids)}")
    require(not ensemble, "--ensemble averages finished runs: leave out --weights")
    require(bool(pixels.mean) or not pixels.std, "--std needs --mean")


def check_runs(run_ids: Sequence[str], settings: Sequence[str], ensemble: bool, pixels: Pixels) -> None:
    """Raise ``InputError`` if arguments do not fit finished runs."""
    file = next((word for word in run_ids if word.endswith(SUFFIXES) or Path(word).is_file()), None)
    require(file is None, f"{file} is a file, not a finished run: name it with --weights {file}")
    require(pixels == OUR_OWN, "--mean, --std and --resize are for --weights: a run is tested as it was trained")
    if ensemble:
        require(len(run_ids) > 1, "an ensemble needs two runs or more")
        twice = next((run_id for run_id in run_ids if run_ids.count(run_id) > 1), None)
        require(twice is None, f"{twice} is named twice: an ensemble needs different runs")
    require(bool(run_ids), "name finished runs (`repro status` lists them), or a file with --weights")
    for word in settings:
        known = word.startswith(SETTINGS)
        require(known, f"{word!r} cannot be set for a finished run: leave it out, its record has the settings")


def test_file(
    file: Path, settings: Sequence[str], views: Sequence[str], pixels: Pixels
) -> tuple[NetTester, list[Tested]]:
    """Test the net of a file on ``views``, and report how the file was read."""
    found = read_weights(file)
    for note in found.notes:
        log.info(f"{file.name}: {note}")
    trained, stats, recognized = foreign_net(file, found, settings, pixels)
    testing = NetTester(trained.config)
    log.info(recognized)
    # The weights are checked before the images are read, which may take minutes.
    trained.check(trained.num_classes)
    return testing, testing.test(trained, views or ("1crop",), stats)


def averaged(
    testing: NetTester, records: Sequence[Record], views: Sequence[str]
) -> tuple[list[Tested], list[Ensemble]]:
    """Average the runs on ``views``; return the errors of the members and the ensembles."""
    rows: list[Tested] = []
    ensembles = []
    # The paper tests its ensemble at several scales; CIFAR images have a single view.
    for view in views or ("multiscale" if records[0].science.data.photos else "1crop",):
        members = [(record, testing.predictions_of(record, view)) for record in records]
        ensembles.append(make_ensemble(members))
        rows += [beside_record(r.run_id, view, scores.made.split, scores.counts, r) for r, scores in members]
    return rows, ensembles


def table(rows: Sequence[Tested], ensembles: Sequence[Ensemble]) -> str:
    """Format the errors of every net and view, with ensembles below their members."""
    named: list[tuple[str, str, Counts | Ensemble, str]]
    named = [(row.name, row.view, row.counts, verdict(row)) for row in rows]
    named += [(f"ensemble of {len(one.members)}", one.members[0].view, one, "") for one in ensembles]
    cells = [
        [name, view, one.images, one.errors, percent(one.top1_error), percent(one.top5_error), record]
        for name, view, one, record in named
    ]
    headings = ["net", "view", "images", "errors", "top-1 %", "top-5 %", "record"]
    right = ("left", "left", "right", "right", "right", "right", "left")
    text: str = tabulate(cells, headings, tablefmt="simple", colalign=right, disable_numparse=True)
    return text


def percent(error: float | None) -> str:
    return "" if error is None else f"{error:.2f}"


def verdict(row: Tested) -> str:
    """Compare a row with the record of its run."""
    if row.equal is None:
        return "–"
    top1, top5 = row.recorded
    return "equal" if row.equal else f"differs: {top1} errors" + ("" if top5 is None else f", top-5 {top5}")
