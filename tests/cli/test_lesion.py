"""``repro lesion``: a finished run beside its record, and invalid requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import load
from repro.engine.run import run
from repro.evaluation.lesion_command import lesion
from repro.results.lesions import LESIONS
from repro.results.read import read_record
from repro.runtime.stop import Stopper
from tests.lines import logged
from tests.runs import config

pytestmark = pytest.mark.slow


def settings(of: RunConfig) -> list[str]:
    return [*(f"paths.{name}={getattr(of.paths, name)}" for name in ("data", "work", "results")), "device=cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    """Return a residual, a plain and a dense net."""
    root = tmp_path_factory.mktemp("lesion")
    short = ("optim.steps=2", "optim.milestones=[]", "eval.every_steps=2")
    nets = ("model.depth=14", "model.depth=14 model.shortcut=none", "model=densenet model.depth=10 model.growth=4")
    found = [config(root, *words.split(), *short) for words in nets]
    for of in found:
        assert run(of, load(of.data, of.paths.data, may_fetch=False), Stopper(None)) is not None
    return found


def test_the_undamaged_net_has_the_errors_of_its_record(runs: list[RunConfig], tmp_path: Path) -> None:
    residual, plain, _ = runs
    ids = (residual.run_id, plain.run_id)
    with logged() as said:
        words = [*ids, *settings(residual), "execution.threads=1"]
        assert lesion(words, images=0, draws=2, json=tmp_path / "out.json") == 0
    written = json.loads((tmp_path / "out.json").read_text())["lesions"]
    for of, values in zip((residual, plain), written, strict=True):
        record = read_record(of.work_dir / "record.json")
        found = LESIONS.read(record)
        assert (found.errors, found.images) == (record.result.final.errors, record.result.final.images)
        assert (found.stages, found.removable) == ((2, 2, 2), (0, 1, 3, 5))
        assert [len(one.deleted) for one in found.counts] == [2, 2, 3, 3, 4]
        assert values["run_id"] == of.run_id
        assert f"{found.errors:,} errors" in "\n".join(said)
    assert "3, 5 stay" in "\n".join(said)


def test_only_the_first_images_count(runs: list[RunConfig]) -> None:
    residual = runs[0]
    lesion([residual.run_id, *settings(residual), "execution.threads=1"], images=10, draws=1)
    assert LESIONS.read(read_record(residual.work_dir / "record.json")).images == 10


def test_invalid_requests_are_one_sentence(
    runs: list[RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    residual, _, dense = runs
    folders = settings(residual)
    requests = {
        ("cifar10-resnet20-s9",): "cifar10-resnet20-s9",
        (dense.run_id,): "cifar_resnet",
        (): "repro status",
        (residual.run_id, "model.depth=20"): "model.depth=20",
        (residual.run_id, "--images", "-1"): "--images",
        (residual.run_id, "--draws", "0"): "--draws",
        (residual.run_id, "--json", f"{tmp_path}/none/out.json"): "--json",
        (residual.run_id, "--json", str(tmp_path)): "--json",
    }
    for words, named in requests.items():
        assert main(["lesion", *words, *folders]) == 2, words
        error = capsys.readouterr().err
        assert named in error and "Traceback" not in error


def test_missing_weights_are_named(runs: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    final = runs[1].work_dir / "final.pt"
    aside = final.rename(final.with_name("aside.pt"))
    try:
        assert main(["lesion", runs[1].run_id, *settings(runs[1])]) == 2
    finally:
        aside.rename(final)
    assert f"weights of {runs[1].run_id}" in capsys.readouterr().err
