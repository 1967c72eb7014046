"""A run's folder: whose it is, and the state that its last checkpoint goes on from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from repro.config.run import RunConfig
from repro.engine.loop import TrainState
from repro.engine.optim import first_warmup_end, load_optimizer
from repro.errors import InputError, RunError
from repro.runtime import checkpoint, distributed
from repro.runtime.provenance import environment, read_json, write_json


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
    write_json(
        stored, {"run_id": config.run_id, "fingerprint": config.fingerprint, "science": config.science.to_dict()}
    )


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
    found_here = load_last(config, model, optimizer, made_on, say) if distributed.is_first() else None
    rates = [group["lr"] for group in optimizer.param_groups]
    momentum = [value for state in optimizer.state.values() for value in state.values()]
    distributed.copy_from_first([*model.state_dict().values(), *rates, *momentum])
    found = distributed.shared(found_here)
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
    if state.parts and (then := state.parts[-1]["commit"]) != (here := environment()["commit"]):
        say(f"  the steps before were made by commit {then[:7]}, those to come by {here[:7]}")
    if config.scale == "paper" and any(part["dirty"] is not False for part in state.parts):
        say(
            "  steps before were made from a tree with uncommitted changes or an unknown one: this run will not count "
            f"as measured; move {config.work_dir} away to train one that does"
        )
    before = {"ranks": "1"} | stored["setting"]  # which older checkpoints do not say
    changes = [f"{name} {before.get(name)} → {value}" for name, value in made_on.items() if before.get(name) != value]
    if changes:
        say(f"  made under another setting ({', '.join(changes)}): equal up to rounding, not to the last bit")
    return state, state.step


def last_good(config: RunConfig) -> str:
    kept = checkpoint.checkpoints(config.work_dir)
    return f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written"
