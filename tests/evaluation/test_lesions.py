"""Nets with blocks deleted or in another order, beside nets written out by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from repro.data.augment import PixelStats
from repro.data.in_memory import MemoryImages
from repro.errors import InputError
from repro.evaluation.lesions import (
    applied,
    carried,
    count_errors,
    each_alone,
    kendall_tau,
    logits_of,
    numbers_to,
    random_orders,
    random_subsets,
    stages_of,
)
from repro.evaluation.predict import predict
from repro.models.blocks import BlockNet, ResidualBlock
from repro.results.lesions import Lesion
from tests.nets import trained_net

STATS = PixelStats(torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1))
IMAGES = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def net(**changes: Any) -> BlockNet:
    return trained_net(**changes).eval()


@torch.inference_mode()
def logits(model: BlockNet, lesion: Lesion) -> torch.Tensor:
    (found,) = logits_of(model, IMAGES, STATS, "fp32", [lesion])
    return found


def test_blocks_that_change_the_shape_stay() -> None:
    assert stages_of(net(depth=14), 16, "a net") == [[0, 1], [3], [5]]
    assert stages_of(net(depth=14, shortcut="none"), 16, "a net") == [[0, 1], [3], [5]]
    assert stages_of(net(depth=19, name="highway", gate="exclusive", gate_bias=-2.0), 16, "a net") == [
        [1, 2, 3],
        [5, 6, 7, 8],
        [10, 11, 12, 13],
    ]


def test_a_net_without_separate_blocks_is_refused_with_the_families_that_have_some() -> None:
    dense = net(name="densenet", depth=10, shortcut="none", growth=4, block="single")
    with pytest.raises(InputError, match=r"DenseNet.*cifar_resnet") as refused:
        stages_of(dense, 16, "DenseNet-10")
    assert "densenet" not in str(refused.value).split("model=")[1]


@pytest.mark.parametrize(
    ("changes", "last"),
    [({}, "bn2"), ({"shortcut": "C"}, "bn2"), ({"name": "preact_resnet", "order": "full"}, "convs.1")],
)
def test_deleting_a_block_whose_residual_function_is_zero_changes_nothing(changes: dict[str, Any], last: str) -> None:
    model = net(**changes)
    block = list(model.blocks())[3]
    for parameter in block.get_submodule(last).parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(logits(model, Lesion(0, deleted=(3,))), logits(model, Lesion(0)))
    assert not torch.equal(logits(model, Lesion(0, deleted=(1,))), logits(model, Lesion(0)))


def test_equal_blocks_in_any_order_are_the_same_net_and_others_are_not() -> None:
    model = net(depth=20)
    blocks = list(model.blocks())
    moved = Lesion(0, order=(2, 1, 0, 3, 4, 5, 6, 8, 7))
    assert not torch.equal(logits(model, moved), logits(model, Lesion(0)))
    for block in (*blocks[1:3], blocks[8]):
        block.load_state_dict((blocks[0] if block is not blocks[8] else blocks[7]).state_dict())
    assert torch.equal(logits(model, moved), logits(model, Lesion(0)))


def test_a_deleted_block_is_its_shortcut_and_a_plain_one_is_left_out() -> None:
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1)).relu()
    with torch.inference_mode():
        assert torch.equal(carried(next(iter(net().blocks())), x), x)
        assert torch.equal(carried(next(iter(net(shortcut="none").blocks())), x), x)
        block = next(iter(net(shortcut="C").blocks()))
        assert isinstance(block, ResidualBlock) and block.shortcut is not None
        assert torch.equal(carried(block, x), block.shortcut(x).relu())


def test_a_deleted_highway_layer_carries_its_input_and_keeps_its_gate() -> None:
    block = list(net(depth=19, name="highway", gate="exclusive", gate_bias=-2.0).blocks())[1]
    x = torch.randn(2, 32, 8, 8)
    with torch.inference_mode():
        before = block(x)
        assert torch.equal(carried(block, x), x)
        assert torch.equal(block(x), before)


def test_stochastic_depth_weights_go_with_their_blocks() -> None:
    model = net(depth=20)
    model.survival = (1.0, 0.5, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    with torch.inference_mode():
        x = torch.ones(1, 16, 8, 8)
        moved = Lesion(0, order=(1, 0, 2, 3, 4, 5, 6, 7, 8))
        assert torch.equal(applied(model, moved, 0, x), list(model.blocks())[1](x, 0.5))


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_errors_are_those_of_nets_that_are_built_without_the_blocks(shortcut: str) -> None:
    labels = logits(net(shortcut=shortcut), Lesion(0)).argmax(1)
    stages = [[0, 1], [3], [5]]
    deleted = [(), *each_alone(stages), *random_subsets(stages, 1, 0)]
    lesions = [Lesion(0, deleted=blocks) for blocks in deleted]
    lesions += random_orders(stages, 6, 1, 0)
    found = count_errors(net(shortcut=shortcut), MemoryImages(IMAGES, labels), STATS, 4, "fp32", lesions)
    for lesion, errors in zip(lesions, found, strict=True):
        mine = logits(net(shortcut=shortcut), lesion)
        model = net(shortcut=shortcut)
        blocks = list(model.blocks())
        if shortcut == "A":  # without its last batch norm, a block is its shortcut
            for number in lesion.deleted:
                nn.init.zeros_(blocks[number].get_parameter("bn2.weight"))
                nn.init.zeros_(blocks[number].get_parameter("bn2.bias"))
            kept = [blocks[number] for number in lesion.order or range(6)]
        else:
            kept = [blocks[number] for number in lesion.order or range(6) if number not in lesion.deleted]
        model.stages = nn.Sequential(nn.Sequential(*kept))
        with torch.inference_mode():
            wanted = predict(model, IMAGES, STATS, "fp32")
        assert torch.equal(mine, wanted), lesion
        assert errors == int((wanted.argmax(1) != labels).sum())
    assert found[0] == 0 and max(found) > 0


def test_subsets_are_distinct_and_the_same_for_all_nets() -> None:
    stages = [[0, 1, 2], [4, 5], [7, 8]]
    found = random_subsets(stages, 5, 0)
    assert found == random_subsets(stages, 5, 0) != random_subsets(stages, 5, 1)
    sizes = [len(subset) for subset in found]
    assert {size: sizes.count(size) for size in sizes} == {2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 1}
    assert len(set(found)) == len(found)
    assert set(itertools.chain(*found)) <= {0, 1, 2, 4, 5, 7, 8}
    assert random_subsets([[0, 1, 2]], 5, 0) == [(0, 1), (0, 2), (1, 2), (0, 1, 2)]


def test_blocks_are_swapped_within_their_stage() -> None:
    stages = [[0, 1, 2], [4, 5], [7]]
    found = random_orders(stages, 9, 4, 0)
    for lesion in found:
        assert lesion.order != tuple(range(9))
        assert sorted(lesion.order[:3]) == [0, 1, 2] and sorted(lesion.order[4:6]) == [4, 5]
        assert (lesion.order[3], *lesion.order[6:]) == (3, 6, 7, 8)
    assert {lesion.swaps for lesion in found} == {1, 2, 3, 4, 5, 6}
    assert all(len({place for place, block in enumerate(one.order) if place != block}) == 2 for one in found[:4])
    assert random_orders([[0], [2]], 3, 4, 0) == []
    assert [one.order for one in random_orders([[0, 1]], 2, 4, 0)] == [(1, 0)], "two swaps of one pair undo each other"


def test_kendall_tau_counts_pairs_of_a_stage() -> None:
    stages = [[0, 1, 2], [4, 5]]
    assert kendall_tau(range(6), stages) == 1
    assert kendall_tau((2, 1, 0, 3, 5, 4), stages) == -1
    assert kendall_tau((1, 0, 2, 3, 4, 5), stages) == 0.5


def test_many_numbers_of_blocks_are_thinned() -> None:
    assert numbers_to(3) == [1, 2, 3]
    many = numbers_to(52)
    assert (many[0], many[-1], len(set(many))) == (1, 52, 10)
