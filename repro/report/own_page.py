"""The report page of unpublished runs beside published ones."""

from __future__ import annotations

import os
from pathlib import Path

from repro.report.figures import csv_text
from repro.report.render import REPORT, Evidence, plots_of, write


def write_own_page(evidence: Evidence, work: Path) -> Path:
    """Write the page and the numbers of its figures into the work folder; its links lead to where each run lies."""
    text = evidence.page()
    for record in evidence.reading.records:
        folder = Path(os.path.relpath(record.folder, work)).as_posix()
        text = text.replace(f'href="runs/{record.run_id}/', f'href="{folder}/')
    for plot in plots_of(evidence):
        write(work / "figures" / f"{plot.file_name}.csv", csv_text(plot))
    return write(work / REPORT, text)
