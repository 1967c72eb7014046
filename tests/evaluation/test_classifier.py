"""A published net with its preprocessing: as a file, from Python and on pictures of one's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import Split, load_for
from repro.engine.run import run
from repro.errors import InputError
from repro.evaluation.classifier import load_classifier
from repro.evaluation.stored_net import publish_weights, stored_net
from repro.results.publish import plan_publication, publish
from repro.results.read import read_record
from repro.runtime.stop import Stopper
from tests.runs import config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A finished run, published with its net."""
    one = config(tmp_path_factory.mktemp("net"), "model.depth=8", "optim.steps=30", "optim.milestones=[]")
    with Stopper(None) as stopper:
        run(one, load_for(one), stopper)
    publish(plan_publication([one.run_id], one.paths.work, one.paths.results), one.paths.results)
    publish_weights(one.run_id, vars(one.paths))
    return one


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a published net needs no images")

    monkeypatch.setattr("repro.evaluation.stored_net.load", load)


def test_a_published_net_says_what_it_is(trained: RunConfig) -> None:
    with safe_open(trained.paths.results / "runs" / trained.run_id / "weights.safetensors", "pt") as file:
        about = json.loads(file.metadata()["repro"])
        assert {"pixels.mean", "pixels.std", "fc.bias"} <= set(file.keys())
        assert file.get_tensor("pixels.mean").shape[-1] == trained.data.image_size
    record = read_record(trained.work_dir / "record.json")
    assert about["run_id"] == trained.run_id and about["settings"] == trained.science.to_dict()
    assert about["classes"] == list(map(str, range(10)))
    assert about["error"]["top1_error"] == record.result.final.top1_error


def test_the_same_net_is_published_as_the_same_bytes(trained: RunConfig, tmp_path: Path) -> None:
    first = (trained.paths.results / "runs" / trained.run_id / "weights.safetensors").read_bytes()
    (tmp_path / "runs" / trained.run_id).mkdir(parents=True)
    assert publish_weights(trained.run_id, {**vars(trained.paths), "results": tmp_path}).read_bytes() == first


@pytest.mark.parametrize("where", ["work", "published"])
def test_a_loaded_net_makes_the_errors_of_its_record_on_pixels_as_they_are(
    where: str, trained: RunConfig, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if where == "published":
        request.getfixturevalue("no_data")
    paths = vars(trained.paths) if where == "work" else {**vars(trained.paths), "work": tmp_path}
    net = load_classifier(trained.run_id.rpartition("-")[0], paths, trained.paths.results)
    test = load_for(trained).eval
    assert isinstance(test, Split) and not net.training
    with torch.inference_mode():
        found = net(torch.from_numpy(test.images.transpose(0, 3, 1, 2).copy())).argmax(1).numpy()
    assert (found != test.labels).sum() == net.record.result.final.errors


def test_a_picture_gets_the_likeliest_classes_first(
    trained: RunConfig, tmp_path: Path, no_data: None, capsys: pytest.CaptureFixture[str]
) -> None:
    net = load_classifier(trained.run_id, {**vars(trained.paths), "work": tmp_path}, trained.paths.results)
    test = load_for(trained).eval
    assert isinstance(test, Split)
    size = trained.data.image_size
    wide = Image.new("RGB", (size + 20, size), "red")
    wide.paste(Image.fromarray(test.images[0]), (10, 0))
    wide.save(tmp_path / "picture.png")
    assert torch.equal(net.pixels(tmp_path / "picture.png"), torch.from_numpy(test.images[0].transpose(2, 0, 1).copy()))
    (scores,) = net.classify(wide, top=10)
    logits = net(net.pixels(wide)[None])[0]
    assert [name for name, _ in scores] == [str(i) for i in logits.argsort(descending=True).tolist()]
    assert sum(score for _, score in scores) == pytest.approx(1, abs=1e-5)

    folders = [f"paths.work={tmp_path}", f"paths.results={trained.paths.results}"]
    assert main(["predict", trained.run_id, str(tmp_path / "picture.png"), "--top", "1", *folders]) == 0
    said = capsys.readouterr().out
    assert trained.run_id in said and f"{scores[0][0]} {scores[0][1]:.1%}"[:-1] in said
    (tmp_path / "text.png").write_text("no picture")
    for words in ([str(tmp_path / "text.png")], [], ["--top", "0", "x.png"]):
        assert main(["predict", trained.run_id, *words, *folders]) == 2


def test_weights_of_another_net_are_refused(trained: RunConfig, tmp_path: Path) -> None:
    net = load_classifier(trained.run_id, vars(trained.paths), trained.paths.results)
    other = dataclasses.replace(
        net.record, science=dataclasses.replace(net.record.science, model=config(tmp_path).model)
    )

    stored = stored_net(net.record, trained.paths.work, trained.paths.results, trained.paths.data)
    with pytest.raises(InputError, match=trained.run_id):
        type(net)(other, stored)
