"""TensorBoard's view of a whole sweep, from its records.

It shows final errors against depth, the table of settings and errors, Figure 7, and the pictures of channels. Runs have
names that tell recipes apart: TensorBoard reads a folder of links with these names.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.config.run import slug
from repro.config.science import Science
from repro.errors import InputError, RunError
from repro.results.channels import PICTURES
from repro.results.read import Record, read_records
from repro.results.settings import differing, scale_of_run
from repro.runtime.provenance import read_json

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

log = logging.getLogger(__name__)

FOLDER = "by-depth"
"""Beside the runs: one folder per family of nets, with the depth as the step."""
LINKS = "tensorboard"
"""Beside the runs: a link to each of them, and to the families."""
LOOK_SECONDS = 10.0
LONGEST_NAME = 200
SUFFIX = ".final"
PNG, PNG_BEGINNING = b"\x89PNG\r\n\x1a\n", 24
"""The first bytes of every PNG, and the length of its beginning with its width and height at the end."""
VIEW = "#custom_scalars&_smoothingWeight=0"
"""The tab with all runs in each chart, without the default smoothing, which would bend curves of five depths."""
METRICS = {"final/error": "final test error %", "final/train_error": "final training error %"}


def serve(work: Path, options: Sequence[str]) -> None:
    """Show ``work`` in TensorBoard until interrupted, with its summaries if they can be written.

    Args:
        options: Options of TensorBoard, such as ``--port 6007``.
    """
    if next(work.glob("*/config.json"), None) is None:
        raise InputError(f"no runs in {work}; `repro run exp=cifar_residual_vs_plain scale=demo` makes some")
    try:
        write_summaries(work)
    except RunError as error:
        log.info(f"{error}: only existing files are shown")
    folder = link_runs(work)
    log.info(f"TensorBoard shows {work} at {launch(folder, options)}{VIEW} (Ctrl-C to stop)")
    while not threading.Event().wait(LOOK_SECONDS):
        link_runs(work)  # new runs


def link_runs(work: Path) -> Path:
    """Link all runs and families under readable names; return the folder of links, or ``work`` without links."""
    folder = work / LINKS
    targets = {name_of(path.parent): path.parent for path in sorted(work.glob("*/config.json"))}
    targets |= {f"{FOLDER} {path.name}": path for path in (work / FOLDER).glob("*")}
    targets |= {path.name: path for path in work.glob(PICTURES)}
    try:
        folder.mkdir(exist_ok=True)
        for link in folder.iterdir():
            if targets.pop(link.name, None) is None:
                link.unlink()
        for name, target in targets.items():
            (folder / name).symlink_to(Path(os.path.relpath(target, folder)), target_is_directory=True)
    except OSError:  # a read-only folder, or a system without links
        return work
    return folder


def name_of(folder: Path) -> str:
    """Return the name of a run in TensorBoard: its run id, and the settings that differ from the scale's recipe."""
    try:
        stored = read_json(folder / "config.json")
        science, scale = Science.from_dict(stored["science"]), str(stored.get("scale", scale_of_run(folder.name)))
        differs = differing(science, scale, str(stored.get("exp", ""))).split(", ")
    except (InputError, KeyError, TypeError):
        return folder.name
    words = [word for word in differs if not word.startswith("data=")]  # the run id names the data
    return f"{folder.name} {', '.join(words)}".strip().replace("/", "_")[:LONGEST_NAME]


def launch(work: Path, options: Sequence[str] = ()) -> str:
    """Start TensorBoard on ``work`` in a thread, at port 6006 or the next free one; return its address.

    Raises:
        InputError: TensorBoard does not accept an option.
        RunError: TensorBoard cannot start.
    """
    from tensorboard import default, program

    server = program.TensorBoard(plugins=default.get_plugins())
    try:
        server.configure(argv=["tensorboard", "--logdir", str(work), *options])
        address: str = server.launch()
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard cannot start: {error}") from None
    except ValueError as error:
        raise InputError(f"TensorBoard does not accept {' '.join(options)}: {error}") from None
    return address


def write_summaries(work: Path) -> None:
    """Write TensorBoard's summaries of all finished runs of ``work``, beside the events of the runs.

    A second call replaces the files of the first; a running TensorBoard sees the new values.
    """
    records = read_records([work]).records
    try:
        for record in records:
            _write_final(record)
        _write_by_depth(work / FOLDER, records)
        _write_pictures(work / PICTURES)
    except OSError as error:
        raise RunError(f"TensorBoard's summaries cannot be written to {work} ({error.strerror or error})") from None


def settings(record: Record) -> dict[str, str | float]:
    """Return the columns of the table of settings and final errors."""
    science = record.science
    return {
        "net": record.marked_label,
        "depth": science.model.depth,
        "shortcut": science.model.shortcut,
        "seed": record.seed,
        "scale": record.scale,
        "data": science.data.name,
        "learning rate": science.optim.lr,
        "batch size": science.optim.batch_size,
        "steps": science.optim.steps,
        "warm-up": science.optim.warmup,
        "differs in": differing(science, record.scale, record.exp) or "nothing",
    }


