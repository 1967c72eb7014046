"""Ensembles: averaged scores of several runs (Table 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repro.errors import InputError, RunError
from repro.evaluation.predictions import Predictions, count_errors
from repro.results.ensembles import FILE, FOLDER, SCHEMA, Ensemble, Member, ensemble_id
from repro.results.read import Record
from repro.runtime.files import make_folder
from repro.runtime.provenance import commit, now, write_json


def mean_scores(members: Sequence[Predictions]) -> np.ndarray:
    """Average the scores of the members: float64 (N, classes).

    Raises:
        InputError: There are fewer than two members, or their images or classes differ.
    """
    if len(members) < 2:
        raise InputError("an ensemble needs two runs or more")
    first = members[0]
    for member in members[1:]:
        pair = f"{first.made.run_id} and {member.made.run_id} cannot be averaged"
        if member.scores.shape[1] != first.scores.shape[1]:
            classes = f"{first.scores.shape[1]} and {member.scores.shape[1]}"
            raise InputError(f"{pair}: their nets have {classes} classes")
        sets = [(p.made.data, p.made.split, p.made.images, len(p.labels)) for p in (first, member)]
        if sets[0] != sets[1] or not np.array_equal(first.labels, member.labels):
            tested = " and ".join(f"{images:,} of {data} {split}" for data, split, _, images in sets)
            raise InputError(f"{pair}: they were tested on different images ({tested})")
    total = np.zeros(first.scores.shape)
    for member in members:
        total += member.scores
    return total / len(members)


def make_ensemble(tested: Sequence[tuple[Record, Predictions]]) -> Ensemble:
    """Average the predictions of finished runs.

    Raises:
        InputError: They cannot be averaged.
    """
    first = tested[0][1]
    scores = mean_scores([one for _, one in tested])
    members = tuple(
        Member(
            run_id=record.run_id,
            fingerprint=record.fingerprint,
            label=record.label,
            view=one.made.view,
            weights=one.made.weights,
            errors=one.counts.errors,
            top5_errors=one.counts.top5_errors or 0,
        )
        for record, one in tested
    )
    return Ensemble(
        ensemble_id=ensemble_id(members),
        members=members,
        data=first.made.data,
        split=first.made.split,
        images_digest=first.made.images,
        classes=scores.shape[1],
        **count_errors(scores, first.labels).values(),
        commit=commit(),
        finished=now(),
    )


def write_ensemble(work: Path, ensemble: Ensemble) -> Path:
    """Write ``<work>/ensembles/<id>/ensemble.json`` and return its path.

    Raises:
        RunError: The file cannot be written.
    """
    file = work / FOLDER / ensemble.ensemble_id / FILE
    make_folder(file.parent, RunError)
    write_json(file, {"schema": SCHEMA, **dataclasses.asdict(ensemble)})
    return file
