"""Files of weights from other projects: what is read, what is refused, and that no code in them runs."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import pathlib
import shutil
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from repro.errors import InputError
from repro.evaluation.command import evaluate
from repro.evaluation.foreign import Pixels, origin_of
from repro.evaluation.weight_files import COUNTERS, read_weights
from repro.models.blocks import BlockNet
from tests.lines import logged
from tests.nets import trained_net

NET = trained_net(8)
WEIGHTS = {name: value for name, value in NET.state_dict().items() if not name.endswith(COUNTERS)}


def saved(folder: Path, payload: Any, **options: Any) -> Path:
    torch.save(payload, folder / "weights.pth", **options)
    return folder / "weights.pth"


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor] = WEIGHTS) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read_weights(path)
    return str(refused.value)


def theirs(net: BlockNet) -> dict[str, torch.Tensor]:
    """Rename the weights of one of our nets to akamaster's names."""
    names = {name: name.replace("fc.", "linear.") for name in net.state_dict()}
    for stage in range(3):
        names = {name: other.replace(f"stages.{stage}.", f"layer{stage + 1}.") for name, other in names.items()}
    return {names[name]: value for name, value in net.state_dict().items()}


@settings(max_examples=30)
@given(
    prefixes=st.lists(st.sampled_from(["module", "_orig_mod", "model", "net", "backbone"]), max_size=3),
    keys=st.lists(st.sampled_from(["state_dict", "model", "net", "model_state_dict", "model_ema"]), max_size=2),
    legacy=st.booleans(),
)
def test_any_usual_nesting_and_prefix_is_read(
    tmp_path_factory: pytest.TempPathFactory, prefixes: list[str], keys: list[str], legacy: bool
) -> None:
    payload: Any = OrderedDict((".".join([*prefixes, name]), value) for name, value in NET.state_dict().items())
    for key in keys:
        payload = {"epoch": 3, key: payload, "optimizer": {"state": {}}}
    folder = tmp_path_factory.mktemp("any")
    found = read_weights(saved(folder, payload, _use_new_zipfile_serialization=not legacy))
    assert same(found.weights)
    notes = " ".join(found.notes)
    assert all(part in notes for part in (*(p for p in prefixes if p != "_orig_mod"), *keys))
    assert ("torch's wrappers" in notes) == ("_orig_mod" in prefixes)
    shutil.rmtree(folder)


@pytest.mark.parametrize("legacy", [False, True])
def test_harmless_objects_beside_the_weights_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    # This module does not exist where the weights are read.
    module = types.ModuleType("their_project")
    module.Recipe = type("Recipe", (), {"__module__": "their_project"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_project", module)
    beside = {
        "recipe": module.Recipe(),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/out")),
        "best": np.float64(91.2),
        "dtype": np.dtype("f4"),
        "curve": np.ones(3),
    }
    path = saved(tmp_path, {"model": WEIGHTS, **beside}, _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, "their_project")
    assert same(read_weights(path).weights)


def test_a_whole_net_is_named_and_not_run(tmp_path: Path) -> None:
    assert "repro.models.resnet.CifarResNet" in refusal(saved(tmp_path, NET))
    assert "'net' (repro.models.resnet.CifarResNet)" in refusal(saved(tmp_path, {"net": NET, "epoch": 1}))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("function", [exec, pathlib.os.system, shutil.rmtree])  # type: ignore[attr-defined]
def test_nothing_is_run(tmp_path: Path, function: Any, legacy: bool) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return function, (f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()",)

    path = saved(tmp_path, {"model": WEIGHTS, "args": Harmful()}, _use_new_zipfile_serialization=not legacy)
    assert f"would call {function.__module__}.{function.__name__}" in refusal(path)
    assert not (tmp_path / "ran").exists()


def test_averages_are_second_choice(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(trained_net(8, "none")).state_dict()
    both = read_weights(saved(tmp_path, {"model_ema": averaged, "model": WEIGHTS}))
    assert same(both.weights)
    assert "'model_ema'" in both.notes[0]
    alone = read_weights(saved(tmp_path, {"ema": averaged, "epoch": 1})).weights
    assert alone.keys() == WEIGHTS.keys()


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors", {"format": "pt"})
    assert same(read_weights(tmp_path / "model.safetensors").weights)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(tmp_path: Path, precision: torch.dtype) -> None:
    found = read_weights(saved(tmp_path, {name: value.to(precision) for name, value in WEIGHTS.items()}))
    assert same(found.weights, {name: value.to(precision).float() for name, value in WEIGHTS.items()})
    assert str(precision).removeprefix("torch.") in found.notes[0]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (torch.full((64, 64, 3, 3), float("nan")), "36864 of 36864 values .* are not finite"),
        (torch.full((64, 64, 3, 3), 1e300, dtype=torch.float64), "are not finite"),
        (torch.zeros(64, 64, 3, 3, dtype=torch.int8), "int8"),
        (torch.zeros(64, 64, 3, 3, dtype=torch.complex64), "complex64"),
        (torch.zeros(64, 64, 3, 3).to_sparse(), "sparse_coo"),
    ],
)
def test_weights_that_cannot_be_right_are_refused_by_name(tmp_path: Path, value: torch.Tensor, why: str) -> None:
    path = saved(tmp_path, WEIGHTS | {"stages.2.0.conv2.weight": value})
    with pytest.raises(InputError, match=why) as refused:
        read_weights(path)
    assert "stages.2.0.conv2.weight" in str(refused.value)


def test_a_flipped_bit_is_found_and_its_tensor_named(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": WEIGHTS})
    content = bytearray(path.read_bytes())
    part = WEIGHTS["stages.1.0.conv1.weight"].numpy().tobytes()
    content[content.index(part) + 5] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True), "torch itself does not see it"
    assert "checksum of stages.1.0.conv1.weight" in refusal(path)
    path.write_bytes(content[: len(content) // 2])
    assert "its end is missing" in refusal(path)


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path, {"model": WEIGHTS, "args": argparse.Namespace()})
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_weights(path).weights)


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), "content")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>Virus scan warning</html>", "is a web page"),
        (b"\xef\xbb\xbf<HTML>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"),
        (gzip.compress(b"weights", mtime=0), "is compressed"),
        (b'{"message": "Not Found"}', "is a text.*Not Found"),
        (zipped("net/data.pkl", "net/constants.pkl"), "is TorchScript"),
        (zipped("a/resnet20.pth", "b/resnet32.pth"), r"is a zip archive of other files \(a/resnet20.pth"),
        (struct.pack("<Q", 1 << 40) + b"{", "is not a file of weights alone"),
        (b"\x80\x02}q\x00.", "is not a file of weights alone"),
        (bytes(range(256)), "is not a file of weights alone"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InputError, match=kind):
        read_weights(tmp_path / "weights.pth")


