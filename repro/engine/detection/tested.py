"""Detections of a test that is not finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from repro.engine.detection.arrays import read_arrays
from repro.engine.detection.prepared import PreparedDetector
from repro.errors import RunError
from repro.runtime import checkpoint, distributed
from repro.runtime.files import replacing

TESTED = "tested.npz"


class Share(NamedTuple):
    """Detections of one image, as they travel between ranks and processes."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def gathered(done: Mapping[int, Share], own: Mapping[int, Share]) -> dict[int, Share]:
    """Add the detections of all ranks to those that all have, by the positions of their images."""
    every = dict(done)
    for part in distributed.everyone(dict(own)):
        every |= part
    return every


def write_tested(net: PreparedDetector, done: Mapping[int, Share]) -> None:
    """Store detections with the digest of the detectors that made them, on the first rank."""

    def write() -> None:
        positions = sorted(done)
        found = [done[position] for position in positions]
        boxes, labels, scores = (np.concatenate(column) for column in zip(*found, strict=True))
        counts, digest = np.array([len(one.scores) for one in found]), np.array(digest_of(net))
        places = np.array(positions)
        with replacing(net.config.work_dir / TESTED, RunError) as file:
            np.savez(file, detector=digest, positions=places, counts=counts, boxes=boxes, labels=labels, scores=scores)

    distributed.on_first(write)


def read_tested(net: PreparedDetector) -> dict[int, Share]:
    """Read stored detections; return none if there are none of this detector, or ensemble, that can be read."""
    stored = read_arrays(net.config.work_dir / TESTED)
    if str(stored.get("detector")) != digest_of(net):
        return {}
    ends = stored["counts"].cumsum()[:-1]
    columns = [np.split(stored[name], ends) for name in Share._fields]
    return {int(position): Share(*values) for position, *values in zip(stored["positions"], *columns, strict=True)}


def digest_of(net: PreparedDetector) -> str:
    return checkpoint.digest({"nets": [member.model.state_dict() for member in net.ensemble]})
