"""Nets with blocks deleted or in another order."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from repro.config.families import FAMILIES
from repro.config.parse import require
from repro.data.augment import PixelStats
from repro.data.batches import Images
from repro.evaluation.predict import predict
from repro.models.blocks import BlockNet, ResidualBlock
from repro.results.lesions import Lesion

MOST_COUNTS = 10
"""The most numbers of deleted or swapped blocks that are tested."""
TRIES = 100
"""Random choices after which a set of distinct ones is taken to be complete."""


def stages_of(model: BlockNet, image_size: int, name: str) -> list[list[int]]:
    """Return the numbers of the blocks in each stage whose input and output have the same shape.

    Only these can be deleted or change places; the first block of a later stage changes the shape.

    Raises:
        InputError: The net has no such blocks; the message begins with ``name``.
    """
    blocks = list(model.blocks())
    with_blocks = ", ".join(family for family, known in FAMILIES.items() if not (known.is_dense or known.is_body))
    separate = all(isinstance(block, ResidualBlock) for block in blocks)
    require(
        separate and bool(blocks),
        f"{name} has no blocks that can be deleted, since its layers read those of all layers before them: only nets "
        f"with model={with_blocks} have such blocks",
    )
    same: dict[nn.Module, bool] = {}

    def compare(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        same[block] = inputs[0].shape == output.shape

    hooks = [block.register_forward_hook(compare) for block in blocks]
    weight = model.fc.weight
    with torch.inference_mode():
        model(torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype))
    for hook in hooks:
        hook.remove()
    numbers = itertools.count()
    stages = [[(next(numbers), same[block]) for block in _blocks(stage)] for stage in model.stages]
    found = [[number for number, is_same in stage if is_same] for stage in stages]
    require(any(found), f"{name} has no block whose input and output have the same shape: take a deeper net")
    return found


def _blocks(stage: nn.Module) -> list[nn.Module]:
    assert isinstance(stage, nn.Sequential)
    return list(stage)


# --- which blocks -------------------------------------------------------------------------------------------------


def each_alone(stages: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the sets of one block."""
    return [(block,) for stage in stages for block in stage]


def random_subsets(stages: Sequence[Sequence[int]], draws: int, seed: int) -> list[tuple[int, ...]]:
    """Draw distinct sets of blocks to delete, up to ``draws`` for each number of blocks.

    Equal nets with and without shortcuts get the same sets. Sets of one block are those of ``each_alone``.
    """
    blocks = [block for stage in stages for block in stage]
    found: list[tuple[int, ...]] = []
    for count in numbers_to(len(blocks))[1:]:
        if math.comb(len(blocks), count) <= draws:
            found += itertools.combinations(blocks, count)
            continue
        chance = random.Random(f"delete {count} {seed}")

        def subset(count: int = count, chance: random.Random = chance) -> tuple[int, ...]:
            return tuple(sorted(chance.sample(blocks, count)))

        found += distinct(subset, draws)
    return found


def random_orders(stages: Sequence[Sequence[int]], num_blocks: int, draws: int, seed: int) -> list[Lesion]:
    """Draw distinct orders of the blocks by swaps of two blocks of a stage, up to ``draws`` for each number of swaps.

    Returns:
        Lesions without errors.
    """
    pairs = [pair for stage in stages for pair in itertools.combinations(stage, 2)]
    trained = tuple(range(num_blocks))
    found: list[Lesion] = []
    for count in numbers_to(sum(map(len, stages))) if pairs else []:
        chance = random.Random(f"swap {count} {seed}")

        def swapped(count: int = count, chance: random.Random = chance) -> tuple[int, ...]:
            order = list(trained)
            for one, other in (chance.choice(pairs) for _ in range(count)):
                order[one], order[other] = order[other], order[one]
            return tuple(order)

        orders = distinct(swapped, draws, without=trained)
        found += [Lesion(0, order=order, swaps=count, tau=kendall_tau(order, stages)) for order in orders]
    return found


def numbers_to(most: int) -> list[int]:
    """Return 1, ..., ``most``, or ``MOST_COUNTS`` of these numbers, evenly spaced."""
    if most <= MOST_COUNTS:
        return list(range(1, most + 1))
    return [1 + round(i * (most - 1) / (MOST_COUNTS - 1)) for i in range(MOST_COUNTS)]


