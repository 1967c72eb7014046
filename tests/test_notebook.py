"""The notebook for a lecture: every cell runs, on the published records alone."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "degradation.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line, which a notebook shows, None where that is no expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), NOTEBOOK.name, "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs_and_shows_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_WORK", str(tmp_path))
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    matplotlib.use("agg")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "outputs would grow stale in the repository"
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in cells]
    assert all(value is not None for value in shown[1:])
    table = names["errors"].groupby("label")["train.top1_error"].mean()
    assert table["plain-56"] > table["plain-20"] + 10 and table["ResNet-56"] < table["ResNet-20"] + 5
    assert "8.42 %" in capsys.readouterr().out
