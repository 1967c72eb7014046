"""`repro bench data=imagenet`: complete and correct measurements.

No test asserts a speed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.bench import Document, carried_out, choose
from repro.bench.loader import HeldFeed, loader, sample
from repro.bench.measure import MEASUREMENTS, describe
from repro.bench.parts import PHOTO_CPU_BATCH, Choice, Part, quick_parts, settled, usual_parts
from repro.bench.tables import report
from repro.config.run import RunConfig
from repro.data import PhotoSplit
from repro.errors import InputError
from tests.bench.test_bench import CPU, GPU
from tests.photos import CLASSES, make_imagenet, truncate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_imagenet(tmp_path / "photos", train=4, val=1)


def small(folder: Path, *words: str) -> RunConfig:
    given = {word.partition("=")[0] for word in words}
    size = ["data.image_size=32", "data.resize=[36,48]", "data.eval_resize=40", "data.partial=true"]
    step = ["optim.batch_size=4", "model.bn_group_size=2", "execution.threads=1", "execution.step=eager"]
    work = [f"paths.{name}={folder.parent / name}" for name in ("work", "results")]
    kept = ["data=imagenet", "device=cpu", "model.depth=18", f"paths.data={folder}", *size, *step, *work]
    kept = [word for word in kept if word.partition("=")[0] not in given]
    (config,) = choose([*kept, *words], everything=False).configs
    return config


# --- images -------------------------------------------------------------------------------------------------------


def test_a_sample_is_of_all_classes_and_leaves_out_what_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.bench.loader.SAMPLE", 2 * len(CLASSES))
    damaged = truncate(folder / "train" / CLASSES[1] / f"{CLASSES[1]}_0.JPEG")
    found = sample(small(folder).data, folder)
    assert isinstance(found.train, PhotoSplit) and found.train.sizes is not None
    assert found.train.labels.tolist() == [0, 0, 1, 2, 2]
    assert found.skipped == (damaged.relative_to(folder).as_posix(),)
    assert found.num_classes == len(CLASSES)
    assert (found.train.sizes >= 40).all()


def test_a_folder_of_nothing_but_damaged_images_is_refused(folder: Path) -> None:
    for path in (folder / "train").rglob("*.JPEG"):
        truncate(path)
    with pytest.raises(InputError, match=r"none of 12 images in .* can be read"):
        sample(small(folder).data, folder)


def test_describing_reads_no_more_than_the_sample(folder: Path) -> None:
    found = describe(small(folder))
    assert (found["data"], found["data_stands_in"]) == ("imagenet", False)
    assert not (folder.parent / "work").exists(), "no pass over all images, no cache"
    with pytest.raises(InputError, match=r"data\.partial=true"):
        describe(small(folder, "data.partial=false"))


# --- measurements -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """Run the measurements of a quick bench in this process."""
    folder = make_imagenet(tmp_path_factory.mktemp("bench") / "photos", train=4, val=1)
    truncate(folder / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG")
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    def measured(part: Part, deadline: float) -> Document:
        found = MEASUREMENTS[part.kind](part.config, seconds=0.3, **part.options)
        return dict(json.loads(json.dumps(found)))

    parts = quick_parts(Choice([small(folder)], {"model.depth", "optim.batch_size"}), CPU)
    entries = [carried_out(part, math.inf, measured) for part in parts]
    assert flags == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
    return {"parts": entries}


def result(document: Document, kind: str) -> Document:
    (found,) = [part["result"] for part in document["parts"] if part["kind"] == kind]
    return dict(found)


def test_a_quick_bench_measures_loader_step_and_torchvisions_net(document: Document) -> None:
    assert [(p["kind"], p["state"]) for p in document["parts"]] == [
        ("loader", "done"),
        ("case", "done"),
        ("pairs", "done"),
    ]
    text = report(document)
    assert "11 of " in text and " to 32x32, 1 unreadable" in text
    assert "beside torchvision's" in text


def test_each_decoder_is_measured_on_one_core_and_as_a_feed(document: Document) -> None:
    found = result(document, "loader")
    assert [row["decoder"] for row in found["rows"]] == ["pillow", "torchvision"]
    assert (found["images"], found["unreadable"], found["image_size"]) == (11, 1, 32)
    for row in found["rows"]:
        size = found["batch_size"]
        assert row["images_per_second_per_core"] == pytest.approx(1000 * size / row["core_batch_ms"]["median"])
        assert row["images_per_second"] == pytest.approx(1000 * size / row["batch_ms"]["median"])
        assert row["workers"] == 1


def test_the_step_alone_and_with_its_loader(document: Document) -> None:
    found = result(document, "case")
    assert (found["net"], found["arithmetic"], found["step"]) == ("ResNet-18 B", "fp32", "eager")
    for times in (found["step_ms"], found["loop_ms"]):
        assert 0 < times["min"] <= times["median"] <= times["max"] < math.inf
    assert found["images_per_second"] == pytest.approx(1000 * found["batch_size"] / found["loop_ms"]["median"])
    assert 0 <= found["loader_share"] < 1


def test_beside_torchvisions_net(document: Document) -> None:
    found = result(document, "pairs")
    ours, theirs = found["ours_ms"], found["theirs_ms"]
    ratios = [t / o for o, t in zip(ours["rounds"], theirs["rounds"], strict=True)]
    assert found["ratio"]["pairs"] == pytest.approx(ratios)
    assert ours["count"] == theirs["count"] >= 1
    assert found["beside"] == "torchvision's resnet18, channels_last, single precision, eager"


def test_a_loader_measures_with_one_thread_and_leaves_the_setting(folder: Path) -> None:
    found = loader(small(folder, "execution.workers=0", "execution.threads=2"), 0.2)
    assert torch.get_num_threads() == 2
    assert {row["workers"] for row in found["rows"]} == {0}


def test_a_held_batch_needs_no_files_until_it_is_released(folder: Path) -> None:
    config = small(folder, "execution.workers=0")
    feed = HeldFeed(sample(config.data, folder), config, torch.device("cpu"))
    held = feed.load(0)
    for path in (folder / "train").rglob("*.JPEG"):
        path.rename(path.with_suffix(".gone"))
    assert feed.load(3) is feed.load(4) is held
    assert feed.release() == 1
    with pytest.raises(Exception, match="can no longer be read"):
        feed.load(5)


@pytest.mark.parametrize(
    ("workers", "batch_size", "steps"),
    [(2, 16, 9), (16, 256, 9)],  # a batch is one task: 2 processes have 4 each; it is 8: 16 processes have 64 together
)
def test_what_was_read_ahead_is_used_up_before_a_feed_is_timed(
    folder: Path, workers: int, batch_size: int, steps: int
) -> None:
    config = small(folder, "execution.workers=0", f"optim.batch_size={batch_size}", "model.bn_group_size=2")
    feed = HeldFeed(sample(config.data, folder), config, torch.device("cpu"))
    feed._workers = workers
    assert feed.release() == steps


# --- choice and order ---------------------------------------------------------------------------------------------


def chosen(*words: str, device: dict[str, Any] = CPU) -> list[RunConfig]:
    return settled(choose(["data=imagenet", *words], everything=False), device)


def test_what_the_words_leave_open_the_device_decides() -> None:
    (cpu,), (gpu,) = chosen(), chosen(device=GPU)
    assert (cpu.model.label, cpu.optim.precision, cpu.optim.batch_size) == ("ResNet-18 B", "tf32", PHOTO_CPU_BATCH)
    assert (gpu.model.label, gpu.optim.precision, gpu.optim.batch_size) == ("ResNet-50", "bf16", 256)
    assert (cpu.model.bn_group_size, gpu.model.bn_group_size) == (PHOTO_CPU_BATCH, 32)


def test_what_the_words_say_stays() -> None:
    words = ["model.depth=34,101", "model.shortcut=C", "optim.precision=fp32", "optim.batch_size=64"]
    for device in (CPU, GPU):
        found = chosen(*words, device=device)
        assert [c.model.label for c in found] == ["ResNet-34 C", "ResNet-101 C"]
        assert {(c.optim.precision, c.optim.batch_size, c.model.bn_group_size) for c in found} == {("fp32", 64, 32)}
    (smoke,) = chosen("scale=smoke", device=CPU)
    assert (smoke.optim.batch_size, smoke.data.image_size) == (16, 64)
    experiment = chosen("exp=imagenet_shortcuts")
    assert {c.model.depth for c in experiment} == {34} and {c.model.shortcut for c in experiment} > {"A", "B"}


def test_imagenet_and_small_images_do_not_mix() -> None:
    with pytest.raises(InputError, match="data=cifar10"):
        choose(["data=imagenet,cifar10", "model=imagenet_resnet", "model.depth=18"], everything=False)


def kinds(parts: list[Part]) -> list[str]:
    return [part.kind for part in parts]


def test_a_gpu_is_compared_in_the_work_that_the_reference_does_and_as_the_recipe_has_it() -> None:
    parts = usual_parts(choose(["data=imagenet"], everything=False), GPU)
    assert kinds(parts)[:4] == ["ceilings", "loader", "case", "pairs"]
    trained = [p.config.execution.step for p in parts if p.kind == "case"]
    assert trained[0] == "graph" and sorted(trained) == ["compile", "eager", "graph"]
    compared = [
        (p.config.execution.step, p.config.model.bn_group_size, p.config.execution.deterministic)
        for p in parts
        if p.kind == "pairs"
    ]
    assert compared == [("graph", 256, False), ("graph", 32, True)]
    assert sum(p.seconds for p in parts) < 0.5 * 8 * 60, "the rest is for compiling"


def test_a_cpu_is_compared_in_one_way_and_plain_nets_in_none() -> None:
    parts = usual_parts(choose(["data=imagenet"], everything=False), CPU)
    assert kinds(parts) == ["ceilings", "loader", "case", "pairs", "case"]
    plain = choose(["data=imagenet", "model.depth=34", "model.shortcut=none"], everything=False)
    assert "pairs" not in kinds(usual_parts(plain, CPU))


def test_quick_measures_one_net_in_under_a_minute() -> None:
    choice = choose(["data=tiny_imagenet,imagenet", "model.depth=18,34"], everything=False)
    parts = quick_parts(choice, CPU)
    assert kinds(parts) == ["loader", "case", "pairs"]
    assert len({p.config.model.depth for p in parts}) == len({p.config.data.name for p in parts}) == 1
    assert {p.config.execution.step for p in parts} == {"eager"}
    assert sum(p.seconds for p in parts) < 30
