"""The report page of unpublished runs beside published ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

from repro.report.figures import csv_text
from repro.report.render import REPORT, Evidence, plots_of, texts, write
from repro.results.read import AnyRecord

RUN_LINK = re.compile(r'(href="|\]\()runs/([^/"]+)')


def write_own_page(evidence: Evidence, work: Path) -> Path:
    """Write the page and the files that it links to into the work folder; links to runs lead to their folders."""
    every: list[AnyRecord] = [
        *evidence.reading.records,
        *evidence.reading.detectors,
        *evidence.reading.localizers,
    ]
    folders = {r.run_id: Path(os.path.relpath(r.folder, work)).as_posix() for r in every}

    def relinked(text: str) -> str:
        return RUN_LINK.sub(lambda link: link[1] + folders.get(link[2], f"runs/{link[2]}"), text)

    for name, text in texts(evidence, ["tables"]).items():
        write(work / name, relinked(text))
    for plot in plots_of(evidence):
        write(work / "figures" / f"{plot.file_name}.csv", csv_text(plot))
    return write(work / REPORT, relinked(evidence.page()))