def test_real_torchscript_is_named(tmp_path: Path) -> None:
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "weights.pth")
    assert "is TorchScript" in refusal(tmp_path / "weights.pth")


def test_origins_are_told_by_names() -> None:
    public = origin_of(theirs(NET))
    assert public.settings == {"model.option_a": "both_sides"}
    assert public.to_ours(theirs(NET)).keys() == NET.state_dict().keys()
    projected = trained_net(8, "B")
    assert origin_of(theirs(projected)).settings == {"model.shortcut": "B"}
    assert origin_of(theirs(projected)).to_ours(theirs(projected)).keys() == projected.state_dict().keys()
    assert not origin_of(WEIGHTS).pixels.mean
    assert not origin_of({"features.0.weight": torch.zeros(1)}).settings
    other = {name.replace("linear.", "fc."): value for name, value in theirs(NET).items()}
    assert (origin_of(other).settings, origin_of(other).pixels.mean) == ({}, ())
    assert origin_of(other).to_ours(other).keys() == NET.state_dict().keys()


def evaluated(folder: Path, file: Path, *words: str, **options: Any) -> tuple[str, dict[str, Any]]:
    given = ("data=synthetic", "scale=smoke", "device=cpu", "execution.threads=1", f"paths.work={folder / 'work'}")
    with logged() as said:
        assert evaluate((*given, *words), weights=file, json=folder / "out.json", **options) == 0
    (row,) = json.loads((folder / "out.json").read_text())["results"]
    return "\n".join(said), row


def test_public_cifar_weights_are_tested_as_their_own_scripts_do(tmp_path: Path) -> None:
    """Compared with the same net, computed here with its place of zero channels and its pixel statistics."""
    from repro.data import load_synthetic
    from tests.runs import config

    net = trained_net(8, option_a="both_sides").eval()
    file = saved(tmp_path, {"state_dict": {f"module.{n}": v for n, v in theirs(net).items()}, "best_prec1": 91.7})
    said, row = evaluated(tmp_path, file, "model.depth=8")
    assert "model.option_a=both_sides" in said
    split = load_synthetic(config(tmp_path).data).eval
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255  # type: ignore[union-attr]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        found = net((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)).argmax(1)
    assert row["errors"] == int((found != torch.from_numpy(split.labels)).sum())
    assert (row["images"], row["equal"]) == (len(split), None)
    assert "recognized: the CIFAR-10 nets of akamaster" in said
    assert "mean 0.485,0.456,0.406, deviation 0.229,0.224,0.225" in said
    said, _ = evaluated(tmp_path, file, "model.depth=8", pixels=Pixels((0.5, 0.5, 0.5)))
    assert "mean 0.5,0.5,0.5, deviation 1.0,1.0,1.0" in said


def test_the_pixels_of_unknown_weights_are_said(tmp_path: Path) -> None:
    said, _ = evaluated(tmp_path, saved(tmp_path, WEIGHTS), "model.depth=8")
    assert "mean image and no deviation of our training images; --mean and --std" in said
    with pytest.raises(InputError, match=r"ResNet-14 .*10 classes: .*stages\.0\.1"):
        evaluated(tmp_path, saved(tmp_path, WEIGHTS), "model.depth=14")
