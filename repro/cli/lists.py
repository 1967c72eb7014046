"""Lists of experiments, tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repro.papers import (
    ALL_NETS,
    figure_names,
    later_figures,
    later_papers,
    later_tables,
    load_figure,
    load_table,
    table_numbers,
)

if TYPE_CHECKING:
    from repro.report.figures.numbers import Plot
    from repro.results.read import Reading


def print_experiments(texts: dict[str, str]) -> None:
    """Print the first paper's experiments, then those of each later paper."""
    # The names of a later paper's experiments begin with the name of its folder.
    later = {name: {exp: text for exp, text in texts.items() if exp.startswith(name)} for name in later_papers()}
    first = {exp: text for exp, text in texts.items() if not any(exp in own for own in later.values())}
    print_list("experiments (exp=…)", first)
    for name, own in later.items():
        print_list(f"experiments of {later_papers()[name].title} (exp=…)", own)


def print_tables() -> None:
    print_list("tables (repro table N)", {str(n): load_table(n).title for n in table_numbers()})
    print_by_paper("tables", {key: load_table(key).title for key in later_tables()})
    print_list("tables of all papers", {ALL_NETS: "all nets on CIFAR-10, by published error"})


def print_figures() -> None:
    print_list("figures (repro figure NAME)", {name: load_figure(name).title for name in figure_names()})
    print_by_paper("figures", {key: load_figure(key).title for key in later_figures()})


def print_by_paper(kind: str, titles: dict[str, str]) -> None:
    """Print the titles of later papers' tables or figures, paper by paper."""
    for name, paper in later_papers().items():
        own = {key: title for key, title in titles.items() if key.startswith(f"{name}/")}
        print_list(f"{kind} of {paper.title}, arXiv:{paper.arxiv}", own)


def print_list(heading: str, texts: dict[str, str]) -> None:
    """Print the texts by name below the heading, or nothing if there are none: a paper may have no tables."""
    if not texts:
        return
    width = max(map(len, texts))
    print(f"{heading}\n" + "".join(f"  {name:<{width}}  {text}\n" for name, text in texts.items()))


def where_runs_are(drawn: Plot, reading: Reading) -> str:
    """Name the scales at which a figure does have runs, or the command that trains some."""
    from repro.report.figures.numbers import plot, proxies_of

    paper = drawn.paper
    scales = [scale for scale in ("paper", *proxies_of(paper, reading)) if plot(paper.name, reading, scale).series]
    there = " or ".join(f"`repro figure {paper.name} --scale {scale}`" for scale in scales)
    remedy = f"{there} has some" if scales else f"`repro run exp={paper.panels[0].experiment} scale=demo` trains some"
    return f"figure {paper.name} has no runs at scale={drawn.scale}: {remedy}"
