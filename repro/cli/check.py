"""`repro check`: what it prints and its exit code."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from repro.errors import InputError
from repro.report.claims.evidence import absent
from repro.report.claims.explain import explain
from repro.report.claims.format import FORMATS
from repro.report.claims.terminal import to_text
from repro.report.claims.verdicts import check
from repro.results.read import Reading


def answer(
    reading: Reading,
    claim: str | None = None,
    form: str = "text",
    *,
    strict: bool = False,
    verbose: bool = False,
    published: Path | None = None,
    folders: Sequence[Path] = (),
) -> tuple[str, int]:
    """Return the verdicts, or one ``claim`` in full, as text that ends with a newline, and the exit code.

    The code is 1 where committed evidence is broken, and with ``strict`` where a claim fails; otherwise 0.

    Args:
        form: ``text`` or a key of ``FORMATS``; one claim in full has ``text`` only.
        verbose: With the figures and run ids of each claim, as text.
        published: The folder of committed records; None where all are.
        folders: Where failed runs are looked for.

    Raises:
        InputError: There is no such claim, or no such format of it.
    """
    if claim is not None and form != "text":
        raise InputError(f"--format {form} is for all claims together; leave out {claim!r}")
    found = check(reading, published)
    gone = absent(found.claims, reading.records, folders, published)
    found = dataclasses.replace(found, problems=(*found.problems, *gone))
    # The code is that of all claims even where one is printed: a script may ask for either.
    code = int(found.broken or (strict and found.count("fails") > 0))
    if claim is not None:
        return explain(found, claim), code
    if form in FORMATS:
        return FORMATS[form](found), code
    return to_text(found, shutil.get_terminal_size().columns, verbose=verbose), code
