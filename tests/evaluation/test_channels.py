"""Top images of channels: ranks and overlaps counted by hand, guided gradients, patches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.data.augment import PixelStats
from repro.data.in_memory import MemoryImages
from repro.errors import InputError
from repro.evaluation.channels import block_of, likeness, patch, rank_correlations, ranks, responses, seen
from repro.evaluation.guided import guided
from repro.evaluation.predict import predict
from tests.nets import trained_net

STATS = PixelStats(torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1))
IMAGES = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_equal_values_share_their_mean_rank() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    one, other = torch.tensor([[1.0, 2.0, 9.0], [3.0, 3.0, 1.0]]), torch.tensor([[10.0, 20.0, 21.0], [2.0, 1.0, 3.0]])
    found = [value for row in rank_correlations(one, other).tolist() for value in row]
    assert found == pytest.approx([1, 0.5, -(0.75**0.5), -(0.75**0.5)])


def test_overlap_and_correlation_are_means_over_channels_and_pairs_of_blocks() -> None:
    block = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = likeness(torch.stack([block, block, block.flip(1)]), 2, top=2)
    assert (found.overlap, found.correlation) == (0.5, pytest.approx(0)), "dead channels do not count"
    assert (found.stage, found.blocks, found.channels, found.top, found.images) == (2, 3, 3, 2, 4)
    equal = likeness(torch.stack([block, block]), 2, top=2)
    assert (equal.overlap, equal.correlation) == (1, pytest.approx(1))
    assert (equal.other_overlap, equal.other_correlation) == (0, pytest.approx(-1)), "two channels are opposites"
    with pytest.raises(InputError, match="stage 1"):
        likeness(torch.zeros(2, 3, 4), 1, top=2)


def test_responses_are_the_largest_outputs_of_each_block() -> None:
    model = trained_net(depth=14).eval()
    found = responses(model, 2, MemoryImages(IMAGES, torch.zeros(6)), STATS, 4, "fp32")
    outputs: list[torch.Tensor] = []
    for block in block_of(model, 2):
        block.register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.inference_mode():
        predict(model, IMAGES, STATS, "fp32")
    assert found.shape == (2, 32, 6)
    for values, output in zip(found, outputs, strict=True):
        assert torch.allclose(values, output.amax((2, 3)).T, atol=1e-5)


@pytest.mark.parametrize("stage", [0, 4])
def test_a_stage_that_does_not_exist_is_named(stage: int) -> None:
    with pytest.raises(InputError, match=f"--stage {stage}.*1 to 3"):
        block_of(trained_net(depth=14), stage)
    with pytest.raises(InputError, match="single block"):
        block_of(trained_net(depth=8), 1)


def test_guided_relus_stop_negative_values_and_negative_gradients() -> None:
    x = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    with guided():
        y = F.relu(x)
        z = nn.ReLU()(x)
    weights = torch.tensor([1.0, -1.0, 1.0])
    assert y.tolist() == z.tolist() == [0.0, 2.0, 3.0]
    assert torch.autograd.grad((y * weights).sum(), x)[0].tolist() == [0.0, 0.0, 1.0]
    assert torch.autograd.grad((z * weights).sum(), x)[0].tolist() == [0.0, 0.0, 1.0]
    assert torch.autograd.grad((F.relu(x) * weights).sum(), x)[0].tolist() == [0.0, -1.0, 1.0]


def test_a_gradient_covers_the_field_of_the_strongest_place_alone() -> None:
    model = trained_net(depth=14).eval()
    one = seen(model, 1, 0, 3, [4], IMAGES[4:5], STATS)[0]
    values = responses(model, 1, MemoryImages(IMAGES, torch.zeros(6)), STATS, 6, "fp32")
    assert one.response == pytest.approx(float(values[0, 3, 4]), rel=1e-4)
    rows = one.gradient.abs().amax((0, 2)).nonzero()
    assert len(rows) > 0 and int(rows.max() - rows.min()) < 7, "three 3x3 layers see 7x7 pixels"


def test_a_patch_holds_all_large_values() -> None:
    gradient = torch.zeros(3, 8, 8)
    gradient[0, 2, 3], gradient[1, 5, 4], gradient[2, 7, 7] = 1.0, -0.5, 0.05
    assert patch(gradient) == (2, 3, 6, 5)
    assert patch(torch.zeros(3, 8, 8)) == (0, 0, 8, 8)
