"""A figure as SVG that can stand with others in one page."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = "font-family: 'DejaVu Sans', Verdana, Geneva, sans-serif"
"""Verdana runs as wide as DejaVu Sans, which the layout was computed with and few devices have."""


def inline_svg(drawn: Figure, name: str, label: str) -> str:
    """``drawn`` as one ``<svg>`` element without a size of its own, its ids all beginning with ``name``.

    Text stays text: smaller, sharp at any size, found by the browser's search. The same figure gives the same text.
    """
    import matplotlib

    from repro.report.figures.style import METADATA, STYLE

    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.savefig(out, format="svg", metadata=METADATA["svg"])
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: ((?:\w+ )*)([\d.]+px) [^;\"]*", rf"font-size: \2; {FONTS}", text)
    size = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', text)
    assert size is not None
    width = f"width: 100%; max-width: {float(size.group(1)):.0f}pt"
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{html.escape(label)}" {size.group(0)} style="{width}">'
    )
    return head + text[text.index(">") + 1 :].rstrip() + "\n"
