"""One run, from its last checkpoint to its record."""

from __future__ import annotations

import contextlib

from repro.config.run import RunConfig
from repro.data import AnyDataset, Dataset
from repro.data.detection.dataset import DetectionDataset
from repro.data.localization import LocalizationDataset
from repro.engine.hooks import hooks_of, payload, write_curve
from repro.engine.identity_construction import begin_constructed, kept_report
from repro.engine.loop import NotFiniteError, train
from repro.engine.prepared import Prepared, prepare
from repro.engine.profiling import ProfiledStep
from repro.engine.record import make_record, part
from repro.engine.resume import claim_folder, last_good, restore
from repro.engine.step import Step, build_step
from repro.errors import InputError, RunError
from repro.evaluation.single_crop import recompute_batch_norm
from repro.results.record import Record
from repro.results.stored import RECORD
from repro.runtime import checkpoint, distributed
from repro.runtime.provenance import now, write_json
from repro.runtime.stop import Stopped, Stopper


def run_any(config: RunConfig, dataset: AnyDataset, stopper: Stopper) -> object | None:
    """Train, test and record one run, of a classification net (``run``), of a detector or of a localizer."""
    if isinstance(dataset, DetectionDataset):
        from repro.engine.detection.run import run_detector  # its operators of torchvision are a slow import, seconds

        check_ranks(config)
        return run_detector(config, dataset, stopper)
    if isinstance(dataset, LocalizationDataset):
        from repro.engine.localization.run import run_localizer

        check_ranks(config)
        return run_localizer(config, dataset, stopper)
    return run(config, dataset, stopper)


def check_ranks(config: RunConfig) -> None:
    """Raise an ``InputError`` if there are more or fewer processes than a run needs."""
    if distributed.size() != config.execution.num_ranks:
        raise InputError(f"{config.run_id} needs {config.execution.num_ranks} processes, started by torchrun")


def run(config: RunConfig, dataset: Dataset, stopper: Stopper) -> Record | None:
    """Train, evaluate and record one run, from its last checkpoint if there is one.

    Every rank of the run calls this; only the first rank reads and writes the folder of the run.

    Returns:
        The record, or None if the run was stopped and saved a checkpoint.

    Raises:
        InputError: The folder of the run holds another run.
        RunError: The loss is not finite, or a file cannot be written.
    """
    started = now()
    check_ranks(config)
    distributed.on_first(lambda: claim_folder(config))
    net = prepare(config, dataset)
    restore(net)
    net.state.parts.append(part(net.state.step, started, net.made_on))
    is_constructed = config.model.constructed_from is not None
    try:
        begins = is_constructed and net.resumed is None
        if begins and begin_constructed(net, lambda shallow: run(shallow, dataset, stopper)) is None:
            return None
        step = step_of(net)
        with contextlib.closing(hooks_of(net, stopper)) as hooks:
            hooks.begin()
            if not train(step, net.optimizer, net.state, config, len(net.feed), hooks):
                return None
            hooks.end()
        final = net.state.curve[-1].eval
        if config.eval.bn_stats == "recomputed":
            recompute_batch_norm(net.model, net.feed.batch, config.eval.bn_batches, config.optim.precision)
            final = hooks.evaluate()
    except NotFiniteError as error:
        raise RunError(f"{error}; {last_good(config)}") from error
    finally:
        net.feed.close()

    last = payload(net)
    if config.data.photos:
        # A detector on this net's body needs them, in a folder without these images.
        last["pixels"] = {"mean": net.feed.stats.mean, "std": net.feed.stats.std}
    distributed.on_first(lambda: checkpoint.save(config.work_dir / checkpoint.FINAL, last))
    begun = kept_report(config) if is_constructed else None
    try:
        record = make_record(net, final, begun, stopper.asked)
    except Stopped:
        return None

    def leave() -> None:
        write_curve(config.work_dir, net.state.curve)
        write_json(config.work_dir / RECORD, record.to_json())

    distributed.on_first(leave)
    return record


def step_of(net: Prepared) -> Step:
    """Build the step of a run; ``execution.profile`` traces it."""
    config = net.config
    more = (
        *(config.optim.precision, config.execution.log_steps),
        *(config.execution.micro_batch, config.optim.label_smoothing),
    )
    step = build_step(net.mode, net.model, net.optimizer, net.feed, *more)
    if config.execution.profile and distributed.is_first():
        return ProfiledStep(step, config.work_dir, net.device, config.optim.steps - net.state.step)
    return step
