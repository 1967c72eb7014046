"""Records for figures of layer responses, gradient flow, constructed nets and ImageNet runs."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from repro.papers import load_recipe
from tests.planted import edit, plant

PLAIN, RESIDUAL = "none", "A"


def plant_responses(root: Path, depth: int, shortcut: str, seed: int = 0, **more: Any) -> Path:
    """Plant a CIFAR run with responses of its 3x3 layers: larger in plain nets, smaller in deeper residual nets."""
    folder = plant(root, depth, shortcut, seed, **more)
    noise = random.Random(f"{depth}{shortcut}{seed}")
    size = 1.6 if shortcut == PLAIN else 5 / depth**0.5
    layers = [
        {"layer": f"layer{i}", "std": size * (1 - 0.4 * i / depth) + abs(noise.gauss(0, 0.15))}
        for i in range(depth - 1)
    ]
    return with_values(folder, responses=layers)


def plant_flow(root: Path, depth: int = 56, shortcut: str = PLAIN, seed: int = 0, **more: Any) -> Path:
    """Plant a run with signals and gradients at five evaluations."""
    science = {"eval.gradient_flow": True, **more.pop("science", {})}
    folder = plant(root, depth, shortcut, seed, science=science, **more)
    steps = json.loads((folder / "record.json").read_text(encoding="utf-8"))["steps"]
    noise = random.Random(seed)
    flow = [
        {
            "step": steps * part // 5,
            "layers": [
                {
                    "layer": f"layer{i}",
                    "forward_std": 0.9 + 0.1 * part * math.sin(i / 8) + 0.02 * noise.random(),
                    "gradient_norm": 0.1,
                    "activation_gradient_norm": 0.5
                    * 10 ** (-0.01 * (depth - i) - 0.2 * part)
                    * (1 + 0.3 * noise.random()),
                }
                for i in range(depth - 1)
            ],
        }
        for part in range(1, 6)
    ]
    return with_values(folder, flow=flow)


def plant_constructed(root: Path, seed: int = 0, error: float = 9.0, **more: Any) -> Path:
    """Plant a plain-56 that started as a plain-20 with 9.1 % test error and 1.5 % on training batches."""
    science = {"model.constructed_from": 20, **more.pop("science", {})}
    folder = plant(root, 56, PLAIN, seed, error, science=science, **more)
    begun = {
        "from_run": "cifar10-plain20-s0-00000000",
        "shallow_errors": 910,
        "deep_errors": 910,
        "images": 10000,
        "gap": 0.0,
        "shallow_batch_error": 1.25,
        "deep_batch_error": 1.5,
    }
    return with_values(folder, construction=begun)


def plant_imagenet(root: Path, depth: int, shortcut: str, seed: int = 0, error: float = 28.0, **more: Any) -> Path:
    """Plant a run of the paper's ImageNet recipe with ``science`` on top."""
    science = {**load_recipe("imagenet_recipe").fields, **more.pop("science", {})}
    return plant(root, depth, shortcut, seed, error, train_error=error + 3, science=science, **more)


def with_values(folder: Path, **values: Any) -> Path:
    for name, value in values.items():
        edit(folder, name, value=value)
    return folder
