"""Passes over images: interrupted, on several ranks, and with damaged or other files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from repro.config.run import RunConfig
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.passes import Pass, Row, read_rows, run_pass
from repro.runtime import distributed
from tests.detector_runs import detector_config
from tests.ranks import on_ranks


class Hooks(DetectionHooks):
    """Stop at the look number ``at``; a checkpoint is always due, so that each round is saved."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.looks = at, 0

    def save_is_due(self) -> bool:
        return True

    def stop(self) -> bool:
        self.looks += 1
        return self.looks == self.at


class Finder:
    """Find as many values in an image as its position says, and keep what was seen together."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at, self.seen = killed_at, list[list[int]]()

    def __call__(self, positions: Sequence[int]) -> Iterator[Row]:
        self.seen.append(list(positions))
        for position in positions:
            if position == self.killed_at:
                raise KeyboardInterrupt
            yield np.full((position % 3, 4), position, np.float32), np.arange(position % 3)


@pytest.fixture
def images(tmp_path: Path) -> Pass:
    of = detector_config(tmp_path)
    of.work_dir.mkdir(parents=True)
    return of_run(of)


def of_run(of: RunConfig) -> Pass:
    return Pass(of, "found.npz", 7, {"net": torch.ones(2)}, "test", together=2)


def assert_whole(rows: Sequence[Row] | None) -> None:
    assert rows is not None and len(rows) == 7
    for position, (boxes, numbers) in enumerate(rows):
        assert boxes.dtype == np.float32 and boxes.tolist() == [[position] * 4] * (position % 3)
        assert numbers.tolist() == list(range(position % 3))


def test_a_finished_pass_is_not_made_again(images: Pass) -> None:
    assert_whole(run_pass(images, Finder(), DetectionHooks()))
    again = Finder()
    assert_whole(run_pass(images, again, DetectionHooks()))
    assert again.seen == []


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_an_interrupted_pass_sees_the_rest_alone_and_the_same_images_together(images: Pass, way: str) -> None:
    if way == "stopped":
        assert run_pass(images, Finder(), Hooks(at=2)) is None
    else:
        with pytest.raises(KeyboardInterrupt):
            run_pass(images, Finder(killed_at=5), Hooks())
    assert list(read_rows(images)) == [0, 1, 2, 3]
    rest = Finder()
    assert_whole(run_pass(images, rest, Hooks()))
    assert rest.seen == [[4, 5], [6]]


def test_what_other_nets_found_is_not_read(images: Pass) -> None:
    run_pass(images, Finder(), Hooks())
    assert len(read_rows(images)) == 7
    assert read_rows(dataclasses.replace(images, makers={"net": torch.tensor([1.0, 2.0])})) == {}


def test_any_damage_is_noticed(images: Pass) -> None:
    assert read_rows(images) == {}
    run_pass(images, Finder(), Hooks())
    content = images.path.read_bytes()
    # Empty after a loss of power, not an archive, and one that claims to be encrypted.
    for damaged in (b"", b"text", content.replace(b"PK\1\2-\3-\0\0", b"PK\1\2-\3-\0\1")):
        assert damaged != content
        images.path.write_bytes(damaged)
        assert read_rows(images) == {}


def on_rank(of: RunConfig) -> tuple[list[list[int]], list[Row] | None]:
    distributed.on_first(lambda: of.work_dir.mkdir(parents=True, exist_ok=True))
    assert run_pass(of_run(of), Finder(), Hooks(at=1)) is None
    rest = Finder()
    return rest.seen, run_pass(of_run(of), rest, Hooks())


def test_ranks_share_the_images_and_all_have_the_whole(tmp_path: Path) -> None:
    results = on_ranks(2, on_rank, detector_config(tmp_path))
    assert [seen for seen, _ in results] == [[[4, 6]], [[5]]]
    for _, rows in results:
        assert_whole(rows)