def distinct(
    draw: Callable[[], tuple[int, ...]], most: int, without: tuple[int, ...] | None = None
) -> list[tuple[int, ...]]:
    """Draw up to ``most`` different values, except ``without``; fewer if there seem to be no more."""
    found: dict[tuple[int, ...], None] = {}
    for _ in range(most * TRIES):
        value = draw()
        if value != without:
            found[value] = None
        if len(found) == most:
            break
    return list(found)


def kendall_tau(order: Sequence[int], stages: Sequence[Sequence[int]]) -> float:
    """Return the rank correlation of an order with the trained one, over pairs of blocks of the same stage.

    It is 1 for the trained order and -1 for its reverse.
    """
    place = {block: number for number, block in enumerate(order)}
    pairs = [pair for stage in stages for pair in itertools.combinations(stage, 2)]
    apart = sum(place[first] > place[second] for first, second in pairs)
    return 1 - 2 * apart / len(pairs)


# --- damaged nets -------------------------------------------------------------------------------------------------


@torch.inference_mode()
def count_errors(
    model: BlockNet, images: Images, stats: PixelStats, batch_size: int, precision: str, lesions: Sequence[Lesion]
) -> list[int]:
    """Count the errors of each damaged net on ``images``."""
    errors = [0] * len(lesions)
    for pixels, labels in images.batches(batch_size):
        for number, logits in enumerate(logits_of(model, pixels, stats, precision, lesions)):
            errors[number] += int((logits.argmax(1) != labels).sum())
    return errors


def logits_of(
    model: BlockNet, pixels: Tensor, stats: PixelStats, precision: str, lesions: Sequence[Lesion]
) -> Iterator[Tensor]:
    """Compute the logits of each damaged net for a batch of images.

    Blocks before the first damaged place are computed only once for all lesions.
    """
    inputs: list[Tensor] = []
    with body_of(model, functools.partial(recorded, model, inputs)):
        predict(model, pixels, stats, precision)
    for lesion in lesions:
        with body_of(model, functools.partial(resumed, model, inputs, lesion)):
            logits = predict(model, pixels, stats, precision)
        yield logits


def recorded(model: BlockNet, inputs: list[Tensor], x: Tensor) -> Tensor:
    """Apply all blocks, and add the input of each to ``inputs``."""
    for place in range(len(list(model.blocks()))):
        inputs.append(x)
        x = applied(model, Lesion(0), place, x)
    return x


def resumed(model: BlockNet, inputs: Sequence[Tensor], lesion: Lesion, _: Tensor) -> Tensor:
    """Apply the blocks of a damaged net from its first damaged place on, whose input is in ``inputs``."""
    first = first_damaged(lesion)
    x = inputs[first]
    for place in range(first, len(inputs)):
        x = applied(model, lesion, place, x)
    return x


def applied(model: BlockNet, lesion: Lesion, place: int, x: Tensor) -> Tensor:
    """Apply the block that a damaged net has in a place."""
    number = lesion.order[place] if lesion.order else place
    block, factors = list(model.blocks())[number], model.factors()
    if number in lesion.deleted:
        return carried(block, x)
    y: Tensor = block(x, factors[number]) if factors and factors[number] != 1 else block(x)
    return y


def first_damaged(lesion: Lesion) -> int:
    """Return the first place whose block is deleted or another one; for an undamaged net the first place."""
    moved = [place for place, block in enumerate(lesion.order) if place != block]
    return min([*lesion.deleted, *moved], default=0)


def carried(block: nn.Module, x: Tensor) -> Tensor:
    """Apply the shortcut of a block alone, with what follows the addition; a plain block is left out.

    A gate is closed, so that it carries all of its input (Training Very Deep Networks, section 4).
    """
    assert isinstance(block, ResidualBlock)
    if block.shortcut is None:
        return x.clone()  # a last ReLU may work in place
    with without_gate(block):
        y: Tensor = block(x, 0.0)
    return y


@contextlib.contextmanager
def without_gate(block: ResidualBlock) -> Iterator[None]:
    """Carry the whole input of a gated block inside the context."""
    join = block.join
    gate = None if join is None else join.gate
    if join is None or gate is None:
        yield
        return
    join.gate = None
    try:
        yield
    finally:
        join.gate = gate


@contextlib.contextmanager
def body_of(model: BlockNet, body: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the chain of blocks of a net inside the context."""
    model.body = body  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del model.body
