"""One run of a localizer, from its last checkpoint to its record."""

from __future__ import annotations

import contextlib
import dataclasses

from repro.config.run import OptimConfig, RunConfig
from repro.data.localization import LocalizationDataset
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.hooks import RankHooks, write_losses
from repro.engine.detection.run import load_state
from repro.engine.detection.training import (
    Averager,
    Values,
    filled_from,
    payload,
    train_step_of,
    update,
)
from repro.engine.localization.prepared import PreparedLocalizer, prepare_network
from repro.engine.localization.regions import prepare_region_net
from repro.engine.localization.size import localizer_size
from repro.engine.localization.testing import remove_passes, run_test, write_boxes
from repro.engine.loop import NotFiniteError
from repro.engine.optim import lr_at
from repro.engine.record import of_run, part, provenance_of
from repro.engine.resume import claim_folder, last_good
from repro.errors import RunError
from repro.results.localization_record import LocalizationRecord, LocalizationResult
from repro.results.stored import RECORD
from repro.runtime import checkpoint, distributed
from repro.runtime.device import arithmetic
from repro.runtime.provenance import now, write_json
from repro.runtime.stop import Stopper


def run_localizer(config: RunConfig, dataset: LocalizationDataset, stopper: Stopper) -> LocalizationRecord | None:
    """Train, test and record one localizer, from its last checkpoint if there is one.

    Every rank of the run calls this; only the first rank reads and writes the folder of the run.

    Returns:
        The record, or None if the run was stopped and saved a checkpoint.

    Raises:
        InputError: The folder of the run holds another run, or the weights that it starts from do not exist.
        RunError: A loss is not finite, or a file cannot be written.
    """
    started = now()
    distributed.on_first(lambda: claim_folder(config))
    net = prepare_localizer(config, dataset)
    stored = load_state(net)
    net.state.parts.append(part(net.updates, started, net.made_on))
    if net.resumed is not None:
        filled_from(stored or {})(net)
    with contextlib.closing(RankHooks(net, stopper)) as hooks:
        if not train_all(net, hooks):
            return None
        tested = run_test(net, hooks)
        if tested is None:
            return None
    result, boxes = tested
    record = make_record(net, result)

    def leave() -> None:
        write_losses(net)
        write_boxes(net, boxes)
        write_json(config.work_dir / RECORD, record.to_json())
        remove_passes(config.work_dir)

    distributed.on_first(leave)
    return record


def train_all(net: PreparedLocalizer, hooks: DetectionHooks) -> bool:
    """Train to the end and save; return False if the run was stopped before.

    Raises:
        RunError: A loss is not finite.
    """
    if net.state.part:  # only the test is missing
        return True
    try:
        if not train_localizer(net, hooks):
            return False
    except NotFiniteError as error:
        raise RunError(f"{error}; {last_good(net.config)}") from error
    finally:
        net.feed.close()
    last = payload(net)
    distributed.on_first(lambda: checkpoint.save(net.config.work_dir / checkpoint.FINAL, last))
    return True


def train_localizer(net: PreparedLocalizer, hooks: DetectionHooks) -> bool:
    """Train to the last update; return False if the run was stopped before.

    Raises:
        NotFiniteError: A loss is not finite.
    """
    if not net.begin(hooks):
        hooks.save(net)
        return False
    mean, optim = Averager(net), optim_of(net.config)

    def one_update() -> Values:
        return update(net, net.losses(), mean)

    if not train_step_of(net, one_update, lambda: lr_at(optim, net.state.update, 0), optim.batch_size, hooks):
        return False
    net.state.part, net.state.update = 1, 0
    return True


def optim_of(config: RunConfig) -> OptimConfig:
    """Return the schedule of a run; the net for single regions may have a rate of its own (D91)."""
    own = config.localization
    assert own is not None
    if own.method == "rpn" or own.region_lr is None:
        return config.optim
    return dataclasses.replace(config.optim, lr=own.region_lr)


def prepare_localizer(config: RunConfig, dataset: LocalizationDataset) -> PreparedLocalizer:
    """Build a run's net and data on its device: a region proposal network, or the net for its proposals.

    Raises:
        InputError: Weights or runs that it starts from do not exist or do not fit.
    """
    assert config.localization is not None
    return (prepare_network if config.localization.method == "rpn" else prepare_region_net)(config, dataset)


def make_record(net: PreparedLocalizer, result: LocalizationResult) -> LocalizationRecord:
    """Describe the final localizer and how it was trained."""
    config, state = net.config, net.state
    size = localizer_size(config, net.dataset.num_classes)
    precision = arithmetic(net.device, config.optim.precision)
    return LocalizationRecord(
        **of_run(config, "eager"),
        localization=result,
        steps=net.updates,
        params=size.params,
        macs=size.macs,
        wall_seconds=round(state.train_seconds, 3),
        images_per_second=round(state.images / max(state.train_seconds, 1e-9), 1),
        provenance=provenance_of(state.parts, net.device, precision, net.digests),
    )
