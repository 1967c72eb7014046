"""ZCA whitening of images, from the training images alone."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from pathlib import Path

import numpy as np

from repro.errors import RunError
from repro.runtime.files import replacing

FLOOR = 0.1
"""Added to the eigenvalues, as a part of their mean (deviation D50)."""
CHUNK = 5000

log = logging.getLogger(__name__)


def zca(images: np.ndarray, cache: Path | None = None) -> np.ndarray:
    """Return the matrix (D, D) that whitens pixels in [0, 1] after their mean is subtracted, in float64.

    D counts the values of an image in the order (3, H, W). The matrix is computed once and kept in ``cache``.

    Args:
        images: The training images (N, H, W, 3), uint8.
    """
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(f"{images.shape} {FLOOR}".encode())
    kept = None if cache is None else cache / f"zca-{digest.hexdigest()[:16]}.npy"
    if kept is not None and kept.is_file():
        with contextlib.suppress(OSError, ValueError):  # a damaged file is made anew
            return np.asarray(np.load(kept, allow_pickle=False))
    log.info(f"computing the ZCA of {len(images):,} images, once (up to a minute)")
    matrix = whitening_matrix(covariance(images))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(RunError), replacing(kept, RunError) as file:
            np.save(file, matrix, allow_pickle=False)
    return matrix


def covariance(images: np.ndarray) -> np.ndarray:
    """Return the covariance (D, D) of pixels in [0, 1], whose order is (3, H, W)."""
    size = int(np.prod(images.shape[1:]))
    products, total = np.zeros((size, size)), np.zeros(size)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].transpose(0, 3, 1, 2).reshape(-1, size) / 255.0
        products += part.T @ part
        total += part.sum(0)
    mean = total / len(images)
    return np.asarray(products / len(images) - np.outer(mean, mean))


def whitening_matrix(covariance: np.ndarray) -> np.ndarray:
    """Return the symmetric matrix U (L + floor)^(-1/2) U' of a covariance U L U'."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0)
    return np.asarray((vectors / np.sqrt(values + FLOOR * values.mean())) @ vectors.T)
