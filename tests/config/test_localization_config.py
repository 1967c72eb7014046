"""Settings of localizers: an optional group that leaves all other runs as they were."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from repro.config.compose import plan
from repro.config.localization import LocalizationConfig
from repro.config.run import RunConfig, Science
from repro.engine.detection.start import check_start
from repro.engine.localization.classes import check_classes
from repro.errors import InputError
from tests.localizer_runs import localizer_config
from tests.runs import config, configs

OF_REGIONS = ("proposals", "suppress", "foreground", "positive_share", "region_lr", "context")


def test_other_runs_have_no_trace_of_the_group(tmp_path: Path) -> None:
    of = config(tmp_path)
    assert "localization" not in of.science.to_dict() and "data.boxes" not in of.science.flat()
    (detector,) = plan(["exp=voc_detection", "data=shapes", "scale=smoke"]).runs
    assert "localization" not in detector.science.to_dict() and "boxes" not in detector.science.to_dict()["data"]


def test_the_science_of_a_localizer_comes_back(tmp_path: Path) -> None:
    of = localizer_config(tmp_path, "seed=3")
    assert Science.from_flat(of.science.flat(), 3) == of.science and RunConfig.from_dict(of.to_dict()) == of
    assert Science.from_dict(json.loads(json.dumps(of.science.to_dict()))) == of.science
    values = of.science.to_dict()["localization"]
    later = {"members", "method", "proposals_of", *OF_REGIONS}
    assert values.keys() | later == {field.name for field in dataclasses.fields(LocalizationConfig)}
    assert not later & values.keys()  # they leave the fingerprints of other runs as they were
    assert of.run_id.startswith("shapes-rpn-wrn18-0.125-b-smoke-s3-") and of.label == "RPN WRN-18-0.125 B"


def test_the_protocol_is_that_of_appendix_c() -> None:
    run, regions = plan(["exp=imagenet_localization"]).runs
    assert run.localization is not None and regions.localization is not None
    assert regions.label == "R-CNN ResNet-101" and regions.proposals_of == run.run_id and run.proposals_of is None
    assert (regions.localization.proposals, regions.optim.batch_size) == (200, 256)
    assert (run.localization.samples, run.optim.batch_size, run.data.image_size) == (8, 256, 224)
    assert (run.data.resize, run.data.eval_resize, run.model.depth) == ((256, 480), 256, 101)


@pytest.mark.parametrize(
    ("key", "values"),
    list(zip(OF_REGIONS, ("5,7", "0.4,0.6", "0.3,0.6", "0.1,0.4", "0.1,0.3", "0,8"), strict=True)),
)
def test_a_sweep_over_settings_of_r_cnn_has_one_network_for_proposals(tmp_path: Path, key: str, values: str) -> None:
    words = ("exp=imagenet_localization", "data=shapes_boxes", "scale=smoke", f"localization.{key}={values}")
    network, *regions = configs(tmp_path, *words)
    assert len({one.run_id for one in regions}) == 2 and {one.label[:5] for one in regions} == {"R-CNN"}
    assert network.label.startswith("RPN") and {one.proposals_of for one in regions} == {network.run_id}
    assert network.run_id == configs(tmp_path, *words[:3])[0].run_id
    assert RunConfig.from_dict(network.to_dict()) == network


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("localization.samples=7", "localization.samples=7"),
        ("localization.negative=0.8", "localization.negative=0.8"),
        ("localization.positive=1.5", "localization.positive=1.5"),
        ("localization.anchor_scales=[]", "localization.anchor_scales=[]"),
        ("localization.scales=[16]", "localization.scales=[16]"),
        ("localization.start=a/b.pth", "localization.start='a/b.pth'"),
        ("localization.members=[a,a]", "localization.members=['a', 'a']"),
        ("localization.classes_of=[a,a]", "localization.classes_of=['a', 'a']"),
        ("localization.classes_of=a", "localization.classes_of='a' must be a list"),
        ("localization.proposals_of=a", "localization.method=rcnn"),
        ("localization.method=rcnn localization.context=32", "data.image_size=64"),
        ("localization.method=both", "localization.method=both"),
        ("execution=ddp execution.devices=3", "optim.batch_size=4"),
        ("execution.step=graph", "execution.step=graph"),
        ("execution.micro_batch=1", "execution.micro_batch=1"),
        ("optim.warmup=fixed", "optim=localization_sgd"),
        ("eval.train_error=true", "eval=detection"),
        ("data.mean=per_pixel", "data.mean=per_pixel"),
        ("data.boxes=false", "data=shapes has no boxes"),
        ("data.resize=[32,96]", "data.resize=[32, 96]"),
        (
            "data=imagenet_boxes data.crop=scale_aspect",
            "data.crop=scale_aspect is for classification, not for localizers",
        ),
        ("data=imagenet_boxes data.jitter=0.4", "data.jitter=0.4 is for classification"),
        ("data=synthetic", "data=synthetic has no boxes"),
        ("detection=voc", "detection="),
        ("model=cifar_resnet model.depth=20 model.width=1.0", "model=imagenet_resnet"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, words: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        localizer_config(tmp_path, *words.split())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_images_with_boxes_of_their_class_need_a_localizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exp=imagenet_localization"):
        config(tmp_path, "data=shapes_boxes", "scale=paper")


@pytest.mark.parametrize("start", ["null", "resnet101-cd907fc2.pth", "imagenet-resnet101-s0-00000000"])
def test_missing_weights_are_named_before_anything_starts(tmp_path: Path, start: str) -> None:
    with pytest.raises(InputError, match=start):
        check_start(localizer_config(tmp_path, f"localization.start={start}"))
    with pytest.raises(InputError, match="imagenet-resnet101"):
        check_classes(localizer_config(tmp_path, "localization.classes_of=[imagenet-resnet101-s0-00000000]"))
