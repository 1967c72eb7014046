"""Estimates from counted multiply-adds and measured speeds, which are the fastest of several windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from repro.config.run import RunConfig
from repro.engine.localization.size import localizer_size
from repro.launch.cost import Speed, calibrate, estimate, fastest, measure_speed, memory
from repro.models.count import Size, measure
from tests.detector_runs import detector_config
from tests.localizer_runs import localizer_config
from tests.planted_imagenet import plant_imagenet
from tests.runs import config, configs


def test_time_follows_multiply_adds_and_steps(tmp_path: Path) -> None:
    speed = Speed(macs_per_second=1e12, block_seconds=0.0)
    twenty, fifty_six = configs(tmp_path, "model.depth=20,56", "scale=paper")
    first, second = (estimate(c, speed, 50_000, 10_000) for c in (twenty, fifty_six))
    # 64,000 steps of 128 images forward and backward, 164 evaluations of 10,000 and one of 50,000 images.
    images = 3 * 64_000 * 128 + (64_000 / 390.625 + 1) * 10_000 + 50_000
    assert first.seconds == pytest.approx(40_551_040 * images / 1e12, rel=1e-3)
    assert second.seconds / first.seconds == pytest.approx(second.size.macs / first.size.macs)


def test_dropped_blocks_cost_nothing_in_training(tmp_path: Path) -> None:
    speed = Speed(macs_per_second=1e12, block_seconds=0.0)
    runs = configs(tmp_path, "scale=paper", "model.depth=110", "model.survival=none,linear,uniform")
    seconds = [estimate(run, speed, 50_000, 0).macs - runs_tested(run) for run in runs]
    assert [part / seconds[0] for part in seconds] == pytest.approx([1, 0.75, 0.5])


def runs_tested(run: RunConfig) -> float:
    """Multiply-adds of the test on the training images at the end."""
    return measure(run.model, 32, 10).macs * 50_000


def test_launching_blocks_costs_where_data_is_small(tmp_path: Path) -> None:
    slow, fast = Speed(1e15, 1e-3), Speed(1e15, 1e-4)
    one = config(tmp_path)
    assert estimate(one, slow, 256, 128).seconds > 5 * estimate(one, fast, 256, 128).seconds


@pytest.fixture
def measured_anew() -> Iterator[None]:
    """Forget measured speeds, as in a new process."""
    measure_speed.cache_clear()
    yield
    measure_speed.cache_clear()


@pytest.mark.usefixtures("measured_anew")
def test_a_measurement_is_made_once_in_a_process_and_leaves_nothing(tmp_path: Path) -> None:
    one = config(tmp_path)
    speed = calibrate(one)
    assert 1e8 < speed.macs_per_second < 1e15
    assert 0 < speed.block_seconds < 1
    assert calibrate(one) is speed
    assert not one.paths.work.exists()


@pytest.mark.usefixtures("measured_anew")
def test_a_long_run_is_worth_a_precise_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def fastest(passes: Sequence[Callable[[], None]], windows: int) -> list[float]:
        looked.append(windows)
        return [1e-3] * (len(passes) - 1) + [0.0]

    monkeypatch.setattr("repro.launch.cost.fastest", fastest)
    calibrate(config(tmp_path, "optim.steps=2", "optim.milestones=[]"))
    assert looked == [1]
    calibrate(config(tmp_path, "optim.steps=1000000", "optim.milestones=[]"))
    assert looked == [1, 5]


@pytest.mark.usefixtures("measured_anew")
def test_what_was_measured_on_a_busy_machine_is_not_taken_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = config(tmp_path)
    found = {}
    for name, seconds in (("busy", 1.0), ("quiet", 0.01)):
        measure_speed.cache_clear()
        monkeypatch.setattr(
            "repro.launch.cost.fastest", lambda passes, windows, seconds=seconds: [seconds] * (len(passes) - 1) + [0.0]
        )
        found[name] = calibrate(one).macs_per_second
    assert found["quiet"] == pytest.approx(100 * found["busy"])


def test_the_fastest_window_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs slow down most windows: all but the second of one pass, all but one of the other."""
    clock = [0.0]
    monkeypatch.setattr("repro.launch.cost.time.perf_counter", lambda: clock[0])

    def taking(seconds: list[float]) -> Callable[[], None]:
        left = iter(seconds)

        def run() -> None:
            clock[0] += next(left)

        return run

    one, two = [9.0, 9.0, 0.5, 0.7, *[8.0] * 6], [30.0] * 8 + [2.0, 4.0]
    assert fastest([taking(one), taking(two)], windows=5) == pytest.approx([0.6, 3.0])


