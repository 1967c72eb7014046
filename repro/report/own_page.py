"""The report page of unpublished runs beside published ones."""

from __future__ import annotations

import os
from pathlib import Path

from repro.report.figures import csv_text
from repro.report.render import REPORT, Evidence, texts, write


def write_own_page(evidence: Evidence, work: Path) -> Path:
    """Write the page and the files of its tables and figures into the work folder, with links to each run's folder."""
    text = evidence.page()
    for record in evidence.reading.records:
        folder = Path(os.path.relpath(record.folder, work)).as_posix()
        text = text.replace(f'href="runs/{record.run_id}/', f'href="{folder}/')
    for name, content in texts(evidence, ["tables"]).items():
        write(work / name, content)
    for plot in evidence.plots:
        write(work / "figures" / f"{plot.file_name}.csv", csv_text(plot))
    return write(work / REPORT, text)
