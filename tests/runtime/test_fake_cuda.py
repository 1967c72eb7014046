"""Steps and evaluations of all families of nets on fake CUDA tensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_cuda import Watch, evaluation, training_step
from tests.runs import config, photo_config

CIFAR = {
    "plain": "model.shortcut=none",
    "A": "model.shortcut=A",
    "A, averaged": "model.shortcut=A model.shortcut_subsample=avg_pool",
    "A, zeros on both sides": "model.shortcut=A model.option_a=both_sides",
    "B": "model.shortcut=B",
    "C": "model.shortcut=C",
    "in groups": "model.shortcut=A model.bn_group_size=4",
    "in groups, bf16": "model.shortcut=B model.bn_group_size=4 optim.precision=bf16",
    "all decay": "model.shortcut=A optim.decay_scope=all optim.nesterov=true data.pad_order=before_mean",
}
LATER_PAPERS = {
    "constant scaling": "model.shortcut_scale=0.5 model.residual_scale=0.5",
    "exclusive gate": "model.gate=exclusive",
    "shortcut-only gate": "model.gate=shortcut_only",
    "dropout on the shortcut": "model.shortcut_dropout=0.5",
    "BN after addition": "model=preact_resnet model.order=bn_after_addition model.depth=11",
    "ReLU-only": "model=preact_resnet model.order=relu_only model.depth=11",
    "pre-activation": "model=preact_resnet model.depth=11",
    "pre-activation, A": "model=preact_resnet model.block=basic model.shortcut=A model.depth=14",
    "pre-activation, one layer a block": "model=preact_resnet model.block=single model.shortcut=A model.depth=8",
    "wide": "model=wide_resnet model.depth=10 model.width=2",
    "wide with dropout": "model=wide_resnet model.depth=10 model.width=2 model.dropout=0.3",
    "dense": "model=densenet model.depth=10 model.block=single",
    "dense, bottlenecks": "model=densenet model.depth=16 model.dropout=0.2",
    "highway": "model=highway model.depth=11",
    "maxout and dropout": "model.depth=14 model.activation=maxout model.dropout=0.3",
    "wide, B(3,1,3)": "model=wide_resnet model.depth=13 model.width=2 model.kernels=[3,1,3]",
}
IMAGENET = {
    "plain": "model.depth=18 model.shortcut=none",
    "18 A in groups": "model.depth=18 model.shortcut=A model.bn_group_size=4",
    "18 B": "model.depth=18 model.shortcut=B model.pool_padding=0",
    "50 A": "model.depth=50 model.shortcut=A data.colour=pca_std",
    "50 B in groups, bf16": "model.depth=50 model.shortcut=B model.bn_group_size=4 optim.precision=bf16",
    "18 wide, other colours": "model.depth=18 model.shortcut=B model.width=1.5 data.crop=scale_aspect data.jitter=0.4",
    "50 pre-activation": "model.depth=50 model.shortcut=B model.order=full",
    "121 dense": "model=imagenet_densenet model.depth=121 model.shortcut=none model.growth=32",
    "50 C": "model.depth=50 model.shortcut=C model.stride_in=3x3",
}


def nothing_slow(seen: Watch) -> None:
    assert seen.elsewhere == []
    assert seen.other_layouts == []


@pytest.mark.parametrize("words", CIFAR.values(), ids=CIFAR)
def test_cifar_nets_stay_on_the_gpu_and_channels_last(tmp_path: Path, words: str) -> None:
    run = config(tmp_path, "model.depth=14", *words.split())
    nothing_slow(training_step(run))
    nothing_slow(evaluation(run))


@pytest.mark.parametrize("words", LATER_PAPERS.values(), ids=LATER_PAPERS)
def test_nets_of_later_papers_stay_on_the_gpu_and_channels_last(tmp_path: Path, words: str) -> None:
    run = config(tmp_path, "model.bn_group_size=4", *words.split())
    nothing_slow(training_step(run))
    nothing_slow(evaluation(run))


def test_a_net_that_ends_on_an_addition_stays_on_the_gpu(tmp_path: Path) -> None:
    """The gradient of its mean meets no ReLU or batch norm that would bring it into the layout."""
    run = config(tmp_path, "model=preact_resnet", "model.order=relu_before_addition", "model.depth=11")
    assert training_step(run).elsewhere == []
    nothing_slow(evaluation(run))


def test_the_memory_efficient_form_joins_maps_once_more(tmp_path: Path) -> None:
    """In six dense layers and two transitions, for the backward pass."""
    words = ("model=densenet", "model.depth=10", "model.block=single", "model.compression=1", "model.bn_group_size=16")
    forms = [config(tmp_path, *words, f"execution.checkpoint_activations={on}") for on in ("false", "true")]
    usual, efficient = map(training_step, forms)
    nothing_slow(efficient)
    assert efficient.operations["aten.cat.default"] - usual.operations["aten.cat.default"] == 8


@pytest.mark.parametrize("words", IMAGENET.values(), ids=IMAGENET)
def test_imagenet_nets_stay_on_the_gpu_and_channels_last(tmp_path: Path, words: str) -> None:
    run = photo_config(tmp_path, "data.image_size=64", "data.resize=[64,80]", "data.eval_resize=64", *words.split())
    nothing_slow(training_step(run))
    nothing_slow(evaluation(run))
