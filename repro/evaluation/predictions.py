"""Files with the scores of a net on every image."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repro.config.parse import build, require
from repro.config.run import RunConfig
from repro.errors import InputError, RunError
from repro.evaluation.counts import Counts
from repro.runtime import checkpoint
from repro.runtime.files import replacing

SCHEMA = 1
FOLDER = "predictions"
"""A folder in the folder of a run, with one file for each view."""


@dataclass(frozen=True)
class Made:
    """The net, the images and the view behind scores.

    ``weights`` and ``images`` are SHA-256 digests: of all values of the net, and of the names and labels of the images
    in their order. ``settings`` are those of the view: lengths of the shorter side, crop size, flips.
    """

    run_id: str
    fingerprint: str
    view: str
    data: str
    split: str
    images: str
    weights: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Predictions:
    """float32 softmax scores (N, classes) and int64 labels (N,) of all images of a split, in its order."""

    made: Made
    scores: np.ndarray
    labels: np.ndarray

    @functools.cached_property
    def counts(self) -> Counts:
        return count_errors(self.scores, self.labels)


def count_errors(scores: np.ndarray, labels: np.ndarray) -> Counts:
    """Count the images whose label has not the best score, and not one of the five best, in ``scores`` (N, classes).

    Equal scores rank in the order of their classes. With at most five classes there are no top-5 errors.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1])[None, :] < labels[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(1)
    return Counts(int((rank >= 1).sum()), len(labels), top5_errors=int((rank >= 5).sum()))


def made_of(config: RunConfig, weights: Mapping[str, Any], view: str, split: str, images: str) -> Made:
    """Describe the scores of a net on the images with the digest ``images``."""
    settings: dict[str, Any] = {"image_size": config.data.image_size, "precision": config.optim.precision}
    if view == "large_crop":
        settings["large_crop"] = config.eval.large_side(config.data.image_size)
    elif view == "multiscale":
        settings |= {"scales": list(config.eval.scales), "flip_scales": config.eval.flip_scales}
    elif config.data.photos:
        settings |= {"crops_of": config.eval.crops_of} if view == "10crop" else {}
        settings["shorter_side"] = config.data.eval_resize
    digest = checkpoint.digest({"model": weights})
    return Made(config.run_id, config.fingerprint, view, config.data.name, split, images, digest, settings)


def digest_of_images(names: Sequence[str], labels: np.ndarray) -> str:
    """Return the SHA-256 digest of the names and labels of images, in their order."""
    found = hashlib.sha256()
    for name, label in zip(names, labels.tolist(), strict=True):
        # File names may not be valid UTF-8.
        found.update(f"{name}\0{label}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def path_of(work_dir: Path, view: str) -> Path:
    """Return the path of a run's scores on a view."""
    return work_dir / FOLDER / f"{view}.npz"


def write(path: Path, predictions: Predictions) -> None:
    """Write scores, replacing an existing file atomically.

    Raises:
        RunError: They cannot be written.
    """
    made = {"schema": SCHEMA, **dataclasses.asdict(predictions.made)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(
                file,
                scores=predictions.scores.astype(np.float32, copy=False),
                labels=predictions.labels.astype(np.int64, copy=False),
                made=np.array(json.dumps(made)),
            )
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror})") from error


def read(path: Path) -> Predictions:
    """Read and check stored scores.

    Raises:
        InputError: The file cannot be read or is invalid.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            scores, labels, values = file["scores"], file["labels"], json.loads(str(file["made"]))
    except OSError as error:
        raise InputError(f"the predictions {path} cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"the predictions {path} are damaged ({error})") from None
    try:
        require(isinstance(values, dict) and values.pop("schema", None) == SCHEMA, f"their schema is not {SCHEMA}")
        made: Made = build(Made, values)
        _check(scores, labels)
    except InputError as error:
        raise InputError(f"the predictions {path} are invalid: {error}") from None
    return Predictions(made, scores, labels)


def kept(path: Path, made: Made) -> Predictions | None:
    """Read stored scores; return None unless they are those of this net on these images."""
    try:
        stored = read(path)
    except InputError:
        return None
    return stored if stored.made == made else None


def _check(scores: np.ndarray, labels: np.ndarray) -> None:
    require(scores.ndim == 2 and scores.dtype == np.float32, "scores are not float32 (images, classes)")
    require(labels.shape == scores.shape[:1] and labels.dtype == np.int64, "labels are not one int64 per image")
    require(len(labels) > 0, "they have no images")
    require(bool((labels >= 0).all() and (labels < scores.shape[1]).all()), "a label is not one of the classes")
    require(bool(np.isfinite(scores).all()), "a score is not finite")
    require(bool((np.abs(scores.sum(1) - 1) < 1e-2).all()), "the scores of an image do not add up to 1")
