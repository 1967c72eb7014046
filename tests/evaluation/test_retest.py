"""``repro evaluate``: finished runs beside their records, weights of other projects, ensembles, invalid requests."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import load
from repro.engine.run import run
from repro.errors import InputError
from repro.evaluation import predictions
from repro.evaluation.command import evaluate
from repro.evaluation.foreign import Pixels
from repro.evaluation.stored_net import publish_weights
from repro.models import build_model
from repro.results.ensembles import plan_ensembles, publish_ensembles, read_ensembles
from repro.results.publish import plan_publication, publish
from repro.results.read import read_record
from repro.runtime import checkpoint
from repro.runtime.provenance import read_json, write_json
from repro.runtime.stop import Stopper
from tests.lines import logged
from tests.pictures import folder
from tests.planted import edit
from tests.runs import config, photo_config


def finish(of: RunConfig) -> RunConfig:
    dataset = load(of.data, of.paths.data, may_fetch=False, workers=0, cache=of.paths.work / "cache")
    assert run(of, dataset, Stopper(None)) is not None
    return of


def settings(of: RunConfig) -> tuple[str, ...]:
    paths = (f"paths.{name}={getattr(of.paths, name)}" for name in ("data", "work", "results"))
    return (*paths, "device=cpu", "execution.threads=1", "execution.workers=0")


def asked(of: RunConfig, *words: str, **options) -> str:
    """Return the output of ``repro evaluate``."""
    with logged() as said:
        pixels = Pixels(*(options.pop(name, empty) for name, empty in (("mean", ()), ("std", ()), ("resize", None))))
        assert evaluate((*words, *settings(of)), pixels=pixels, **options) == 0
    return "\n".join(said)


SHORT = ("optim.steps=4", "optim.milestones=[]", "eval.every_steps=4", "optim.batch_size=4", "model.bn_group_size=4")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return finish(config(tmp_path_factory.mktemp("cifar"), "optim.steps=4", "optim.milestones=[]"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    """Return two runs on the same ImageNet images."""
    root = tmp_path_factory.mktemp("photos")
    folder(root / "data")
    return [finish(photo_config(root, f"seed={seed}", *SHORT)) for seed in (0, 1)]


def test_a_run_gets_the_errors_of_its_record_again(cifar: RunConfig, tmp_path: Path) -> None:
    said = asked(cifar, cifar.run_id, json=tmp_path / "out.json")
    final = read_record(cifar.work_dir / "record.json").result.final
    (row,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert (row["errors"], row["images"], row["split"]) == (final.errors, 128, "test")
    assert row["equal"] is True
    assert "equal" in said
    assert f"{final.top1_error:.2f}" in said


def test_a_record_that_says_something_else_is_told_apart(cifar: RunConfig, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(cifar.work_dir, work / cifar.run_id)
    final = read_record(cifar.work_dir / "record.json").result.final
    edit(work / cifar.run_id, "result", "final", "errors", value=final.errors - 1)
    edit(work / cifar.run_id, "result", "final", "top1_error", value=100 * (final.errors - 1) / final.images)
    elsewhere = dataclasses.replace(cifar, paths=dataclasses.replace(cifar.paths, work=work))
    said = asked(elsewhere, cifar.run_id)
    assert f"differs: {final.errors - 1} errors" in said


def test_other_images_than_those_of_the_record_are_named(cifar: RunConfig, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(cifar.work_dir, work / cifar.run_id)
    edit(work / cifar.run_id, "provenance", "data_digests", "test_images", value="0" * 64)
    elsewhere = dataclasses.replace(cifar, paths=dataclasses.replace(cifar.paths, work=work))
    assert "other images, so errors may differ: test_images" in asked(elsewhere, cifar.run_id)


def test_a_published_run_is_evaluated_from_the_weights_beside_its_record(cifar: RunConfig, tmp_path: Path) -> None:
    results = tmp_path / "results"
    (folder,) = publish(plan_publication([cifar.run_id], cifar.paths.work, results), results)
    paths = dataclasses.replace(cifar.paths, work=tmp_path / "work", results=results)
    elsewhere = dataclasses.replace(cifar, paths=paths)
    with pytest.raises(InputError, match=r"weights of .*final\.pt.*weights\.safetensors"):
        asked(elsewhere, cifar.run_id)
    file = publish_weights(cifar.run_id, {**vars(cifar.paths), "results": results})
    assert file.parent == folder
    assert file.stat().st_size < 0.7 * (cifar.work_dir / "final.pt").stat().st_size, "the momentum stays behind"
    assert "equal" in asked(elsewhere, cifar.run_id)
    file.unlink()
    torch.save(checkpoint.load(cifar.work_dir / "final.pt")["model"], file.with_name("weights.pt"))
    assert "equal" in asked(elsewhere, cifar.run_id), "the file of older code does as well"


def test_published_weights_that_were_damaged_are_refused(cifar: RunConfig, tmp_path: Path) -> None:
    results = tmp_path / "results"
    publish(plan_publication([cifar.run_id], cifar.paths.work, results), results)
    file = publish_weights(cifar.run_id, {**vars(cifar.paths), "results": results})
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    paths = dataclasses.replace(cifar.paths, work=tmp_path / "work", results=results)
    with pytest.raises(InputError, match=r"weights\.safetensors are damaged"):
        asked(dataclasses.replace(cifar, paths=paths), cifar.run_id)


def test_weights_are_published_only_of_a_run_that_still_has_them(cifar: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the weights of .* cannot be published: .*final\.pt"):
        publish_weights(cifar.run_id, {**vars(cifar.paths), "work": tmp_path / "work", "results": tmp_path / "results"})


def test_imagenet_images_are_tested_on_all_views_of_their_run(photos: list[RunConfig], tmp_path: Path) -> None:
    one = photos[0]
    asked(one, one.run_id, json=tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [row["view"] for row in rows] == ["1crop", "10crop", "multiscale"]
    assert all(row["equal"] for row in rows)
    views = read_record(one.work_dir / "record.json").result.views
    assert [(v.view, v.errors, v.images, v.top5_errors) for v in views] == [
        (row["view"], row["errors"], 9, row["top5_errors"]) for row in rows[1:]
    ]
    assert "10crop" in asked(one, one.run_id, views=("10crop",))


def test_the_scores_of_the_run_itself_stay(photos: list[RunConfig]) -> None:
    one = photos[0]
    path = predictions.path_of(one.work_dir, "10crop")
    first = predictions.read(path)
    # The errors that another device's rounding could give.
    predictions.write(path, dataclasses.replace(first, scores=np.full_like(first.scores, 1 / 3)))
    before = path.read_bytes()
    asked(one, one.run_id, views=("10crop",))
    assert path.read_bytes() == before
    damaged = dataclasses.replace(first, made=dataclasses.replace(first.made, weights="0" * 64))
    predictions.write(path, damaged)
    asked(one, one.run_id, views=("10crop",))
    again = predictions.read(path)
    assert again.made == first.made
    assert (again.scores == first.scores).all()


def test_an_ensemble_averages_the_scores_of_its_runs(photos: list[RunConfig], tmp_path: Path) -> None:
    one, two = photos
    said = asked(one, one.run_id, two.run_id, ensemble=True, json=tmp_path / "out.json")
    assert "ensemble of 2" in said
    (found,) = read_ensembles([one.paths.work]).ensembles
    kept = [predictions.read(predictions.path_of(of.work_dir, "multiscale")) for of in photos]
    mean = (kept[0].scores.astype(np.float64) + kept[1].scores) / 2
    errors = int((mean.argmax(1) != kept[0].labels).sum())
    assert (found.errors, found.images, found.classes, found.top5_errors) == (errors, 9, 3, 0)
    assert found.top1_error == 100 * errors / 9
    assert [m.run_id for m in found.members] == [one.run_id, two.run_id]
    assert [m.view for m in found.members] == ["multiscale", "multiscale"]
    assert [m.errors for m in found.members] == [p.counts.errors for p in kept]
    assert found.members[0].weights == kept[0].made.weights
    assert json.loads((tmp_path / "out.json").read_text())["ensembles"][0]["ensemble_id"] == found.ensemble_id
    asked(one, two.run_id, one.run_id, ensemble=True)
    assert len(read_ensembles([one.paths.work]).ensembles) == 1, "the same members in another order"


def test_an_ensemble_needs_no_weights_where_scores_are_kept(photos: list[RunConfig], tmp_path: Path) -> None:
    work = tmp_path / "work"
    for of in photos:
        (work / of.run_id / "predictions").mkdir(parents=True)
        for name in ("record.json", "predictions/10crop.npz"):
            shutil.copy(of.work_dir / name, work / of.run_id / name)
    elsewhere = dataclasses.replace(photos[0], paths=dataclasses.replace(photos[0].paths, work=work, data=tmp_path))
    ids = [of.run_id for of in photos]
    asked(elsewhere, *ids, ensemble=True, views=("10crop",))
    assert len(read_ensembles([work]).ensembles) == 1
    with pytest.raises(InputError, match=r"weights of .*final\.pt"):
        asked(elsewhere, *ids, ensemble=True, views=("1crop",))


def test_scores_of_another_run_are_refused(photos: list[RunConfig], tmp_path: Path) -> None:
    one, two = photos
    work = tmp_path / "work"
    for of in photos:
        shutil.copytree(of.work_dir, work / of.run_id)
    shutil.copy(two.work_dir / "predictions/10crop.npz", work / one.run_id / "predictions")
    elsewhere = dataclasses.replace(one, paths=dataclasses.replace(one.paths, work=work))
    with pytest.raises(InputError, match=f"10crop of {two.run_id}"):
        asked(elsewhere, one.run_id, two.run_id, ensemble=True, views=("10crop",))


def test_runs_of_other_data_make_no_ensemble(photos: list[RunConfig], cifar: RunConfig, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for of in (photos[0], cifar):
        shutil.copytree(of.work_dir, work / of.run_id)
    elsewhere = dataclasses.replace(photos[0], paths=dataclasses.replace(photos[0].paths, work=work))
    with pytest.raises(InputError, match="3 and 10 classes"):
        asked(elsewhere, photos[0].run_id, cifar.run_id, ensemble=True, views=("1crop",))
    with pytest.raises(InputError, match="10crop is for ImageNet images"):
        asked(elsewhere, photos[0].run_id, cifar.run_id, ensemble=True, views=("10crop",))


def test_an_ensemble_of_published_runs_is_published(photos: list[RunConfig], tmp_path: Path) -> None:
    work, results = tmp_path / "work", tmp_path / "results"
    for of in photos:
        shutil.copytree(of.work_dir, work / of.run_id)
    elsewhere = dataclasses.replace(photos[0], paths=dataclasses.replace(photos[0].paths, work=work))
    asked(elsewhere, *(of.run_id for of in photos), ensemble=True)
    assert plan_ensembles(work, results) == []
    for of in photos:
        (results / "runs" / of.run_id).mkdir(parents=True)
        shutil.copy(of.work_dir / "record.json", results / "runs" / of.run_id)
    (made,) = publish_ensembles(plan_ensembles(work, results), work, results)
    both = read_ensembles([results, work])
    assert [e.ensemble_id for e in both.ensembles] == [made.name]
    assert both.left_out == ()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("errors",), 4, "top1_error=.* is not 100"),
        (("images",), 3, "errors among 3 images"),
        (("members",), [], "members, not 0"),
        (("members", 0, "weights"), "0" * 64, "its id .* is not .* its members"),
        (("members", 0, "fingerprint"), "0" * 16, "its id|fingerprint"),
        (("members", 0, "errors"), "none", "errors='none' must be a whole number"),
        (("ensemble_id",), "other", "its id other is not"),
        (("split",), "../val", "not a plain name"),
        (("schema",), 2, "schema=2 is not 1"),
        (("surprise",), 1, "unknown key 'surprise'"),
    ],
)
def test_an_invalid_record_of_an_ensemble_is_left_out(
    photos: list[RunConfig], tmp_path: Path, path: tuple[str | int, ...], value: object, message: str
) -> None:
    asked(photos[0], *(of.run_id for of in photos), ensemble=True)
    (file,) = (photos[0].paths.work / "ensembles").glob("2-multiscale-*/ensemble.json")
    target = tmp_path / "ensembles" / file.parent.name / "ensemble.json"
    target.parent.mkdir(parents=True)
    values = read_json(file)
    part = values
    for name in path[:-1]:
        part = part[name]  # type: ignore[index]
    part[path[-1]] = value  # type: ignore[index]
    if path == ("errors",):
        values["errors"] = (values["errors"] + 1) % 9
    write_json(target, values)
    reading = read_ensembles([tmp_path, tmp_path / "none"])
    assert reading.ensembles == ()
    (left,) = reading.left_out
    assert left.name.endswith(file.parent.name)
    assert re.search(message, left.reason), left.reason


def foreign(root: Path, names: str = "ours") -> tuple[RunConfig, Path]:
    """Return a configuration of ResNet-18 B on ImageNet images, and a file of its weights."""
    folder(root / "data")
    shutil.rmtree(root / "data" / "train")
    of = photo_config(root, "model.shortcut=B", "model.stride_in=3x3")
    torch.manual_seed(0)
    file = root / "weights.pth"
    net = torchvision.models.resnet18(num_classes=3) if names == "torchvision" else build_model(of.model, 3)
    torch.save(net.eval().state_dict(), file)
    return of, file


WORDS = (
    *("model=imagenet_resnet", "model.depth=18", "data=imagenet", "data.partial=true", "data.image_size=32"),
    *("data.resize=[32,48]", "eval.scales=[32,48]"),
)
MEAN = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "resize": 36}


def test_torchvisions_weights_get_what_torchvision_gets(tmp_path: Path) -> None:
    """The folder has no training images: the mean that belongs to the weights suffices."""
    of, file = foreign(tmp_path, "torchvision")
    said = asked(of, *WORDS, weights=file, views=("1crop", "10crop"), json=tmp_path / "out.json", **MEAN)
    assert "model.shortcut=B model.stride_in=3x3" in said
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    net = torchvision.models.resnet18(num_classes=3).eval()
    net.load_state_dict(torch.load(file, weights_only=True))
    transforms = torchvision.transforms.v2
    steps = [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True)]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    sets = [
        torchvision.datasets.ImageFolder(
            str(tmp_path / "data" / "val"), transforms.Compose([transforms.Resize(36), crop, *rest])
        )
        for crop, rest in [(transforms.CenterCrop(32), steps), (transforms.TenCrop(32), [])]
    ]
    pixels = transforms.Compose(steps)
    with torch.no_grad():
        single = sum(int(net(image[None]).argmax() != label) for image, label in sets[0])
        ten = sum(
            int(net(torch.stack([pixels(crop) for crop in crops])).softmax(1).mean(0).argmax() != label)
            for crops, label in sets[1]
        )
    assert [row["errors"] for row in rows] == [single, ten]
    assert [row["equal"] for row in rows] == [None, None]


def test_our_own_weights_in_a_file_are_evaluated(tmp_path: Path) -> None:
    of, file = foreign(tmp_path)
    said = asked(of, *WORDS, "model.shortcut=B", weights=file, views=("multiscale",), **MEAN)
    assert "weights.pth" in said
    assert "implied" not in said


def test_weights_of_another_net_are_refused_by_name(tmp_path: Path) -> None:
    of, file = foreign(tmp_path, "torchvision")
    with pytest.raises(InputError, match=r"ResNet-34 .* lacks stages\.0\.2\.conv1\.weight"):
        asked(of, *(w for w in WORDS if w != "model.depth=18"), "model.depth=34", weights=file, **MEAN)
    shutil.rmtree(tmp_path / "data" / "val" / "n00000002")
    with pytest.raises(InputError, match=r"2 classes: .*fc\.weight of 3x512 instead of 2x512, fc\.bias"):
        asked(of, *WORDS, weights=file, **MEAN)


class Unwanted:
    def __reduce__(self):
        return (print, ("run from a file",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"fc.weight": Unwanted()}, r"not a file of weights alone: .* call (builtins\.)?print"),
        ({"state_dict": {"fc.weight": torch.zeros(1)}, "extra": Unwanted()}, "not a file of weights alone"),
        ([torch.zeros(1)], "the weights of a net"),
        ({}, "the weights of a net"),
        ({"epoch": 3, "optimizer": {}}, "the weights of a net .* 'epoch', 'optimizer'"),
    ],
)
def test_a_file_of_something_else_is_refused(
    tmp_path: Path, content: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of = photo_config(tmp_path)
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message):
        asked(of, *WORDS, weights=tmp_path / "weights.pth", **MEAN)
    assert "run from a file" not in capsys.readouterr().out


def test_validation_images_that_cannot_be_read_are_told_before_the_test(tmp_path: Path) -> None:
    of, file = foreign(tmp_path, "torchvision")
    bad = [tmp_path / "data" / "val" / name for name in ("n00000000/0.JPEG", "n00000001/1.JPEG")]
    for image in bad:
        image.write_bytes(b"")
    with pytest.raises(InputError, match="2 images cannot be read") as refused:
        asked(of, *WORDS, weights=file, **MEAN)
    assert all(str(image) in str(refused.value) for image in bad)
    said = asked(of, *WORDS, "data.skip_corrupt=true", weights=file, json=tmp_path / "out.json", **MEAN)
    assert "2 images cannot be read, left out" in said
    (row,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert row["images"] == 7


def test_a_folder_without_validation_images_is_refused(tmp_path: Path) -> None:
    of, file = foreign(tmp_path)
    words = (*WORDS, "model.shortcut=B")
    with pytest.raises(InputError, match="not the whole of imagenet: it has 3 classes, 9 validation images"):
        asked(of, *(w for w in words if w != "data.partial=true"), weights=file, **MEAN)
    shutil.rmtree(tmp_path / "data" / "val")
    with pytest.raises(InputError, match="has no folder val"):
        asked(of, *words, weights=file, **MEAN)


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ((), {}, "name finished runs"),
        (("nothing-s0-01234567",), {}, "is not a finished run"),
        (("run", "optim.lr=1"), {}, "'optim.lr=1' cannot be set"),
        (("run",), {"views": ("11crop",)}, "unknown view '11crop': did you mean '1crop'"),
        (("run",), {"mean": (0.5, 0.5, 0.5)}, "are for --weights"),
        (("run",), {"resize": 256}, "are for --weights"),
        (("run",), {"weights": Path("w.pth")}, "--weights .* run"),
        ((), {"weights": Path("w.pth"), "ensemble": True}, "--ensemble .* --weights"),
        ((), {"weights": Path("w.pth"), "std": (1.0, 1.0, 1.0)}, "--std needs --mean"),
        ((), {"weights": Path("w.pth")}, "weights w.pth cannot be read"),
        (("r20.pt",), {}, r"r20\.pt is a file, not a finished run: name it with --weights r20\.pt"),
        (("run", "execution=ddp", "execution.devices=2"), {}, "execution.devices must be 1"),
    ],
)
def test_requests_that_do_not_fit_together_are_refused(tmp_path: Path, words, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(config(tmp_path), *words, **options)


@pytest.mark.parametrize("mean", [(0.5,), (0.5, 0.5, 128.0)])
def test_a_mean_that_is_none_is_refused(tmp_path: Path, mean: tuple[float, ...]) -> None:
    of, file = foreign(tmp_path)
    with pytest.raises(InputError, match=r"--mean 0\.485,0\.456,0\.406"):
        asked(of, *WORDS, "model.shortcut=B", weights=file, mean=mean)


def test_a_run_twice_is_no_ensemble(photos: list[RunConfig]) -> None:
    run_id = photos[0].run_id
    with pytest.raises(InputError, match="is named twice"):
        asked(photos[0], run_id, run_id, ensemble=True)
    with pytest.raises(InputError, match="two runs or more"):
        asked(photos[0], run_id, ensemble=True)
    with logged() as said, pytest.raises(InputError, match="'typo' is not a finished run"):
        evaluate((run_id, "typo", *settings(photos[0])))
    assert not said, "nothing was tested before"
    for word, sentence in (("execution=slurm", "execution=slurm"), ("execution.step=compile", "execution.step")):
        with pytest.raises(InputError, match=sentence):
            asked(photos[0], run_id, word)
    with pytest.raises(InputError, match=r"--json /nowhere/out\.json"):
        asked(photos[0], run_id, json=Path("/nowhere/out.json"))


def test_weights_are_added_to_an_equal_published_run_and_another_net_is_not_replaced(
    cifar: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    shutil.copytree(cifar.work_dir, tmp_path / "work" / cifar.run_id)
    assert main(["publish", cifar.run_id]) == 0
    file = tmp_path / "results" / "runs" / cifar.run_id / "weights.safetensors"
    assert main(["publish", "--weights"]) == 0
    stored = file.read_bytes()
    assert main(["publish", "--weights"]) == 0
    assert capsys.readouterr().out.count(str(file)) == 1, "it is written once"
    other = load_file(file)
    other["fc.bias"][0] += 1
    save_file(other, file)
    assert main(["publish", "--weights"]) == 2
    assert f"{file} is not the net of" in capsys.readouterr().err
    assert main(["publish", "--weights", "--replace"]) == 0 and file.read_bytes() == stored
    (tmp_path / "work" / cifar.run_id / "final.pt").unlink()
    shutil.rmtree(file.parent)
    assert main(["publish", "--weights"]) == 2
    assert not file.parent.exists(), "nothing of a refused command is written"
