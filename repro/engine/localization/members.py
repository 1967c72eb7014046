"""Further localizers that a run's test joins to an ensemble."""

from __future__ import annotations

import torch

from repro.config.parse import require
from repro.config.run import RunConfig
from repro.data.augment import PixelStats
from repro.engine.detection.start import build_net
from repro.engine.localization.prepared import Member, settings_of
from repro.errors import InputError
from repro.evaluation.stored_net import detector_net
from repro.evaluation.trained import misfit
from repro.models.detection.localizer import Localizer
from repro.results.find import find_file
from repro.results.localization_record import LocalizationRecord, read_localization_record
from repro.runtime import checkpoint


def check_members(config: RunConfig) -> None:
    """Raise ``InputError`` if a localizer of the ensemble does not exist, or has other images or anchors."""
    for name in members_of(config):
        own = record_of(name, config).science
        assert own.localization is not None and config.localization is not None
        for key, here, there in (
            ("data.name", config.data.name, own.data.name),
            ("localization.anchor_scales", config.localization.anchor_scales, own.localization.anchor_scales),
        ):
            require(
                here == there,
                f"localization.members={name} does not fit this run: its {key} is {there}, not {here}, so leave it out",
            )
        path = config.paths.work / name / checkpoint.FINAL
        require(path.is_file(), f"localization.members={name} has no weights in {path}: train this run again")


def load_members(config: RunConfig, classes: tuple[str, ...], device: torch.device) -> list[Member]:
    """Load the localizers of the ensemble beside the run's own.

    Raises:
        InputError: One does not exist, or its weights or classes do not fit.
        RunError: A checkpoint is damaged.
    """
    check_members(config)
    return [load_member(name, config, classes, device) for name in members_of(config)]


def load_member(name: str, config: RunConfig, classes: tuple[str, ...], device: torch.device) -> Member:
    record = record_of(name, config)
    net = detector_net(name, config.paths.work, config.paths.results)
    require(
        net.classes == classes, f"localization.members={name} has other classes than the images of {config.data.name}"
    )
    model = Localizer(build_net(record.science, 1), len(classes), settings_of(record.science))
    reason = misfit(model.state_dict(), net.weights)
    require(not reason, f"localization.members={name} has weights that do not fit a {record.label}: {reason}")
    model.load_state_dict(dict(net.weights))
    return Member(model.to(device).eval(), PixelStats(net.stats.mean.to(device), net.stats.std.to(device)))


def members_of(config: RunConfig) -> tuple[str, ...]:
    return () if config.localization is None else config.localization.members


def record_of(name: str, config: RunConfig) -> LocalizationRecord:
    """Read the record of a localizer of the ensemble.

    Raises:
        InputError: There is no such run, or it is not a localizer.
    """
    try:
        record = read_localization_record(find_file(name, [config.paths.work]))
    except InputError as error:
        raise InputError(f"localization.members={name} is not a run of exp=imagenet_localization: {error}") from None
    require(record.run_id == name, f"localization.members={name} must be the whole id of a run: {record.run_id}")
    return record
