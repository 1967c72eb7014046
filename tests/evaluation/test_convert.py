"""``repro convert``: runs to plain and residual files and back, its comparison of both nets, and invalid requests."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import load_for
from repro.engine.run import run
from repro.errors import InputError, RunError
from repro.evaluation import convert as command
from repro.evaluation.convert import convert
from repro.evaluation.converted_file import read_converted
from repro.evaluation.same_function import ImageSet, compare
from repro.models import build_model, resnet
from repro.models.conversion.forms import Conv, PlainForm, ResidualForm
from repro.models.conversion.plain import to_plain
from repro.results.read import read_record
from repro.runtime import checkpoint
from repro.runtime.stop import Stopper
from tests.lines import logged
from tests.planted import plant_planned
from tests.runs import config, photo_config


def trained(folder: Path, *words: str) -> RunConfig:
    one = config(folder, "model.depth=8", "optim.steps=4", "optim.milestones=[]", *words)
    assert run(one, load_for(one), Stopper(None)) is not None
    return one


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return trained(tmp_path_factory.mktemp("residual"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return trained(tmp_path_factory.mktemp("plain"), "model.shortcut=none")


def folders(of: RunConfig) -> list[str]:
    return [*(f"paths.{name}={getattr(of.paths, name)}" for name in ("data", "work", "results")), "execution.threads=1"]


def asked(of: RunConfig, name: str, to: str, **options: Any) -> str:
    with logged() as said:
        assert convert([name, *folders(of)], to=to, **options) == 0
    return "\n".join(said)


def errors_of(said: str) -> tuple[int, int]:
    found = re.search(r"([\d,]+) errors before, ([\d,]+) after", said)
    assert found is not None
    one, other = (int(number.replace(",", "")) for number in found.groups())
    return one, other


def test_a_run_becomes_plain_and_residual_again_from_the_file_alone(residual: RunConfig, tmp_path: Path) -> None:
    file = tmp_path / "plain.safetensors"
    said = asked(residual, residual.run_id, "plain", out=file)
    wanted = read_record(residual.work_dir / "record.json").result.final.errors
    assert errors_of(said) == (wanted, wanted)
    assert str(file) in said
    stored = read_converted(file)
    assert isinstance(stored.form, PlainForm)
    assert stored.about["run_id"] == residual.run_id
    assert {value.dtype for name, value in load_file(file).items() if "weight" in name} == {torch.float64}
    # Another machine has the file and neither the run nor its records.
    elsewhere = dataclasses.replace(residual, paths=dataclasses.replace(residual.paths, work=tmp_path / "work"))
    said = asked(elsewhere, str(file), "residual")
    back = tmp_path / "plain-residual.safetensors"
    assert errors_of(said) == (wanted, wanted)
    assert isinstance(read_converted(back).form, ResidualForm)
    again = tmp_path / "again.safetensors"
    asked(elsewhere, str(back), "plain", out=again)
    values, others = load_file(file), load_file(again)
    assert values.keys() == others.keys()
    for name, value in values.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-12)


def test_without_a_path_the_file_goes_to_the_work_folder(residual: RunConfig) -> None:
    asked(residual, residual.run_id, "plain", images=8)
    written = residual.paths.work / "converted" / f"{residual.run_id}-plain.safetensors"
    said = asked(residual, str(written), "residual", images=8)
    assert str(written.with_name(f"{residual.run_id}-residual.safetensors")) in said


def test_a_trained_plain_net_becomes_residual_and_says_where_no_identity_exists(
    plain: RunConfig, tmp_path: Path
) -> None:
    said = asked(plain, plain.run_id, "residual", out=tmp_path / "residual.safetensors")
    assert "layer 4 stays plain" in said
    assert "layer 6 stays plain" in said
    wanted = read_record(plain.work_dir / "record.json").result.final.errors
    assert errors_of(said) == (wanted, wanted)
    form = read_converted(tmp_path / "residual.safetensors").form
    assert isinstance(form, ResidualForm)
    assert sum(block.shortcut is not None for block in form.blocks) == 4


def test_the_output_has_the_cost_before_and_after(residual: RunConfig, tmp_path: Path) -> None:
    said = asked(residual, residual.run_id, "plain", out=tmp_path / "plain.safetensors", images=8)
    rows = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    record = read_record(residual.work_dir / "record.json")
    assert f"{record.params:,}" in rows["before"]
    assert f"{record.macs:,}" in rows["before"]
    assert f"{114_282:,}" in rows["plain"]
    assert "8 images" in rows["float64,"]
    assert "8 images" in rows["float32,"]


def test_missing_test_images_are_replaced_by_random_ones(
    residual: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise InputError("there are no images")

    for module in ("stored_net.load", "same_function.load_for"):
        monkeypatch.setattr(f"repro.evaluation.{module}", load)
    said = asked(residual, residual.run_id, "plain", out=tmp_path / "plain.safetensors")
    assert "random images, because" in said
    assert "errors" not in said, "their labels mean nothing"
    assert read_converted(tmp_path / "plain.safetensors").stats is None
    assert "random images" in asked(residual, str(tmp_path / "plain.safetensors"), "residual")


def test_a_net_of_imagenet_becomes_plain_and_residual_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "STAGE_CHANNELS", (8, 12))
    monkeypatch.setitem(resnet.STAGE_BLOCKS, 50, (1, 2))
    one = photo_config(tmp_path, "model.depth=50", "model.shortcut=B")
    folder = plant_planned(one.paths.work, one)
    net = build_model(one.model, 1000, torch.Generator().manual_seed(0))
    checkpoint.save(folder / checkpoint.FINAL, {"model": net.state_dict()})
    file = tmp_path / "plain.safetensors"
    asked(one, folder.name, "plain", out=file, images=2)
    plain = read_converted(file).form
    assert isinstance(plain, PlainForm)
    assert (plain.layers[0].weight.shape[-1], plain.layers[0].stride, plain.pool_padding) == (
        7,
        2,
        one.model.pool_padding,
    )
    assert len(plain.layers) == 1 + 3 * 3
    asked(one, str(file), "residual", images=2)
    back = read_converted(tmp_path / "plain-residual.safetensors").form
    assert isinstance(back, ResidualForm)
    assert [block.stride for block in back.blocks if block.shortcut] == [1, 2, 1]


# --- the comparison -------------------------------------------------------------------------------------------------


def chain(*bias: float) -> PlainForm:
    """Return a net of a single layer whose logits are the means of its three channels, plus ``bias``."""
    eye, zeros = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    layer = Conv(eye[:, :, None, None], zeros)
    return PlainForm((layer,), None, eye, torch.tensor(bias, dtype=torch.float64))


def pixels(*images: tuple[float, float, float]) -> ImageSet:
    def batches(most: int) -> Any:
        yield torch.tensor(images)[:most, :, None, None], torch.zeros(len(images), dtype=torch.int64)[:most]

    return ImageSet("made", True, batches)


def test_an_image_with_another_prediction_is_told_with_both_margins() -> None:
    images = pixels((3.0, 1.0, 0.0), (2.0, 1.75, 0.0))
    found = compare(chain(0, 0, 0), chain(0, 0.5, 0), images, 1, 2)
    assert (found.images64, found.images32, found.difference, found.largest) == (1, 2, 0.5, 3)
    assert (found.errors_before, found.errors_after) == (0, 1)
    (flip,) = found.flips
    assert (flip.image, flip.label, flip.before, flip.after) == (1, 0, 0, 1)
    assert (flip.margin_before, flip.margin_after) == (0.25, 0.25)
    assert not found.equal
    (line,) = [line for line in command.report(found, images, ["cat", "dog", "ship"]) if "image 1" in line]
    assert "cat by 0.25" in line
    assert "dog by 0.25" in line


@pytest.mark.parametrize(
    ("bias", "largest", "equal"), [(0.0, 1.0, True), (3e-9, 1.0, False), (3e-9, 40.0, True), (float("nan"), 1.0, False)]
)
def test_logits_may_differ_by_a_billionth_of_the_largest(bias: float, largest: float, equal: bool) -> None:
    found = compare(chain(0, 0, 0), chain(0, 0, bias), pixels((0.5, largest, 0.0)), 1, 1)
    assert found.equal is equal


def test_a_net_that_differs_is_not_written(
    residual: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(form: ResidualForm, _: int) -> PlainForm:
        plain = to_plain(form, 8)
        return dataclasses.replace(plain, fc_bias=plain.fc_bias + 1e-6)

    monkeypatch.setattr(command, "to_plain", wrong)
    file = tmp_path / "plain.safetensors"
    with pytest.raises(RunError, match="1e-06"):
        asked(residual, residual.run_id, "plain", out=file, images=8)
    assert not file.exists()


# --- invalid requests -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(residual: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that can and cannot be converted."""
    folder = tmp_path_factory.mktemp("files")
    asked(residual, residual.run_id, "plain", out=folder / "plain.safetensors", images=8)
    content = (folder / "plain.safetensors").read_bytes()
    (folder / "damaged.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (folder / "short.safetensors").write_bytes(content[: len(content) // 2])
    (folder / "text.pt").write_text("hello")
    torch.save({"fc.weight": torch.zeros(1)}, folder / "torch.pt")
    save_file({"fc.weight": torch.zeros(1)}, folder / "other.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "to", "said"),
    [
        ("plain.safetensors", "plain", "plain net already"),
        ("damaged.safetensors", "residual", "damaged"),
        ("short.safetensors", "residual", "short.safetensors"),
        ("text.pt", "residual", "text file"),
        ("torch.pt", "residual", "was not written by"),
        ("other.safetensors", "residual", "was not written by"),
        ("missing.safetensors", "residual", "missing.safetensors cannot be read"),
    ],
)
def test_a_file_that_cannot_be_converted_is_refused(
    residual: RunConfig, files: Path, name: str, to: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        asked(residual, str(files / name), to)


@pytest.mark.parametrize(
    ("words", "to", "said"),
    [
        (["model=densenet", "model.depth=10"], "plain", "DenseNet.*nothing is added"),
        (["model=highway", "model.depth=11"], "plain", "Highway.*gates"),
        (["model.activation=maxout"], "plain", "maxout"),
        (["model.shortcut=none"], "plain", "--to residual"),
        ([], "residual", "--to plain"),
        ([], "plain", "weights of"),
    ],
)
def test_a_run_that_cannot_be_converted_is_refused(tmp_path: Path, words: list[str], to: str, said: str) -> None:
    one = config(tmp_path, *words)
    folder = plant_planned(one.paths.work, one)
    with pytest.raises(InputError, match=said):
        asked(one, folder.name, to)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "0 are named"),
        (["one", "two"], "2 are named"),
        (["nosuchrun"], "nosuchrun"),
        (["one", "--to", "plane"], "did you mean 'plain'"),
        (["one", "--images", "0"], "--images 0"),
        (["one", "model.depth=20"], "model.depth=20"),
        (["one", "device=cuda"], "device=cuda"),
    ],
)
def test_words_that_name_no_net_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = [] if "--to" in words else ["--to", "plain"]
    assert main(["convert", *words, *to, f"paths.work={tmp_path}", f"paths.results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_path_that_cannot_be_written_is_refused_before_the_work(residual: RunConfig, files: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        asked(residual, residual.run_id, "plain", out=files / "nowhere" / "plain.safetensors")
    with pytest.raises(InputError, match="--out"):
        asked(residual, residual.run_id, "plain", out=files)
    copy = files / "copy.safetensors"
    shutil.copy(files / "plain.safetensors", copy)
    with pytest.raises(InputError, match="copy"):
        asked(residual, str(copy), "residual", out=copy)


def test_a_folder_that_takes_no_files_is_refused_before_the_work(
    plain: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(command, "default_path", lambda *_: tmp_path / "file" / "converted" / "net.safetensors")
    with logged() as said, pytest.raises(InputError, match="takes no files: name another file with --out"):
        convert([plain.run_id, *folders(plain)], to="residual")
    assert not said, "nothing was converted yet"


def test_large_nets_are_compared_on_fewer_images() -> None:
    assert command.usual_images(120_000_000) == (1_000, 10_000)
    assert command.usual_images(8_000_000_000) == (50, 500)
