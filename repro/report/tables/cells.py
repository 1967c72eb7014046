"""Rows as cells for people and values for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repro.config.run import slug
from repro.papers import PaperRow, PaperTable, Published
from repro.report.tables.frame import NOT_RUN, Cell, rounded, signed
from repro.results.ensembles import Ensemble
from repro.results.select import Summary

EMPTY = Cell("")
ENSEMBLE, PROXY_ENSEMBLE = "Ensemble, validation set", "Proxy: ensemble, validation set"


@dataclass(frozen=True)
class Comparison:
    """One metric of one row: the paper's value and ours, in percent.

    Differences are measured minus paper, in percentage points, and compare like with like. ``proxies`` are runs of
    reduced budgets, one per column.
    """

    paper: Published
    measured: Summary | None
    proxies: tuple[Summary | None, ...]

    @property
    def difference(self) -> float | None:
        """Our mean minus the paper's mean or single value; our median minus its median if it prints no other value."""
        reference = self.paper.single if self.paper.mean is None else self.paper.mean
        if self.measured is not None and reference is None and self.paper.median is not None:
            return self.measured.median - self.paper.median
        return None if self.measured is None or reference is None else self.measured.mean - reference

    @property
    def difference_best(self) -> float | None:
        """Our best minus the paper's, if it prints one of the same number of runs."""
        if self.measured is None or self.paper.best is None or self.measured.n != self.paper.runs:
            return None
        return self.measured.best - self.paper.best


@dataclass(frozen=True)
class Row:
    """A row of the paper; ``params`` is counted on the model that was run.

    A metric that the row lacks is absent. One that some of its runs lack is that of the others.
    """

    paper: PaperRow
    params: int | None
    metrics: Mapping[str, Comparison]

    @property
    def first(self) -> Comparison:
        """The comparison of the first metric, whose runs stand for the row's."""
        return next(iter(self.metrics.values()))


def cells_of(
    row: Row, table: PaperTable, proxies: Mapping[str, str], protocol: str, ensembles: Sequence[str]
) -> dict[str, Cell]:
    """Return the cells of a row by column; the last one shows its runs, or why it has none.

    Args:
        proxies: Scale of each column of proxies, and a short description of its runs.
        ensembles: Columns of our ensembles, which are empty here.
    """
    paper, measured = row.paper, row.first.measured
    cells = {
        "Method": Cell(f"{paper.label} (cited)" if paper.cited else paper.label),
        "Setting": Cell(paper.setting),
        "Layers": Cell("" if paper.layers is None else str(paper.layers)),
        "Params": Cell(_params(row)),
    }
    for metric in table.metrics:
        cells |= _metric_cells(row, metric, table, proxies, protocol)
    cells |= dict.fromkeys(ensembles, EMPTY)
    if not table.runnable:
        return cells | {"Here": Cell(paper.unfilled)}
    runs = NOT_RUN if measured is None else seeds_text(measured)
    return cells | {"Runs": EMPTY if paper.run is None else Cell(runs, run_ids_of(measured))}


def _metric_cells(
    row: Row, metric: str, table: PaperTable, proxies: Mapping[str, str], protocol: str
) -> dict[str, Cell]:
    label, several, paper = table.label(metric), len(table.metrics) > 1, row.paper
    name, found = f" {label}" if several else "", row.metrics.get(metric)
    published = EMPTY if found is None or paper.own else Cell(published_text(found.paper, paper.decimals))
    if not table.runnable:
        return {label if several else "Paper": published}
    epoch = ", best epoch" if protocol == "common" else ""
    columns = [f"Paper{name}", f"Measured{name}" + (f"{epoch} on the test set" if epoch else ""), f"Difference{name}"]
    columns += [f"Proxy{name}: {scale} ({size}{epoch})" for scale, size in proxies.items()]
    cells = dict.fromkeys(columns, EMPTY) | {columns[0]: published}
    if found is not None:
        cells[columns[1]] = Cell(table.unfilled(paper, metric))
    if paper.run is None or found is None or metric in table.undecidable_metrics:
        return cells
    measured = found.measured
    best = f", best {measured.best:.2f}" if measured and measured.n > 1 and found.paper.best is not None else ""
    ours = [
        summary_cell(measured, best),
        Cell(_difference(found), run_ids_of(measured)),
        *map(summary_cell, found.proxies),
    ]
    return cells | dict(zip(columns[1:], ours, strict=True))


def _params(row: Row) -> str:
    published, counted = row.paper.params_millions, row.params
    texts = [] if published is None else [f"{published:g}M"]
    if counted is not None:
        texts.append(f"({counted:,})" if texts else f"{counted:,}")
    return " ".join(texts)


def published_text(paper: Published, decimals: int) -> str:
    """Write a published value as the paper does: ``6.43 (6.61±0.16)``, ``>20.00``."""
    text = f"{paper.headline:.{decimals}f}"
    if paper.above is not None:
        return f">{text}"
    if paper.mean is None or (paper.best, paper.median) == (None, None):
        return text
    spread = "" if paper.std is None else f"±{paper.std:.{decimals}f}"
    return f"{text} ({paper.mean:.{decimals}f}{spread})"


def summary_cell(summary: Summary | None, more: str = "") -> Cell:
    """Write ``8.61 ± 0.12 (n=5)``."""
    return Cell(NOT_RUN) if summary is None else Cell(f"{summary.text} (n={summary.n}){more}", summary.run_ids)


