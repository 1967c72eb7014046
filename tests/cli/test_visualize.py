"""``repro visualize``: pictures and a comparison of two finished runs, and invalid requests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from repro.cli.main import main
from repro.cli.visualize import visualize
from repro.config.run import RunConfig
from repro.data import load
from repro.engine.run import run
from repro.results.channels import CHANNELS, PICTURES
from repro.results.read import read_record
from repro.runtime.stop import Stopper
from tests.runs import config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    root = tmp_path_factory.mktemp("visualize")
    short = ("model.depth=14", "optim.steps=2", "optim.milestones=[]", "eval.every_steps=2")
    found = [config(root, *short), config(root, *short, "model.shortcut=none")]
    for of in found:
        assert run(of, load(of.data, of.paths.data, may_fetch=False), Stopper(None)) is not None
    return found


def settings(of: RunConfig) -> list[str]:
    return [*(f"paths.{name}={getattr(of.paths, name)}" for name in ("data", "work", "results")), "device=cpu"]


def test_a_channel_of_two_nets_is_drawn_and_compared(nets: list[RunConfig], tmp_path: Path) -> None:
    one, other = nets
    words = [one.run_id, other.run_id, *settings(one), "execution.threads=1"]
    assert visualize(words, stage=2, channels=(5,), json=tmp_path / "out.json") == 0
    stem = f"{one.run_id}-and-1-more-stage2-channel5"
    folder = one.paths.work / PICTURES
    assert {file.name for file in folder.iterdir()} == {f"{stem}.png", f"{stem}.svg"}
    assert Image.open(folder / f"{stem}.png").size[0] > 2 * 3 * 32
    found = json.loads((tmp_path / "out.json").read_text())
    assert [each["stage"] for each in found[other.run_id]] == [1, 2, 3]
    assert all(0 <= each["overlap"] <= 1 and each["images"] == 128 for each in found[one.run_id])
    assert visualize([other.run_id, *words[2:]], channels=(), images=20) == 0
    kept = CHANNELS.read(read_record(other.work_dir / "record.json"))
    assert [dataclasses.asdict(each) for each in kept.stages] == found[other.run_id], "not the 20 images"


def test_invalid_requests_are_one_sentence_before_anything_is_computed(
    nets: list[RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.cli.visualize.compared", None)
    requests = {
        ("--stage", "9"): "--stage 9",
        ("--channels", "0,64"): "--channels 64",
        ("--top", "0"): "--top 0",
        ("--images", "-1"): "--images -1",
        ("model.depth=20",): "model.depth=20",
    }
    for words, named in requests.items():
        assert main(["visualize", nets[0].run_id, *words, *settings(nets[0])]) == 2, words
        error = capsys.readouterr().err
        assert named in error and "Traceback" not in error
