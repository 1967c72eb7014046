"""Names, provenance and file, which the records of all tasks share.

The text beside a field is its meaning in docs/export.md.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from repro.config.parse import Open, build, plain, require
from repro.config.science import Science
from repro.errors import InputError

SCHEMA = 1
RECORD = "record.json"
DETECTION = "detection"
"""The key of the results in the record of a detector (``repro.results.detection_record``)."""
LOCALIZATION = "localization"
"""The key of the results in the record of a localizer (``repro.results.localization_record``)."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Provenance(Open):
    """The code, the command and the machine behind a run."""

    commit: Annotated[str | None, "commit of the code; of an interrupted run that of its last part"]
    dirty: Annotated[bool | None, "whether the tree had uncommitted changes, in any part of the run"]
    python: str | None
    platform: str | None
    packages: tuple[str, ...] | None
    command: str | None
    device: Annotated[str, "the device's name, or those of all parts in their order"]
    precision: Annotated[str, "arithmetic that was used"]
    torch: str | None
    cuda: Annotated[str | None, "CUDA's version; empty without a GPU"]
    cudnn: int | None
    data_digests: Mapping[str, Any] | None
    resumed_at: int | None
    started: str | None
    finished: Annotated[str, "date and time, UTC"]
    parts: tuple[Mapping[str, Any], ...] = ()
    data_skipped: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        return self.commit not in (None, "", "unknown")


@dataclass(frozen=True)
class Carried(Open):
    """The part of a record's ``execution`` that commands read."""

    threads: int | None = None
    world_size: int = 1
    runs_per_gpu: int | Literal["auto"] = 1
    step: str | None = None


class Identified(Protocol):
    """A record: the names, the settings and the size of a run."""

    @property
    def run_id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def exp(self) -> str: ...
    @property
    def scale(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def numerics_version(self) -> int: ...
    @property
    def science(self) -> Science: ...
    @property
    def steps(self) -> int: ...
    @property
    def params(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def provenance(self) -> Provenance: ...
    @property
    def folder(self) -> Path: ...


def check_identity(record: Identified) -> None:
    """Raise an ``InputError`` if the names and the settings of a record contradict each other."""
    for name in ("run_id", "key", "scale", *(["exp"] if record.exp else [])):  # empty without an experiment
        value = getattr(record, name)
        require(PLAIN_NAME.fullmatch(value) is not None, f"{name}={value!r} is not a plain name")
    require(record.run_id == record.folder.name, f"its run_id {record.run_id} is not the name of its folder")
    digest = record.science.fingerprint(record.numerics_version)
    require(digest == record.fingerprint, f"its configuration has the fingerprint {digest}, not {record.fingerprint}")
    name = f"{record.key}-s{record.seed}-{digest[:8]}"
    require(record.run_id == name, f"its run_id is not {name}, which follows from its key, seed and fingerprint")
    require(record.seed == record.science.seed, f"seed={record.seed} is not the seed of its configuration")
    require(record.params > 0 and record.macs > 0, "params and macs must be above 0")
    planned = record.science.optim.steps
    require(record.steps == planned, f"it ended at step {record.steps} of {planned}")


class Stored(Open):
    """A record as the values of its file, which has all fields but ``folder``."""

    curve_file: ClassVar[str] = "losses.csv"
    """The file of the curve beside the record."""
    execution: Mapping[str, Any]
    provenance: Provenance

    @functools.cached_property
    def carried(self) -> Carried:
        carried: Carried = build(Carried, self.execution, "execution")
        return carried

    @property
    def machine(self) -> str:
        """Name the device, a processor with its threads: ``AMD EPYC, 2 threads``."""
        device, threads = self.provenance.device, self.carried.threads
        if threads is None or self.provenance.cuda is not None:
            return device
        return f"{device}, 1 thread" if threads == 1 else f"{device}, {threads} threads"

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> Self:
        """Build and check the record in ``folder``; raise an ``InputError`` if it is invalid."""
        record: Self = build(cls, {**values, "folder": folder})
        record.check()
        return record

    def to_json(self) -> dict[str, Any]:
        """Return the values of the file."""
        values = {"schema": SCHEMA, **plain(self)}
        del values["folder"]
        return values

    def check(self) -> None:
        """Raise an ``InputError`` if parts of the record contradict each other."""
        raise NotImplementedError


def read_values(file: Path, schema: int) -> dict[str, Any]:
    """Read the JSON object in ``file``.

    Raises:
        InputError: The file cannot be read, is not an object or has another schema. The caller names its folder.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{file.name} is not a JSON object")
    found = values.pop("schema", None)
    require(found == schema, f"schema={found!r} must be {schema}")
    return values
