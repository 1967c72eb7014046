"""Words that a shell completes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repro.cli.completion import SCRIPT, candidates
from repro.cli.main import main
from repro.cli.parser import options_of, parser
from tests.planted import plant


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("repro sta", ["status "]),
        ("repro run exp=cifar_depth", ["exp=cifar_depth_sweep "]),
        ("repro run optim.nest", ["optim.nesterov="]),
        ("repro run execution.micro", ["execution.micro_batch="]),
        ("repro check degradation_", ["degradation_cifar "]),
        ("repro figure gradient", ["gradient_flow "]),
        ("repro status --j", ["--json "]),
        ("repro status paths.w", ["paths.work="]),
        ("repro nosuch x", []),
    ],
)
def test_commands_keys_values_claims_and_options_are_completed(line: str, found: list[str]) -> None:
    assert candidates(line, options_of(parser())) == found


def test_runs_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_WORK", str(tmp_path))
    run = plant(tmp_path, depth=26).name
    assert main(["completion", "--line=repro compare cifar10-resnet26"]) == 0
    assert capsys.readouterr().out == f"{run} \n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_what_stands_after_an_equals_sign() -> None:
    words = [sys.executable, "-m", "repro"]
    lines = [f'repro() {{ {" ".join(words)} "$@"; }}', SCRIPT, "COMP_WORDBREAKS='='"]
    lines += [
        'COMP_LINE="repro run exp=cifar_depth"; COMP_POINT=${#COMP_LINE}; _repro; printf "<%s>" "${COMPREPLY[@]}"'
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "<cifar_depth_sweep >"
