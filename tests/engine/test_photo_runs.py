"""ImageNet images from end to end: the sweep of Table 2, and an interrupted run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import load
from repro.engine.run import run
from repro.errors import InputError
from repro.results.read import read_record
from repro.results.record import Record
from repro.runtime import checkpoint
from repro.runtime.stop import Stopper
from tests.photos import make_tiny, write
from tests.runs import StopAfter, config, same_weights

SIZES = [
    *("data.image_size=32", "data.resize=[40,48]", "data.eval_resize=40", "eval.scales=[32,48]"),
    *("data.train_images=null", "data.test_images=null", "data.partial=true"),
    *("optim.batch_size=8", "model.bn_group_size=4", "optim.steps=4", "optim.milestones=[3]", "eval.every_steps=2"),
]
WORDS = ["exp=imagenet_plain_vs_residual", "scale=smoke", "data=tiny_imagenet", *SIZES]


@pytest.mark.slow
def test_table_2_and_figure_4_from_a_folder_of_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(tmp_path / "photos")
    for name in ("WORK", "RESULTS"):
        monkeypatch.setenv(f"REPRO_{name}", str(tmp_path / name.lower()))
    settings = ["device=cpu", "execution.threads=1", "execution.workers=1", "execution.progress=none"]
    command = ["run", *WORDS, *settings, f"paths.data={folder}", "model.shortcut=none,A", "model.depth=18"]
    assert main(command) == 0
    records = [read_record(path) for path in sorted((tmp_path / "work").glob("*/record.json"))]
    assert [record.label for record in records] == ["plain-18", "ResNet-18 A"]
    for record in records:
        assert [view.view for view in record.result.views] == ["10crop", "multiscale"]
        assert {view.images for view in record.result.views} == {record.result.final.images}
        assert len(record.responses) == 16
        assert sorted(path.name for path in (record.folder / "predictions").iterdir()) == [
            "10crop.npz",
            "multiscale.npz",
        ]
    assert main(command) == 0
    assert "all 2 runs have a record" in capsys.readouterr().out

    assert main(["table", "2", "--format", "csv"]) == 0
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert lines["plain-18"]["measured_mean"] == ""
    tested = next(view for view in records[0].result.views if view.view == "10crop")
    (mean,) = (v for k, v in lines["plain-18"].items() if k.startswith("proxy_smoke_data_tiny") and k.endswith("_mean"))
    assert float(mean) == pytest.approx(tested.top1_error)
    assert main(["figure", "4", "--scale", "smoke"]) == 0
    assert main(["evaluate", records[0].run_id, f"paths.data={folder}", *settings[:3]]) == 0
    assert capsys.readouterr().out.count("  equal\n") == 3, "one, ten crops and several scales, as the record says"


def go(of: RunConfig, stopper: Stopper) -> Record | None:
    dataset = load(of.data, of.paths.data, may_fetch=False, cache=of.paths.work / "cache", workers=0)
    return run(of, dataset, stopper)


@pytest.mark.parametrize(
    "words",
    [
        "model.shortcut=A",
        pytest.param("model.shortcut=B data.crop=scale_aspect data.jitter=0.4", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_on_photographs_ends_with_the_same_bits(tmp_path: Path, words: str) -> None:
    folder = make_tiny(tmp_path / "photos")
    whole, broken = (
        config(
            tmp_path / name,
            *WORDS,
            *("model.depth=18", *words.split(), f"paths.data={folder}", f"execution.workers={workers}"),
            "execution.log_steps=1",
        )
        for name, workers in (("1", 0), ("2", 1))
    )
    expected = go(whole, Stopper(None))
    assert expected is not None
    pieces, in_test = 0, 0
    while (found := go(broken, StopAfter(pieces))) is None:  # a batch of a view more each time
        pieces += 1
        in_test += (broken.work_dir / checkpoint.FINAL).exists()
        assert pieces < 20
    assert pieces > in_test > 1
    assert found.result == expected.result
    assert same_weights(whole, broken)
    curves = [(of.work_dir / "curve.csv").read_text() for of in (whole, broken)]
    assert curves[0] == curves[1]


def test_a_run_on_one_folder_is_neither_resumed_nor_done_on_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make_tiny(tmp_path / name) for name in "ab"]
    write(folders[1] / "train" / "n01440764" / "images" / "more.JPEG", 7)
    words = [*WORDS, "model.depth=18", "model.shortcut=A", "execution.workers=0", "execution.log_steps=1"]
    first, other = (config(tmp_path, *words, f"paths.data={folder}") for folder in folders)
    assert go(first, StopAfter(0)) is None
    with pytest.raises(InputError, match=r"paths\.data \(train\).*paths\.work="):
        go(other, Stopper(None))
    (last,) = checkpoint.checkpoints(first.work_dir)[-1:]
    stored = checkpoint.load(last)
    checkpoint.save(last, {name: value for name, value in stored.items() if name != "digests"})
    assert go(other, StopAfter(0)) is None, "older checkpoints have no digests"

    checkpoint.save(last, stored)
    for path in checkpoint.checkpoints(first.work_dir):
        if path != last:
            path.unlink()
    assert go(first, Stopper(None)) is not None
    places = [f"paths.{name}={getattr(first.paths, name)}" for name in ("work", "results")]
    for folder, code in ((folders[0], 0), (folders[1], 1), (tmp_path / "gone", 0)):
        assert main(["run", *words, *places, f"paths.data={folder}", "device=cpu"]) == code
        assert (f"{first.work_dir} holds this run on other images" in capsys.readouterr().out) == (code == 1)
