"""Finished localizers that a run needs: those of its ensemble, and the one that proposes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch

from repro.config.parse import require
from repro.config.run import RunConfig
from repro.config.science import Science
from repro.data.augment import PixelStats
from repro.engine.detection.start import build_net
from repro.engine.localization.prepared import Member, settings_of
from repro.errors import InputError
from repro.evaluation.stored_net import detector_net
from repro.evaluation.trained import misfit
from repro.models.detection.localizer import Localizer
from repro.models.detection.region_net import RegionNet
from repro.results.find import find_file
from repro.results.localization_record import PROPOSALS_OF, LocalizationRecord, read_localization_record
from repro.results.stored import RECORD
from repro.runtime import checkpoint

MEMBERS, PROPOSER = "localization.members", "localization.proposals_of"


def check_members(config: RunConfig, planned: Collection[str] = ()) -> None:
    """Raise ``InputError`` if a localizer that a run needs does not exist, or does not fit the run.

    It needs those of its ensemble, which are different nets of the same method, images and anchors or crops, and the
    one that proposes. Runs that are ``planned`` before are looked at once they are finished.
    """
    if config.localization is None:
        return
    check_ensemble(config, planned)
    if config.proposals_of is not None and config.proposals_of not in planned:
        check_localizer(config.proposals_of, PROPOSER, "rpn", config)


def check_ensemble(config: RunConfig, planned: Collection[str] = ()) -> None:
    """Raise ``InputError`` if a localizer of the ensemble does not exist, does not fit the run, or is twice."""
    assert config.localization is not None
    members = [name for name in config.localization.members if name not in planned]
    trained = {"this run's own": trainings(config.science, config)} if members else {}
    for name in members:
        check_localizer(name, MEMBERS, config.localization.method, config)
        own = trainings(record_of(name, MEMBERS, config).science, config)
        twin = next((other for other, found in trained.items() if found == own), "")
        require(
            not twin, f"{MEMBERS}={name} is the same net as {twin}, only tested otherwise: name one of another seed"
        )
        trained[name] = own


def check_localizer(name: str, setting: str, method: str, config: RunConfig) -> None:
    there = record_of(name, setting, config).science
    assert there.localization is not None and config.localization is not None
    values: list[tuple[str, object, object]] = [
        ("data.name", config.data.name, there.data.name),
        ("localization.method", method, there.localization.method),
    ]
    if setting == MEMBERS and method == "rpn":
        values.append(
            ("localization.anchor_scales", config.localization.anchor_scales, there.localization.anchor_scales)
        )
    if setting == MEMBERS and method == "rcnn":
        # All nets see the crops of the run's own.
        values.append(("localization.context", config.localization.context, there.localization.context))
        values.append(("data.image_size", config.data.image_size, there.data.image_size))
    for key, wanted, value in values:
        require(
            wanted == value,
            f"{setting}={name} does not fit this run: its {key} is {value}, not {wanted}, so name another run",
        )
    path = config.paths.work / name / checkpoint.FINAL
    require(path.is_file(), f"{setting}={name} has no weights in {path}: train this run again")


def trainings(science: Science, config: RunConfig) -> tuple[Science | str, ...]:
    """Return what decides the weights of a localizer: its own training, and the nets that propose for it.

    Args:
        science: The settings of the localizer.
        config: The run that joins it to an ensemble, whose folder has the others.
    """
    own = science.localization
    assert own is not None
    if own.method == "rpn":
        return (untested(science),)
    if own.proposals_of is None:
        return untested(science), untested(dataclasses.replace(science, localization=own.proposer))
    try:
        there = record_of(own.proposals_of, PROPOSER, config).science
    except InputError:  # a member needs it no more, and it may be gone; one of the run's own may be planned
        return untested(science), own.proposals_of
    assert there.localization is not None
    return untested(science), untested(there), *sorted(there.localization.members)


def untested(science: Science) -> Science:
    """Return the settings of a localizer's training, with those of its test alone at the same values for all."""
    assert science.localization is not None
    usual = {"members": (), "scales": (), "vote": True, "classes_of": (), "proposals_of": None}
    localization = dataclasses.replace(science.localization.proper, **usual)  # type: ignore[arg-type]
    return dataclasses.replace(
        science, data=dataclasses.replace(science.data, test_images=None), localization=localization
    )


