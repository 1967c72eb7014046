"""Settings of detectors: an optional group that leaves classification as it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from repro.config.compose import plan
from repro.config.run import DetectionConfig, RunConfig, Science, later_defaults
from repro.engine.detection.start import check_start
from repro.errors import InputError
from tests.detector_runs import detector_config
from tests.runs import config


def test_a_run_of_classification_has_no_trace_of_the_group(tmp_path: Path) -> None:
    run = plan(["exp=cifar_depth_sweep", "model.depth=20", "seed=0"]).runs[0]
    assert run.run_id == "cifar10-resnet20-s0-5ed7a8a7"
    of = config(tmp_path)
    assert of.science.detection is None and "detection" not in of.science.to_dict()
    fields = {**of.science.flat(), **later_defaults()}
    assert not [key for key in fields if key.startswith("detection.")] and "data.lists" not in fields


def test_every_setting_of_a_detector_is_in_its_fingerprint(tmp_path: Path) -> None:
    of = detector_config(tmp_path)
    assert of.detection is not None
    values = of.science.to_dict()["detection"]
    # A field of later code is left out at its default.
    later = {"pretrained", "members"}
    assert values.keys() == {field.name for field in dataclasses.fields(DetectionConfig)} - later
    for change in ({"background": 0.0}, {"pretrained": "coco"}, {"members": ("a",)}):
        other = dataclasses.replace(of, detection=dataclasses.replace(of.detection, **change))
        assert other.fingerprint != of.fingerprint
        assert Science.from_dict(json.loads(json.dumps(other.science.to_dict()))) == other.science
    assert of.run_id.startswith("shapes-fasterrcnn-wrn18-0.125")


def test_the_science_of_a_detector_comes_back(tmp_path: Path) -> None:
    of = detector_config(tmp_path, "seed=3")
    assert Science.from_flat(of.science.flat(), 3) == of.science
    assert Science.from_dict(json.loads(json.dumps(of.science.to_dict()))) == of.science
    assert RunConfig.from_dict(of.to_dict()) == of


@pytest.mark.slow
def test_the_schedules_are_those_of_the_paper(tmp_path: Path) -> None:
    (voc,), (coco,) = plan(["exp=voc_detection"]).runs, plan(["exp=coco_detection"]).runs
    assert voc.detection is not None and coco.detection is not None
    assert (voc.detection.steps, voc.detection.drops) == ((80_000, 60_000) * 2, (60_000, 30_000) * 2)
    assert (voc.detection.rpn_batch_size, voc.optim.batch_size, voc.optim.steps) == (1, 2, 280_000)
    assert (coco.detection.steps, coco.detection.drops) == ((320_000,) * 4, (240_000,) * 4)
    assert (coco.detection.rpn_batch_size, coco.optim.batch_size) == (8, 16)
    assert (coco.detection.anchor_scales, coco.detection.background) == ((4, 8, 16, 32), 0.0)
    for run in (voc, coco):
        assert (run.optim.lr, run.optim.weight_decay, run.optim.momentum) == (0.001, 0.0005, 0.9)
        assert (run.data.image_size, run.model.depth) == (600, 101)
    (longer,) = plan(["exp=voc_detection", "detection=voc12"]).runs
    assert longer.detection is not None
    assert (longer.detection.steps[1], longer.detection.drops[1]) == (100_000, 40_000)
    (modern,) = plan(["exp=voc_detection", "detection=voc_modern", "device=cpu"]).runs
    assert modern.detection is not None
    assert (modern.detection.training, modern.detection.pooling, modern.optim.steps) == ("joint", "align", 55_000)
    assert modern.optim.steps * modern.optim.batch_size == 110_000  # images, as D76 says


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("detection.steps=[1,2]", "detection.steps=[1, 2] must have 4"),
        ("detection.training=joint", "must have 1"),
        ("detection.drops=[0,1,1,1]", "detection.drops=[0, 1, 1, 1]"),
        ("detection.drops=[1,1,1,3]", "must not lie beyond detection.steps=[2, 2, 2, 2]"),
        ("optim.steps=7", "optim.steps=7 is not 8"),
        ("execution=ddp execution.devices=4", "optim.batch_size=2"),
        ("execution=ddp execution.devices=2 detection.rpn_batch_size=1", "detection.rpn_batch_size=1"),
        ("device=cuda detection.pooling=align", "execution.deterministic=false"),
        ("execution.step=graph", "execution.step=graph"),
        ("execution.micro_batch=1", "execution.micro_batch=1"),
        ("optim.warmup=fixed", "optim=detection_sgd"),
        ("eval.train_error=true", "eval=detection"),
        ("detection.scales=[64,64]", "detection.scales=[64, 64]"),
        ("detection.members=[a,a]", "detection.members=['a', 'a']"),
        ("detection.start=a/b.pth", "detection.start='a/b.pth'"),
        ("detection.anchor_scales=[]", "detection.anchor_scales=[]"),
        ("detection.background=2", "detection.background=2"),
        ("data.mean=per_pixel", "data.mean=per_pixel"),
        ("data.pad=1", "data.pad=1"),
        ("data.lists=[2007_trainval]", "data=voc"),
        ("data=voc data.lists=[]", "data.lists=[]"),
        ("data=synthetic", "data=synthetic has no boxes"),
        ("model=cifar_resnet model.depth=20 model.width=1.0", "model=imagenet_resnet"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, words: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        detector_config(tmp_path, *words.split())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_images_with_boxes_need_a_detector(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exp=voc_detection"):
        config(tmp_path, "data=shapes", "scale=paper")


@pytest.mark.parametrize("start", ["null", "resnet101-cd907fc2.pth", "imagenet-resnet101-s0-00000000"])
def test_missing_weights_are_named_before_anything_starts(tmp_path: Path, start: str) -> None:
    of = detector_config(tmp_path, f"detection.start={start}")
    with pytest.raises(InputError, match=start):
        check_start(of)


@pytest.mark.parametrize(
    ("words", "said", "unsaid"),
    [
        ("exp=voc_detection model.depth=101", "resnet101-cd907fc2.pth, or random", "vgg"),
        ("exp=voc_detection model.depth=200", "name a finished run, or random", ".pth"),
        ("exp=voc_detection_vgg", "vgg16-397923af.pth, or random", "resnet"),
        ("exp=voc_final", "detector on COCO (exp=coco_detection)", ".pth"),
        ("exp=voc_final detection.pretrained=detector", "name the finished run of a detector", ".pth"),
    ],
)
def test_without_a_start_weights_that_fit_the_net_are_proposed(
    tmp_path: Path, words: str, said: str, unsaid: str
) -> None:
    of = config(tmp_path, *words.split(), "data=shapes", "scale=smoke", "detection.start=null")
    with pytest.raises(InputError, match=r"detection\.start=null") as error:
        check_start(of)
    assert said in str(error.value) and unsaid not in str(error.value)
