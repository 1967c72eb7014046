"""The frozen configuration: strictness, fingerprints, names."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.config.families import FAMILIES, Family
from repro.config.numerics import NUMERICS_VERSION, numerics_version
from repro.config.run import RunConfig, Science
from repro.errors import InputError
from tests.runs import config, photo_config


def values_of(config: RunConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)


def changed(config: RunConfig, key: str, value: object) -> dict[str, Any]:
    values = values_of(config)
    *groups, name = key.split(".")
    part = values
    for group in groups:
        part = part[group]
    part[name] = value
    return values


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", "abc", "seed='abc' must be a whole number"),
        ("seed", -1, "seed=-1"),
        ("seed", 1.5, "whole number"),
        ("seed", True, "whole number"),
        ("model.depth", 21, "6n+2 (paper, section 4.2), for example 20 or 26"),
        ("model.depth", 2, "for example 8 or 14"),
        ("model.shortcut", "D", "model.shortcut=D is unknown"),
        ("model.pool_padding", 0, "model.pool_padding=0 is for model=imagenet_resnet"),
        ("model.pool_padding", 2, "model.pool_padding=2 is unknown"),
        ("model.name", "resnet", "model.name=resnet is unknown"),
        ("model.order", "full", "model.order=full is for model=imagenet_resnet or model=preact_resnet"),
        ("model.kernels", [3, 1], "model.kernels=[3,1] is for model=wide_resnet"),
        ("model.kernels", [3, 2], "model.kernels=2 is unknown"),
        ("model.growth", 12, "model.growth=12 is for model=densenet or model=imagenet_densenet"),
        ("model.growth", -1, "model.growth=-1 must not be negative"),
        ("model.compression", 0, "model.compression=0.0 must be above 0 and at most 1"),
        ("model.activation", "tanh", "model.activation=tanh is unknown"),
        ("model.dropout", 1.0, "model.dropout=1.0 must be at least 0 and below 1"),
        ("model.survival_last", 0, "model.survival_last=0.0 must be above 0 and at most 1"),
        ("data.pad_mode", "mirror", "data.pad_mode=mirror is unknown"),
        ("data.colour", "pca_std", "data.colour=pca_std is for ImageNet images"),
        ("data.crop", "scale_aspect", "data.crop=scale_aspect is for ImageNet images"),
        ("data.jitter", 0.4, "data.jitter=0.4 is for ImageNet images"),
        ("data.jitter", 1.0, "data.jitter=1.0 must be at least 0 and below 1"),
        ("eval.large_crop", 16, "eval.large_crop=16 must be a side of at least 32 pixels"),
        ("model.bn_group_size", 60, "must divide optim.batch_size=128"),
        ("optim.batch_size", -128, "optim.batch_size=-128 must be above 0"),
        ("optim.lr", "fast", "optim.lr='fast' must be a number"),
        ("optim.lr", float("nan"), "must be a number"),
        ("optim.milestones", [3, 2], "optim.milestones=[3, 2]"),
        ("optim.milestones", 3, "must be a list"),
        ("optim.momentum", 1.0, "below 1"),
        ("optim.decay_factor", 0.1, "optim.decay_factor=0.1 must be at least 1"),
        ("optim.weight_decay", 1, "optim.weight_decay=1.0 must be below 1"),
        ("data.flip", 1, "true or false"),
        ("data.train_images", 0, "data.train_images=0 must be above 0, or null"),
        ("execution.threads", 0, "above 0"),
        ("execution.parallel", 0, "execution.parallel=0 must be above 0, or auto"),
        ("execution.restarts", -1, "must not be negative"),
        ("execution.max_minutes", -1, "above 0"),
        ("optim.foo", 1, "unknown key 'optim.foo'"),
        ("optim.lrr", 1, "did you mean 'lr'"),
        ("model", 3, "group of settings"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, key: str, value: object, words: str) -> None:
    base = config(tmp_path, "scale=paper")
    with pytest.raises(InputError) as error:
        RunConfig.from_dict(changed(base, key, value))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("data.train_images=50001", "50,000 images of the split train:"),
        ("data.test_images=10001", "10,000 images of the split test:"),
        ("eval.train_images=1000000000", "50,000 images of the split train:"),
        ("data.split=train45k eval.train_images=45001", "45,000 images of the split train45k:"),
    ],
)
def test_more_images_than_the_split_has_are_refused(tmp_path: Path, word: str, size: str) -> None:
    with pytest.raises(InputError, match=size) as error:
        config(tmp_path, "scale=paper", "data=cifar10", *word.split())
    assert word.split()[-1] in str(error.value)
    assert photo_config(tmp_path, "data.train_images=2000000").data.train_images == 2_000_000, "a folder of one's own"


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    values = values_of(config(tmp_path))
    del values["optim"]["lr"]
    with pytest.raises(InputError, match=r"optim\.lr is missing"):
        RunConfig.from_dict(values)


def test_numbers_are_converted_so_that_equal_science_has_one_fingerprint(tmp_path: Path) -> None:
    base = config(tmp_path)
    same = RunConfig.from_dict(changed(base, "optim.decay_factor", 10))
    whole = RunConfig.from_dict(changed(same, "optim.steps", float(base.optim.steps)))
    assert base.fingerprint == same.fingerprint == whole.fingerprint


SCIENCE = [
    ("seed", 7),
    ("model.depth", 26),
    ("model.shortcut", "B"),
    ("model.init", "he_fan_out"),
    ("model.bn_group_size", 8),
    ("model.fc_init", "torch"),
    ("model.gate", "exclusive"),
    ("model.residual_scale", 0.5),
    ("model.shortcut_dropout", 0.5),
    ("model.survival", "linear"),
    ("model.dropout", 0.3),
    ("model.activation", "maxout"),
    ("data.pad_mode", "reflect"),
    ("eval.large_crop", 288),
    ("data.split", "train45k"),
    ("data.pad_order", "before_mean"),
    ("optim.lr", 0.2),
    ("optim.steps", 9),
    ("optim.precision", "fp32"),
    ("optim.warmup", "until_80"),
    ("eval.every_steps", 3),
    ("eval.bn_stats", "recomputed"),
    ("eval.crops_of", "square"),
    ("optim.decay_scope", "convolutions"),
]
EXECUTION = [
    ("execution.threads", 3),
    ("execution.log_steps", 7),
    ("execution.micro_batch", 16),
    ("execution.device", "cuda"),
    ("execution.max_minutes", 3.0),
    ("paths.work", "/elsewhere"),
    ("exp", "cifar_degradation"),
]


@pytest.mark.parametrize(("key", "value"), SCIENCE)
def test_science_is_in_the_fingerprint(tmp_path: Path, key: str, value: object) -> None:
    base = config(tmp_path)
    assert RunConfig.from_dict(changed(base, key, value)).fingerprint != base.fingerprint


@pytest.mark.parametrize(("key", "value"), EXECUTION)
def test_execution_is_not_in_the_fingerprint(tmp_path: Path, key: str, value: object) -> None:
    base = config(tmp_path)
    assert RunConfig.from_dict(changed(base, key, value)).run_id == base.run_id


def test_no_later_switch_moves_a_default_fingerprint(tmp_path: Path) -> None:
    words = [("scale=paper",), ("scale=tenth",), ("scale=paper", "model.depth=110")]
    ids = [config(tmp_path, "data=cifar10", *more).run_id for more in words]
    assert ids == [
        "cifar10-resnet20-s0-5ed7a8a7",
        "cifar10-resnet20-tenth-s0-2edf3680",
        "cifar10-resnet110-s0-0a2f3d0d",
    ]
    photos = config(tmp_path, "exp=imagenet_depth", "data=imagenet", "scale=paper", "model.depth=50")
    assert photos.run_id == "imagenet-resnet50-s0-fdd91307", "of numerics version 3: groups of 32 images of 256"


def test_one_net_has_one_fingerprint_in_every_experiment(tmp_path: Path) -> None:
    """The first paper's ResNet-110 fills a row of Identity Mappings too."""
    first = config(tmp_path, "data=cifar10", "scale=paper", "model.depth=110")
    same = config(tmp_path, "data=cifar10", "scale=paper", "model.depth=110", "model.gate=none", "model.gate_bias=0")
    assert same.run_id == first.run_id == "cifar10-resnet110-s0-0a2f3d0d"