def test_several_devices_share_the_time_and_the_activations(tmp_path: Path) -> None:
    speed = Speed(1e9, 1e-4)
    one = estimate(config(tmp_path, "model.bn_group_size=4"), speed, 256, 128)
    two = estimate(config(tmp_path, "model.bn_group_size=4", "execution=ddp"), speed, 256, 128)
    assert two.seconds == one.seconds / 2
    assert 12 * one.size.params < two.memory < one.memory


def test_pieces_of_a_batch_need_the_memory_of_one(tmp_path: Path) -> None:
    words = ("model.bn_group_size=4", "optim.batch_size=16")
    whole, pieces = (config(tmp_path, *words, f"execution.micro_batch={micro}") for micro in ("null", "4"))
    size = measure(whole.model, whole.data.image_size, whole.data.num_classes)
    weights = 12 * size.params
    assert memory(pieces, size) - weights == (memory(whole, size) - weights) // 4


def test_the_test_of_an_ensemble_takes_each_net_and_the_proposals_of_all(tmp_path: Path) -> None:
    speed = Speed(1e9, 0.0)
    words = ("", "detection.members=[a]", "detection.members=[a,b]")
    runs = [detector_config(tmp_path, *filter(None, [word])) for word in words]
    one, two, three = (estimate(run, speed, 8, 100).macs - estimate(run, speed, 8, 0).macs for run in runs)
    # Bodies grow with the nets, regions with their square: with three nets 3 b + 9 r, of b + r and 2 b + 4 r.
    assert one < two / 2 and three == pytest.approx(3 * two - 3 * one)
    assert estimate(runs[0], speed, 8, 0).macs == estimate(runs[2], speed, 8, 0).macs


def macs_of_test(run: RunConfig) -> float:
    """Multiply-adds of a test of 100 images."""
    speed = Speed(1e9, 0.0)
    return estimate(run, speed, 8, 100).macs - estimate(run, speed, 8, 0).macs


def test_an_ensemble_of_localizers_takes_each_net_but_the_proposals_once(tmp_path: Path) -> None:
    words = ((), ("localization.members=[a]",), ("localization.members=[a,b]",))
    network = [macs_of_test(localizer_config(tmp_path, *word)) for word in words]
    assert network == pytest.approx([network[0], 2 * network[0], 3 * network[0]])
    regions = [localizer_config(tmp_path, "localization.method=rcnn", *word) for word in words]
    one, two, three = map(macs_of_test, regions)
    # Six proposals of each of 100 images.
    assert two - one == three - two == 600 * localizer_size(regions[0], 3).macs
    # Without members the test has the regions once, and the network at both scales.
    whole = 4 / 3 * (1 + 1.5**2)
    assert one - (two - one) == pytest.approx(100 * whole * localizer_size(localizer_config(tmp_path), 3).macs)


def test_a_localizer_without_scales_has_no_dense_test(tmp_path: Path) -> None:
    run = localizer_config(tmp_path, "localization.scales=[]")
    assert macs_of_test(run) == pytest.approx(100 * localizer_size(run, 3).macs)


def test_each_run_that_predicts_classes_sees_the_views_of_its_own_test(tmp_path: Path) -> None:
    crop, dense = (
        plant_imagenet(tmp_path / "work", seed=seed, science={"eval.views": views, "eval.scales": [112, 224]}).name
        for seed, views in ((0, []), (1, ["multiscale"]))
    )
    usual = macs_of_test(localizer_config(tmp_path))
    nets = (f"[{crop}]", f"[{dense}]", f"[{crop},{dense}]", "[planned-s0]")
    runs = [localizer_config(tmp_path, f"localization.classes_of={names}") for names in nets]
    net = 100 * measure(runs[0].model, 64, 3).macs
    # With flips, at half the side of a crop and at its side; for a run that is not there yet, at 64 and 96 pixels.
    views = 2 * 4 / 3 * (0.5**2 + 1)
    expected = [1, views, 1 + views, 2 * 4 / 3 * (1 + 1.5**2)]
    assert [(macs_of_test(run) - usual) / net for run in runs] == pytest.approx(expected)


def test_a_detector_with_the_body_of_vgg_has_a_size_and_a_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = detector_config(tmp_path, "exp=voc_detection_vgg", "model.width=1.0", "detection.pooled_size=7")
    # Those that torchvision's documentation gives to VGG-16.
    assert measure(one.model, 224, 1000) == Size(138_357_544, 15_470_264_320)
    monkeypatch.setattr("repro.launch.cost.measure_speed", lambda *_, windows: Speed(1e12, float(windows)))
    assert calibrate(one).block_seconds == 1.0, "a run of seconds is measured once"
