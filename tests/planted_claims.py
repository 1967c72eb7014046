"""Records of all groups of claims, with values at which the claims hold, without training."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from repro.papers import load_recipe, load_table
from repro.papers.claims import Claims, Comparison, Group, load_claims
from repro.report.claims.comparisons import compute
from repro.report.claims.evidence import Seeds
from repro.report.claims.verdicts import Verdict, check
from repro.results.read import read_records
from tests.planted import edit, plant
from tests.planted_detectors import plant_detector

# Final error, training error (in percent) and, where Figure 7 shows it, the mean response of a layer. Errors that the
# paper prints come from its tables; these are for errors that it only draws.
CIFAR: dict[str, tuple[float | None, float, float | None]] = {
    "plain20": (9.0, 3.0, 1.6),
    "plain32": (9.5, 4.0, None),
    "plain44": (10.5, 5.5, None),
    "plain56": (12.5, 8.0, 1.5),
    "plain20_long": (8.6, 2.0, None),
    "plain56_long": (11.5, 6.0, None),
    "plain110": (70.0, 70.0, None),
    "resnet20": (None, 2.0, 0.9),
    "resnet32": (None, 1.0, None),
    "resnet44": (None, 0.6, None),
    "resnet56": (None, 0.4, 0.6),
    "resnet110": (None, 0.12, 0.4),
    "resnet1202": (None, 0.05, None),
    "warm110": (None, 0.12, 0.4),  # the same runs as resnet110
    "cold110": (6.62, 0.1, None),
    "flow56": (12.5, 8.0, None),
    "single20": (9.1, 3.1, None),
    "single56": (12.6, 8.1, None),
    "constructed56": (9.2, 3.2, None),
}
# 10-crop and multi-scale top-1 and top-5 errors that the paper does not print, and training error, which it never
# prints.
IMAGENET: dict[str, tuple[tuple[float, float] | None, tuple[float, float] | None, float]] = {
    "plain18": ((27.94, 9.7), (25.4, 8.0), 34.0),
    "plain34": (None, (26.0, 8.3), 36.0),
    "plain50": ((29.0, 10.3), (26.5, 8.6), 37.0),
    "plain101": ((31.0, 11.4), (28.5, 9.5), 39.0),
    "resnet18a": ((27.88, 9.6), (25.3, 7.9), 33.5),
    "resnet34a": (None, (22.3, 5.9), 28.0),
    "resnet34b": (None, None, 27.5),
    "resnet34c": (None, None, 27.0),
    "resnet50": (None, None, 24.0),
    "resnet101": (None, None, 21.0),
    "resnet152": (None, None, 19.0),
}
# mAP in percent: of VOC, and of COCO at an overlap of 0.5 and over 0.5 to 0.95 (Tables 7 to 9).
DETECTION: dict[str, tuple[float, float | None]] = {
    "voc_vgg16": (73.2, None),
    "voc_resnet101": (76.4, None),
    "coco_vgg16": (41.5, 21.2),
    "coco_resnet101": (48.4, 27.2),
    "coco_refined": (49.9, 29.9),
    "coco_context": (51.1, 30.0),
    "coco_multiscale": (53.8, 32.5),
}
SPREAD = (-0.1, 0.1, 0.0, -0.05, 0.05)
"""The effect of each seed, times ``noise``."""


def plant_paper(root: Path) -> None:
    """Plant every group with all the seeds that it needs, at the paper's values, where all claims hold."""
    for name, group in groups().items():
        for seed in range(group.seeds):
            plant_group(root, name, seed)


@functools.cache
def claims() -> Claims:
    return load_claims()


def groups() -> Mapping[str, Group]:
    return claims().groups


@functools.cache
def printed(table: int, metric: str, depth: int, shortcut: str) -> float:
    """Return the value in the paper's table for a net: the mean if the table has several runs."""
    net = {"model.depth": depth, "model.shortcut": shortcut}
    (row,) = [row for row in load_table(table).rows if row.run is not None and net.items() <= dict(row.run).items()]
    value = row.paper[metric]
    return value.headline if value.mean is None else value.mean


def _printed_pair(table: int, depth: int, shortcut: str) -> tuple[float, float]:
    return printed(table, "top1_error", depth, shortcut), printed(table, "top5_error", depth, shortcut)


@functools.cache
def recipe(name: str) -> Mapping[str, Any]:
    return load_recipe(name).fields


