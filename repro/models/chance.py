"""Random choices inside a net: dropout and stochastic depth.

A training step sets what they depend on, its number and the seed. Every other pass, in training mode too, computes the
expected net: no value is dropped, and a block counts by its survival probability.
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
    """What the random choices of a training pass depend on, besides the place in the net."""

    seed: int
    step: int
    first: int = 0
    """The place of the pass's first image in the batch of all ranks."""
    batch_size: int | None = None
    """Images of that batch; None is those of the pass."""


class Dropout(nn.Module):
    """Dropout whose choice for an image is the same on any number of ranks and in any pieces of the batch (D32)."""

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
    """Return zeros with ``probability`` and 1 / (1 - probability) elsewhere, in the shape, type and layout of ``x``."""
    batch_size = len(x) if draw.batch_size is None else draw.batch_size
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    # Drawn for the whole batch, whichever part of it is here, and in one type for all.
    values = torch.empty((batch_size, *x.shape[1:]), device=x.device, memory_format=layout)
    values.uniform_(generator=generator_on(x.device, seed_of(draw.seed, "dropout", draw.step, number)))
    mine = values[draw.first : draw.first + len(x)]
    return (mine >= probability).to(x.dtype) / (1 - probability)


def generator_on(device: torch.device, seed: int) -> torch.Generator | None:
    """Return a generator of ``device``, whose stream is another one on each kind of device."""
    return torch.Generator(device).manual_seed(seed)


def survival_probabilities(config: ModelConfig, num_blocks: int) -> list[float]:
    """Return the survival probability of each block, in their order; none where all survive (D33).

    ``linear`` falls from the input, which always survives, to the last block; ``uniform`` is the last one's for all.
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
    """Draw the blocks that a training step computes, from seed and step alone: all ranks choose alike."""
    if not probabilities:
        return []
    generator = torch.Generator().manual_seed(seed_of(draw.seed, "survival", draw.step))
    drawn = torch.rand(len(probabilities), generator=generator, dtype=torch.float64)
    return [value < probability for value, probability in zip(drawn.tolist(), probabilities, strict=True)]
