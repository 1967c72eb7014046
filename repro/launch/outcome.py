"""Outcomes of training a run."""

import functools
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repro.config.parse import require
from repro.config.run import DataConfig, RunConfig
from repro.data.own_images import listed_digests, other_images, other_images_text
from repro.errors import InputError
from repro.launch.failure import REMEDY
from repro.results.read import AnyRecord, read_any
from repro.results.stored import RECORD
from repro.runtime.provenance import read_json


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt to train a run."""

    state: Literal["done", "stopped", "elsewhere", "failed"]
    """``stopped``: stopped on request, and saved; ``elsewhere``: in training by another process."""
    reason: str = ""
    sound: bool = True  # False after an unforeseen error: its process must train no other run


def is_done(config: RunConfig) -> bool:
    """Return whether a run has its record, which is written last. Published records do not count."""
    return (config.work_dir / RECORD).exists()


def faults(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return by run id why the files in a run's folder cannot be used, with the remedy; only of runs with a fault.

    A folder that holds another run has no fault here: ``repro.launch.plan.check_folders`` refuses it.
    """
    digests = functools.cache(listed_digests)  # lists each data set once
    found = {config.run_id: fault_of(config, digests) for config in configs}
    return {run_id: fault for run_id, fault in found.items() if fault}


def done_among(configs: Sequence[RunConfig], faulty: Container[str]) -> set[str]:
    """Return the ids of the runs whose record is there and has no fault."""
    return {config.run_id for config in configs if is_done(config) and config.run_id not in faulty}


def faulty_text(faulty: Mapping[str, str]) -> str:
    """Name the runs that cannot be trained because of what their folders hold, a note for each; empty without any."""
    return "\n".join(f"note: `repro run` will refuse {run_id}: {fault}" for run_id, fault in faulty.items())


def fault_of(config: RunConfig, digests: Callable[[DataConfig, Path], Mapping[str, str]]) -> str:
    try:
        for file in (config.work_dir / "config.json", config.work_dir / RECORD):
            if file.exists():
                stored = read_json(file)
                require("fingerprint" in stored, f"{file} has no fingerprint")
                if stored["fingerprint"] != config.fingerprint:
                    return ""
        if is_done(config):
            recorded = read_record_of(config).provenance.data_digests
            if other := other_images(digests(config.data, config.paths.data), recorded):
                return other_images_text(config.work_dir, other)
    except InputError as error:
        return f"{error}; {REMEDY}"
    except OSError:  # the work folder cannot be used, which is refused as well
        return ""
    return ""


def read_record_of(config: RunConfig) -> AnyRecord:
    """Read the record of a run; raise an ``InputError`` that names the file if it is invalid."""
    file = config.work_dir / RECORD
    try:
        return read_any(file)
    except InputError as error:
        raise InputError(f"{file} is invalid: {error}") from None
