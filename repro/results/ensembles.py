"""Records of ensembles, read without torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.config.parse import build, require
from repro.errors import InputError
from repro.results.publish import copy_files
from repro.results.read import LeftOut, read_values
from repro.results.stored import PLAIN_NAME, RECORD

SCHEMA = 1
FOLDER = "ensembles"
"""The name of the folder, both in the work folder and in ``results/``."""
FILE = "ensemble.json"
RESULT = ("errors", "top5_errors", "images_digest")


@dataclass(frozen=True)
class Member:
    """A run in an ensemble, tested on ``view``; ``weights`` is the digest of its net, ``errors`` are its own."""

    run_id: str
    fingerprint: str
    label: str
    view: str
    weights: str
    errors: int
    top5_errors: int


@dataclass(frozen=True)
class Ensemble:
    """Errors of the members' mean softmax scores over the ``images`` of ``split``."""

    ensemble_id: str
    members: tuple[Member, ...]
    data: str
    split: str
    images_digest: str
    images: int
    classes: int
    errors: int
    top1_error: float
    top5_errors: int
    top5_error: float
    commit: str
    finished: str

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(member.run_id for member in self.members)


@dataclass(frozen=True)
class EnsembleReading:
    """All valid ensembles, and the invalid ones."""

    ensembles: tuple[Ensemble, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def ensemble_id(members: Sequence[Member]) -> str:
    """Return the id of these nets on these views, independent of their order."""
    parts = sorted([member.run_id, member.fingerprint, member.view, member.weights] for member in members)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    views = "-".join(sorted({member.view for member in members}))
    return f"{len(members)}-{views}-{digest}"


def read_ensembles(roots: Iterable[Path]) -> EnsembleReading:
    """Read ``<root>/ensembles/<id>/ensemble.json`` under every root; an ensemble in two roots counts once."""
    found: dict[str, Ensemble] = {}
    left_out: list[LeftOut] = []
    for file in (file for root in roots for file in sorted((root / FOLDER).glob(f"*/{FILE}"))):
        name = f"{file.parents[2].name}/{FOLDER}/{file.parent.name}"
        try:
            ensemble = read_ensemble(file)
        except InputError as error:
            left_out.append(LeftOut(name, str(error)))
            continue
        first = found.setdefault(ensemble.ensemble_id, ensemble)
        if any(getattr(first, field) != getattr(ensemble, field) for field in RESULT):
            left_out.append(LeftOut(name, "its result differs from the first one that was read, which counts"))
    return EnsembleReading(tuple(found[name] for name in sorted(found)), tuple(left_out))


def read_ensemble(file: Path) -> Ensemble:
    """Read and check an ensemble.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    ensemble: Ensemble = build(Ensemble, read_values(file, SCHEMA))
    _check(ensemble, file.parent.name)
    return ensemble


def plan_ensembles(
    work: Path, results: Path, run_ids: Collection[str] = (), *, replace: bool = False
) -> list[Ensemble]:
    """Find the ensembles of the work folder whose members are all published, or are in ``run_ids``.

    Others could not be traced to their runs.

    Raises:
        InputError: One is published with another result, and ``replace`` is False.
    """
    new = []
    for ensemble in read_ensembles([work]).ensembles:
        ids = set(ensemble.run_ids) - set(run_ids)
        file = results / FOLDER / ensemble.ensemble_id / FILE
        published = all((results / "runs" / run_id / RECORD).is_file() for run_id in ids)
        if not published or (file.exists() and _is_same(ensemble, file)):
            continue
        mine = work / FOLDER / ensemble.ensemble_id
        require(
            replace or not file.exists(),
            f"published with another result: {file.parent} is not {mine}; `repro publish --replace` overwrites it",
        )
        new.append(ensemble)
    return new


def _is_same(ensemble: Ensemble, published: Path) -> bool:
    try:
        other = read_ensemble(published)
    except InputError:
        return False
    return dataclasses.replace(ensemble, commit=other.commit, finished=other.finished) == other


def publish_ensembles(ensembles: Sequence[Ensemble], work: Path, results: Path) -> list[Path]:
    """Copy ``ensembles`` to ``results/ensembles``; return their folders."""
    ids = [ensemble.ensemble_id for ensemble in ensembles]
    return [copy_files(work / FOLDER / name, results / FOLDER / name, [FILE]) for name in ids]


def _check(ensemble: Ensemble, folder: str) -> None:
    members, runs = ensemble.members, set(ensemble.run_ids)
    require(len(members) > 1, f"an ensemble has two or more members, not {len(members)}")
    require(len(runs) == len(members), "a run is a member twice")
    for name in [ensemble.ensemble_id, ensemble.data, ensemble.split, *runs, *(member.view for member in members)]:
        require(PLAIN_NAME.fullmatch(name) is not None, f"{name!r} is not a plain name")
    digest = ensemble_id(members)
    require(ensemble.ensemble_id == digest, f"its id {ensemble.ensemble_id} is not {digest}, the id of its members")
    require(ensemble.ensemble_id == folder, f"its id {ensemble.ensemble_id} is not the name of its folder")
    for member in members:
        suffix = f"-{member.fingerprint[:8]}"
        require(member.run_id.endswith(suffix), f"{member.run_id} does not end in its fingerprint {member.fingerprint}")
    images = ensemble.images
    require(images > 0 and ensemble.classes > 0, "images and classes must be above 0")
    pairs = [(whose.errors, whose.top5_errors) for whose in members] + [(ensemble.errors, ensemble.top5_errors)]
    for top1, top5 in pairs:
        require(0 <= top5 <= top1 <= images, f"{top1} top-1 and {top5} top-5 errors among {images} images")
    for name, errors in (("top1_error", ensemble.errors), ("top5_error", ensemble.top5_errors)):
        value, expected = getattr(ensemble, name), 100 * errors / images
        require(abs(value - expected) < 1e-9, f"{name}={value} is not 100 * {errors} / {images} = {expected}")
