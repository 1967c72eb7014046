"""What a finished run measured and how it was made, as its record holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.backends.cudnn import version as cudnn_version

from repro.config.numerics import numerics_version
from repro.config.run import RunConfig, plain, recipe_of
from repro.data import Dataset
from repro.data.batches import Images, train_images
from repro.engine.loop import TrainState
from repro.engine.prepared import Prepared
from repro.evaluation.counts import Counts
from repro.evaluation.layer_responses import layer_responses
from repro.evaluation.multi_crop import test_views
from repro.evaluation.single_crop import TOP5_CLASSES, Evaluator
from repro.models.count import measure
from repro.runtime import distributed
from repro.runtime.device import arithmetic, num_threads
from repro.runtime.provenance import SCHEMA, environment, now


def evaluator_of(net: Prepared, images: Images) -> Evaluator:
    """The exact evaluation of a run's net on ``images``."""
    batch_size, precision = net.config.execution.eval_batch_size, net.config.optim.precision
    top5 = net.dataset.num_classes >= TOP5_CLASSES
    return Evaluator(net.model, images, net.feed.stats, batch_size, precision, net.mode, top5)


def measurements(net: Prepared, final: Counts) -> dict[str, Any]:
    """All that is known of the final net; every rank measures its part."""
    config, dataset, stats = net.config, net.dataset, net.feed.stats
    trained = None
    if config.eval.train_error:
        trained = evaluator_of(net, train_images(dataset, config, net.device))()
    record = make_record(config, dataset, net.state, final, trained)
    batch_size, precision = config.execution.eval_batch_size, config.optim.precision
    record["responses"] = layer_responses(net.model, net.images, stats, batch_size, precision)
    if net.state.flow:
        record["flow"] = net.state.flow
    if config.eval.views:
        record["result"]["views"] = test_views(net.model, dataset, config, net.device)
    return record


def make_record(
    config: RunConfig, dataset: Dataset, state: TrainState, final: Counts, trained: Counts | None
) -> dict[str, Any]:
    """What was counted, as records name it."""
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
        "numerics_version": numerics_version(recipe_of(config.science())),
        "science": config.science(),
        "result": {
            "final": outcome(final, dataset.eval.name) | {"step": last.step},
            "best": outcome(best.eval, dataset.eval.name) | {"step": best.step},
            "train": outcome(trained, dataset.train.name) | {"step": last.step} if trained else None,
            "train_running": outcome(last.train, dataset.train.name)
            | {"first_step": before + 1, "last_step": last.step},
        },
        "steps": state.step,
        "below_80_step": state.below_80_step or None,
        "params": size.params,
        "macs": size.macs,
        "wall_seconds": round(wall_seconds, 3),
        "images_per_second": round(state.step * config.optim.batch_size / state.train_seconds, 1),
    }


def outcome(counts: Counts, split: str) -> dict[str, Any]:
    """Counts as a record holds them; top-5 errors only where they were counted."""
    values: dict[str, Any] = {
        "split": split,
        "errors": counts.errors,
        "images": counts.images,
        "top1_error": counts.top1_error,
        "loss": counts.loss if math.isfinite(counts.loss) else None,
    }
    if counts.top5_errors is not None:
        values |= {"top5_errors": counts.top5_errors, "top5_error": counts.top5_error}
    return values


def part(step: int, started: str, made_on: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a process that trains a run from ``step`` on: a run may be made by several."""
    code = environment()
    return {"from_step": step, "started": started, "commit": code["commit"], "dirty": code["dirty"], **made_on}


def any_dirty(trees: Sequence[bool | None]) -> bool | None:
    """Whether any of the trees had uncommitted changes; None where that is not known of all."""
    return True if True in trees else None if None in trees else False


def provenance(net: Prepared, command: str) -> dict[str, Any]:
    """How the run was carried out, and all that repeats it. The code is clean where that of all its parts was."""
    config, dataset, parts = net.config, net.dataset, net.state.parts
    execution, cuda = config.execution, net.device.type == "cuda"
    skipped = {"data_skipped": list(dataset.skipped)} if dataset.skipped else {}
    return {
        "execution": plain(execution)
        | {"threads": num_threads(execution), "step": net.mode, "world_size": distributed.size()},
        "provenance": environment()
        | {
            "command": command,
            "device": ", then ".join(dict.fromkeys(part["device"] for part in parts)),
            "precision": arithmetic(net.device, config.optim.precision),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda else None,
            "cudnn": cudnn_version() if cuda else None,
            "data_digests": dataset.digests,
            # A checkpoint of older code tells nothing of the steps before the first part.
            "dirty": any_dirty([*[None] * bool(parts[0]["from_step"]), *(part["dirty"] for part in parts)]),
            "resumed_at": parts[-1]["from_step"] or None,
            "started": parts[0]["started"],
            "finished": now(),
            "parts": list(parts),
        }
        | skipped,
    }
