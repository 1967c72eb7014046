"""Evaluates trained nets again: finished runs against their records, weights of others, ensembles."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from repro.config.arguments import is_setting
from repro.config.compose import plan
from repro.config.parse import require
from repro.config.run import RunConfig
from repro.data.augment import PixelStats
from repro.errors import InputError, nearest
from repro.evaluation.ensemble import make_ensemble, write_ensemble
from repro.evaluation.multi_crop import VIEWS
from repro.evaluation.reevaluate import NetTester, Row, row_of
from repro.evaluation.trained import Trained, record_of
from repro.evaluation.weight_files import read_weights
from repro.evaluation.weight_origins import Origin, origin_of
from repro.results.ensembles import Ensemble
from repro.runtime.device import device_name
from repro.runtime.provenance import commit, now, write_json

log = logging.getLogger(__name__)

SUFFIXES = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin", ".pkl", ".safetensors")
"""Of files of weights, with which no run id ends."""
SETTINGS = ("paths.", "execution", "device=")
"""What may be set for a finished run: its science stands in its record."""


@dataclass(frozen=True)
class Request:
    """What ``repro evaluate`` was asked for.

    Args:
        words: Run ids, and settings as ``key=value``.
        views: Of ``VIEWS``; empty for those that the run itself was tested on (an ensemble: ``multiscale``).
        ensemble: Whether to average the runs.
        weights: A file of weights in the place of runs; the settings say of which net.
        mean, std: Of the pixels in [0, 1], for each channel, as ``weights`` was trained; empty for those that belong to
            the origin of the weights, or else our own.
        resize: The shorter side for crops, as ``weights`` was trained.
        json: Where to write what was measured.
    """

    words: tuple[str, ...]
    views: tuple[str, ...] = ()
    ensemble: bool = False
    weights: Path | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | None = None
    json: Path | None = None


def evaluate(request: Request) -> int:
    """Does what ``repro evaluate`` was asked for and shows it; returns the exit code.

    Raises:
        InputError: The words do not fit together, or what they name is not there or does not hold together.
        RunError: A net gives scores that are not finite, or something cannot be written.
    """
    check(request)
    if request.json is not None and not request.json.absolute().parent.is_dir():
        raise InputError(f"--json {request.json} cannot be written: its folder is not there")
    run_ids = [word for word in request.words if not is_setting(word)]
    ensembles: list[Ensemble] = []
    if request.weights is not None:
        testing, rows = foreign(request, request.weights)
    else:
        testing = NetTester(base_config(request))
        paths = testing.base.paths
        for run_id in run_ids:  # all of them, before hours go into the first
            record_of(run_id, (paths.work, paths.results / "runs"))
        if request.ensemble:
            rows, ensembles = averaged(testing, run_ids, request.views)
        else:
            rows = [row for run_id in run_ids for row in testing.retest(run_id, request.views)]
    for ensemble in ensembles:
        log.info(f"wrote {write_ensemble(testing.base.paths.work, ensemble)}")
    log.info("\n" + table(rows, ensembles))
    if any(row.equal is False for row in rows):
        log.info("\nAnother device, precision or version of torch rounds otherwise, which can move a few errors.")
    if request.json is not None:
        write_json(request.json, as_values(rows, ensembles, testing))
    return 0


def foreign(request: Request, file: Path) -> tuple[NetTester, list[Row]]:
    """Test the net of a file on each of the views asked for; first say what was recognized and done.

    Raises:
        InputError: The file does not hold such weights, or the settings are not of one such net.
    """
    found = read_weights(file)
    for note in found.notes:
        log.info(f"{file.name}: {note}")
    origin = origin_of(found.weights)
    config, implied = foreign_config(request, origin)
    testing = NetTester(config)
    stats, pixels = foreign_stats(request, origin, testing)
    trained = Trained(file.name, config, origin.to_ours(found.weights))
    log.info(f"recognized: {origin.name}{f' ({implied})' if implied else ''}; pixels: {pixels}")
    # Before the images are read, which may take minutes.
    trained.check(len(trained.weights["fc.weight"]) if "fc.weight" in trained.weights else config.data.num_classes)
    return testing, testing.test(trained, request.views or ("1crop",), stats)


def averaged(testing: NetTester, run_ids: Sequence[str], views: Sequence[str]) -> tuple[list[Row], list[Ensemble]]:
    """The ensemble of the runs on each of ``views``, and its members."""
    rows: list[Row] = []
    ensembles = []
    for view in views or (default_ensemble_view(run_ids, testing.base),):
        members = [testing.predictions_of(run_id, view) for run_id in run_ids]
        ensembles.append(make_ensemble([record for record, _ in members], [scores for _, scores in members]))
        rows += [row_of(record.run_id, scores, record) for record, scores in members]
    return rows, ensembles


def check(request: Request) -> None:
    """Refuses what does not fit together.

    Raises:
        InputError: Always one sentence.
    """
    for view in request.views:
        require(view in VIEWS, f"unknown view {view!r}: {nearest(view, VIEWS)}")
    run_ids = [word for word in request.words if not is_setting(word)]
    if request.weights is not None:
        require(not run_ids, f"--weights is tested in the place of runs, so that {', '.join(run_ids)} cannot be named")
        require(not request.ensemble, "--ensemble is of finished runs, not of --weights")
        require(bool(request.mean) or not request.std, "--std needs --mean")
        return
    file = next((word for word in run_ids if word.endswith(SUFFIXES) or Path(word).is_file()), None)
    require(file is None, f"{file} is a file, not a finished run: name it with --weights {file}")
    theirs = request.mean or request.std or request.resize
    require(not theirs, "--mean, --std and --resize are for --weights: a run is tested as it was trained")
    if request.ensemble:
        require(len(run_ids) > 1, "an ensemble needs two runs or more")
        twice = next((run_id for run_id in run_ids if run_ids.count(run_id) > 1), None)
        require(twice is None, f"{twice} is named twice: an ensemble is of different runs")
    require(bool(run_ids), "name finished runs (`repro status` lists them), or a file with --weights")


def base_config(request: Request) -> RunConfig:
    """Device, threads and folders, as the words set them; the rest of it is the record's to say.

    Raises:
        InputError: A word cannot be set.
    """
    settings = [word for word in request.words if is_setting(word)]
    for word in settings:
        if not word.startswith(SETTINGS):
            raise InputError(f"{word!r} cannot be set: a finished run is tested as its record says, or name --weights")
    return plan(settings).runs[0]


def foreign_config(request: Request, origin: Origin) -> tuple[RunConfig, str]:
    """Return the one run that the words describe, and those that ``origin`` added to them.

    Raises:
        InputError: They describe several, or an impossible one.
    """
    given = {word.partition("=")[0] for word in request.words}
    implied = {key: value for key, value in origin.settings.items() if key not in given}
    if "model.shortcut" in given:
        implied.pop("model.option_a", None)
    added = [f"{key}={value}" for key, value in implied.items()]
    runs = plan([*request.words, *added]).runs
    if len(runs) > 1:
        raise InputError(f"--weights is one net, but the settings describe {len(runs)}")
    config = runs[0]
    if request.resize is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, eval_resize=request.resize))
    config.validate()
    return config, " ".join(added)


def foreign_stats(request: Request, origin: Origin, testing: NetTester) -> tuple[PixelStats | None, str]:
    """Return mean and deviation, broadcastable to (3, H, W), and a clause on what is done to the pixels.

    They are those that the user gave, or else those of ``origin``; None where neither is known, for our own.

    Raises:
        InputError: They are not three numbers each, of pixels in [0, 1].
    """
    data = testing.base.data
    size = f"{data.image_size}x{data.image_size}"
    if data.photos:
        size += f" of a shorter side of {data.eval_resize}"
    mean, std, whose = origin.mean, origin.std, "as its scripts do"
    if request.mean:
        mean, std, whose = request.mean, request.std or (1.0, 1.0, 1.0), "as given"
    if not mean:
        deviation = "no deviation" if data.std == "none" else "the deviation of each channel"
        of = "mean image" if data.mean == "per_pixel" else "mean colour"
        return None, f"{size}, {of} and {deviation} of our training images; --mean and --std set others"
    sound = len(mean) == len(std) == 3 and all(0 <= m <= 1 for m in mean) and all(s > 0 for s in std)
    require(sound, "--mean and --std are three numbers each, for pixels from 0 to 1, as in --mean 0.485,0.456,0.406")
    clause = f"mean {','.join(map(str, mean))}, deviation {','.join(map(str, std))}, {whose}"
    tensors = (torch.tensor(values, device=testing.device).view(3, 1, 1) for values in (mean, std))
    return PixelStats(*tensors), f"{size}, {clause}"


def default_ensemble_view(run_ids: Sequence[str], base: RunConfig) -> str:
    """The paper's ensemble is multi-scale; images in memory have a single view."""
    first = record_of(run_ids[0], (base.paths.work, base.paths.results / "runs"))
    return "multiscale" if first.science.data.photos else "1crop"


