"""Estimates follow the counted multiply-adds; the calibration is measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.cost import Speed, calibrate, estimate
from tests.runs import config, configs


def test_time_follows_multiply_adds_and_steps(tmp_path: Path) -> None:
    speed = Speed(macs_per_second=1e12, block_seconds=0.0)
    twenty, fifty_six = configs(tmp_path, "model.depth=20,56", "scale=paper")
    first, second = (estimate(c, speed, 50_000, 10_000) for c in (twenty, fifty_six))
    # 64,000 steps of 128 images forward and backward, 164 evaluations of 10,000 and one of 50,000 images.
    images = 3 * 64_000 * 128 + (64_000 / 390.625 + 1) * 10_000 + 50_000
    assert first.seconds == pytest.approx(40_551_040 * images / 1e12, rel=1e-3)
    assert second.seconds / first.seconds == pytest.approx(second.size.macs / first.size.macs)


def test_launching_blocks_costs_where_data_is_small(tmp_path: Path) -> None:
    slow, fast = Speed(1e15, 1e-3), Speed(1e15, 1e-4)
    one = config(tmp_path)
    assert estimate(one, slow, 256, 128).seconds > 5 * estimate(one, fast, 256, 128).seconds


def test_the_calibration_is_kept_and_used_again(tmp_path: Path) -> None:
    one = config(tmp_path)
    speed = calibrate(one)
    assert 1e8 < speed.macs_per_second < 1e15
    assert 0 < speed.block_seconds < 1
    path = one.paths.work / "calibration.json"
    stored = json.loads(path.read_text())
    (name,) = stored
    stored[name]["macs_per_second"] = 123.0
    path.write_text(json.dumps(stored))
    assert calibrate(one).macs_per_second == 123.0
    path.write_text("not json")
    assert calibrate(one).macs_per_second > 1e8, "a damaged file is measured anew"


def test_a_calibration_that_cannot_be_kept_is_still_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = config(tmp_path, f"paths.work={tmp_path / 'file' / 'work'}")
    assert calibrate(one).macs_per_second > 1e8


def test_several_devices_share_the_time_and_the_activations(tmp_path: Path) -> None:
    speed = Speed(1e9, 1e-4)
    one = estimate(config(tmp_path, "model.bn_group_size=4"), speed, 256, 128)
    two = estimate(config(tmp_path, "model.bn_group_size=4", "execution=ddp"), speed, 256, 128)
    assert two.seconds == one.seconds / 2
    assert 12 * one.size.params < two.memory < one.memory
