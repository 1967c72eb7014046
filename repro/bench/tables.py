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
    """Format the tables of all parts, and the missing parts with their reasons."""
    parts = document["parts"]
    done = [part for part in parts if part["state"] == "done"]
    ceilings = next((part["result"] for part in done if part["kind"] == "ceilings"), None)
    texts = []
    for kind in dict.fromkeys(part["kind"] for part in done):
        own = [part for part in done if part["kind"] == kind]
        rows = [
            {"what": part["label"]} | cells(kind, part["result"], row, ceilings)
            for part in own
            for row in part["result"].get("rows", [{}])
        ]
        notes = dict.fromkeys(f"theirs: {part['result']['beside']}" for part in own if kind == "pairs")
        texts.append("\n".join([grid(rows), *notes, *([NOTES] if kind == "case" else [])]))
    failed = [(p["label"], p["result"].get("failed", {})) for p in done]
    missing = [f"failed: {label} in {way} ({reason})" for label, ways in failed for way, reason in ways.items()]
    missing += [f"{p['state']}: {p['label']} ({p['reason']})" for p in parts if p["state"] != "done"]
    return "\n\n".join([*texts, "\n".join(missing)]).rstrip()


def cells(kind: str, r: Values, row: Values, ceilings: Values | None) -> Values:
    """Format a row of the result ``r`` as texts by column, with shares of the device's ``ceilings``."""
    match kind:
        case "ceilings":
            products = {f"{name} products": f"{scaled(value)}FLOP/s" for name, value in r["flops_per_second"].items()}
            return {"copies": f"{scaled(r['copy_bytes_per_second'])}B/s"} | products
        case "case":
            return case_cells(r, ceilings)
        case "pairs":
            times = {"ours, ms": digits(r["ours_ms"]["median"]), "theirs, ms": digits(r["theirs_ms"]["median"])}
            pairs = " ".join(f"{value:.2f}" for value in r["ratio"]["pairs"])
            return {"arithmetic": r["arithmetic"]} | times | {"times as fast": ratio(r), "pair by pair": pairs}
        case "spin":
            times = {"bounded spin, ms": digits(row["bounded_ms"]), "OpenMP's default, ms": digits(row["default_ms"])}
            return {"beside": row["beside"]} | times
        case "loader":
            (height, width), size = r["median_size"], r["image_size"]
            images = f"{r['images']} of {height:.0f}x{width:.0f} to {size}x{size}, {r['unreadable']} unreadable"
            return {
                "images, median size": images,
                "decoder": row["decoder"],
                "images/s a core": f"{row['images_per_second_per_core']:,.0f}",
                "±": half_range(row["core_batch_ms"]),
                "processes": row["workers"],
                "images/s": f"{row['images_per_second']:,.0f}",
            }
        case _:
            speed, one = row["images_per_second"], r["rows"][0]["images_per_second"]
            times = {"images/s": f"{speed:,.0f}", "times one": f"{speed / one:.2f}"}
            return {"in": row.get("how", "threads"), "runs": row["runs"]} | times


def case_cells(r: Values, ceilings: Values | None) -> Values:
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


def summary_line(part: Values) -> str:
    """Format a part in a few words."""
    r = part["result"]
    if r is None:
        return f"{part['state']}, {part['reason']}"
    if "ratio" in r:
        return f"{ratio(r)} times as fast"
    if "loop_ms" in r:
        return f"{digits(r['loop_ms']['median'])} ms a step, {r['images_per_second']:,.0f} images/s"
    return f"done in {duration(part['seconds'])}"


def ratio(r: Values) -> str:
    return "{median:.2f} ({min:.2f} to {max:.2f})".format(**r["ratio"])


def half_range(times: Values) -> str:
    return percent((times["max"] - times["min"]) / times["median"] / 2)


def digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def scaled(value: float) -> str:
    """Format ``1.23e12`` as ``1.23 T``."""
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} "


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def grid(rows: list[Values]) -> str:
    """Format rows as a table, without empty columns."""
    header = [name for name in rows[0] if any(row[name] != "" for row in rows)]
    align = ["left" if name in LEFT else "right" for name in header]
    texts = [[row[name] for name in header] for row in rows]
    return str(tabulate(texts, header, tablefmt="simple", colalign=align, disable_numparse=True))