def _difference(comparison: Comparison) -> str:
    difference = signed(comparison.difference)
    if comparison.difference_best is None:
        return difference
    mean = "" if comparison.difference is None else f"mean {difference}, "
    return f"{mean}best {signed(comparison.difference_best)}"


def run_ids_of(summary: Summary | None) -> tuple[str, ...]:
    return () if summary is None else summary.run_ids


def seeds_text(summary: Summary) -> str:
    """Return the runs of a cell in short form, ``5: s0–s4``; their full ids are below the table."""
    seeds = sorted(int(run_id.split("-")[-2].removeprefix("s")) for run_id in summary.run_ids)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{summary.n}: s{seeds[0]}–s{seeds[-1]}"
    return f"{summary.n}: " + ", ".join(f"s{seed}" for seed in seeds)


def ids_of(rows: Sequence[Row], scales: Sequence[str]) -> list[str]:
    """Return the full ids of the runs behind every row, measured runs first."""
    notes = []
    for position, kind in enumerate(["", *(f", proxy {scale}" for scale in scales)]):
        for row in rows:
            summary = (row.first.measured, *row.first.proxies)[position]
            if summary is not None:
                notes.append(f"Runs of {row.paper.label}{kind}: {', '.join(summary.run_ids)}.")
    return notes


# --- for programs ---------------------------------------------------------------------------------------------------


def values_of(row: Row, table: PaperTable, scales: Sequence[str], protocol: str) -> dict[str, object]:
    """Return a row as unrounded values, None where there is no number; run ids are separated by spaces."""
    paper = row.paper
    values: dict[str, object] = {
        "method": paper.label,
        "setting": paper.setting,
        "layers": paper.layers,
        "params_millions": paper.params_millions,
        "params": row.params,
        "cited": str(paper.cited).lower(),
        "undecidable": paper.undecidable,
        "protocol": protocol,
    }
    for metric in table.metrics:
        found = row.metrics.get(metric, Comparison(Published(), None, (None,) * len(scales)))
        prefix = f"{metric}_" if len(table.metrics) > 1 else ""
        metrics = _metric_values(found, scales)
        values |= {prefix + name: v for name, v in metrics.items() if table.runnable or name == "paper"}
    return values


def _metric_values(found: Comparison, scales: Sequence[str]) -> dict[str, object]:
    paper, printed = found.paper, found.paper != Published()
    values: dict[str, object] = {
        "paper": paper.headline if printed else None,
        "paper_aggregate": paper.aggregate if printed else None,
        "paper_best": paper.best,
        "paper_mean": paper.mean,
        "paper_std": paper.std,
        "paper_runs": paper.runs,
        "n": getattr(found.measured, "n", None),
        **_summary_values("measured_", found.measured),
        "difference": rounded(found.difference),
        "difference_best": rounded(found.difference_best),
        "run_ids": " ".join(run_ids_of(found.measured)),
    }
    for scale, summary in zip(scales, found.proxies, strict=True):
        prefix = f"proxy_{slug(scale.replace(', ', '_'))}_"
        values |= numbers_of(prefix, summary)
    return values


def numbers_of(prefix: str, summary: Summary | None) -> dict[str, object]:
    """Return the number of runs, mean, spread, best and ids of a column, with ``prefix`` before each name."""
    return {
        f"{prefix}n": getattr(summary, "n", None),
        **_summary_values(prefix, summary),
        f"{prefix}run_ids": " ".join(run_ids_of(summary)),
    }


def _summary_values(prefix: str, summary: Summary | None) -> dict[str, object]:
    return {f"{prefix}{name}": rounded(getattr(summary, name, None)) for name in ("mean", "std", "best")}


# --- our ensembles --------------------------------------------------------------------------------------------------


def label_of(ensemble: Ensemble) -> str:
    """Return ``ensemble of 3: ResNet-50, ResNet-152 (2)``."""
    names = [member.label for member in ensemble.members]
    counted = [f"{name} ({names.count(name)})" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
    return f"ensemble of {len(names)}: {', '.join(counted)}"


def setting_of(ensemble: Ensemble) -> str:
    """Return views, images and split."""
    views = ", ".join(sorted({member.view for member in ensemble.members}))
    return f"{views}, {ensemble.images:,} images of {ensemble.data} {ensemble.split}"


def ensemble_cells(ensemble: Ensemble, is_proxy: bool) -> dict[str, Cell]:
    """Return the cells of one of our ensembles on the validation set, which is not compared with published values."""
    error = Cell(f"{ensemble.top5_error:.2f}", ensemble.run_ids)
    column = PROXY_ENSEMBLE if is_proxy else ENSEMBLE
    return {"Method": Cell(label_of(ensemble)), "Setting": Cell(setting_of(ensemble)), column: error}


def ensemble_values(ensemble: Ensemble, is_proxy: bool) -> dict[str, object]:
    """Return an ensemble as values."""
    prefix = "proxy_ensemble" if is_proxy else "ensemble"
    return {
        "method": label_of(ensemble),
        "setting": setting_of(ensemble),
        f"{prefix}_validation_top5_error": rounded(ensemble.top5_error),
        f"{prefix}_validation_top1_error": rounded(ensemble.top1_error),
        "ensemble_images": ensemble.images,
        "ensemble_id": ensemble.ensemble_id,
        "ensemble_run_ids": " ".join(ensemble.run_ids),
    }
