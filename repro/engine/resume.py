"""A run's folder and its last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from repro.config.run import RunConfig
from repro.data.own_images import check_images
from repro.engine.loop import TrainState
from repro.engine.optim import load_optimizer
from repro.engine.prepared import Prepared
from repro.errors import InputError, RunError
from repro.runtime import checkpoint, distributed
from repro.runtime.files import make_folder
from repro.runtime.provenance import environment, read_json, write_json

log = logging.getLogger(__name__)


def claim_folder(config: RunConfig) -> None:
    """Make the folder of the run, or check that the existing one belongs to it.

    Raises:
        InputError: The folder belongs to another run.
        RunError: The folder cannot be written.
    """
    stored = config.work_dir / "config.json"
    if stored.exists():
        check_folder(config)
        return
    make_folder(config.work_dir, RunError)
    labels = {name: getattr(config, name) for name in ("run_id", "fingerprint", "exp", "scale")}
    write_json(stored, {**labels, "science": config.science.to_dict()})


def check_folder(config: RunConfig) -> None:
    """Raise ``InputError`` if the folder of the run contains another run."""
    for name in ("config.json", "record.json"):
        path = config.work_dir / name
        if path.exists() and (stored := read_json(path).get("fingerprint")) != config.fingerprint:
            raise InputError(
                f"the folder {config.work_dir} holds another run: its {name} has the fingerprint {stored}, but its "
                f"name has {config.fingerprint[:8]}; move the folder away to train this run"
            )


def restore(net: Prepared) -> None:
    """Fill a run's net, optimizer and state from its last checkpoint, if there is one, on all ranks.

    Raises:
        InputError: The checkpoint was trained on other images.
    """
    distributed.on_first(lambda: load_last(net))
    rates = [group["lr"] for group in net.optimizer.param_groups]
    momentum = [value for state in net.optimizer.state.values() for value in state.values()]
    distributed.copy_from_first([*net.model.state_dict().values(), *rates, *momentum])
    net.state, net.resumed = distributed.shared((net.state, net.resumed))


def load_last(net: Prepared) -> None:
    """Fill ``net`` from the newest readable checkpoint, if there is one."""
    config = net.config
    found = checkpoint.load_latest(config.work_dir)
    if found is None:
        if checkpoint.checkpoints(config.work_dir):
            log.info(f"{config.run_id}: no checkpoint can be read; the run starts over")
        return
    path, stored = found
    check_images(config.work_dir, net.dataset.digests, stored.get("digests"))
    net.model.load_state_dict(stored["model"])
    load_optimizer(net.optimizer, stored["optimizer"])
    net.state = state = TrainState.from_dict(stored["state"])
    net.resumed = state.step
    log.info(f"  resumes at step {state.step:,} from {path.name}")
    if state.parts and (then := state.parts[-1]["commit"]) != (here := environment()["commit"]):
        log.info(f"  the previous steps were trained by commit {then[:7]}, the next ones by {here[:7]}")
    if config.scale == "paper" and any(part["dirty"] is not False for part in state.parts):
        log.info(
            "  some previous steps were trained with uncommitted changes, or by unknown code, so this run will not "
            f"count as measured; move {config.work_dir} away to train it again"
        )
    changed_setting(net.made_on, stored["setting"])


def changed_setting(made_on: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """Log settings that have changed since a checkpoint and move the last bits of results."""
    before = {"ranks": "1"} | dict(stored)  # older checkpoints do not store the number of ranks
    changes = [f"{name} {before.get(name)} → {value}" for name, value in made_on.items() if before.get(name) != value]
    if changes:
        log.info(f"  the setting has changed ({', '.join(changes)}): results agree up to rounding, not to the last bit")


def last_good(config: RunConfig) -> str:
    kept = checkpoint.checkpoints(config.work_dir)
    return f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written"
