"""Open choices: which runs belong together, and when a difference is reversed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from repro.cli.main import main
from repro.config.compose import plan
from repro.report.choices import EXPERIMENT, Choice, choices, to_text
from repro.results.read import Record, read_records
from tests.planted import plant

USUAL = {"plain-20": 9.0, "plain-56": 13.0, "ResNet-20": 8.5}
NETS = {"plain-20": (20, "none"), "plain-56": (56, "none"), "ResNet-20": (20, "A")}


def plant_nets(root: Path, errors: Mapping[str, float], science: dict[str, Any] | None = None, seed: int = 0) -> None:
    for label, error in errors.items():
        depth, shortcut = NETS[label]
        plant(root, depth, shortcut, seed, error, train_error=error / 10, science=science, exp=EXPERIMENT)


def found(root: Path, *words: str) -> dict[str, Choice]:
    records: tuple[Record, ...] = read_records([root]).records
    return {choice.switch: choice for choice in choices(plan([f"exp={EXPERIMENT}", *words]).runs, records)}


def cells(text: str, switch: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(switch))
    return [cell.strip() for cell in line[len(switch) :].split("  ") if cell.strip()]


def test_each_choice_is_read_beside_the_defaults_and_a_reversed_sign_is_named(tmp_path: Path) -> None:
    plant_nets(tmp_path, USUAL)
    plant_nets(tmp_path, {"plain-20": 9.5, "plain-56": 9.0, "ResNet-20": 8.5}, {"optim.nesterov": True})
    plant_nets(tmp_path, {"plain-20": 9.5, "plain-56": 12.0}, {"model.fc_init": "torch"})
    text = to_text(list(found(tmp_path).values()), "the command")
    assert cells(text, "defaults") == ["3 of 3", "+0.40", "+4.00", "+0.50"]
    assert cells(text, "optim.nesterov=true") == ["3 of 3", "−0.05 reversed", "−0.50 reversed", "+1.00"]
    assert cells(text, "model.fc_init=torch") == ["2 of 3", "+0.25", "+2.50", "–"]
    assert cells(text, "model.fc_init=normal_0.01") == ["0 of 3", "–", "–", "–"]
    measured, reversed_by, _, missing = text.splitlines()[-4:]
    assert "1 of 15" in measured
    assert "1" in reversed_by and "optim.nesterov=true" in reversed_by and "fc_init" not in reversed_by
    assert "38 runs" in missing and "the command" in missing


def test_a_choice_of_option_a_stands_beside_the_plain_nets_of_the_defaults(tmp_path: Path) -> None:
    plant_nets(tmp_path, USUAL)
    plant_nets(tmp_path, {"ResNet-20": 9.3}, {"model.shortcut_subsample": "avg_pool"})
    text = to_text(list(found(tmp_path).values()), "")
    assert cells(text, "model.shortcut_subsample=avg_pool") == ["1 of 1", "+0.40", "+4.00", "−0.30 reversed"]


def test_several_seeds_have_a_standard_error(tmp_path: Path) -> None:
    plant_nets(tmp_path, USUAL)
    plant_nets(tmp_path, {"plain-20": 9.2, "plain-56": 13.6, "ResNet-20": 8.5}, seed=1)
    usual = found(tmp_path, "seed=0,1")[""]
    assert [len(usual.records[label]) for label in NETS] == [2, 2, 2]
    # Deviations 0.1414 and 0.4243 of two seeds each: the root of 0.01 + 0.09.
    assert cells(to_text([usual], ""), "defaults")[2] == "+4.20 ± 0.32"


@pytest.mark.parametrize(("dirty", "counted"), [(False, 1), (True, 0), (None, 0)])
def test_at_the_papers_budget_only_committed_code_counts(tmp_path: Path, dirty: bool | None, counted: int) -> None:
    plant(tmp_path, 20, "A", dirty=dirty)
    assert len(found(tmp_path)[""].records["ResNet-20"]) == counted


def test_the_command_reads_the_runs_of_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant_nets(tmp_path / "work", USUAL)
    assert main(["choices", "--unpublished", f"paths.work={tmp_path}/work"]) == 0
    said = capsys.readouterr().out
    assert cells(said, "defaults") == ["3 of 3", "+0.40", "+4.00", "+0.50"]
    assert f"repro run exp={EXPERIMENT} paths.work={tmp_path}/work" in said
    assert main(["choices", "scale=tenth", "--unpublished", f"paths.work={tmp_path}/work"]) == 0
    assert cells(capsys.readouterr().out, "defaults") == ["0 of 3", "–", "–", "–"]
    assert main(["choices", "scale=huge"]) == 2
