"""`repro bench data=imagenet`: what is measured on photographs is whole and counted right.

Nothing here says how fast anything is.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repro import bench as bench_module
from repro.bench import choose
from repro.bench.measure import MEASUREMENTS, describe
from repro.bench.parts import (
    PHOTO_CPU_BATCH,
    Choice,
    Part,
    all_photo_parts,
    photo_configs,
    quick_photo_parts,
    usual_photo_parts,
)
from repro.bench.photos import SwitchedFeed, loader, read_ahead_steps, sample, training
from repro.bench.reference import reference
from repro.bench.rig import alternate
from repro.bench.tables import limit_words, report, summary_line
from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import PhotoSplit
from repro.data.augment import PixelStats
from repro.errors import InputError
from tests.photos import CLASSES, make_imagenet, truncate

GPU = {"device": "cuda", "best_step": "graph", "step_modes": ["eager", "graph", "compile"], "bf16": True}
CPU = {"device": "cpu", "best_step": "eager", "step_modes": ["eager", "compile"], "bf16": False}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_imagenet(tmp_path / "photos", train=4, val=1)


def small_words(folder: Path) -> list[str]:
    work = [f"paths.{name}={folder.parent / name}" for name in ("work", "results")]
    size = ["data.image_size=32", "data.resize=[36,48]", "data.eval_resize=40", "data.partial=true"]
    step = ["optim.batch_size=4", "model.bn_group_size=2", "execution.threads=1", "execution.step=eager"]
    return ["data=imagenet", "device=cpu", "model.depth=18", f"paths.data={folder}", *size, *step, *work]


def small(folder: Path, *words: str) -> RunConfig:
    given = {word.partition("=")[0] for word in words}
    kept = [word for word in small_words(folder) if word.partition("=")[0] not in given]
    (config,) = choose([*kept, *words], everything=False).configs
    return config


def as_stored(found: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(found))
    return values


def check_rounds(times: dict[str, Any]) -> None:
    assert 0 < times["min"] <= times["median"] <= times["max"] < math.inf
    assert len(times["rounds"]) >= 2 and times["count"] >= 1


# --- images -------------------------------------------------------------------------------------------------------


def test_a_sample_is_of_all_classes_and_leaves_out_what_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.bench.photos.SAMPLE", 2 * len(CLASSES))
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


def test_a_folder_that_is_not_the_whole_set_must_be_meant(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.partial=true"):
        describe(small(folder, "data.partial=false"))


def test_describing_reads_no_more_than_the_sample(folder: Path) -> None:
    found = describe(small(folder))
    assert (found["data"], found["data_stands_in"]) == ("imagenet", False)
    assert not (folder.parent / "work").exists(), "no pass over all images, no cache"


# --- measurements -------------------------------------------------------------------------------------------------


def test_each_decoder_is_measured_alone_and_as_a_feed(folder: Path) -> None:
    found = as_stored(loader(small(folder, "execution.workers=1", "execution.threads=2"), 0.5))
    assert torch.get_num_threads() == 2, "one thread was for the measurement alone"
    assert [row["decoder"] for row in found["rows"]] == ["pillow", "torchvision"]
    assert (found["images"], found["unreadable"], found["image_size"]) == (12, 0, 32)
    for row in found["rows"]:
        for name in ("decode_ms", "crop_ms", "whole_ms", "batch_ms"):
            check_rounds(row[name])
        assert row["images_per_second_per_core"] == pytest.approx(1000 / row["whole_ms"]["median"])
        assert (row["workers"], row["batch_size"]) == (1, 4)
        assert row["images_per_second"] == pytest.approx(4000 / row["batch_ms"]["median"])
        assert row["images_per_second_per_worker"] == row["images_per_second"]


def test_without_processes_of_its_own_a_feed_counts_as_one(folder: Path) -> None:
    (row, _) = loader(small(folder, "execution.workers=0"), 0.5)["rows"]
    assert row["workers"] == 0
    assert row["images_per_second_per_worker"] == row["images_per_second"] > 0


def test_the_step_alone_and_with_its_loader(folder: Path) -> None:
    found = as_stored(training(small(folder, "optim.precision=fp32", "execution.workers=0"), 0.3))
    assert (found["net"], found["precision"], found["step"]) == ("ResNet-18 B", "fp32", "eager")
    assert (found["batch_size"], found["bn_group_size"], found["image_size"], found["images"]) == (4, 2, 32, 12)
    for name in ("step_ms", "loop_ms"):
        check_rounds(found[name])
    assert found["step_images_per_second"] == pytest.approx(4000 / found["step_ms"]["median"])
    assert found["images_per_second"] == pytest.approx(4000 / found["loop_ms"]["median"])
    assert 0 < found["waiting_share"] < 1, "without processes that read ahead, every step waits a little"
    assert found["limit"] in ("loader", "step")
    assert found["startup_seconds"] > 0


class Counted:
    """A feed of which each batch can be told apart."""

    device, part_size = torch.device("cpu"), 1
    stats = PixelStats(torch.zeros(1), torch.ones(1))
    closed = 0

    def __len__(self) -> int:
        return 10

    def fed(self, step: int) -> tuple[Tensor, ...]:
        return (torch.tensor([step]),)

    def augmented(self, fed: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return fed[0], fed[0]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.augmented(self.fed(step))

    def close(self) -> None:
        self.closed += 1


def test_a_held_batch_needs_no_files_and_nothing_is_waited_for() -> None:
    source = Counted()
    feed = SwitchedFeed(source)
    feed.hold()
    assert source.closed == 1, "no process reads ahead while the step is timed alone"
    assert [int(feed.fed(step)[0]) for step in (3, 4)] == [0, 0]
    assert feed.waited == 0
    feed.release()
    assert [int(feed.fed(step)[0]) for step in (5, 6)] == [5, 6]
    assert feed.waited > 0


def test_what_was_read_ahead_is_used_up_before_a_feed_is_timed() -> None:
    assert read_ahead_steps(0, 256) == 1
    assert read_ahead_steps(2, 16) == 9, "a batch is one task: 2 processes have 4 each"
    assert read_ahead_steps(16, 256) == 9, "a batch is 8 tasks: 16 processes have 64 together"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_beside_torchvisions_net(folder: Path, precision: str) -> None:
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    found = as_stored(reference(small(folder, f"optim.precision={precision}", "execution.workers=0"), 0.3))
    ours, theirs, ratio = found["step_ms"]["rounds"], found["reference_ms"]["rounds"], found["ratio"]
    assert ratio["pairs"] == pytest.approx([t / o for o, t in zip(ours, theirs, strict=True)])
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert found["step_ms"]["count"] == found["reference_ms"]["count"] == found["steps_per_window"] >= 1
    words = {"fp32": "fp32", "bf16": "bf16 autocast"}[precision]
    assert found["reference"] == f"torchvision's resnet18, channels_last, {words}, eager"
    assert found["reference_compiled"] is False
    assert flags == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)


def test_pairs_take_turns_in_who_begins() -> None:
    log = []

    def action(name: str, seconds: float) -> Any:
        def run(count: int) -> float:
            log.append(name)
            return seconds * count

        return run

    contest = alternate(action("ours", 0.01), action("theirs", 0.02), 3.0, 2)
    assert "".join(name[0] for name in log) == "ot" + "ot" + "to" + "ot" + "to" + "ot"
    assert contest.ours.count == contest.theirs.count == 20
    assert contest.ratio()["median"] == pytest.approx(2)


# --- choice and order ---------------------------------------------------------------------------------------------


def chosen(*words: str, device: dict[str, Any] = CPU) -> list[RunConfig]:
    return photo_configs(choose(["data=imagenet", *words], everything=False), device)


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


def test_photographs_and_small_images_do_not_mix() -> None:
    with pytest.raises(InputError, match="photographs"):
        choose(["data=imagenet,cifar10", "model=imagenet_resnet", "model.depth=18"], everything=False)


def kinds(parts: list[Part]) -> list[str]:
    return [part.kind for part in parts]


def test_a_gpu_is_compared_in_the_work_that_the_reference_does_and_as_the_recipe_has_it() -> None:
    parts = usual_photo_parts(choose(["data=imagenet"], everything=False), GPU)
    assert kinds(parts)[:3] == ["loader", "training", "reference"]
    trained = [p.config.execution.step for p in parts if p.kind == "training"]
    assert trained[0] == "graph" and sorted(trained) == ["compile", "eager", "graph"]
    compared = [
        (p.config.execution.step, p.config.model.bn_group_size, p.config.execution.deterministic)
        for p in parts
        if p.kind == "reference"
    ]
    assert compared == [("graph", 256, False), ("compile", 256, False), ("graph", 32, True)]
    assert sum(p.seconds for p in parts) < 0.5 * 8 * 60, "the rest is for compiling"


def test_a_cpu_is_compared_in_one_way_and_plain_nets_in_none() -> None:
    parts = usual_photo_parts(choose(["data=imagenet"], everything=False), CPU)
    assert kinds(parts) == ["loader", "training", "reference", "training"]
    plain = choose(["data=imagenet", "model.depth=34", "model.shortcut=none"], everything=False)
    assert "reference" not in kinds(usual_photo_parts(plain, CPU))


def test_quick_measures_one_net_in_under_a_minute() -> None:
    choice = choose(["data=tiny_imagenet,imagenet", "model.depth=18,34"], everything=False)
    parts = quick_photo_parts(choice, CPU)
    assert kinds(parts) == ["loader", "training", "reference"]
    assert len({p.config.model.depth for p in parts}) == len({p.config.data.name for p in parts}) == 1
    assert {p.config.execution.step for p in parts} == {"eager"}
    assert sum(p.seconds for p in parts) < 30


def test_all_covers_table_1_and_the_arithmetic_of_the_recipe() -> None:
    parts = all_photo_parts(choose(["data=imagenet"], everything=True), GPU)
    trained = {(p.config.model.depth, p.config.optim.precision) for p in parts if p.kind == "training"}
    assert trained == {(18, "bf16"), (34, "bf16"), (50, "bf16"), (101, "bf16"), (152, "bf16"), (50, "tf32")}


def test_every_part_can_be_measured() -> None:
    choice: Choice = choose(["data=imagenet"], everything=True)
    assert {p.kind for p in all_photo_parts(choice, GPU)} <= set(MEASUREMENTS)


# --- what is printed ----------------------------------------------------------------------------------------------


def test_one_sentence_says_which_of_the_two_limits() -> None:
    slow = {"limit": "loader", "waiting_share": 0.6, "images_per_second": 40.0, "step_images_per_second": 100.0}
    assert limit_words(slow) == (
        "the loader limits: 40 images/s, the step could take 100 alone but waits 60 % of the time"
    )
    fast = {"limit": "step", "waiting_share": 0.01, "images_per_second": 99.0, "step_images_per_second": 100.0}
    assert limit_words(fast) == "the step limits: 99 images/s, 100 alone; it waits 1 % of the time for the loader"


def test_a_whole_quick_bench_prints_its_tables(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(folder / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG")

    class Here:
        """Measures in this process."""

        def call(self, kind: str, config: RunConfig, limit: float, **options: Any) -> dict[str, Any]:
            if options:
                options["seconds"] = 0.2
            return as_stored(MEASUREMENTS[kind](config, **options))

        def close(self) -> None:
            pass

    monkeypatch.setattr(bench_module, "Worker", Here)
    path = folder.parent / "bench.json"
    assert main(["bench", "--quick", "--json", str(path), *small_words(folder), "execution.workers=1"]) == 0
    said = capsys.readouterr().out
    document = json.loads(path.read_text())
    assert [(part["kind"], part["state"]) for part in document["parts"]] == [
        ("loader", "done"),
        ("training", "done"),
        ("reference", "done"),
    ]
    assert document["command"].startswith("repro bench --quick data=imagenet") and str(folder) not in said
    assert "11 photographs of imagenet" in said and "1 more that cannot be read were left out" in said
    assert "the loader limits" in said or "the step limits" in said
    assert "beside torchvision's resnet18" in said
    assert all(f"[{n}/3]" in said for n in (1, 2, 3))
    assert report(document) in said


def test_a_part_that_failed_is_told_in_a_word() -> None:
    part = {"kind": "loader", "label": "loading", "state": "failed", "reason": "no more memory", "result": None}
    assert summary_line(part) == "failed, no more memory"
