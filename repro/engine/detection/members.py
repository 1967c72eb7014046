"""Further detectors that a run's test joins to an ensemble."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor

from repro.config.parse import require
from repro.config.run import RunConfig
from repro.config.science import Science
from repro.engine.detection.prepared import Member, settings_of
from repro.engine.detection.start import build_net
from repro.errors import InputError
from repro.evaluation.stored_net import detector_net
from repro.evaluation.trained import misfit
from repro.models.detection.detector import Detector
from repro.results.detection_record import DetectionRecord
from repro.results.find import find_any
from repro.runtime import checkpoint


def check_members(config: RunConfig, planned: Collection[str] = ()) -> None:
    """Raise ``InputError`` if a detector of the ensemble does not exist, has other images or classes, or is twice.

    Runs that are ``planned`` before are looked at once they are finished.
    """
    members = [name for name in members_of(config.science) if name not in planned]
    trained = {"this run's own": untested(config.science)} if members else {}
    for name in members:
        own = record_of(name, [config.paths.work]).science
        # Lists, too: one of other images may have been trained on the images of this test.
        for key in ("name", "classes", "lists"):
            here, there = getattr(config.data, key), getattr(own.data, key)
            require(here == there, f"{named(name)} does not fit this run: its data.{key} is {there}, not {here}")
        path = config.paths.work / name / checkpoint.FINAL
        require(path.is_file(), f"{named(name)} has no weights in {path}: train this run again")
        twin = next((other for other, science in trained.items() if science == untested(own)), "")
        require(not twin, f"{named(name)} is the same net as {twin}, only tested otherwise: name one of another seed")
        trained[name] = untested(own)


def load_own_members(config: RunConfig, classes: tuple[str, ...], like: Tensor) -> list[Member]:
    """Load the detectors of a run's ensemble beside its own, as ``load_members`` does, from its work folder alone."""
    check_members(config)
    return load_members(config.science, classes, config.paths.work, config.paths.results, like)


def load_members(science: Science, classes: tuple[str, ...], work: Path, results: Path, like: Tensor) -> list[Member]:
    """Load the detectors of an ensemble beside the run's own, from the work folder or beside published records.

    Args:
        science: The settings of the run.
        classes: Its classes by label.
        like: A tensor of the type and device of the weights.

    Raises:
        InputError: One does not exist, or its weights or classes do not fit.
        RunError: A checkpoint is damaged.
    """
    members = []
    for name in members_of(science):
        member, own = load_net(record_of(name, [work, results / "runs"]), work, results, like)
        require(own == classes, f"{named(name)} has other classes than the detector that it joins")
        members.append(member)
    return members


def load_net(record: DetectionRecord, work: Path, results: Path, like: Tensor) -> tuple[Member, tuple[str, ...]]:
    """Load the final detector of a run, and the names of its classes by label.

    Raises:
        InputError: Its weights do not exist or do not fit.
        RunError: The checkpoint is damaged.
    """
    net = detector_net(record.run_id, work, results)
    model = Detector(build_net(record.science, 1), len(net.classes), settings_of(record.science))
    reason = misfit(model.state_dict(), net.weights)
    require(not reason, f"the weights of {record.run_id} do not fit a {record.label}: {reason}")
    model.load_state_dict(dict(net.weights))
    return Member(model.to(like).eval(), net.stats), net.classes


def members_of(science: Science) -> tuple[str, ...]:
    return () if science.detection is None else science.detection.members


def named(name: str) -> str:
    """Return the setting that names a member, as in messages."""
    return f"detection.members={name}"


def record_of(name: str, roots: Sequence[Path]) -> DetectionRecord:
    """Read the record of a detector of the ensemble.

    Raises:
        InputError: There is no such run, it is not a detector, or ``name`` is not its whole id.
    """
    try:
        record = find_any(name, roots)
    except InputError as error:
        raise InputError(f"{named(name)} is not a finished detector: {error}") from None
    require(record.run_id == name, f"{named(name)} must be the whole id of a run: {record.run_id}")
    if not isinstance(record, DetectionRecord):
        raise InputError(f"{named(name)} is not a detector: name a run of exp=voc_detection or the like")
    return record


def untested(science: Science) -> Science:
    """Return the settings of a detector's training, with those of its test alone at the same values for all."""
    assert science.detection is not None
    usual = {"members": (), "scales": (), "refine": False, "test_proposals": 1, "metric": "voc07"}
    detection = dataclasses.replace(science.detection, **usual)  # type: ignore[arg-type]
    data = dataclasses.replace(science.data, test_lists=(), test_images=None)
    return dataclasses.replace(science, data=data, detection=detection)
