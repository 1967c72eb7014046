"""All nets on CIFAR-10, of all papers, by published error."""

from __future__ import annotations

from dataclasses import dataclass, replace

from repro.config.science import DataConfig, Science
from repro.papers import (
    ALL_NETS,
    PaperRow,
    PaperTable,
    later_papers,
    later_tables,
    load_recipe,
    load_table,
    table_numbers,
)
from repro.report.tables.cells import Row, numbers_of, published_text, summary_cell
from repro.report.tables.filled import fill
from repro.report.tables.frame import NOT_RUN, Cell, Frame, rounded
from repro.results.read import Reading
from repro.results.scales import kind_of, scale_of
from repro.results.select import Summary

TITLE = "All nets of all papers on CIFAR-10, by published error"
FIRST_PAPER = "Deep Residual Learning"
WORDS = ("Net", "Printed in", "Printed as", "Images", "Unlike here", "Proxy (largest budget)")
TRAINING_IMAGES = {"train": 50_000, "train45k": 45_000, "train45k_test": 45_000}
NOTES = (
    "Unlike protocols stand side by side here: errors compare only between rows that agree in Printed as (best, mean, "
    "median or single run), Images, Epochs and Batch. Unlike here names what the paper does otherwise than our runs.",
    "Parameters and multiply-adds of one image are counted on the nets. Errors are in percent; a row whose training "
    "failed in the paper has an error above the value printed.",
)


@dataclass(frozen=True)
class Net:
    """A net of one or more tables, which print the same value for the same run."""

    tables: tuple[PaperTable, ...]
    row: Row
    science: Science
    proxy: tuple[str, Summary] | None
    """The scale of the largest reduced budget with runs, and these runs."""

    @property
    def paper(self) -> PaperRow:
        return self.row.paper

    @property
    def places(self) -> str:
        """``Identity Mappings, Tables 1, 2, 3``."""
        key, numbers = self.tables[0].paper, [str(table.number) for table in self.tables]
        name = later_papers()[key].short if key else FIRST_PAPER
        return f"{name}, Table{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"

    @property
    def epochs(self) -> float:
        """Passes over the training images."""
        optim, data = self.science.optim, self.science.data
        return optim.steps * optim.batch_size / (data.train_images or TRAINING_IMAGES[data.split])

    @property
    def unlike(self) -> str:
        return next((table.unlike for table in self.tables if table.unlike), "")


def overview(reading: Reading, protocol: str = "paper") -> Frame:
    """Lay out every net on CIFAR-10 that some paper prints an error of, the lowest error first."""
    found = sorted(nets(reading, protocol), key=_order)
    rows = [_cells(net) for net in found]
    measured = [(net.paper.label, net.row.first.measured) for net in found]
    ids = [f"Runs of {label}: {', '.join(summary.run_ids)}." for label, summary in measured if summary is not None]
    return Frame(None, TITLE, rows, [_values(net) for net in found], WORDS, NOTES, tuple(ids), key=ALL_NETS)


def tables() -> list[PaperTable]:
    """Load the tables of all papers with errors of classifiers in a single view."""
    keys: list[int | str] = [*table_numbers(), *later_tables()]
    found = [table for table in map(load_table, keys) if table.runnable and not table.view]
    return [table for table in found if kind_of(load_recipe(table.recipe).fields) == "classification"]


def nets(reading: Reading, protocol: str) -> list[Net]:
    """Collect the rows on CIFAR-10; those of one paper that print the same value for the same run are one net."""
    merged: dict[str, Net] = {}
    for table in tables():
        recipe = load_recipe(table.recipe).fields
        filled = fill(table, reading, protocol)
        for row in filled.rows:
            if row.paper.run is None or row.paper.own:
                continue
            science = Science.from_flat({**recipe, **row.paper.run})
            if science.data.name != "cifar10":
                continue
            key = f"{table.paper} {science.flat()} {row.first.paper}"
            if key in merged:
                merged[key] = replace(merged[key], tables=(*merged[key].tables, table))
                continue
            scales = [selection.scale for selection in filled.below]
            proxies = zip(scales, row.first.proxies, strict=True)
            own = [(scale, summary) for scale, summary in proxies if summary and scale == scale_of(scale)]
            merged[key] = Net((table,), row, science, own[0] if own else None)
    return list(merged.values())


def _order(net: Net) -> tuple[bool, float, str]:
    """Sort by the printed error, nets whose training failed last."""
    published = net.row.first.paper
    return published.above is not None, published.headline, net.paper.label


def _cells(net: Net) -> dict[str, Cell]:
    params, macs = _size(net)
    measured, published = net.row.first.measured, net.row.first.paper
    scale, proxy = net.proxy or ("", None)
    shown = summary_cell(proxy)
    return {
        "Net": Cell(net.paper.label),
        "Printed in": Cell(net.places),
        "Params": Cell(f"{params:,}"),
        "Multiply-adds (1e6)": Cell(f"{macs / 1e6:,.1f}"),
        "Steps": Cell(f"{net.science.optim.steps:,}"),
        "Epochs": Cell(f"{net.epochs:.0f}"),
        "Batch": Cell(str(net.science.optim.batch_size)),
        "Images": Cell(_images(net.science.data)),
        "Printed": Cell(published_text(published, net.paper.decimals)),
        "Printed as": Cell("failed" if published.above is not None else published.aggregate),
        "Unlike here": Cell(net.unlike),
        "Measured": summary_cell(measured),
        "Proxy (largest budget)": Cell(f"{scale}: {shown.text}", shown.run_ids) if proxy else Cell(NOT_RUN),
    }


def _values(net: Net) -> dict[str, object]:
    params, macs = _size(net)
    published, optim = net.row.first.paper, net.science.optim
    scale, proxy = net.proxy or ("", None)
    return {
        "net": net.paper.label,
        "paper": net.tables[0].paper or "resnet",
        "tables": " ".join(str(table.number) for table in net.tables),
        "params": params,
        "macs": macs,
        "steps": optim.steps,
        "epochs": rounded(net.epochs),
        "batch_size": optim.batch_size,
        "mean": net.science.data.mean,
        "std": net.science.data.std,
        "unlike": net.unlike,
        "published": published.headline,
        "published_as": published.aggregate,
        **numbers_of("measured_", net.row.first.measured),
        "proxy_scale": scale,
        **numbers_of("proxy_", proxy),
    }


def _size(net: Net) -> tuple[int, int]:
    """Count parameters and multiply-adds of one image."""
    # Only here, since torch takes seconds to import and no other table of errors needs it.
    from repro.models.count import measure

    data = net.science.data
    size = measure(net.science.model, data.image_size, data.num_classes)
    return size.params, size.macs


def _images(data: DataConfig) -> str:
    """Describe normalization and augmentation: ``pixel mean``, ``channel mean, deviation, not augmented``."""
    parts = [f"{data.mean.removeprefix('per_')} mean", *(["deviation"] if data.std != "none" else [])]
    return ", ".join([*parts, *([] if data.pad or data.flip else ["not augmented"])])
