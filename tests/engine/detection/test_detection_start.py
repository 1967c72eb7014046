"""The weights and pixel statistics from which a detector starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.vgg import make_layers

from repro.data import load
from repro.data.augment import PixelStats
from repro.data.detection.scaled import flipped, scaled_image, scaled_objects
from repro.engine.detection import start
from repro.engine.detection.feed import DetectionFeed
from repro.engine.run import run
from repro.errors import InputError
from repro.evaluation.stored_net import StoredNet, stats_of
from repro.models.detection.body import cut
from repro.models.vgg import build_vgg
from repro.results.record import Record
from repro.runtime import checkpoint
from repro.runtime.stop import Stopper
from tests.detector_runs import detector_config, shapes_of
from tests.photos import make_imagenet
from tests.runs import config, photo_config

CPU = torch.device("cpu")
NO_STATS = PixelStats(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
FILE = ("model.width=1.0", "model.shortcut=B", "model.stride_in=3x3", "detection.start=resnet18-0.pth")


def write_weights(folder: Path) -> dict[str, torch.Tensor]:
    net = torchvision.models.resnet18()
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / "resnet18-0.pth")
    state: dict[str, torch.Tensor] = net.state_dict()
    return state


def test_a_file_of_torchvisions_fills_the_body_and_brings_its_pixels(tmp_path: Path) -> None:
    of = detector_config(tmp_path, *FILE)
    theirs = write_weights(of.paths.data)
    found = start.build_start(of, shapes_of(of), CPU)
    assert torch.equal(found.net.conv1.weight, theirs["conv1.weight"])
    assert torch.equal(found.net.state_dict()["stages.3.1.conv2.weight"], theirs["layer4.1.conv2.weight"])
    assert found.stats.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert found.digests.keys() == {"start"}


@pytest.mark.parametrize(("words", "said"), [("model.stride_in=1x1", "model.stride_in=3x3"), ("model.depth=34", "34")])
def test_a_file_that_is_not_of_the_net_is_refused(tmp_path: Path, words: str, said: str) -> None:
    given = [word for word in FILE if word.partition("=")[0] != words.partition("=")[0]]
    of = detector_config(tmp_path, *given, words)
    write_weights(of.paths.data)
    with pytest.raises(InputError, match=said):
        start.build_start(of, shapes_of(of), CPU)


VGG = (
    *("model=vgg", "model.depth=16", "model.shortcut=none", "model.width=0.0625", "detection.pooled_size=7"),
    "detection.start=vgg16-0.pth",
)


def test_a_file_of_torchvisions_vgg_gives_its_body_and_its_fully_connected_layers(tmp_path: Path) -> None:
    of = detector_config(tmp_path, *VGG)
    assert of.label == "Faster R-CNN VGG-16-0.0625" and of.key == "shapes-fasterrcnn-vgg16-0.0625-smoke"
    names: list[str | int] = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
    features = make_layers(names)
    classifier = build_vgg(of.model, 1000, torch.Generator().manual_seed(1)).classifier.eval()
    theirs = torch.nn.ModuleDict({"features": features, "classifier": classifier})
    of.paths.data.mkdir(parents=True)
    torch.save(theirs.state_dict(), of.paths.data / "vgg16-0.pth")
    found = start.build_start(of, shapes_of(of), CPU)
    body, top = cut(found.net)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(body(images), features[:-1](images))
        pooled = torch.nn.functional.adaptive_avg_pool2d(features(images), 7)
        assert torch.equal(top(pooled), classifier[:5](pooled.flatten(1)))
    assert body.channels == 32 and found.stats.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    with torch.device("meta"):
        wanted = torchvision.models.vgg16().state_dict()
    whole = dataclasses.replace(of.model, width=1.0)
    with torch.device("meta"):
        ours = build_vgg(whole, 1000).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in wanted.items()}


def test_vgg_is_refused_where_its_layers_do_not_fit(tmp_path: Path) -> None:
    of = detector_config(tmp_path, *FILE)
    of.paths.data.mkdir(parents=True)
    torch.save(
        {"features.28.weight": torch.ones(1), "classifier.6.weight": torch.ones(1)},
        of.paths.data / FILE[-1].partition("=")[2],
    )
    with pytest.raises(InputError, match="model=vgg"):
        start.build_start(of, shapes_of(of), CPU)
    with pytest.raises(InputError, match=r"detection\.pooled_size=14 must be 7"):
        detector_config(tmp_path, *VGG[:-2], "detection.pooled_size=14")
    with pytest.raises(InputError, match="model=vgg"):
        config(tmp_path, "model=vgg", "data=imagenet")


def test_a_run_brings_its_net_and_the_mean_of_its_mean_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "imagenet-resnet18-s0-00000000"
    of = detector_config(tmp_path, f"detection.start={name}")
    before = start.build_net(of, 7).state_dict()
    image = torch.arange(3 * 2 * 2, dtype=torch.float32).view(3, 2, 2)
    model = dataclasses.replace(of.model, bn_group_size=32)
    record = Mock(spec=Record, run_id=name, science=SimpleNamespace(model=model), fingerprint="0" * 16)
    monkeypatch.setattr(start, "find_any", lambda *_: record)
    monkeypatch.setattr(start, "file_of", lambda *_: Path("weights.safetensors"))
    stored = StoredNet(before, PixelStats(image, torch.ones(1, 1, 1)), tuple("abcdefg"))
    monkeypatch.setattr(start, "stored_net", lambda *_: stored)
    found = start.build_start(of, shapes_of(of), CPU)
    assert all(torch.equal(value, before[key]) for key, value in found.net.state_dict().items())
    assert found.stats.mean.flatten().tolist() == [1.5, 5.5, 9.5]
    record.science.model = dataclasses.replace(model, pool_padding=0)
    with pytest.raises(InputError, match=r"model\.pool_padding=0"):
        start.build_start(of, shapes_of(of), CPU)


@pytest.mark.slow
def test_an_own_run_on_imagenet_images_is_a_body_where_its_images_are_not(tmp_path: Path) -> None:
    net = ("model.width=0.125", "model.shortcut=B", "optim.steps=2", "optim.milestones=[]", "eval.every_steps=2")
    trained = photo_config(tmp_path, *net, "optim.batch_size=8", "model.bn_group_size=8", "data.mean=per_channel")
    make_imagenet(trained.paths.data)
    assert run(trained, load(trained.data, trained.paths.data, may_fetch=False), Stopper(None)) is not None
    weights = checkpoint.load(trained.work_dir / checkpoint.FINAL)["model"]
    of = detector_config(tmp_path, f"detection.start={trained.run_id}", f"paths.data={tmp_path / 'elsewhere'}")
    found = start.build_start(of, shapes_of(of), CPU)
    assert all(torch.equal(value, weights[name]) for name, value in found.net.state_dict().items())
    stats = stats_of(load(trained.data, trained.paths.data, may_fetch=False), trained.data)
    assert torch.equal(found.stats.mean, stats.mean) and 0.2 < float(stats.mean.min()) < 0.8
    assert found.digests == {"start": trained.fingerprint}


def test_a_flipped_image_and_its_boxes_are_the_mirror_image(tmp_path: Path) -> None:
    split = shapes_of(detector_config(tmp_path)).train
    like = torch.empty(0, dtype=torch.float64)
    for position in range(4):
        one, other = (scaled_image(split, position, (96, 1000), NO_STATS, like, flip) for flip in (False, True))
        assert one.scale == 1.0 and torch.equal(one.pixels.flip(-1), other.pixels)
        width = float(one.size[1])
        boxes = [scaled_objects(split, position, 1.0, like, flip).boxes.numpy() for flip in (False, True)]
        assert np.array_equal(flipped(boxes[0], width), boxes[1])
    half = scaled_image(split, 0, (48, 1000), NO_STATS, like)
    assert half.scale == 0.5 and half.size == (48, 64)
    assert scaled_image(split, 0, (96, 64), NO_STATS, like).size == (48, 64)


def test_every_epoch_has_all_images_and_depends_on_the_step_and_the_epoch_alone(tmp_path: Path) -> None:
    of = detector_config(tmp_path)
    dataset = shapes_of(of)
    feed = DetectionFeed(of, dataset, NO_STATS, torch.empty(0))
    epochs = {(part, e): [feed.draw(part, 8 * e + i) for i in range(8)] for part in range(4) for e in range(2)}
    assert all(sorted(at for at, _ in drawn) == list(range(8)) for drawn in epochs.values())
    assert len({str(drawn) for drawn in epochs.values()}) == 8
    again = DetectionFeed(of, dataset, NO_STATS, torch.empty(0))
    assert again.draw(3, 9) == epochs[3, 1][1]
    assert {flip for drawn in epochs.values() for _, flip in drawn} == {False, True}
