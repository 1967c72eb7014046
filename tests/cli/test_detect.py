"""``repro detect`` on a detector of a small VOC folder; invalid requests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from weakref import WeakSet

import numpy as np
import pytest
from PIL import Image

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data.detection import Detections
from repro.data.imagenet.decode import PillowPhoto
from repro.engine.detection import events
from repro.engine.detection.run import run_detector
from repro.errors import InputError
from repro.results.detection_record import read_detection_record
from repro.runtime import checkpoint
from tests.detector_runs import detector_config, shapes_of
from tests.planted import plant
from tests.planted_detection import HEIGHT, WIDTH, element, make_voc
from tests.runs import StopAfter

pytestmark = pytest.mark.slow

VOC = (
    *("data=voc", "scale=demo", "data.classes=[cat,dog]", "data.lists=[2007_trainval]", "data.test_lists=[2010_val]"),
    *("data.train_images=null", "data.test_images=null", "detection.training=joint", "optim.lr=1.0e-5"),
    *("detection.steps=[1]", "detection.drops=[1]", "detection.start_images=3", "optim.batch_size=1"),
)


def small_voc(folder: Path) -> Path:
    """Write three training images of 2007 and two test images of 2010, one without objects."""
    cat, dog = element("cat", (3, 3, 30, 30)), element("dog", (20, 10, 55, 38))
    make_voc(folder, {"000001": [cat, dog], "000002": [cat], "000003": [dog]})
    return make_voc(folder, {"2010_1": [dog], "2010_2": []}, year="2010", part="val")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("detect")
    small_voc(folder / "data")
    of = detector_config(folder, *VOC)
    with mock.patch.object(events, "IMAGES", 0):
        assert run_detector(of, shapes_of(of), StopAfter(None)) is not None
    return of


def scores_of(stored: dict[str, list[float]], label: int) -> list[float]:
    return [score for score, own in zip(stored["scores"], stored["labels"], strict=True) if own == label]


def paths(of: RunConfig) -> list[str]:
    return [f"paths.{name}={getattr(of.paths, name)}" for name in ("data", "work", "results")]


def detect(of: RunConfig, *words: str) -> int:
    return main(["detect", *words, "--device", "cpu", *paths(of)])


def test_a_small_voc_folder_trains_a_detector_of_its_classes(run: RunConfig, tmp_path: Path) -> None:
    result = read_detection_record(run.work_dir / "record.json").detection
    assert (result.images, [one.name for one in result.classes]) == (2, ["cat", "dog"])
    assert [one.ap is None for one in result.classes] == [True, False]  # no cat to find
    stored = json.loads((run.work_dir / "detections.json").read_text())["images"]
    lines = [
        (run.work_dir / "comp4" / f"comp4_det_test_{name}.txt").read_text().splitlines() for name in ("cat", "dog")
    ]
    for label, of_class in enumerate(lines):
        scores = [(image, score) for image, one in stored.items() for score in scores_of(one, label)]
        assert sorted((line.split()[0], float(line.split()[1])) for line in of_class) == sorted(scores)
    assert any(lines)
    small_voc(tmp_path / "data")
    many = detector_config(tmp_path, *(word for word in VOC if not word.startswith("data.train_images")))
    with pytest.raises(InputError, match=r"data\.train_images=200 .* 3 .*data\.train_images=null"):
        shapes_of(many)


def test_pictures_are_drawn_and_list_what_the_test_of_the_run_found(
    run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = run.paths.data / "VOC2010" / "JPEGImages" / "2010_1.jpg"
    other = tmp_path / "2010_1.png"
    Image.new("RGB", (200, 400)).save(other)
    before = picture.read_bytes()
    assert detect(run, run.run_id, str(picture), str(other), "--out", str(tmp_path / "out"), "--threshold", "0") == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"2010_1-boxes.png", "2010_1-boxes-2.png"}
    assert picture.read_bytes() == before
    drawn = Image.open(tmp_path / "out" / "2010_1-boxes.png")
    assert drawn.size == (8 * WIDTH, 8 * HEIGHT)
    assert np.abs(np.asarray(drawn.resize((WIDTH, HEIGHT))).astype(int) - np.asarray(Image.open(picture))).max() > 50
    found = json.loads((run.work_dir / "detections.json").read_text())
    stored = found["images"]["2010_1"]
    wanted = sorted(
        f"{found['classes'][label]} {score:.2f} x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}"
        for label, score, (x0, y0, x1, y1) in zip(stored["labels"], stored["scores"], stored["boxes"], strict=True)
    )
    first = capsys.readouterr().out.split(str(picture))[1].split(str(other))[0]
    lines = [" ".join(line.split()) for line in first.splitlines()[1:] if line.strip()]
    assert sorted(lines) == wanted and wanted


def test_a_published_detector_finds_the_same_without_the_work_folder(
    run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(run.paths.data / "VOC2007" / "JPEGImages" / "000001.jpg")
    words = (run.run_id, picture, "--threshold", "0", "--out", str(tmp_path))
    results = f"paths.results={tmp_path / 'results'}"
    assert main(["publish", run.run_id, "--weights", *paths(run)[:2], results]) == 0
    assert main(["publish", run.run_id, "--weights", *paths(run)[:2], results]) == 0
    (file,) = (tmp_path / "results" / "runs").glob("*/weights.safetensors")
    said = capsys.readouterr().out
    assert said.count(str(file)) == 1 and "equals the published one" in said
    assert detect(run, *words) == 0
    first = capsys.readouterr().out
    other = [f"paths.data={tmp_path}", f"paths.work={tmp_path / 'none'}", results]
    assert main(["detect", *words, "--device", "cpu", *other]) == 0
    assert capsys.readouterr().out == first and picture in first
    assert main(["evaluate", str(file), *other]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_box_the_best_one_is_named(run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    picture = run.paths.data / "VOC2007" / "JPEGImages" / "000001.jpg"
    assert detect(run, run.run_id, str(picture), "--threshold", "1") == 0
    assert "nothing" in capsys.readouterr().out
    assert (run.paths.work / "detections" / "000001-boxes.png").exists()


def test_one_picture_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: WeakSet[PillowPhoto] = WeakSet()
    counts: list[int] = []

    def opened(*_: object, **__: object) -> PillowPhoto:
        photo = PillowPhoto(Image.new("RGB", (8, 8)))
        alive.add(photo)
        return photo

    def find(_: PillowPhoto) -> Detections:
        counts.append(len(alive))
        return Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))

    net = SimpleNamespace(record=SimpleNamespace(run_id="run"), members=(), classes=(), find=find)
    monkeypatch.setattr("repro.cli.detect.load_detector", lambda *_: net)
    monkeypatch.setattr("repro.cli.detect.open_photo", opened)
    assert main(["detect", "run", "1.png", "2.png", "3.png", "--out", str(tmp_path), f"paths.work={tmp_path}"]) == 0
    assert counts == [1, 1, 1] and len(list(tmp_path.glob("*-boxes.png"))) == 3


def test_invalid_requests_are_one_sentence(run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(run.paths.data / "VOC2007" / "JPEGImages" / "000001.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    classifier = plant(run.paths.results / "runs", depth=20).name
    work = tmp_path / "work"
    shutil.copytree(run.work_dir, work / run.run_id, ignore=shutil.ignore_patterns("*.pt"))
    published = tmp_path / "published" / "runs" / run.run_id
    shutil.copytree(work / run.run_id, published)
    (published / "weights.pt").write_bytes(b"PK")
    stored = checkpoint.load(run.work_dir / checkpoint.FINAL)
    old = tmp_path / "old" / run.run_id
    shutil.copytree(work / run.run_id, old)
    checkpoint.save(old / checkpoint.FINAL, {name: stored[name] for name in stored if name != "pixels"})
    requests = {
        ("no-such-run", picture): "no-such-run",
        (classifier, picture): classifier,
        (run.run_id,): run.run_id,
        (run.run_id, str(tmp_path / "none.jpg")): "none.jpg",
        (run.run_id, str(tmp_path / "text.jpg")): "text.jpg",
        (run.run_id, picture, "--threshold", "1.5"): "--threshold 1.5",
        (run.run_id, picture, "--out", str(tmp_path / "text.jpg")): "--out",
        (run.run_id, picture, f"paths.work={work}"): checkpoint.FINAL,
        (run.run_id, picture, f"paths.work={tmp_path}", f"paths.results={published.parents[1]}"): checkpoint.FINAL,
        (run.run_id, picture, f"paths.work={old.parent}"): "older code",
    }
    for words, named in requests.items():
        own = [word for word in paths(run) if not any(w.startswith(word.partition("=")[0] + "=") for w in words)]
        assert main(["detect", *words, *own]) == 2, words
        error = capsys.readouterr().err
        assert named in error and "Traceback" not in error and error.count("\n") == 1
