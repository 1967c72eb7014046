"""The parts of the page on later papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.papers import later_papers
from repro.report.claims.verdicts import STATUSES, Check
from repro.report.claims.wording import sentence
from repro.report.figures import Plot
from repro.report.html.figures import figure_views
from repro.report.tables import Frame


def later_parts(
    tables: Mapping[str, Frame], plots: Sequence[Plot], checks: Sequence[Check], pictures: bool = True
) -> list[dict[str, Any]]:
    """Lay out one part for each later paper: its claims by verdict, its tables, and the figures that have runs."""
    by_paper = {check.claims.paper: check for check in checks}
    parts = []
    for name, paper in later_papers().items():
        verdicts = by_paper[name].verdicts if name in by_paper else ()
        parts.append(
            {
                "anchor": f"paper-{name}",
                "paper": paper,
                "sentence": sentence(verdicts) if verdicts else "",
                "verdicts": sorted(verdicts, key=lambda verdict: STATUSES.index(verdict.status)),
                "tables": [frame for key, frame in tables.items() if key.startswith(f"{name}/")],
                "figures": figure_views([plot for plot in plots if plot.paper.paper == name], pictures),
            }
        )
    return parts
