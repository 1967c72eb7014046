"""What a bench prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from repro.runtime.progress import duration

NOTES = """\
ms/step: a step alone (augmentation, forward, backward, update), median of the rounds; ±: half their range.
in loop: the same in the training loop with its data. FLOP/s: 6 x multiply-adds of an image. bytes/s: the least traffic
of activations, by arithmetic. %: of the device's measured ceilings. host: its share of the step's time. schedule:
projected for all steps of the run, evaluations included."""

LOADER_NOTES = """\
decode, then resize (with crop and flip), then both with reading: images/s of a single process. feed: images/s of whole
batches from its processes, with nothing else to do; each: of one of them. The sample is read again and again, so no
disk is measured."""

TRAINING_NOTES = """\
alone: on one batch that stays on the device. with loader: the training loop on files. waits: share of the time in which
the step waits for its batch."""


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
    if "loader" in done:
        texts += [loader_table(result) for result in done["loader"]]
    if "training" in done:
        lines = [f"{r['net']} {r['precision']} {step_words(r)}: {limit_words(r)}" for r in done["training"]]
        texts.append("\n".join([training_table(done["training"]), TRAINING_NOTES, *lines]))
    if "reference" in done:
        texts.append(reference_table(done["reference"]))
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
        case "loader":
            return "; ".join(f"{r['decoder']} {feed_words(r)}" for r in result["rows"])
        case "training":
            return limit_words(result)
        case "pairs" | "reference":
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


def loader_table(result: dict[str, Any]) -> str:
    header = ["decoder", "decode", "resize", "both: per core", "±", "feed", "processes", "each"]
    rows = []
    for r in result["rows"]:
        whole = r["whole_ms"]
        rows.append(
            [
                r["decoder"],
                *(f"{1000 / r[name]['median']:,.0f}" for name in ("decode_ms", "crop_ms", "whole_ms")),
                f"{50 * (whole['max'] - whole['min']) / whole['median']:.0f} %",
                f"{r['images_per_second']:,.0f}",
                r["workers"],
                f"{r['images_per_second_per_worker']:,.0f}",
            ]
        )
    size = result["median_size"]
    what = f"{result['images']:,} photographs of {result['data']}, median {size['height']:.0f}x{size['width']:.0f}"
    what += f", to {result['image_size']}x{result['image_size']}"
    if result["unreadable"]:
        what += f"; {result['unreadable']:,} more that cannot be read were left out"
    return f"{what}\n{grid(rows, header, left=1)}\n{LOADER_NOTES}"


def feed_words(row: dict[str, Any]) -> str:
    workers = row["workers"]
    how = f"from {workers} process{'es' * (workers > 1)}" if workers else "in one process with the net"
    return f"{row['images_per_second_per_core']:,.0f} images/s a core, {row['images_per_second']:,.0f} {how}"


def training_table(results: Sequence[dict[str, Any]]) -> str:
    header = [
        "net",
        "arithmetic",
        "step",
        "batch",
        "alone, ms",
        "±",
        "images/s",
        "with loader, ms",
        "images/s",
        "waits",
    ]
    header += ["processes", "memory", "first step"]
    rows = []
    for r in results:
        memory, step = r["peak_reserved_bytes"], r["step_ms"]
        rows.append(
            [
                r["net"],
                r["arithmetic"],
                step_words(r),
                r["batch_size"],
                milliseconds(step["median"]),
                f"{50 * (step['max'] - step['min']) / step['median']:.0f} %",
                f"{r['step_images_per_second']:,.0f}",
                milliseconds(r["loop_ms"]["median"]),
                f"{r['images_per_second']:,.0f}",
                percent(r["waiting_share"]),
                r["workers"],
                "" if memory is None else f"{memory / 2**30:.1f} GiB",
                f"{r['startup_seconds']:.1f} s",
            ]
        )
    return grid(rows, header, left=3)


def limit_words(result: dict[str, Any]) -> str:
    """Which of the two limits, in a sentence."""
    share, speed = percent(result["waiting_share"]), f"{result['images_per_second']:,.0f} images/s"
    alone = f"{result['step_images_per_second']:,.0f} alone"
    if result["limit"] == "loader":
        return f"the loader limits: {speed}, the step could take {alone} but waits {share} of the time"
    return f"the step limits: {speed}, {alone}; it waits {share} of the time for the loader"


def reference_table(results: Sequence[dict[str, Any]]) -> str:
    header = ["net", "arithmetic", "step", "batch norm over", "ours, ms", "torchvision, ms", "ratio", "range"]
    header += ["pair by pair"]
    rows = []
    for r in results:
        ratio = r["ratio"]
        rows.append(
            [
                r["net"],
                r["arithmetic"],
                step_words(r),
                f"{r['bn_group_size']} of {r['batch_size']}",
                milliseconds(r["step_ms"]["median"]),
                milliseconds(r["reference_ms"]["median"]),
                f"{ratio['median']:.2f}",
                f"{ratio['min']:.2f} to {ratio['max']:.2f}",
                " ".join(f"{value:.2f}" for value in ratio["pairs"]),
            ]
        )
    settings = "; ".join(dict.fromkeys(r["reference"] for r in results))
    note = f"beside {settings}: SGD with momentum, the same batch on the device, augmented already"
    return grid(rows, header, left=3) + "\n" + note


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
