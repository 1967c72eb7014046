"""What a bench prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from repro.progress import duration

NOTES = """\
ms/step: a step alone (augmentation, forward, backward, update), median of the rounds; ±: half their range.
in loop: the same in the training loop with its data. FLOP/s: 6 x multiply-adds of an image. bytes/s: the least traffic
of activations, by arithmetic. %: of the device's measured ceilings. host: its share of the step's time. schedule:
projected for all steps of the run, evaluations included."""


def report(document: dict[str, Any]) -> str:
    """The tables of what was measured, and what was not, with the reason."""
    parts = document["parts"]
    done: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        if part["state"] == "done":
            done.setdefault(part["kind"], []).append(part["result"])
    texts = []
    if "case" in done:
        texts.append(case_table(done["case"]) + "\n" + NOTES)
    texts += ["the device's ceilings: " + ceilings_line(result) for result in done.get("ceilings", [])]
    if "pairs" in done:
        texts.append(pairs_table(done["pairs"]))
    if together := done.get("threads", []) + done.get("processes", []):
        texts.append(together_table(together))
    missing = [f"{part['state']}: {part['label']} ({part['reason']})" for part in parts if part["state"] != "done"]
    if missing:
        texts.append("\n".join(missing))
    return "\n\n".join(texts)


def summary_line(part: dict[str, Any]) -> str:
    """A part in a few words, as soon as it is done."""
    result = part["result"]
    if result is None:
        return f"{part['state']}, {part['reason']}"
    match part["kind"]:
        case "ceilings":
            return ceilings_line(result)
        case "case":
            return f"{milliseconds(result['loop_ms']['median'])} ms a step, {result['images_per_second']:,.0f} images/s"
        case "pairs":
            ratio = result["ratio"]
            return f"{ratio['median']:.2f} times as fast ({ratio['min']:.2f} to {ratio['max']:.2f})"
        case _:
            return ", ".join(f"{row['runs']}: {row['images_per_second']:,.0f} images/s" for row in result["rows"])


def case_table(results: Sequence[dict[str, Any]]) -> str:
    header = ["net", "arithmetic", "step", "ms/step", "±", "in loop", "images/s", "eval images/s", "FLOP/s", "%"]
    header += ["bytes/s", "%", "host", "memory", "first step", "schedule"]
    rows = []
    for r in results:
        memory = r["peak_reserved_bytes"]
        step = r["step_ms"]
        rows.append(
            [
                r["net"],
                r["arithmetic"],
                step_words(r),
                milliseconds(step["median"]),
                f"{50 * (step['max'] - step['min']) / step['median']:.0f} %",
                milliseconds(r["loop_ms"]["median"]),
                f"{r['images_per_second']:,.0f}",
                f"{r['eval_images_per_second']:,.0f}",
                scaled(r["flops_per_second"]),
                percent(r.get("flops_share")),
                scaled(r["bytes_per_second"]),
                percent(r.get("bytes_share")),
                f"{100 * r['host_share']:.1f} %",
                "" if memory is None else f"{memory / 2**30:.1f} GiB",
                f"{r['startup_seconds']:.1f} s",
                duration(r["projected_seconds"]),
            ]
        )
    return grid(rows, header, left=3)


def pairs_table(results: Sequence[dict[str, Any]]) -> str:
    header = ["net", "arithmetic", "step", "in loop, ms", "textbook, ms", "ratio", "range", "pair by pair"]
    rows = []
    for r in results:
        ratio = r["ratio"]
        rows.append(
            [
                r["net"],
                r["arithmetic"],
                step_words(r),
                milliseconds(r["loop_ms"]["median"]),
                milliseconds(r["textbook_ms"]["median"]),
                f"{ratio['median']:.2f}",
                f"{ratio['min']:.2f} to {ratio['max']:.2f}",
                " ".join(f"{value:.2f}" for value in ratio["pairs"]),
            ]
        )
    workers = results[0]["textbook_workers"]
    note = f"textbook: torch's DataLoader with {workers} workers, PIL transforms, NCHW, eager, .item() at each step"
    return grid(rows, header, left=3) + "\n" + note


def together_table(results: Sequence[dict[str, Any]]) -> str:
    header = ["net", "runs at once in", "runs", "images/s of all", "times one alone"]
    rows = []
    for r in results:
        alone = r["rows"][0]["images_per_second"] / r["rows"][0]["runs"]
        for row in r["rows"]:
            speed = row["images_per_second"]
            rows.append([r["net"], r["how"], row["runs"], f"{speed:,.0f}", f"{speed / alone:.2f}"])
    return grid(rows, header, left=2)


def ceilings_line(result: dict[str, Any]) -> str:
    speeds = ", ".join(f"{name} {scaled(value)}FLOP/s" for name, value in result["flops_per_second"].items())
    return f"copies {scaled(result['copy_bytes_per_second'])}B/s; large products in {speeds}"


def step_words(result: dict[str, Any]) -> str:
    words = [result["step"]]
    words += ["not deterministic"] * (not result["deterministic"])
    words += ["recomputing"] * result["checkpoint_activations"]
    return ", ".join(words)


def milliseconds(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def scaled(value: float) -> str:
    """``1.23e12`` as ``1.23 T``."""
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} "


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def grid(rows: list[list[Any]], header: list[str], left: int) -> str:
    align = ["left"] * left + ["right"] * (len(header) - left)
    return str(tabulate(rows, header, tablefmt="simple", colalign=align, disable_numparse=True))
