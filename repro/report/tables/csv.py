"""A filled table as CSV, for programs: unrounded, one line a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from repro.config.run import slug
from repro.papers import Published
from repro.report.tables.filled import Comparison, EnsembleLine, Line, Table
from repro.results.select import Summary


def to_csv(table: Table) -> str:
    """One line a row of the paper, then one an ensemble; an empty cell where there is no number, run ids separated by
    spaces."""
    return csv_text([_line(table, line) for line in table.lines] + [_ensemble(line) for line in table.ensembles])


def csv_text(lines: Sequence[Mapping[str, object]]) -> str:
    """The lines as CSV with all their columns, in the order in which they first come."""
    out = io.StringIO()
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def rounded(value: float | None) -> float | None:
    """Without the last binary digits: an error count of 10,000 images has two decimals, a mean a few more."""
    return None if value is None else round(value, 6)


def _line(table: Table, line: Line) -> dict[str, object]:
    row = line.row
    cells: dict[str, object] = {
        "method": row.label,
        "setting": row.setting,
        "layers": row.layers,
        "params_millions": row.params_millions,
        "params": line.params,
        "cited": str(row.cited).lower(),
        "not_attempted": row.not_attempted,
        "protocol": table.protocol,
    }
    for metric in table.paper.metrics:
        comparison = line.metrics.get(metric, Comparison(Published(), None, (None,) * len(table.proxies)))
        prefix = f"{metric}_" if len(table.paper.metrics) > 1 else ""
        cells |= {prefix + name: value for name, value in _metric(table, comparison).items()}
    return cells


def _metric(table: Table, comparison: Comparison) -> dict[str, object]:
    paper, measured = comparison.paper, comparison.measured
    printed = paper != Published()
    values: dict[str, object] = {"paper": paper.headline if printed else None}
    if not table.paper.runnable:
        return values
    values |= {
        "paper_aggregate": paper.aggregate if printed else None,
        "paper_best": paper.best,
        "paper_mean": paper.mean,
        "paper_std": paper.std,
        "paper_runs": paper.runs,
        "n": None if measured is None else measured.n,
        **_summary("measured_", measured),
        "difference": rounded(comparison.difference),
        "difference_best": rounded(comparison.difference_best),
        "run_ids": _run_ids(measured),
    }
    for proxy, summary in zip(table.proxies, comparison.proxies, strict=True):
        prefix = f"proxy_{slug(proxy.scale.replace(', ', '_'))}_"
        values[f"{prefix}n"] = None if summary is None else summary.n
        values |= _summary(prefix, summary)
        values[f"{prefix}run_ids"] = _run_ids(summary)
    return values


def _summary(prefix: str, summary: Summary | None) -> dict[str, object]:
    return {
        f"{prefix}mean": None if summary is None else rounded(summary.mean),
        f"{prefix}std": None if summary is None else rounded(summary.std),
        f"{prefix}best": None if summary is None else rounded(summary.best),
    }


def _run_ids(summary: Summary | None) -> str | None:
    return None if summary is None else " ".join(summary.run_ids)


def _ensemble(line: EnsembleLine) -> dict[str, object]:
    ensemble = line.ensemble
    return {
        "method": line.label,
        "setting": line.setting,
        ("proxy_" if line.proxy else "") + "ensemble_validation_top5_error": rounded(ensemble.top5_error),
        ("proxy_" if line.proxy else "") + "ensemble_validation_top1_error": rounded(ensemble.top1_error),
        "ensemble_images": ensemble.images,
        "ensemble_id": ensemble.ensemble_id,
        "ensemble_run_ids": " ".join(member.run_id for member in ensemble.members),
    }
