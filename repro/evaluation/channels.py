"""Images that activate a channel most, followed through the blocks of a stage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean as mean

import torch
from torch import Tensor, nn

from repro.config.parse import require
from repro.data.augment import PixelStats, normalize
from repro.data.batches import Images
from repro.evaluation.guided import guided
from repro.evaluation.predict import predict
from repro.models.blocks import BlockNet
from repro.results.channels import Likeness


@dataclass(frozen=True)
class Seen:
    """An image that activates a channel, with the channel's strongest place in it.

    ``gradient`` (3, H, W) is the guided gradient of the response there; ``box`` is the patch that it covers: first row,
    first column, end row, end column.
    """

    image: int
    response: float
    pixels: Tensor
    gradient: Tensor
    box: tuple[int, int, int, int]


def block_of(model: BlockNet, stage: int) -> list[nn.Module]:
    """Return the blocks of a stage, counted from 1.

    Raises:
        InputError: There is no such stage, or it has a single block.
    """
    stages = list(model.stages)
    require(1 <= stage <= len(stages), f"--stage {stage} does not exist: the net has stages 1 to {len(stages)}")
    blocks = list(stages[stage - 1].children())
    require(len(blocks) > 1, f"--stage {stage} has a single block, so that no channel can be followed through blocks")
    return blocks


def num_channels(model: BlockNet, stage: int, image_size: int) -> int:
    """Count the channels of a stage's output. The model is moved to the meta device, which has no values.

    Raises:
        InputError: There is no such stage, or it has a single block.
    """
    found: list[int] = []
    last = block_of(model, stage)[-1]
    hook = last.register_forward_hook(lambda block, inputs, output: found.append(output.shape[1]))
    with torch.no_grad():
        model.to("meta").eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    hook.remove()
    return found[0]


@torch.inference_mode()
def responses(
    model: BlockNet, stage: int, images: Images, stats: PixelStats, batch_size: int, precision: str
) -> Tensor:
    """Return the largest output of every channel of a stage's blocks in every image: (blocks, channels, images)."""
    blocks = block_of(model, stage)
    found: dict[nn.Module, list[Tensor]] = {block: [] for block in blocks}

    def take(block: nn.Module, _: object, output: Tensor) -> None:
        found[block].append(output.amax((2, 3)).float().cpu())

    hooks = [block.register_forward_hook(take) for block in blocks]
    try:
        for pixels, _ in images.batches(batch_size):
            predict(model, pixels, stats, precision)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([torch.cat(found[block]).T for block in blocks])


def likeness(responded: Tensor, stage: int, top: int) -> Likeness:
    """Compare the responses (blocks, channels, images) of each channel in neighbouring blocks.

    Channels that respond equally to all images in one of two blocks, dead ones, are left out of this pair.
    """
    blocks, channels, images = responded.shape
    top = min(top, images)
    overlaps, correlations = Pairs(), Pairs()
    for one, other in itertools.pairwise(responded):
        live = (one.std(1) > 0) & (other.std(1) > 0)
        overlaps.add(shared_tops(one[live], other[live], top))
        correlations.add(rank_correlations(one[live], other[live]))
    several = bool(overlaps.others)
    require(several, f"stage {stage} has fewer than two channels that respond differently to the images")
    return Likeness(
        stage,
        blocks,
        channels,
        top,
        images,
        overlap=mean(overlaps.same),
        correlation=mean(correlations.same),
        other_overlap=mean(overlaps.others),
        other_correlation=mean(correlations.others),
    )


@dataclass
class Pairs:
    """The likeness of channels of one block and of the next, for the ``same`` channel and for all ``others``."""

    same: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def add(self, values: Tensor) -> None:
        """Add the likeness of all channels with all channels, (C, C)."""
        is_same = torch.eye(len(values), dtype=torch.bool)
        self.same += values[is_same].tolist()
        self.others += values[~is_same].tolist()


def shared_tops(one: Tensor, other: Tensor, top: int) -> Tensor:
    """Return the share of the top images that two channels have in common, (C, C), from responses (C, images)."""
    first, second = (torch.zeros_like(each).scatter_(1, each.topk(top).indices, 1.0) for each in (one, other))
    return (first.double() @ second.double().T) / top


def rank_correlations(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's rank correlation of all channels with all channels, (C, C), from responses (C, images).

    Equal values share their mean rank.
    """
    values = torch.corrcoef(torch.stack([ranks(each) for each in (*one, *other)])) if len(one) else torch.empty(0, 0)
    return values[: len(one), len(one) :]


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each value from 0, in double precision; equal values share their mean rank."""
    _, group, counts = values.unique(sorted=True, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    means: Tensor = ends - (counts.double() + 1) / 2
    return means[group]


def seen(
    model: BlockNet, stage: int, block: int, channel: int, chosen: Sequence[int], pixels: Tensor, stats: PixelStats
) -> list[Seen]:
    """Show what in images activates a channel of a block, by guided backpropagation from its strongest place.

    Args:
        chosen: The numbers of the images ``pixels``, uint8 (N, 3, H, W).
    """
    outputs: list[Tensor] = []
    hook = block_of(model, stage)[block].register_forward_hook(lambda _, __, output: outputs.append(output))
    images = normalize(pixels, stats).to(model.fc.weight.dtype).requires_grad_()
    try:
        with guided():
            model(images)
    finally:
        hook.remove()
    strongest = outputs[0][:, channel].flatten(1).amax(1)
    (gradients,) = torch.autograd.grad(strongest.sum(), images)
    return [
        Seen(number, float(response), picture, gradient, patch(gradient))
        for number, response, picture, gradient in zip(chosen, strongest.detach(), pixels, gradients, strict=True)
    ]


def patch(gradient: Tensor, part: float = 0.1) -> tuple[int, int, int, int]:
    """Return the window of a gradient (3, H, W) that holds all values above ``part`` of the largest one."""
    size = gradient.abs().amax(0)
    if not size.max() > 0:
        return (0, 0, *size.shape)
    rows, columns = (size > part * size.max()).nonzero().unbind(1)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
