"""One run, from nothing or from its last checkpoint to its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends.cudnn import version as cudnn_version

from repro import checkpoint, dist
from repro.config import NUMERICS_VERSION, RunConfig, plain
from repro.data import Dataset
from repro.data.stream import TrainStream, to_device
from repro.data.transforms import generator_for
from repro.device import arithmetic, device_name, memory_format, num_threads, set_up, setting
from repro.errors import InputError, RunError
from repro.evaluate import Evaluator, recompute_batch_norm
from repro.metrics import Counts
from repro.models import build_model
from repro.models.count import measure
from repro.optim import build_optimizer, first_warmup_end, load_optimizer
from repro.profiling import ProfiledStep
from repro.record import SCHEMA, environment, now, read_json, write_json
from repro.step import build_step, pick_step
from repro.stop import Stopper
from repro.train import NotFiniteError, TrainState, train
from repro.watch import Follower, Watch, payload, write_curve


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
    if dist.size() != config.execution.num_ranks:
        raise InputError(f"{config.run_id} is a run of {config.execution.num_ranks} processes: torchrun starts them")
    dist.on_first(lambda: claim_folder(config))
    execution, precision = config.execution, config.optim.precision
    device = set_up(execution, precision)
    mode = pick_step(execution.step, device)
    model = build_model(config.model, dataset.num_classes, generator_for(config.seed, "init"))
    model.recompute = execution.checkpoint_activations
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config.optim)
    stream = TrainStream(
        dataset.train, config.data, config.optim.batch_size, config.seed, device, dist.rank(), dist.size()
    )
    made_on = setting(execution, device, mode)
    state, resumed = restore(config, model, optimizer, made_on, say)

    def evaluator(images: Tensor, labels: Tensor) -> Evaluator:
        return Evaluator(model, images, labels, stream.stats, execution.eval_batch_size, precision, mode)

    evaluate = evaluator(*to_device(dataset.eval, device))
    execute = build_step(mode, model, optimizer, stream, precision, execution.log_steps)
    if execution.profile and dist.is_first():
        execute = ProfiledStep(execute, config.work_dir, device, config.optim.steps - state.step, say)
    watch: Watch | Follower = Follower(stopper)
    if dist.is_first():
        watch = Watch.start(config, state, dataset.eval.name, model, optimizer, made_on, stopper)
    try:
        finished = train(execute, optimizer, state, config, len(stream), watch.hooks(evaluate))
    except NotFiniteError as error:
        raise RunError(f"{error}; {last_good(config)}") from error
    finally:
        watch.close()
    if not finished:
        return None

    final = state.curve[-1].eval
    if config.eval.bn_stats == "recomputed":
        recompute_batch_norm(model, stream.batch, config.eval.bn_batches)
        final = evaluate()
    last = payload(model, optimizer, state, made_on)
    dist.on_first(lambda: checkpoint.save(config.work_dir / checkpoint.FINAL, last))
    trained = None
    if config.eval.train_error:
        limit = config.eval.train_images
        trained = evaluator(stream.images[:limit], stream.labels[:limit])()

    record = make_record(config, dataset, state, final, trained) | {
        "execution": plain(execution) | {"threads": num_threads(execution), "step": mode, "world_size": dist.size()},
        "provenance": environment()
        | {
            "command": command,
            "device": device_name(device),
            "precision": arithmetic(device, precision),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if device.type == "cuda" else None,
            "cudnn": cudnn_version() if device.type == "cuda" else None,
            "data_digests": dataset.digests,
            "resumed_at": resumed,
            "started": started,
            "finished": now(),
        },
    }

    def leave() -> None:
        write_curve(config.work_dir, state.curve)
        write_json(config.work_dir / "record.json", record)

    dist.on_first(leave)
    return record


def claim_folder(config: RunConfig) -> None:
    """Makes the run's folder, or checks that the one that is there is this run's.

    Raises:
        InputError: Its stored fingerprint differs from its name.
        RunError: It cannot be written.
    """
    stored = config.work_dir / "config.json"
    if stored.exists():
        check_folder(config)
        return
    try:
        config.work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {config.work_dir} cannot be made ({error.strerror})") from error
    write_json(stored, {"run_id": config.run_id, "fingerprint": config.fingerprint, "science": config.science()})


def check_folder(config: RunConfig) -> None:
    """Refuses a folder whose stored fingerprint is not the run's.

    Raises:
        InputError: The run's folder exists and holds another run.
    """
    for name in ("config.json", "record.json"):
        path = config.work_dir / name
        if path.exists() and (stored := read_json(path).get("fingerprint")) != config.fingerprint:
            raise InputError(
                f"the folder {config.work_dir} holds another run: its {name} has the fingerprint {stored}, "
                f"its name says {config.fingerprint[:8]}; move the folder away to train this run anew"
            )


def restore(
    config: RunConfig,
    model: nn.Module,
    optimizer: torch.optim.SGD,
    made_on: dict[str, str],
    say: Callable[[str], None],
) -> tuple[TrainState, int | None]:
    """The state to go on from, and the step that a checkpoint gave (None: from the start); the same on all ranks."""
    found_here = load_last(config, model, optimizer, made_on, say) if dist.is_first() else None
    rates = [group["lr"] for group in optimizer.param_groups]
    momentum = [value for state in optimizer.state.values() for value in state.values()]
    dist.copy_from_first([*model.state_dict().values(), *rates, *momentum])
    found = dist.shared(found_here)
    assert found is not None
    return found


def load_last(
    config: RunConfig,
    model: nn.Module,
    optimizer: torch.optim.SGD,
    made_on: dict[str, str],
    say: Callable[[str], None],
) -> tuple[TrainState, int | None]:
    """Fills model and optimizer from the newest checkpoint that can be read, where there is one."""
    found = checkpoint.load_latest(config.work_dir, say)
    if found is None:
        if checkpoint.checkpoints(config.work_dir):
            say(f"{config.run_id}: no checkpoint can be read; the run starts over")
        return TrainState(warmup_end=first_warmup_end(config.optim, config.model)), None
    path, stored = found
    model.load_state_dict(stored["model"])
    load_optimizer(optimizer, stored["optimizer"])
    state = TrainState.from_dict(stored["state"])
    say(f"  goes on at step {state.step:,} from {path.name}")
    before = {"ranks": "1"} | stored["setting"]  # which older checkpoints do not say
    changes = [f"{name} {before.get(name)} → {value}" for name, value in made_on.items() if before.get(name) != value]
    if changes:
        say(f"  made under another setting ({', '.join(changes)}): equal up to rounding, not to the last bit")
    return state, state.step


def make_record(
    config: RunConfig, dataset: Dataset, state: TrainState, final: Counts, trained: Counts | None
) -> dict[str, Any]:
    """The record of a finished run, without its provenance."""
    size = measure(config.model, config.data.image_size, dataset.num_classes)
    last = state.curve[-1]
    before = state.curve[-2].step if len(state.curve) > 1 else 0
    best = min(state.curve, key=lambda row: (row.eval.errors, row.step))
    wall_seconds = state.train_seconds + state.eval_seconds
    return {
        "schema": SCHEMA,
        "run_id": config.run_id,
        "key": config.key,
        "label": config.model.label,
        "exp": config.exp,
        "scale": config.scale,
        "seed": config.seed,
        "fingerprint": config.fingerprint,
        "numerics_version": NUMERICS_VERSION,
        "science": config.science(),
        "result": {
            "final": outcome(final, dataset.eval.name) | {"step": last.step},
            "best": outcome(best.eval, dataset.eval.name) | {"step": best.step},
            "train": outcome(trained, dataset.train.name) | {"step": last.step} if trained else None,
            "train_running": outcome(last.train, dataset.train.name)
            | {"first_step": before + 1, "last_step": last.step},
        },
        "steps": state.step,
        "params": size.params,
        "macs": size.macs,
        "wall_seconds": round(wall_seconds, 3),
        "images_per_second": round(state.step * config.optim.batch_size / state.train_seconds, 1),
    }


def outcome(counts: Counts, split: str) -> dict[str, Any]:
    return {
        "split": split,
        "errors": counts.errors,
        "images": counts.images,
        "top1_error": counts.top1_error,
        "loss": counts.loss,
    }


def last_good(config: RunConfig) -> str:
    kept = checkpoint.checkpoints(config.work_dir)
    return f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written"
