"""An ensemble: the mean of the softmax scores that several runs gave to the same images (paper, Table 5).

It needs their predictions alone, no net and no GPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repro.errors import InputError, RunError
from repro.evaluation.predictions import Predictions, count_errors, counts
from repro.results.ensembles import FILE, FOLDER, SCHEMA, Ensemble, Member, ensemble_id
from repro.results.read import Record
from repro.runtime.provenance import commit, now, write_json


def mean_scores(members: Sequence[Predictions]) -> np.ndarray:
    """The mean of the members' scores, float64 (N, classes).

    Raises:
        InputError: There are fewer than two, or they are not of the same images and classes.
    """
    if len(members) < 2:
        raise InputError("an ensemble needs two runs or more")
    first = members[0]
    for member in members[1:]:
        pair = f"{first.made.run_id} and {member.made.run_id} cannot be averaged"
        if member.scores.shape[1] != first.scores.shape[1]:
            classes = f"{first.scores.shape[1]} and {member.scores.shape[1]}"
            raise InputError(f"{pair}: their nets tell {classes} classes apart")
        sets = [(p.made.data, p.made.split, p.made.images, len(p.labels)) for p in (first, member)]
        if sets[0] != sets[1] or not np.array_equal(first.labels, member.labels):
            tested = " and ".join(f"{images:,} of {data} {split}" for data, split, _, images in sets)
            raise InputError(f"{pair}: they were tested on different images ({tested})")
    total = np.zeros(first.scores.shape)
    for member in members:
        total += member.scores
    return total / len(members)


def make_ensemble(records: Sequence[Record], tested: Sequence[Predictions]) -> Ensemble:
    """The ensemble of finished runs, each with its own predictions.

    Raises:
        InputError: A run is named twice, or they cannot be averaged.
    """
    names = [record.run_id for record in records]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{twice[0]} is named twice: an ensemble is of different runs")
    scores = mean_scores(tested)
    first = tested[0]
    members = tuple(
        Member(
            run_id=record.run_id,
            fingerprint=record.fingerprint,
            label=record.label,
            view=one.made.view,
            weights=one.made.weights,
            errors=one.errors(),
            top5_errors=one.errors(5),
        )
        for record, one in zip(records, tested, strict=True)
    )
    return Ensemble(
        ensemble_id=ensemble_id(members),
        members=members,
        data=first.made.data,
        split=first.made.split,
        images_digest=first.made.images,
        classes=scores.shape[1],
        **counts(count_errors(scores, first.labels, 1), count_errors(scores, first.labels, 5), len(first.labels)),
        commit=commit(),
        finished=now(),
    )


def write_ensemble(work: Path, ensemble: Ensemble) -> Path:
    """Writes ``<work>/ensembles/<id>/ensemble.json`` and returns it.

    Raises:
        RunError: It cannot be written.
    """
    file = work / FOLDER / ensemble.ensemble_id / FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {file.parent} cannot be made ({error.strerror})") from error
    write_json(file, {"schema": SCHEMA, **dataclasses.asdict(ensemble)})
    return file
