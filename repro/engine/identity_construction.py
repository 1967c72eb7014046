"""The construction of section 1: added layers are identities.

It shows that a deeper net can have the training error of a shallower one. A run with ``model.constructed_from`` starts
from it, and shows whether the optimizer keeps this error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repro.config.run import RunConfig
from repro.data.feed import Feed
from repro.engine.prepared import Prepared
from repro.evaluation.layer_statistics import Moments, left_as_it_was, moments, over_ranks, var_mean
from repro.evaluation.predict import predict
from repro.models import build_model
from repro.models.blocks import BasicBlock, BlockNet
from repro.models.forward import forward
from repro.runtime import checkpoint, distributed
from repro.runtime.device import memory_format
from repro.runtime.provenance import read_json, write_json

STATISTICS_BATCHES = 20
"""First training batches of the run, whose activations set the added batch norms (deviation D22)."""

COMPARED_BATCHES = 10
"""Training batches after those on which both nets are compared in training mode."""

REPORT = "construction.json"

Batch = tuple[Tensor, Tensor]
"""This rank's augmented images (B, 3, H, W) and labels (B,)."""


def shallow_config(config: RunConfig) -> RunConfig:
    """Return the run of the shallow net, with the same science except for the depth, in a folder inside this run's."""
    depth = config.model.constructed_from
    assert depth is not None
    model = dataclasses.replace(config.model, depth=depth, constructed_from=None)
    paths = dataclasses.replace(config.paths, work=config.work_dir / "shallow")
    return dataclasses.replace(config, model=model, paths=paths)


def begin_constructed(net: Prepared, train: Callable[[RunConfig], object | None]) -> dict[str, Any] | None:
    """Turn ``net`` into the construction from its shallow net, in place.

    A finished shallow run in ``paths.work`` is used; otherwise one is trained inside this run's folder. The comparison
    of both nets is stored there, in case the run is interrupted later.

    Args:
        train: Trains a run and returns its record, or None if it was stopped.

    Returns:
        The comparison of both nets before the first step (``Construction``), or None if training was stopped.

    Raises:
        RunError: The shallow net cannot be trained or read.
    """
    config, deep, feed = net.config, net.model, net.feed
    folder = shallow_run(config, train)
    if folder is None:
        return None
    shallow = build_model(shallow_config(config).model, deep.fc.out_features)
    distributed.on_first(lambda: shallow.load_state_dict(checkpoint.load(folder / checkpoint.FINAL)["model"]))
    shallow.to(feed.device, memory_format=memory_format(feed.device))  # type: ignore[call-overload]
    distributed.copy_from_first(list(shallow.state_dict().values()))
    last = STATISTICS_BATCHES + COMPARED_BATCHES
    construct(deep, shallow, batches(feed, range(STATISTICS_BATCHES)), config.optim.precision)
    report = {"from_run": folder.name} | compare(net, shallow, batches(feed, range(STATISTICS_BATCHES, last)))

    def keep() -> None:
        made = read_json(folder / "record.json").get("provenance", {})
        write_json(config.work_dir / REPORT, report | {"from_dirty": made.get("dirty")})

    distributed.on_first(keep)
    return report


def kept_report(config: RunConfig) -> dict[str, Any]:
    """Read the comparison that ``begin_constructed`` stored, on all ranks."""
    return distributed.shared(
        distributed.agreed(lambda: read_json(config.work_dir / REPORT) if distributed.is_first() else {})
    )


def shallow_run(config: RunConfig, train: Callable[[RunConfig], object | None]) -> Path | None:
    """Return the folder of the shallow run, which is trained if it is not finished; None if training was stopped."""
    shallow = shallow_config(config)
    elsewhere = config.paths.work / shallow.run_id
    found = distributed.agreed(lambda: [is_finished(f, shallow) for f in (elsewhere, shallow.work_dir)])
    is_elsewhere, is_here = distributed.shared(found)
    if is_elsewhere:
        return elsewhere
    return shallow.work_dir if is_here or train(shallow) is not None else None


def is_finished(folder: Path, config: RunConfig) -> bool:
    """Return whether ``folder`` contains the record and the final weights of the run ``config``."""
    record = folder / "record.json"
    there = record.is_file() and (folder / checkpoint.FINAL).is_file()
    return there and read_json(record).get("fingerprint") == config.fingerprint


def batches(feed: Feed, steps: Iterable[int]) -> Iterable[Batch]:
    """Yield the augmented training batches of ``steps``."""
    return (feed.augment(tuple(t.to(feed.device) for t in feed.load(step))) for step in steps)


def construct(deep: BlockNet, shallow: BlockNet, batches: Iterable[Batch], precision: str) -> None:
    """Copy ``shallow`` into ``deep``, a net of the same family; ``shallow`` is left unchanged.

    The first blocks of each stage become those of the shallow net, and the blocks after them the identity. In a plain
    net their 3x3 kernels copy, and their batch norms return their input: exactly in evaluation mode, approximately in
    training mode. The input is the output of a ReLU, so that further ReLUs do not change it. In a residual net the
    weight and the bias of the last batch norm are zero, and with them the residual function.

    Args:
        batches: Training batches whose activations give those batch norms mean and variance (deviation D22).

    Raises:
        ValueError: The nets are of different families.
    """
    found = deep.load_state_dict(shallow.state_dict(), strict=False)
    if found.unexpected_keys:
        raise ValueError(f"the deep net is of another family: it has no {found.unexpected_keys[0]}")
    sizes = stage_outputs(shallow, batches, precision)
    for stage, copied, size in zip(deep.stages, shallow.stages, sizes, strict=True):
        assert isinstance(stage, nn.Sequential) and isinstance(copied, nn.Sequential)
        for block in list(stage)[len(copied) :]:
            assert isinstance(block, BasicBlock)
            make_identity(block, size)