def table(rows: Sequence[Row], ensembles: Sequence[Ensemble]) -> str:
    """Errors in percent of every net and view, ensembles below their members."""
    cells = [
        [row.name, row.view, row.images, row.errors, percent(row.top1_error), percent(row.top5_error), verdict(row)]
        for row in rows
    ]
    for one in ensembles:
        name, view = f"ensemble of {len(one.members)}", one.members[0].view
        cells.append([name, view, one.images, one.errors, percent(one.top1_error), percent(one.top5_error), ""])
    headings = ["net", "view", "images", "errors", "top-1 %", "top-5 %", "record"]
    right = ("left", "left", "right", "right", "right", "right", "left")
    text: str = tabulate(cells, headings, tablefmt="simple", colalign=right, disable_numparse=True)
    return text


def percent(error: float | None) -> str:
    return "" if error is None else f"{error:.2f}"


def verdict(row: Row) -> str:
    """How a row compares with the record of its run."""
    if row.equal is None:
        return "–"
    if row.equal:
        return "equal"
    top5 = "" if row.recorded_top5_errors is None else f", top-5 {row.recorded_top5_errors}"
    return f"differs: {row.recorded_errors} errors{top5}"


def as_values(rows: Sequence[Row], ensembles: Sequence[Ensemble], testing: NetTester) -> dict[str, Any]:
    """What was measured, and on what, as JSON values; ``equal`` is null where a record says nothing of the view."""
    return {
        "results": [dataclasses.asdict(row) | {"equal": row.equal} for row in rows],
        "ensembles": [dataclasses.asdict(ensemble) for ensemble in ensembles],
        "device": device_name(testing.device),
        "torch": torch.__version__,
        "commit": commit(),
        "finished": now(),
    }