@pytest.mark.parametrize(
    ("words", "label", "key"),
    [
        ("model=preact_resnet", "PreResNet-164", "preresnet164"),
        ("model=preact_resnet model.shortcut=none", "plain PreResNet-164", "plain-preresnet164"),
        ("model=wide_resnet model.shortcut=none", "plain WRN-28-10", "plain-wrn28-10"),
        ("model=preact_resnet model.order=original", "ResNet-164", "resnet164"),
        (
            "model=preact_resnet model.block=basic model.shortcut=A model.depth=110 model.order=bn_after_addition",
            "ResNet-110 BN after addition",
            "resnet110-bn-after-addition",
        ),
        ("model=wide_resnet model.dropout=0.3", "WRN-28-10 dropout 0.3", "wrn28-10-dropout-0.3"),
        ("model=wide_resnet model.kernels=[3,1] model.width=2", "WRN-28-2 B(3,1)", "wrn28-2-b31"),
        (
            "model.gate=shortcut_only model.gate_bias=-6",
            "ResNet-20 shortcut-only gate -6",
            "resnet20-shortcut-only-gate--6",
        ),
        ("model=densenet", "DenseNet-BC-100-12", "densenetbc-100-12"),
        ("model=densenet model.block=single model.compression=1 model.depth=40", "DenseNet-40-12", "densenet40-12"),
        (
            "model=densenet model.compression=0.7 model.dropout=0.2",
            "DenseNet-BC-100-12 compression 0.7 dropout 0.2",
            "densenetbc-100-12-compression-0.7-dropout-0.2",
        ),
        ("model=densenet model.compression=1", "DenseNet-B-100-12", "densenetb-100-12"),
        ("model=highway", "Highway-19 dropout 0.2", "highway19-dropout-0.2"),
        (
            "model=highway model.depth=11 model.gate_bias=-4 model.dropout=0",
            "Highway-11 exclusive gate -4",
            "highway11-exclusive-gate--4",
        ),
        ("model.activation=maxout model.dropout=0.3", "ResNet-20 maxout dropout 0.3", "resnet20-maxout-dropout-0.3"),
        ("model.survival=linear", "ResNet-20 stochastic depth 0.5", "resnet20-stochastic-depth-0.5"),
        (
            "model.shortcut_scale=0.5 model.residual_scale=0",
            "ResNet-20 shortcut 0.5 residual 0",
            "resnet20-shortcut-0.5-residual-0",
        ),
    ],
)
def test_nets_of_later_papers_have_names(tmp_path: Path, words: str, label: str, key: str) -> None:
    run = config(tmp_path, *words.split())
    assert (run.model.label, run.key) == (label, f"synthetic-{key}-smoke")