def families(records: Iterable[Record]) -> dict[str, dict[int, list[Record]]]:
    """Group runs that differ only in depth and seed, by name and then by depth; families of one depth are left out."""
    found: dict[str, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        fields = {**record.science.flat(), "model.depth": None}
        recipe = json.dumps([record.scale, record.numerics_version, fields], sort_keys=True)
        found[recipe][record.science.model.depth].append(record)
    named: dict[str, dict[int, list[Record]]] = {}
    for _, by_depth in sorted(found.items()):
        if len(by_depth) > 1:
            first = next(iter(by_depth.values()))[0]
            model, scale = first.science.model, "" if first.scale == "paper" else f"-{slug(first.scale)}"
            net = first.marked_label.replace(f"-{model.depth}", "", 1)
            net = f"ResNet-{model.shortcut}" if net == "ResNet" else net
            differs = differing(first.science, first.scale, first.exp).split(", ")
            words = [word for word in differs if word and not word.startswith("model.")]
            name = " ".join([f"{first.science.data.name}-{net}{scale}", *words]).replace("/", "_")
            # The rest of the differences, in the net or the numerics version, by the first of the recipe's runs.
            name = name if name not in named else f"{name} {first.fingerprint[:8]}"
            named[name] = dict(sorted(by_depth.items()))
    return named


def _write_by_depth(folder: Path, records: Sequence[Record]) -> None:
    for name, by_depth in families(records).items():
        points = []
        for depth, group in by_depth.items():
            tested = [record.result.final.top1_error for record in group]
            trained = [error for error in map(_train_error, group) if error is not None]
            for split, errors in ((group[0].result.final.split, tested), ("train", trained)):
                if errors:
                    points.append((depth, _scalar(f"error_by_depth/{split}", statistics.fmean(errors))))
        _write(folder / name, [(0, _experiment(records)), *points])


def _write_pictures(folder: Path) -> None:
    """Add the pictures that ``repro visualize`` drew, without files that are none."""
    found = {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}
    pictures = {stem: png for stem, png in found.items() if png.startswith(PNG) and len(png) >= PNG_BEGINNING}
    if pictures:
        _write(folder, [(0, _image(f"channels/{stem}", png)) for stem, png in pictures.items()])


def _write_final(record: Record) -> None:
    """Add settings, final errors and the standard deviations of layer responses to the events of a run."""
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    made = record.folder / "record.json"
    if any(file.stat().st_mtime >= made.stat().st_mtime for file in record.folder.glob(f"events.*{SUFFIX}")):
        return
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in settings(record).items():
        kind = "string_value" if isinstance(value, str) else "number_value"
        setattr(start.hparams[name], kind, value)
    ended = datetime.fromisoformat(record.provenance.finished).timestamp()
    start.start_time_secs = ended - record.wall_seconds
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=ended)
    events = [
        (0, _hparams("session_start_info", plugin_data_pb2.HParamsPluginData(session_start_info=start))),
        (0, _hparams("session_end_info", plugin_data_pb2.HParamsPluginData(session_end_info=end))),
        (record.steps, _scalar("final/error", record.result.final.top1_error)),
    ]
    if (trained := _train_error(record)) is not None:
        events.append((record.steps, _scalar("final/train_error", trained)))
    responses = enumerate(record.responses, 1)
    events += [(number, _scalar("response_std", r.std)) for number, r in responses if r.std is not None]
    _write(record.folder, events)


def _train_error(record: Record) -> float | None:
    """Return the error on the training images, or else the running error of the last steps, in percent."""
    found = record.result.train or record.result.train_running
    return None if found is None else found.top1_error


def _write(folder: Path, summaries: Sequence[tuple[int, Summary]]) -> None:
    """Write one file of events, ``(step, summary)``, and delete the one that was written here before."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True, exist_ok=True)
    before = list(folder.glob(f"events.*{SUFFIX}"))
    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    if before and folder.parent.name == FOLDER:
        # A running TensorBoard then forgets the previous file. It must not forget a run's own events, which stay.
        writer.add_event(Event(step=0, session_log=SessionLog(status=SessionLog.START)))
    for step, summary in summaries:
        writer.add_event(Event(step=step, summary=summary))
    writer.close()
    for file in before:
        file.unlink(missing_ok=True)


def _scalar(tag: str, value: float) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _image(tag: str, png: bytes) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = struct.unpack(">II", png[16:PNG_BEGINNING])
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _hparams(kind: str, content: HParamsPluginData) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    tag = f"_hparams_/{kind}"
    about = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])


def _experiment(records: Sequence[Record]) -> Summary:
    """Describe the table's columns; without it TensorBoard treats every scalar of a run as a result."""
    # The summary of torch would import torch here, and TensorBoard's does not say which settings differ.
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    rows = [settings(record) for record in records]
    infos = []
    for name, example in rows[0].items():
        values: list[Any] = sorted({row[name] for row in rows})
        info = api_pb2.HParamInfo(name=name, differs=len(values) > 1)
        if isinstance(example, str):
            info.type = api_pb2.DATA_TYPE_STRING
            info.domain_discrete.extend(values)
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
            info.domain_interval.min_value, info.domain_interval.max_value = values[0], values[-1]
        infos.append(info)
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=t), display_name=n) for t, n in METRICS.items()]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    return _hparams("experiment", plugin_data_pb2.HParamsPluginData(experiment=experiment))
