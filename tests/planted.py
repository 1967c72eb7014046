"""Records as finished runs write them, without training."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from pathlib import Path
from typing import Any

from repro.config.numerics import numerics_version as present_version
from repro.config.run import RunConfig, Science
from repro.papers import load_recipe
from repro.results.channels import CHANNELS, IMAGES, TOP, Channels, Likeness
from repro.results.lesions import LESIONS, Lesion, Lesions
from repro.results.record import Evaluation, Record, Result, RunningError
from repro.results.scales import own_recipe
from repro.results.stored import Provenance


def scale_science(
    scale: str, data: str = "cifar10", exp: str = "", recipe_name: str = "cifar10_recipe"
) -> dict[str, Any]:
    """Return the flat science fields in which the recipe of a scale differs from the paper's."""
    recipe = load_recipe(recipe_name).fields
    own = own_recipe(recipe, scale, data, exp)
    return {key: value for key, value in own.items() if key in recipe and value != recipe[key]}


DEMO = scale_science("demo")
PROVENANCE = Provenance(
    commit="0123456789abcdef0123456789abcdef01234567",
    dirty=False,
    python="3.13.1",
    platform="Linux x86_64",
    packages=("torch==2.15.0",),
    command="repro run",
    device="NVIDIA H200",
    precision="tf32",
    torch="2.15.0",
    cuda="13.0",
    cudnn=None,
    data_digests={},
    resumed_at=None,
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:00:00+00:00",
)
PRESENT = present_version(load_recipe("cifar10_recipe").fields)
"""The numerics version of the paper's CIFAR-10 runs today."""


def planted_config(
    depth: int, shortcut: str = "A", seed: int = 0, scale: str = "paper", exp: str = "cifar_depth_sweep", **science: Any
) -> RunConfig:
    """Return the run of the paper's CIFAR-10 recipe with the flat ``science`` fields on top."""
    flat = {**load_recipe("cifar10_recipe").fields, "model.depth": depth, "model.shortcut": shortcut, **science}
    return flat_config(flat, seed, scale, exp)


def flat_config(flat: dict[str, Any], seed: int, scale: str, exp: str) -> RunConfig:
    """Return the run with all ``flat`` science fields."""
    values: dict[str, Any] = {"exp": exp, "scale": scale, **Science.from_flat(flat, seed).to_dict()}
    values["execution"] = {
        "device": "cpu",
        "threads": 2,
        "step": "eager",
        "deterministic": True,
        "checkpoint_activations": False,
        "parallel": 1,
        "runs_per_gpu": 1,
        "profile": False,
        "log_steps": 10,
        "eval_batch_size": 500,
        "checkpoint_seconds": 60.0,
        "max_minutes": None,
        "progress": "none",
    }
    values["paths"] = {"data": "data", "work": "work", "results": "results"}
    return RunConfig.from_dict(values)


def plant(
    root: Path,
    depth: int = 20,
    shortcut: str = "A",
    seed: int = 0,
    error: float = 8.75,
    *,
    best: float | None = None,
    train_error: float = 0.5,
    scale: str = "paper",
    exp: str = "cifar_depth_sweep",
    science: dict[str, Any] | None = None,
    numerics_version: int | None = None,
    finished: str = "2026-01-01T00:00:00+00:00",
    **provenance: Any,
) -> Path:
    """Write the record and the curve of a run under ``root`` and return its folder.

    Args:
        error: Final test error in percent, a whole number of 10,000 images.
        best: Error of the best epoch; by default slightly below ``error``.
        science: Flat science fields on top of the paper's recipe, as in ``{"optim.lr": 0.2}``.
    """
    config = planted_config(depth, shortcut, seed, scale, exp, **(science or {}))
    return plant_planned(
        root,
        config,
        error,
        best=best,
        train_error=train_error,
        numerics_version=numerics_version,
        finished=finished,
        **provenance,
    )