def plant_group(root: Path, name: str, seed: int, *, noise: float = 1.0, shift: float = 0.0, **more: Any) -> Path:
    """Plant one seed of the group ``name``; ``shift`` is added to its errors or mAP; ``more`` goes to ``plant``."""
    group = groups()[name]
    if name in DETECTION:
        off = shift + noise * SPREAD[seed % 5]
        value, mean = DETECTION[name]
        mean = None if mean is None else mean + off
        return plant_detector(root, value + off, seed, run=group.run, recipe=group.recipe, over_overlaps=mean, **more)
    science = {**recipe(group.recipe), **group.run, **more.pop("science", {})}
    depth, shortcut = science.pop("model.depth"), science.pop("model.shortcut")
    off = noise * SPREAD[(seed + 2 * (name == "cold110")) % 5]
    if name in CIFAR:
        error, train, response = CIFAR[name]
        top1 = printed(6, "top1_error", depth, shortcut) if error is None else error
    else:
        crops, scales, train = IMAGENET[name]
        views = {"10crop": crops or _printed_pair(3, depth, shortcut)}
        views["multiscale"] = scales or _printed_pair(4, depth, shortcut)
        top1 = views["10crop"][0]
    trained = max(0.0, train + shift + (off / 10 if train < 1 else off))
    error = round(top1 + shift + off, 2)
    with mock.patch("tests.planted.write_curve"):  # the curve written below replaces it
        folder = plant(root, depth, shortcut, seed, error, train_error=trained, science=science, **more)
    fall = 20 if name in ("warm110", "resnet110", "resnet18a") else 40
    delay = 4 if name == "cold110" else 0
    write_curve(folder / "curve.csv", science["optim.steps"], trained + abs(off), error, fall * (1 + off / 10), delay)
    if name in CIFAR:
        _plant_measures(folder, name, response, off)
    else:
        # Top-5 errors are smaller, and so is the effect of a seed on them.
        plant_views(folder, {view: (one + shift + off, five + shift + off / 2) for view, (one, five) in views.items()})
    return folder


def write_curve(file: Path, steps: int, train: float, test: float, fall: float, delay: int = 0) -> None:
    """Twenty evaluations, one an epoch, whose errors fall towards the last with 1/``fall`` of the steps.

    Args:
        delay: Evaluations at which the net still answers by chance.
    """
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["step", "epoch", "lr", "train_loss", "train_error", "eval_loss", "eval_error"])
        for row in range(1, 21):
            above = 99.0 if row <= delay else 85 * 0.5 ** ((row - delay) * 40 / fall)
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


def plant_views(folder: Path, views: Mapping[str, tuple[float, float]]) -> None:
    """Write the top-1 and top-5 error in percent of each view into a planted record."""
    tested = []
    for name, (first, second) in views.items():
        errors = {"errors": round(first * 500), "top5_errors": round(second * 500)}
        percents = {"top1_error": errors["errors"] / 500, "top5_error": errors["top5_errors"] / 500}
        tested.append({"view": name, "split": "val", "images": 50000, **errors, **percents})
    edit(folder, "result", "views", value=tested)


def verdicts(*roots: Path) -> dict[str, Any]:
    """Return the verdicts on all claims by id, from the records under ``roots``."""
    return {verdict.claim.id: verdict for verdict in check(read_records(roots)).verdicts}


def finding(verdict: Verdict, name: str) -> Any:
    """Return the finding on the comparison ``name``."""
    return next(found for found in verdict.judgement.findings if found.comparison.name == name)


def plant_seeds(root: Path, *groups: str, seeds: int = 5, **how: Any) -> Path:
    """Plant all ``seeds`` of the groups; return the folder of the last."""
    return [plant_group(root, name, seed, **how) for name in groups for seed in range(seeds)][-1]


def asked(id: str, name: str) -> Any:
    """Return the comparison ``name`` of a claim."""
    return next(c for c in claims().claim(id).comparisons if c.name == name)


def outcome_of(c: Comparison, *values: Sequence[float]) -> Any:
    """Return the outcome of ``c`` for these values per seed in its groups, without records."""
    filled = [
        Seeds(groups()[name], len(v), tuple(range(len(v))), values=tuple(v))
        for name, v in zip(c.groups, values, strict=True)
    ]
    return compute(claims(), c, tuple(filled))
