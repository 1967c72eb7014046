"""One run, from nothing or from its last checkpoint to its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from repro.config.run import RunConfig
from repro.data import Dataset
from repro.engine.hooks import Follower, Watch, payload, write_curve
from repro.engine.identity_construction import begin_constructed, kept_report
from repro.engine.loop import Hooks, NotFiniteError, TrainState, train
from repro.engine.prepared import Prepared, prepare
from repro.engine.profiling import ProfiledStep
from repro.engine.record import any_dirty, evaluator_of, measurements, part, provenance
from repro.engine.resume import claim_folder, last_good
from repro.engine.step import build_step
from repro.errors import InputError, RunError
from repro.evaluation.gradient_flow import measure_flow
from repro.evaluation.layer_statistics import left_as_it_was, watched
from repro.evaluation.predict import predict
from repro.evaluation.single_crop import Evaluator, recompute_batch_norm
from repro.runtime import checkpoint, distributed
from repro.runtime.provenance import now, write_json
from repro.runtime.stop import Stopper

SHOWN_IMAGES = 128
"""Behind the histograms of layer responses."""


def run(
    config: RunConfig, dataset: Dataset, command: str, stopper: Stopper, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Trains, evaluates and records one run; goes on from its last checkpoint where there is one.

    Every rank of the run calls it alike; the first alone reads and writes the run's folder.

    Returns:
        The record, or None where the run was asked to stop and saved itself.

    Raises:
        InputError: The run's folder holds something else.
        RunError: The loss is not finite, or something cannot be written.
    """
    started = now()
    if distributed.size() != config.execution.num_ranks:
        raise InputError(f"{config.run_id} is a run of {config.execution.num_ranks} processes: torchrun starts them")
    distributed.on_first(lambda: claim_folder(config))
    net = prepare(config, dataset, say)
    net.state.parts.append(part(net.state.step, started, net.made_on))
    try:
        if config.model.constructed_from is not None and net.resumed is None:

            def shallow_run(shallow: RunConfig) -> dict[str, Any] | None:
                return run(shallow, dataset, command, stopper, say)

            if begin_constructed(config, net.model, net.feed, net.images, shallow_run) is None:
                return None
        evaluate = evaluator_of(net, net.images)
        if not trained(net, evaluate, stopper, say):
            return None
        final = net.state.curve[-1].eval
        if config.eval.bn_stats == "recomputed":
            recompute_batch_norm(net.model, net.feed.batch, config.eval.bn_batches, config.optim.precision)
            final = evaluate()
    except NotFiniteError as error:
        raise RunError(f"{error}; {last_good(config)}") from error
    finally:
        net.feed.close()

    last = payload(net)
    distributed.on_first(lambda: checkpoint.save(config.work_dir / checkpoint.FINAL, last))
    record = measurements(net, final) | provenance(net, command)
    if config.model.constructed_from is not None:
        record["construction"] = begun = kept_report(config)
        trees = [record["provenance"]["dirty"], begun.get("from_dirty")]
        record["provenance"]["dirty"] = any_dirty(trees)

    def leave() -> None:
        write_curve(config.work_dir, net.state.curve)
        write_json(config.work_dir / "record.json", record)

    distributed.on_first(leave)
    return record


def trained(net: Prepared, evaluate: Evaluator, stopper: Stopper, say: Callable[[str], None]) -> bool:
    """Trains to the last step, watched; False where the run was asked to stop before and saved itself."""
    config, precision = net.config, net.config.optim.precision
    more = (precision, config.execution.log_steps, config.execution.micro_batch)
    execute = build_step(net.mode, net.model, net.optimizer, net.feed, *more)
    if config.execution.profile and distributed.is_first():
        steps_left = config.optim.steps - net.state.step
        execute = ProfiledStep(execute, config.work_dir, net.device, steps_left, say)
    watch: Watch | Follower = Follower(stopper)
    if distributed.is_first():
        watch = Watch.start(net, stopper)
    try:
        hooks = watch.hooks(evaluate)
        if config.eval.gradient_flow:
            hooks = with_flow(hooks, net)
        if isinstance(watch, Watch) and net.state.step == 0:
            watch.events.images(net.feed.batch(0)[0], net.feed.stats)
        finished = train(execute, net.optimizer, net.state, config, len(net.feed), hooks)
        if finished and isinstance(watch, Watch):
            show_responses(net, watch)
        return finished
    finally:
        watch.close()


def show_responses(net: Prepared, watch: Watch) -> None:
    """Histograms of the layers' responses to some of the evaluated images (Fig. 7), by this rank alone."""
    batch, _ = next(iter(net.images.batches(SHOWN_IMAGES)))
    with (
        left_as_it_was(net.model, training=False),
        torch.inference_mode(),
        watched(net.model, watch.events.responses(net.state.step)),
    ):
        predict(net.model, batch, net.feed.stats, net.config.optim.precision)


def with_flow(hooks: Hooks, net: Prepared) -> Hooks:
    """Keeps signals and gradients before the first step and at every evaluation, on the batch of the step to come."""

    def keep(state: TrainState) -> None:
        layers = measure_flow(net.model, *net.feed.batch(state.step), net.config.optim.precision)
        state.flow.append({"step": state.step, "layers": layers})

    def evaluated(state: TrainState) -> None:
        keep(state)
        hooks.evaluated(state)

    if net.resumed is None:
        keep(net.state)
    return dataclasses.replace(hooks, evaluated=evaluated)