def plant_planned(
    root: Path,
    config: RunConfig,
    error: float = 8.75,
    *,
    best: float | None = None,
    train_error: float = 0.5,
    images: int = 10000,
    numerics_version: int | None = None,
    finished: str = "2026-01-01T00:00:00+00:00",
    **provenance: Any,
) -> Path:
    """Write the record and the curve of the run ``config``, as ``plan`` composes it, tested on so many ``images``."""
    seed, depth = config.seed, config.model.depth
    if numerics_version is None:
        numerics_version = config.science.numerics_version
    digest = config.science.fingerprint(numerics_version)
    run_id = f"{config.key}-s{seed}-{digest[:8]}"
    steps = config.optim.steps

    def counts(percent: float, images: int, split: str) -> dict[str, Any]:
        errors = round(percent * images / 100)
        return {"split": split, "errors": errors, "images": images, "top1_error": 100 * errors / images, "loss": 0.4}

    tested = config.data.eval_split
    lowest = max(0.0, error - 0.1) if best is None else best
    record = Record(
        run_id=run_id,
        key=config.key,
        label=config.model.label,
        exp=config.exp,
        scale=config.scale,
        seed=seed,
        fingerprint=digest,
        numerics_version=numerics_version,
        science=config.science,
        execution={"device": "cpu", "threads": 2},
        result=Result(
            final=Evaluation(**counts(error, images, tested), step=steps),
            best=Evaluation(**counts(lowest, images, tested), step=max(1, steps * 15 // 16)),
            train=Evaluation(**counts(train_error, 50000, "train"), step=steps),
            train_running=RunningError(
                **counts(train_error, 50048, "train"), first_step=max(0, steps - 391), last_step=steps
            ),
        ),
        steps=steps,
        params=269722 + 97216 * ((depth - 20) // 6),
        macs=40551808 + 14155776 * ((depth - 20) // 6),
        wall_seconds=100.0,
        images_per_second=81920.0,
        provenance=dataclasses.replace(PROVENANCE, finished=finished, **provenance),
        folder=root / run_id,
    )
    folder = record.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record.to_json()), encoding="utf-8")
    write_curve(folder / "curve.csv", config, train_error, error)
    return folder


def edit(folder: Path, *path: str, value: Any, name: str = "record.json") -> None:
    """Overwrite one value of a planted record: ``edit(folder, "result", "final", "errors", value=3)``."""
    file = folder / name
    record = json.loads(file.read_text(encoding="utf-8"))
    part = record
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(record), encoding="utf-8")


def write_curve(file: Path, config: RunConfig, train_error: float, error: float) -> None:
    """Write a curve of the usual shape: a fast fall, then a drop and less noise at each milestone."""
    noise = random.Random(config.seed * 10007 + config.model.depth)
    steps, milestones = config.optim.steps, config.optim.milestones
    every = min(391, max(1, steps // 10))
    marks = [*range(every, steps, every), steps]
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["step", "epoch", "lr", "train_loss", "train_error", "eval_loss", "eval_error"])
        for step in marks:
            drops = sum(step > milestone for milestone in milestones)
            above = [1.0, 0.12, 0.0][min(drops, 2)] if milestones else 1.0 - step / steps
            start = 60 * 2.718 ** (-step / (0.06 * steps))
            train = train_error + above * 7 + start + noise.gauss(0, 0.25) * above
            test = error + above * 6 + start + abs(noise.gauss(0, 2.0)) * (above + 0.03)
            last = step == steps
            cells = [step, round(step / 391, 3), config.optim.lr * 0.1**drops, 0.3]
            rows.writerow([*cells, min(90.0, max(0.0, train)), 0.4, error if last else min(90.0, test)])


def plant_lesions(folder: Path, rise: int) -> None:
    """Write the lesions of a net of two blocks, whose error rises by ``rise`` points without one and after a swap."""
    record = json.loads((folder / "record.json").read_text())
    errors = 100 + 10 * rise
    lesions = Lesions(
        run_id=record["run_id"],
        fingerprint=record["fingerprint"],
        weights="0" * 64,
        split="test",
        images=1000,
        errors=100,
        stages=(2,),
        removable=(0, 1),
        draws=5,
        seed=0,
        places=(Lesion(errors - 10, deleted=(0,)), Lesion(errors + 10, deleted=(1,))),
        counts=(Lesion(900, deleted=(0, 1)),),
        orders=(Lesion(errors, order=(1, 0), swaps=1, tau=-1.0),),
        commit="0" * 40,
        finished=PROVENANCE.finished,
    )
    LESIONS.store(folder, lesions)


def plant_channels(folder: Path, overlap: float, correlation: float, images: int = IMAGES) -> None:
    """Write how alike the channels of a net of two stages are, 0.1 more in the second one."""
    record = json.loads((folder / "record.json").read_text())
    channels = Channels(
        run_id=record["run_id"],
        fingerprint=record["fingerprint"],
        weights="0" * 64,
        split="test",
        commit="0" * 40,
        finished=PROVENANCE.finished,
        stages=tuple(
            Likeness(1 + more, 3, 16, TOP, images, overlap + more / 10, correlation + more / 10, 0.05, 0.15)
            for more in (0, 1)
        ),
    )
    CHANNELS.store(folder, channels)
