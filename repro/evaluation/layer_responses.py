"""Figure 7: how strongly each 3x3 layer of a net responds."""

from __future__ import annotations

import math

import torch
from torch import nn

from repro.data.augment import PixelStats
from repro.data.batches import Images
from repro.evaluation.layer_statistics import NOTHING, Moments, layer_moments, left_as_it_was, over_ranks
from repro.evaluation.predict import predict
from repro.runtime import distributed


def layer_responses(
    model: nn.Module, images: Images, stats: PixelStats, batch_size: int, precision: str
) -> list[dict[str, str | float | None]]:
    """The standard deviation of every 3x3 layer's output after batch norm, before nonlinearity or addition (Fig. 7).

    In evaluation mode over all of ``images``: one figure a layer, over images, positions and channels together
    (deviation D21). Each rank takes its part and all know the result; the net is left as it was.

    Returns:
        ``{"layer": name, "std": value}`` in the order of computation; None where the responses overflow.
    """
    found: dict[str, Moments] = {}
    with left_as_it_was(model, training=False), torch.inference_mode():
        for batch, _ in images.batches(batch_size):
            if not len(batch):  # a rank without an image
                continue
            with layer_moments(model) as parts:
                predict(model, batch, stats, precision)
            for name, part in parts.items():
                found[name] = found.get(name, NOTHING) + part
    # A rank without an image has seen no layer.
    names = distributed.shared(list(found))
    whole = over_ranks({name: found.get(name, NOTHING) for name in names})
    deviations = {name: float(part.std) for name, part in whole.items()}
    return [{"layer": name, "std": std if math.isfinite(std) else None} for name, std in deviations.items()]