def load_members(config: RunConfig, classes: tuple[str, ...], device: torch.device) -> list[Member]:
    """Load the nets of the ensemble beside the run's own.

    Raises:
        InputError: One does not exist or is twice, or its weights or classes do not fit.
        RunError: A checkpoint is damaged.
    """
    assert config.localization is not None
    check_ensemble(config)
    return [load_localizer(name, MEMBERS, config, classes, device) for name in config.localization.members]


def load_proposers(config: RunConfig, classes: tuple[str, ...], device: torch.device) -> list[Member]:
    """Load the localizer whose proposals a run takes, with the members of its ensemble (D92).

    Raises:
        InputError: One does not exist, or its weights or classes do not fit.
        RunError: A checkpoint is damaged.
    """
    return [load_localizer(one, PROPOSER, config, classes, device) for one in proposing(config)]


def proposing(config: RunConfig) -> tuple[str, ...]:
    """Return the ids of the localizers that propose: the one that a run names or implies, and those of its ensemble.

    Raises:
        InputError: It does not exist, or does not fit.
    """
    name = config.proposals_of
    assert name is not None
    check_localizer(name, PROPOSER, "rpn", config)
    there = record_of(name, PROPOSER, config).science.localization
    assert there is not None
    return (name, *there.members)


def digests_of_proposers(config: RunConfig) -> dict[str, str]:
    """Return the fingerprint of each localizer that proposes, as a run's record names them.

    Raises:
        InputError: One does not exist, or does not fit.
    """
    return {f"{PROPOSALS_OF}{one}": record_of(one, PROPOSER, config).fingerprint for one in proposing(config)}


def load_localizer(
    name: str, setting: str, config: RunConfig, classes: tuple[str, ...], device: torch.device
) -> Member:
    record = record_of(name, setting, config)
    net = detector_net(name, config.paths.work, config.paths.results)
    require(net.classes == classes, f"{setting}={name} has other classes than the images of {config.data.name}")
    model = build_localizer(record.science, len(classes))
    reason = misfit(model.state_dict(), net.weights)
    require(not reason, f"{setting}={name} has weights that do not fit a {record.label}: {reason}")
    model.load_state_dict(dict(net.weights))
    return Member(model.to(device).eval(), PixelStats(net.stats.mean.to(device), net.stats.std.to(device)))


def build_localizer(science: Science, num_classes: int) -> Localizer | RegionNet:
    """Build the net of a run, with weights that are to be replaced."""
    assert science.localization is not None
    net = build_net(science, 1)
    is_network = science.localization.method == "rpn"
    return Localizer(net, num_classes, settings_of(science)) if is_network else RegionNet(net, num_classes)


def record_of(name: str, setting: str, config: RunConfig) -> LocalizationRecord:
    """Read the record of a localizer that ``setting`` names.

    Raises:
        InputError: There is no such run, or it is not a localizer.
    """
    assert config.localization is not None
    is_derived = setting == PROPOSER and config.localization.proposals_of is None
    require(
        not is_derived or (config.paths.work / name / RECORD).is_file(),
        f"R-CNN needs the finished localizer {name} (its own settings with localization.method=rpn): run that first, "
        f"or name another with {PROPOSER}=",
    )
    try:
        record = read_localization_record(find_file(name, [config.paths.work]))
    except InputError as error:
        raise InputError(f"{setting}={name} is not a run of exp=imagenet_localization: {error}") from None
    require(record.run_id == name, f"{setting}={name} must be the whole id of a run: {record.run_id}")
    return record
