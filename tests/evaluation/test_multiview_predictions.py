"""Stored scores: round trip, and invalid files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro.errors import InputError, RunError
from repro.evaluation.counts import Counts
from repro.evaluation.ensemble import mean_scores
from repro.evaluation.predictions import Made, Predictions, count_errors, digest_of_images, path_of, read, write

MADE = Made(
    run_id="imagenet-resnet18-s0-0123abcd",
    fingerprint="0123abcd01234567",
    view="10crop",
    data="imagenet",
    split="val",
    images="a" * 64,
    weights="b" * 64,
    settings={"image_size": 224, "shorter_side": 256},
)


def scores_of(*rows: tuple[float, ...], labels: tuple[int, ...] | None = None, **made: Any) -> Predictions:
    scores = np.array(rows, np.float32)
    given = range(len(rows)) if labels is None else labels
    return Predictions(dataclasses.replace(MADE, **made), scores, np.array(given, np.int64))


TWO = scores_of((0.5, 0.3, 0.2), (0.7, 0.2, 0.1))


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    path = path_of(tmp_path, "10crop")
    write(path, TWO)
    found = read(path)
    assert found.made == MADE
    assert found.scores.dtype == np.float32
    assert (found.scores == TWO.scores).all()
    assert (found.labels == TWO.labels).all()
    assert [file.name for file in path.parent.iterdir()] == ["10crop.npz"]


def test_errors_count_images_whose_label_is_not_among_the_best() -> None:
    assert (TWO.counts.errors, TWO.counts.top5_errors) == (1, 0)
    ranked = np.tile(np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.07], np.float32), (6, 1))
    assert count_errors(ranked, np.arange(6)) == Counts(5, 6, top5_errors=1)


def test_of_equal_scores_the_first_class_is_the_better_one() -> None:
    equal = np.full((8, 8), 0.125, np.float32)
    assert count_errors(equal, np.arange(8)) == Counts(7, 8, top5_errors=3)
    assert (equal.argmax(1) != np.arange(8)).sum() == 7


def test_images_are_told_apart_by_name_label_and_order() -> None:
    digests = {
        digest_of_images(names, np.array(labels))
        for names, labels in [(["a", "b"], [0, 1]), (["b", "a"], [0, 1]), (["a", "b"], [1, 1]), (["a"], [0])]
    }
    assert len(digests) == 4
    assert digest_of_images(["\udcff.JPEG"], np.array([0]))  # a name whose bytes are not valid text


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "10crop.npz"
    write(path, TWO)
    whole = path.read_bytes()
    place = whole.index(TWO.scores.tobytes())
    for broken in (whole[: len(whole) // 2], whole[:place] + b"\xff" + whole[place + 1 :], b"", b"no archive"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"10crop\.npz .*(damaged|cannot be read)"):
            read(path)
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([[0.5, 0.5, np.nan], [1, 0, 0]], np.float32)}, "not finite"),
        ({"scores": np.array([[5, 1, 1], [1, 0, 0]], np.float32)}, "do not add up to 1"),
        ({"scores": np.array([[0.5, 0.5, 0]], np.float32)}, "labels .* int64"),
        ({"scores": np.array([[0.5, 0.5, 0], [1, 0, 0]])}, "not float32"),
        ({"labels": np.array([0, 3])}, "not one of the classes"),
        ({"labels": np.array([0.0, 1.0])}, "labels .* int64"),
        ({"made": {"schema": 2}}, "schema is not 1"),
        ({"made": {"weights": 3}}, "weights=3 must be a word"),
        ({"made": {"settings": None}}, "settings must be a group"),
        ({"made": {"view": None}}, "view"),
    ],
)
def test_invalid_scores_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "10crop.npz"
    made = {"schema": 1, **dataclasses.asdict(MADE), **change.pop("made", {})}
    parts = {"scores": TWO.scores, "labels": TWO.labels, **change}
    np.savez(path, **parts, made=np.array(json.dumps(made)))
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_pickle_in_the_place_of_an_array_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "10crop.npz"
    np.savez(path, scores=np.array([object()]), labels=TWO.labels, made=np.array("{}"))
    with pytest.raises(InputError, match="damaged"):
        read(path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        write(path_of(tmp_path, "10crop"), TWO)


def test_an_ensemble_is_the_mean_of_scores_by_hand() -> None:
    """Each member is wrong about one image, and the mean about another."""
    one = scores_of((0.6, 0.4), (0.9, 0.1), (0.55, 0.45), labels=(0, 1, 0))
    two = scores_of((0.7, 0.3), (0.2, 0.8), (0.4, 0.6), labels=(0, 1, 0), run_id="other-s0-0123abcd")
    found = mean_scores([one, two])
    np.testing.assert_allclose(found, [[0.65, 0.35], [0.55, 0.45], [0.475, 0.525]], rtol=1e-6)
    assert [c.errors for c in (one.counts, two.counts, count_errors(found, one.labels))] == [1, 1, 2]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (scores_of((0.5, 0.5), (0.5, 0.5)), "3 and 2 classes"),
        (scores_of((0.5, 0.3, 0.2), (0.7, 0.2, 0.1), images="c" * 64), "tested on different images"),
        (scores_of((0.5, 0.3, 0.2), (0.7, 0.2, 0.1), labels=(1, 1)), "tested on different images"),
        (scores_of((0.5, 0.3, 0.2)), r"different images \(2 of imagenet val and 1 of imagenet val\)"),
        (scores_of((0.5, 0.3, 0.2), (0.7, 0.2, 0.1), data="tiny_imagenet"), "2 of tiny_imagenet val"),
    ],
)
def test_runs_on_other_images_or_classes_are_not_averaged(other: Predictions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mean_scores([TWO, other])


def test_one_run_is_no_ensemble() -> None:
    with pytest.raises(InputError, match="two runs or more"):
        mean_scores([TWO])
