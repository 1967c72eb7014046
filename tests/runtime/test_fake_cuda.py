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
IMAGENET = {
    "plain": "model.depth=18 model.shortcut=none",
    "18 A in groups": "model.depth=18 model.shortcut=A model.bn_group_size=4",
    "18 B": "model.depth=18 model.shortcut=B model.pool_padding=0",
    "50 A": "model.depth=50 model.shortcut=A data.colour=pca_std",
    "50 B in groups, bf16": "model.depth=50 model.shortcut=B model.bn_group_size=4 optim.precision=bf16",
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


@pytest.mark.parametrize("words", IMAGENET.values(), ids=IMAGENET)
def test_imagenet_nets_stay_on_the_gpu_and_channels_last(tmp_path: Path, words: str) -> None:
    run = photo_config(tmp_path, "data.image_size=64", "data.resize=[64,80]", "data.eval_resize=64", *words.split())
    nothing_slow(training_step(run))
    nothing_slow(evaluation(run))
