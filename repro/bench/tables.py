"""Tables of a bench."""

from typing import Any

from tabulate import tabulate

from repro.runtime.progress import duration

Values = dict[str, Any]

NOTES = """\
alone: a step (augmentation, forward, backward, update), median of the rounds; ±: half their range. in loop: the same in
the training loop with its data; loader: the share of it that loading takes. FLOP/s: 6 x multiply-adds of an image.
bytes/s: the least traffic of activations, by arithmetic; %: of a large product and a large copy on this device.
schedule: all steps of the run in the loop, evaluations apart."""

LEFT = ("what", "arithmetic", "beside", "decoder")  # columns that are aligned left


def report(document: Values) -> str:
    """Return the tables of what was measured, and what was not, with the reason."""
    parts = document["parts"]
    done = [part for part in parts if part["state"] == "done"]
    ceilings = next((part["result"] for part in done if part["kind"] == "ceilings"), None)
    texts = []
    for kind in dict.fromkeys(part["kind"] for part in done):
        rows = [row for p in done if p["kind"] == kind for row in rows_of(kind, p["label"], p["result"], ceilings)]
        notes = dict.fromkeys(f"theirs: {p['result']['beside']}" for p in done if p["kind"] == kind == "pairs")
        texts.append("\n".join([grid(rows), *notes, *([NOTES] if kind == "case" else [])]))
    failed = [(p["label"], p["result"].get("failed", {})) for p in done]
    missing = [f"failed: {label} in {way} ({reason})" for label, ways in failed for way, reason in ways.items()]
    missing += [f"{p['state']}: {p['label']} ({p['reason']})" for p in parts if p["state"] != "done"]
    return "\n\n".join([*texts, "\n".join(missing)]).rstrip()


def rows_of(kind: str, label: str, r: Values, ceilings: Values | None) -> list[Values]:
    """Return the rows of a part, texts by column; ``ceilings`` are the device's, where they were measured."""
    what = {"what": label}
    match kind:
        case "ceilings":
            products = {f"{name} products": f"{scaled(value)}FLOP/s" for name, value in r["flops_per_second"].items()}
            return [what | {"copies": f"{scaled(r['copy_bytes_per_second'])}B/s"} | products]
        case "case":
            return [what | case_row(r, ceilings)]
        case "pairs":
            times = {"ours, ms": digits(r["ours_ms"]["median"]), "theirs, ms": digits(r["theirs_ms"]["median"])}
            row = what | {"arithmetic": r["arithmetic"]} | times | {"times as fast": ratio_words(r["ratio"])}
            return [row | {"pair by pair": " ".join(f"{value:.2f}" for value in r["ratio"]["pairs"])}]
        case "spin":
            names = {"bounded spin, ms": "bounded_ms", "OpenMP's default, ms": "default_ms"}
            times_of = [{name: digits(row[key]) for name, key in names.items()} for row in r["rows"]]
            return [what | {"beside": row["beside"]} | times for row, times in zip(r["rows"], times_of, strict=True)]
        case "loader":
            (height, width), size = r["median_size"], r["image_size"]
            images = f"{r['images']} of {height:.0f}x{width:.0f} to {size}x{size}, {r['unreadable']} unreadable"
            return [what | {"images, median size": images} | loader_row(row) for row in r["rows"]]
        case _:
            speeds = [row["images_per_second"] for row in r["rows"]]
            shown = [{"images/s": f"{speed:,.0f}", "times one": f"{speed / speeds[0]:.2f}"} for speed in speeds]
            return [
                what | {"in": row.get("how", "threads"), "runs": row["runs"]} | texts
                for row, texts in zip(r["rows"], shown, strict=True)
            ]


def summary_line(part: Values) -> str:
    """Return a part in a few words, as soon as it is done."""
    r = part["result"]
    if r is None:
        return f"{part['state']}, {part['reason']}"
    if "ratio" in r:
        return f"{ratio_words(r['ratio'])} times as fast"
    if "loop_ms" in r:
        return f"{digits(r['loop_ms']['median'])} ms a step, {r['images_per_second']:,.0f} images/s"
    return f"done in {duration(part['seconds'])}"


def case_row(r: Values, ceilings: Values | None) -> Values:
    memory, share, shares = r["peak_reserved_bytes"], r["loader_share"], ("", "")
    if ceilings is not None:
        flops, traffic = ceilings["flops_per_second"][r["arithmetic"]], ceilings["copy_bytes_per_second"]
        shares = percent(r["flops_per_second"] / flops), percent(r["bytes_per_second"] / traffic)
    return {
        "arithmetic": r["arithmetic"],
        "batch": r["batch_size"],
        "alone, ms": digits(r["step_ms"]["median"]),
        "±": half_range(r["step_ms"]),
        "in loop": digits(r["loop_ms"]["median"]),
        "images/s": f"{r['images_per_second']:,.0f}",
        "loader": "" if share is None else percent(share),
        "FLOP/s": scaled(r["flops_per_second"]),
        "%": shares[0],
        "bytes/s": scaled(r["bytes_per_second"]),
        "% ": shares[1],
        "memory": "" if memory is None else f"{memory / 2**30:.1f} GiB",
        "first step": f"{r['startup_seconds']:.1f} s",
        "schedule": duration(r["projected_seconds"]),
    }


def loader_row(r: Values) -> Values:
    core, feed = (f"{r[name]:,.0f}" for name in ("images_per_second_per_core", "images_per_second"))
    noise = half_range(r["core_batch_ms"])
    return {"decoder": r["decoder"], "images/s a core": core, "±": noise, "processes": r["workers"], "images/s": feed}


def ratio_words(ratio: Values) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def half_range(times: Values) -> str:
    return f"{50 * (times['max'] - times['min']) / times['median']:.0f} %"


def digits(value: float) -> str:
    """Return three digits that mean something."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def scaled(value: float) -> str:
    """Return ``1.23e12`` as ``1.23 T``."""
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} "


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def grid(rows: list[Values]) -> str:
    """Return rows as a table, without columns that are empty in all of them."""
    header = [name for name in rows[0] if any(row[name] != "" for row in rows)]
    align = ["left" if name in LEFT else "right" for name in header]
    cells = [[row[name] for name in header] for row in rows]
    return str(tabulate(cells, header, tablefmt="simple", colalign=align, disable_numparse=True))