def stage_outputs(model: BlockNet, batches: Iterable[Batch], precision: str) -> list[Moments]:
    """Measure mean and variance of each stage's output by channel, in training mode, over the batches of all ranks."""
    found: list[Moments | None] = [None] * len(model.stages)

    def hook_of(stage: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            part = moments(var_mean(output, (0, 2, 3)), output.numel() // output.shape[1])
            before = found[stage]
            found[stage] = part if before is None else before + part

        return hook

    stages = [list(stage.children()) for stage in model.stages]
    handles = [blocks[-1].register_forward_hook(hook_of(i)) for i, blocks in enumerate(stages)]
    try:
        training_logits(model, batches, precision)
    finally:
        for handle in handles:
            handle.remove()
    return list(over_ranks({str(stage): part for stage, part in enumerate(found) if part is not None}).values())


@torch.no_grad()
def make_identity(block: BasicBlock, size: Moments) -> None:
    """Make a block the identity on nonnegative activations whose channels have mean and variance ``size``.

    The block must have as many output channels as input channels.
    """
    if block.shortcut is not None:
        assert isinstance(block.bn2, nn.BatchNorm2d)
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
        if isinstance(block.shortcut, nn.Sequential):  # option C projects in every block
            projection, norm = block.shortcut
            copy_through(projection, norm, size)
        return
    copy_through(block.conv1, block.bn1, size)
    copy_through(block.conv2, block.bn2, size)


def copy_through(conv: nn.Module, norm: nn.Module, size: Moments) -> None:
    """Make the kernel of a convolution the identity, and let a batch norm undo its own normalization.

    This includes constant channels (variance 0), whose normalization divides by the epsilon alone.
    """
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.dirac_(conv.weight)
    norm.running_mean.copy_(size.mean)
    norm.running_var.copy_(size.var)
    # The stored, rounded variance is used, because evaluation divides by it.
    norm.weight.copy_((norm.running_var.cpu().double() + norm.eps).sqrt())
    norm.bias.copy_(norm.running_mean)


def compare(net: Prepared, shallow: BlockNet, batches: Iterable[Batch]) -> dict[str, Any]:
    """Count errors of both nets over the evaluated split, and over ``batches`` in training mode (in percent).

    The nets are left unchanged.

    Returns:
        The fields of ``Construction`` except ``from_run``; ``changed`` counts images that the nets predict differently.
    """
    deep, precision = net.model, net.config.optim.precision
    nets = (shallow, deep)
    errors, changed, gap = [0, 0], 0, 0.0
    with left_as_it_was(shallow, training=False), left_as_it_was(deep, training=False), torch.inference_mode():
        for pixels, labels in net.images.batches(net.config.execution.eval_batch_size):
            if not len(labels):  # a rank without an image
                continue
            logits = [predict(each, pixels, net.feed.stats, precision) for each in nets]
            errors = [n + count_errors(found, labels) for n, found in zip(errors, logits, strict=True)]
            changed += int((logits[0].argmax(1) != logits[1].argmax(1)).sum())
            gap = max(gap, float((logits[0].float() - logits[1].float()).abs().max()))
    shallow_errors, deep_errors, changed_total = map(int, distributed.total([*errors, changed]))
    # Ranks can only add, so each rank puts its gap into a place of its own.
    gaps = distributed.total([gap if rank == distributed.rank() else 0.0 for rank in range(distributed.size())])
    kept = list(batches)
    shallow_batch_error, deep_batch_error = (training_error(each, kept, precision) for each in nets)
    return {
        "shallow_errors": shallow_errors,
        "deep_errors": deep_errors,
        "images": net.images.num_images,
        "changed": changed_total,
        "gap": max(gaps),
        "shallow_batch_error": shallow_batch_error,
        "deep_batch_error": deep_batch_error,
    }


def training_error(model: BlockNet, batches: list[Batch], precision: str) -> float:
    """Return the error in percent over the training batches of all ranks, in training mode."""
    logits = training_logits(model, batches, precision)
    wrong = sum(count_errors(found, labels) for found, (_, labels) in zip(logits, batches, strict=True))
    errors, seen = distributed.total([wrong, sum(len(labels) for _, labels in batches)])
    return 100 * errors / seen


def training_logits(model: BlockNet, batches: Iterable[Batch], precision: str) -> list[Tensor]:
    """Predict training batches in training mode; running statistics are left unchanged."""
    # Not inference_mode, because the feed reuses tensors of these batches in training.
    with left_as_it_was(model, training=True), torch.no_grad():
        return [forward(model, images, precision) for images, _ in batches]


def count_errors(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(1) != labels).sum())
