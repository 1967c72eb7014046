"""Random choices inside a net: dropout and stochastic depth.

They depend on the seed and the training step. All other passes, even in training mode, compute the expected net: no
value is dropped, and a block is weighted by its survival probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.runtime.seeds import seed_of


@dataclass(frozen=True)
class Draw:
    """The inputs of the random choices in a training pass, besides the place in the net."""

    seed: int
    step: int
    first: int = 0
    """Position of the pass's first image in the batch of all ranks."""
    batch_size: int | None = None
    """Images in that batch; None means those of the pass."""


class Dropout(nn.Module):
    """Dropout that drops the same values of an image for any number of ranks and any pieces of the batch (D32)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.number = 0
        """Its place among the dropout layers of the net."""
        self.draw: Draw | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.draw is None or not self.probability:
            return x
        kept: Tensor = kept_values(x, self.probability, self.draw, self.number)
        return x * kept


def kept_values(x: Tensor, probability: float, draw: Draw, number: int) -> Tensor:
    """Return zeros with ``probability``, else 1 / (1 - probability), in the shape, type and layout of ``x``."""
    batch_size = len(x) if draw.batch_size is None else draw.batch_size
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    # Values are drawn for the whole batch and in one type, so that they do not depend on the part of the batch here.
    values = torch.empty((batch_size, *x.shape[1:]), device=x.device, memory_format=layout)
    values.uniform_(generator=generator_on(x.device, seed_of(draw.seed, "dropout", draw.step, number)))
    mine = values[draw.first : draw.first + len(x)]
    return (mine >= probability).to(x.dtype) / (1 - probability)


def generator_on(device: torch.device, seed: int) -> torch.Generator | None:
    """Return a generator on ``device``; kinds of devices have different streams."""
    return torch.Generator(device).manual_seed(seed)


def survival_probabilities(config: ModelConfig, num_blocks: int) -> list[float]:
    """Return the survival probabilities of the blocks in their order, or an empty list if all survive (D33).

    ``linear`` falls from 1 at the input to the probability of the last block; ``uniform`` uses that for all blocks.
    """
    match config.survival:
        case "none":
            return []
        case "linear":
            fall = (1 - config.survival_last) / num_blocks
            return [1 - fall * number for number in range(1, num_blocks + 1)]
        case "uniform":
            return [config.survival_last] * num_blocks


def surviving(probabilities: Sequence[float], draw: Draw) -> list[bool]:
    """Draw the blocks that a training step computes from the seed and the step, so that all ranks agree."""
    if not probabilities:
        return []
    generator = torch.Generator().manual_seed(seed_of(draw.seed, "survival", draw.step))
    drawn = torch.rand(len(probabilities), generator=generator, dtype=torch.float64)
    return [value < probability for value, probability in zip(drawn.tolist(), probabilities, strict=True)]