def test_wide_nets_of_both_orders_have_names_of_their_own(tmp_path: Path) -> None:
    words = ("model.depth=50", "model.shortcut=B", "model.width=2")
    labels = [photo_config(tmp_path, *words, f"model.order={order}").model.label for order in ("original", "full")]
    assert labels == ["WRN-50-2", "PreWRN-50-2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("model=preact_resnet model.depth=112", "9n+2 (paper, section 4.2), for example 110 or 119"),
        ("model=wide_resnet model.depth=20", "6n+4 (paper, section 4.2), for example 16 or 22"),
        ("model=wide_resnet model.kernels=[]", "model.kernels=[]"),
        ("model=densenet model.depth=101", "6n+4 (paper, section 4.2), for example 100 or 106"),
        ("model=densenet model.block=basic", "model.block=basic is not for model=densenet: use single or bottleneck"),
        ("model=densenet model.growth=0", "model.growth=0"),
        ("model=densenet model.shortcut=A", "model.shortcut=A is not for model=densenet: use none"),
        ("model=densenet model.survival=linear", "model.survival=linear is for residual nets"),
        ("model=highway model.depth=20", "model.depth=20 is not a depth of model=highway: 11, 19, 32"),
        ("model=highway model.shortcut=B", "model.shortcut=B is not for model=highway: use A"),
        ("model=highway model.gate=none", "model.gate=none is not for model=highway"),
        ("model=preact_resnet model.dropout=0.2", "model.dropout=0.2 is for model=cifar_resnet or model=wide_resnet"),
        ("model.depth=20 model.constructed_from=8 model.activation=maxout", "model.activation=maxout is not for"),
        ("model.shortcut=none model.survival=linear", "model.survival=linear is for residual nets"),
        ("model.depth=20 model.constructed_from=8 model.gate=exclusive", "model.gate=exclusive is not for"),
        ("data.pad_mode=reflect data.pad_order=before_mean", "data.pad_order=after_mean"),
        ("data.pad_mode=reflect data.pad=8", "data.pad=8"),
    ],
)
def test_settings_of_later_papers_that_do_not_fit_are_refused(tmp_path: Path, words: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        config(tmp_path, *words.split())
    assert sentence in str(error.value)


def test_the_numerics_version_is_in_the_fingerprint(tmp_path: Path) -> None:
    science = config(tmp_path).science
    assert science.fingerprint(1) != science.fingerprint(2)


@pytest.mark.parametrize(("group", "batch", "moved"), [(128, 128, False), (64, 128, True), (32, 256, True)])
def test_groups_below_the_batch_alone_moved_with_version_3(tmp_path: Path, group: int, batch: int, moved: bool) -> None:
    words = (f"model.bn_group_size={group}", f"optim.batch_size={batch}")
    science = config(tmp_path, "scale=paper", *words).science
    assert numerics_version(science.flat(), 3) == (3 if moved else 2)
    assert numerics_version(science.flat(), 2) == 2
    assert science.fingerprint(3 if moved else 2) == config(tmp_path, "scale=paper", *words).fingerprint


@given(st.integers(1, 50))
def test_a_version_that_is_not_listed_moves_all(later: int) -> None:
    assert numerics_version({}, NUMERICS_VERSION + later) == NUMERICS_VERSION + later


def test_published_runs_keep_their_ids() -> None:
    """Published runs count as done and fill rows and verdicts only if the current code gives them the same id."""
    files = sorted((Path(__file__).parents[2] / "results" / "runs").glob("*/record.json"))
    assert len(files) > 30
    for record in (json.loads(file.read_text()) for file in files):
        assert Science.from_dict(record["science"]).fingerprint() == record["fingerprint"], record["run_id"]


def test_seeds_of_one_recipe_share_it(tmp_path: Path) -> None:
    first, second = config(tmp_path, "seed=0").science, config(tmp_path, "seed=1").science
    assert first.flat() == second.flat() and first != second
    assert first.flat()["optim.batch_size"] == 16


@pytest.mark.parametrize("words", [[], ["exp=imagenet_depth", "data=imagenet", "scale=paper", "model.depth=50"]])
def test_the_science_of_a_run_comes_back_from_flat_fields_and_from_json(tmp_path: Path, words: list[str]) -> None:
    science = config(tmp_path, "seed=3", *words).science
    assert Science.from_flat(science.flat(), 3) == science
    assert Science.from_dict(json.loads(json.dumps(science.to_dict()))) == science
    with pytest.raises(InputError, match=r"optim\.lr is missing"):
        Science.from_flat({key: value for key, value in science.flat().items() if key != "optim.lr"})


@functools.cache
def any_config() -> RunConfig:
    return config(Path("anywhere"))


@pytest.mark.slow
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda v: st.lists(v, max_size=3)))
def test_any_value_anywhere_is_taken_or_refused_with_a_sentence(value: object) -> None:
    base = any_config()
    for key in ("seed", "model.depth", "optim.lr", "optim.milestones", "data.flip", "model", "paths.work"):
        try:
            taken = RunConfig.from_dict(changed(base, key, value))
        except InputError as error:
            assert str(error)
        else:
            assert RunConfig.from_dict(values_of(taken)) == taken


def test_names_are_readable_and_stable(tmp_path: Path) -> None:
    assert config(tmp_path, "model.depth=56").key == "synthetic-resnet56-smoke"
    assert config(tmp_path, "model.depth=56", "model.shortcut=none").model.label == "plain-56"
    named = config(tmp_path, "data=cifar10", "scale=paper", "model.shortcut=B", "seed=3")
    assert named.run_id.startswith("cifar10-resnet20-b-s3-")
    assert named.run_id.endswith(named.fingerprint[:8])


def test_a_new_family_is_called_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "double_resnet", Family("DoubleResNet", (128, ((32, 32),))))
    net = dataclasses.replace(config(tmp_path, "model.depth=14").model, name="double_resnet")
    assert net.label == "DoubleResNet-14"
    assert dataclasses.replace(net, shortcut="none").label == "plain DoubleResNet-14"
