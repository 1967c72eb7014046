"""The command ``repro lesion``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from repro.config.arguments import is_setting
from repro.config.compose import plan
from repro.config.parse import plain, require
from repro.evaluation.command import SETTINGS
from repro.evaluation.lesions import count_errors, each_alone, random_orders, random_subsets, stages_of
from repro.evaluation.reevaluate import NetTester
from repro.evaluation.trained import Trained, from_run, record_of
from repro.results.lesions import LESIONS, Lesion, Lesions
from repro.runtime import checkpoint
from repro.runtime.files import check_writable
from repro.runtime.provenance import commit, now, write_json

log = logging.getLogger(__name__)

SEED = 0
"""The seed of the random choices, the same for all nets, so that equal nets lose the same blocks."""
BATCH = 100
"""The most images at once: the inputs of all blocks are kept."""


def lesion(words: Sequence[str], *, images: int = 1000, draws: int = 5, json: Path | None = None) -> int:
    """Delete and reorder blocks of trained nets, show the errors and store them; return the exit code.

    Args:
        words: Run ids, and settings as ``key=value``.
        images: The number of test images, from the first; 0 for all.
        draws: The most random choices for each number of deleted or swapped blocks.
        json: A file to which the errors are also written.

    Raises:
        InputError: The words do not fit, a run or its weights do not exist, or a net has no blocks to delete.
        RunError: A file cannot be written.
    """
    trained, testing = named_nets(words, "repro lesion")
    require(images >= 0, f"--images {images} must be 0, for all, or above")
    require(draws > 0, f"--draws {draws} must be above 0")
    check_writable("--json", json)
    for one in trained:  # before the first test, which may take minutes
        stages_of(one.build(one.num_classes, torch.device("cpu")), one.config.data.image_size, one.name)
    found = []
    for one in trained:
        found.append(damage(one, testing, images or None, draws))
        LESIONS.store(one.config.paths.work / one.name, found[-1])
    log.info("\n" + to_text(found))
    if json is not None:
        write_json(json, {"lesions": [plain(one) for one in found]})
    return 0


def named_nets(words: Sequence[str], command: str) -> tuple[list[Trained], NetTester]:
    """Load the weights of the runs in ``words``, with the settings in ``words``.

    Raises:
        InputError: No run is named, a run or its weights do not exist, or a setting is not allowed.
    """
    names = [word for word in words if not is_setting(word)]
    settings = [word for word in words if is_setting(word)]
    require(bool(names), "name finished runs with weights (`repro status` lists your own)")
    for word in settings:
        known = word.startswith(SETTINGS)
        require(known, f"{word!r} cannot be set for a finished run: leave it out, its record has the settings")
    testing = NetTester(plan(settings).runs[0], command)
    records = [record_of(name, testing.base) for name in names]
    return [from_run(record, testing.base) for record in {r.run_id: r for r in records}.values()], testing


def damage(trained: Trained, testing: NetTester, limit: int | None, draws: int) -> Lesions:
    """Test the damaged forms of a net."""
    assert trained.record is not None
    loaded = testing.load(trained)
    config, model = trained.config, loaded.model
    stages = stages_of(model, config.data.image_size, trained.name)
    num_blocks = len(list(model.blocks()))
    planned = [Lesion(0)]
    planned += [Lesion(0, deleted=deleted) for deleted in (*each_alone(stages), *random_subsets(stages, draws, SEED))]
    planned += random_orders(stages, num_blocks, draws, SEED)
    images = loaded.images(limit)
    log.info(f"{trained.name}: {len(planned) - 1} damaged nets, {images.num_images:,} images")
    batch_size = min(BATCH, config.execution.eval_batch_size)
    errors = count_errors(model, images, loaded.stats, batch_size, config.optim.precision, planned)
    tested = [dataclasses.replace(one, errors=count) for one, count in zip(planned, errors, strict=True)]
    return Lesions(
        run_id=trained.name,
        fingerprint=trained.record.fingerprint,
        weights=checkpoint.digest({"model": model.state_dict()}),
        split=loaded.dataset.eval.name,
        images=images.num_images,
        errors=errors[0],
        stages=tuple(len(list(stage.children())) for stage in model.stages),
        removable=tuple(block for stage in stages for block in stage),
        draws=draws,
        seed=SEED,
        places=tuple(one for one in tested if len(one.deleted) == 1),
        counts=tuple(one for one in tested if len(one.deleted) > 1),
        orders=tuple(one for one in tested if one.order),
        commit=commit(),
        finished=now(),
    )


# --- as text ------------------------------------------------------------------------------------------------------


def to_text(found: Sequence[Lesions]) -> str:
    """Format the errors of all nets side by side."""
    lines = [in_words(one) for one in found]
    names = [one.run_id for one in found]
    places = [one.by_place() for one in found]
    rows = [[str(place), *(mean_of(each.get(place)) for each in places)] for place in keys_of(places)]
    lines.append(table("error % without one block", ["block", *names], rows))
    counts = [one.by_count() for one in found]
    rows = [[str(count), *(mean_of(each.get(count)) for each in counts)] for count in keys_of(counts)]
    lines.append(table("error % by number of deleted blocks (mean and range of draws)", ["deleted", *names], rows))
    swaps = [one.by_swaps() for one in found]
    if len(keys_of(swaps)) > 1:
        taus = [{0: 1.0, **one.tau_by_swaps()} for one in found]
        rows = [
            [str(n), *(mean_of(each.get(n), tau.get(n)) for each, tau in zip(swaps, taus, strict=True))]
            for n in keys_of(swaps)
        ]
        lines.append(table("error % by number of swaps of two blocks of a stage", ["swaps", *names], rows))
    return "\n\n".join(lines)


def in_words(one: Lesions) -> str:
    """Describe the undamaged net, and which of its blocks stay."""
    total = sum(one.stages)
    kept = [str(number + 1) for number in range(total) if number not in one.removable]
    stay = "all can be deleted"
    if kept:
        stay = f"{', '.join(kept)} stay, since they change the size or the number of feature maps"
    return (
        f"{one.run_id}: {one.errors:,} errors in {one.images:,} images undamaged; {total} blocks in stages of "
        f"{', '.join(map(str, one.stages))}: {stay}"
    )


def keys_of(tables: Sequence[dict[int, list[float]]]) -> list[int]:
    return sorted({key for each in tables for key in each})


def mean_of(errors: list[float] | None, tau: float | None = None) -> str:
    """Format a mean with the range of several draws and, for orders, their mean rank correlation."""
    if not errors:
        return "–"
    spread = f" ({min(errors):.2f} to {max(errors):.2f})" if len(errors) > 1 else ""
    return f"{sum(errors) / len(errors):.2f}{spread}" + ("" if tau is None else f", tau {tau:.2f}")


def table(title: str, header: list[str], rows: list[list[str]]) -> str:
    cells = tabulate(rows, header, tablefmt="simple", colalign=["right"] * len(header), disable_numparse=True)
    return f"{title}\n{cells}"
