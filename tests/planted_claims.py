"""Records of the groups that claims compare, with the values that the paper's claims need, without training."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from repro.paper import load_recipe
from repro.paper.claims import Group, load_claims
from tests.planted import edit, plant

# Error at the end and training error, in percent, and the mean response of a layer where Figure 7 shows it.
CIFAR: dict[str, tuple[float, float, float | None]] = {
    "plain20": (9.0, 3.0, 1.6),
    "plain32": (9.5, 4.0, None),
    "plain44": (10.5, 5.5, None),
    "plain56": (12.5, 8.0, 1.5),
    "plain110": (70.0, 70.0, None),
    "resnet20": (8.75, 2.0, 0.9),
    "resnet32": (7.51, 1.0, None),
    "resnet44": (7.17, 0.6, None),
    "resnet56": (6.97, 0.4, 0.6),
    "resnet110": (6.61, 0.12, 0.4),
    "resnet1202": (7.93, 0.05, None),
    "warm110": (6.61, 0.12, 0.4),  # the same runs as resnet110
    "cold110": (6.62, 0.1, None),
    "flow56": (12.5, 8.0, None),
    "constructed56": (9.2, 3.2, None),
}
# 10-crop top-1, multi-scale top-5, training error.
IMAGENET: dict[str, tuple[float, float, float]] = {
    "plain18": (27.94, 9.0, 34.0),
    "plain34": (28.54, 9.4, 36.0),
    "plain50": (29.0, 9.9, 37.0),
    "plain101": (31.0, 11.0, 39.0),
    "resnet18a": (27.88, 8.9, 33.5),
    "resnet34a": (25.03, 5.9, 28.0),
    "resnet34b": (24.52, 5.71, 27.5),
    "resnet34c": (24.19, 5.6, 27.0),
    "resnet50": (22.85, 5.25, 24.0),
    "resnet101": (21.75, 4.6, 21.0),
    "resnet152": (21.43, 4.2, 19.0),
}
SPREAD = (-0.1, 0.1, 0.0, -0.05, 0.05)
"""What a seed adds, times ``noise``."""


def plant_paper(root: Path) -> None:
    """Every group with all the seeds it needs, at values with which every claim holds."""
    for name, group in groups().items():
        for seed in range(group.seeds):
            plant_group(root, name, seed)


@functools.cache
def groups() -> Mapping[str, Group]:
    return load_claims().groups


@functools.cache
def recipe(name: str) -> Mapping[str, Any]:
    return load_recipe(name).fields


def plant_group(root: Path, name: str, seed: int, *, noise: float = 1.0, shift: float = 0.0, **more: Any) -> Path:
    """One seed of the group ``name``; ``shift`` is added to its errors, ``more`` goes to ``plant``."""
    group = groups()[name]
    science = {**recipe(group.recipe), **group.run, **more.pop("science", {})}
    depth, shortcut = science.pop("model.depth"), science.pop("model.shortcut")
    off = noise * SPREAD[(seed + 2 * (name == "cold110")) % 5]
    if name in CIFAR:
        top1, train, response = CIFAR[name]
    else:
        top1, top5, train = IMAGENET[name]
    trained = max(0.0, train + shift + (off / 10 if train < 1 else off))
    error = round(top1 + shift + off, 2)
    with mock.patch("tests.planted.write_curve"):  # the curve written below takes its place
        folder = plant(root, depth, shortcut, seed, error, train_error=trained, science=science, **more)
    fall = 20 if name in ("warm110", "resnet110", "resnet18a") else 60 if name == "cold110" else 40
    write_curve(folder / "curve.csv", science["optim.steps"], trained + abs(off), error, fall * (1 + off / 10))
    if name in CIFAR:
        _plant_measures(folder, name, response, off)
    else:
        _plant_views(folder, error, top5 + shift + off)
    return folder


def write_curve(file: Path, steps: int, train: float, test: float, fall: float) -> None:
    """Twenty evaluations whose errors fall towards the last with 1/``fall`` of the steps."""
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["step", "epoch", "lr", "train_loss", "train_error", "eval_loss", "eval_error"])
        for row in range(1, 21):
            above = 85 * 0.5 ** (row * 40 / fall)
            rows.writerow([steps * row // 20, row, 0.1, 0.3, min(99.0, train + above), 0.4, min(99.0, test + above)])


def _plant_measures(folder: Path, name: str, response: float | None, off: float) -> None:
    if response is not None:
        layers = [{"layer": f"layer{i}", "std": response + off / 10} for i in range(4)]
        edit(folder, "responses", value=layers)
    if name == "flow56":
        layers = [
            {"layer": f"layer{i}", "forward_std": 0.9 + off, "gradient_norm": 0.2, "activation_gradient_norm": norm}
            for i, norm in enumerate(0.2 + off * i / 8 for i in range(8))
        ]
        edit(folder, "flow", value=[{"step": 32000, "layers": layers}, {"step": 64000, "layers": layers}])
    if name == "constructed56":
        start = {"from_run": "x", "shallow_errors": 900, "deep_errors": 900, "images": 10000, "gap": 0.0}
        edit(folder, "construction", value={**start, "shallow_batch_error": 3.0, "deep_batch_error": 3.1})


def _plant_views(folder: Path, top1: float, top5: float) -> None:
    def view(name: str, first: float, second: float) -> dict[str, Any]:
        errors = {"errors": round(first * 500), "top5_errors": round(second * 500)}
        percents = {"top1_error": errors["errors"] / 500, "top5_error": errors["top5_errors"] / 500}
        return {"view": name, "split": "val", "images": 50000, **errors, **percents}

    edit(folder, "result", "views", value=[view("10crop", top1, top5), view("multiscale", top1 - 2.5, top5)])
