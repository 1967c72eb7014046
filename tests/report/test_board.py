"""TensorBoard of a whole sweep: errors against depth, settings and final errors, on a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from repro.cli.main import main
from repro.engine.tensorboard import Events
from repro.errors import InputError, RunError
from repro.report import tensorboard
from repro.report.tensorboard import FOLDER, LINKS, VIEW, families, launch, link_runs, serve, write_summaries
from repro.results.channels import PICTURES
from repro.results.read import read_records
from tests.planted import DEMO, plant
from tests.planted_figures import plant_constructed, plant_responses


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def points(folder, tag):
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def sweep(work):
    for shortcut, errors in (("none", {20: 9.0, 56: 11.0}), ("A", {20: 8.0, 56: 7.0})):
        for depth, error in errors.items():
            for seed in range(2):
                plant(work, depth, shortcut, seed, error + seed, train_error=error / 2, scale="demo", science=DEMO)


def test_final_errors_against_depth_one_line_a_family(tmp_path):
    sweep(tmp_path)
    write_summaries(tmp_path)
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [
        "cifar10-ResNet-A-demo",
        "cifar10-plain-demo",
    ]
    assert points(tmp_path / FOLDER / "cifar10-plain-demo", "error_by_depth/test") == [(20, 9.5), (56, 11.5)]
    assert points(tmp_path / FOLDER / "cifar10-ResNet-A-demo", "error_by_depth/train") == [(20, 4.0), (56, 3.5)]


def test_unlike_runs_are_never_averaged(tmp_path):
    sweep(tmp_path)
    plant_constructed(tmp_path, scale="demo", science=DEMO, error=1.0)
    for depth in (20, 56):
        plant(tmp_path, depth, "none", error=50.0, scale="demo", science={**DEMO, "optim.lr": 0.5})
    found = families(read_records([tmp_path]).records)
    assert sorted(len(runs) for by_depth in found.values() for runs in by_depth.values()) == [1, 1, 2, 2, 2, 2]
    assert len([name for name in found if name.startswith("cifar10-plain-demo")]) == 2


def test_writing_again_replaces(tmp_path):
    sweep(tmp_path)
    write_summaries(tmp_path)
    plant(tmp_path, 110, "none", error=20.0, train_error=10.0, scale="demo", science=DEMO)
    write_summaries(tmp_path)
    folder = tmp_path / FOLDER / "cifar10-plain-demo"
    assert points(folder, "error_by_depth/test") == [(20, 9.5), (56, 11.5), (110, 20.0)]
    assert len(list(folder.iterdir())) == 1


def test_a_runs_own_events_get_its_settings_final_errors_and_responses(tmp_path):
    folder = plant_responses(tmp_path, 20, "A", error=8.5, train_error=0.5)
    events = Events(folder, 0, "test")
    events.writer.add_scalar("error/train", 3.0, 64000)
    events.close()
    write_summaries(tmp_path)
    write_summaries(tmp_path)
    assert points(folder, "error/train") == [(64000, 3.0)], "what the run wrote stays"
    assert points(folder, "final/error") == [(64000, 8.5)]
    assert points(folder, "final/train_error") == [(64000, 0.5)]
    (record,) = read_records([tmp_path]).records
    assert [step for step, _ in points(folder, "response_std")] == list(range(1, 20))
    assert points(folder, "response_std")[4][1] == pytest.approx(record.responses[4].std)
    content = read(folder).SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.hparams["net"].string_value == "ResNet-20"
    assert start.hparams["learning rate"].number_value == 0.1


def test_pictures_of_channels_are_shown_once(tmp_path):
    sweep(tmp_path)
    folder = tmp_path / PICTURES
    folder.mkdir()
    Image.new("RGBA", (30, 20)).save(folder / "run-stage2-channel5.png")
    for name, content in (("empty", b""), ("text", b"a text that is longer than the beginning of a picture")):
        (folder / f"{name}.png").write_bytes(content)
    write_summaries(tmp_path)
    write_summaries(tmp_path)
    events = read(link_runs(tmp_path) / PICTURES)
    assert events.Tags()["images"] == ["channels/run-stage2-channel5"]
    (shown,) = events.Images("channels/run-stage2-channel5")
    assert (shown.width, shown.height) == (30, 20)
    assert shown.encoded_image_string == (folder / "run-stage2-channel5.png").read_bytes()


def test_tensorboard_shows_the_charts_and_the_table(tmp_path):
    sweep(tmp_path)
    for record in read_records([tmp_path]).records:
        Events(record.folder, 0, "test").close()
    write_summaries(tmp_path)
    address = launch(tmp_path)

    def ask(path, body=None):
        request = urllib.request.Request(f"{address}data/plugin/{path}", body and json.dumps(body).encode())
        if body:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    # The server answers before it has read everything.
    for _ in range(100):
        runs = ask("custom_scalars/layout"), ask("hparams/experiment", {"experimentName": "", "includeMetrics": True})
        if all(runs):
            break
        time.sleep(0.1)
    layout, experiment = runs
    charts = {chart["title"]: chart for category in layout["category"] for chart in category["chart"]}
    assert len(charts) == 4
    (tag,) = charts["final error % against depth"]["multiline"]["tag"]
    found = ask(f"custom_scalars/scalars?run={FOLDER}%2Fcifar10-plain-demo&tag={tag}")["tag_to_events"]
    assert [event[1] for event in found["error_by_depth/test"]] == [20, 56]
    assert [metric["displayName"] for metric in experiment["metricInfos"]] == [
        "final test error %",
        "final training error %",
    ]


def with_config(folder):
    """Write the config.json that a run has beside its record."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    values = {name: record[name] for name in ("science", "exp", "scale")}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_names_of_runs_tell_recipes_apart_and_follow_the_folder(tmp_path):
    usual = with_config(plant(tmp_path, 20, scale="demo", science=DEMO))
    other = with_config(plant(tmp_path, 20, scale="demo", science={**DEMO, "optim.nesterov": True}))
    links = link_runs(tmp_path)
    assert {link.name: link.resolve() for link in links.iterdir()} == {
        usual.name: usual.resolve(),
        f"{other.name} optim.nesterov=true": other.resolve(),
    }
    shutil.rmtree(usual)
    new = plant(tmp_path, 56, scale="demo", science=DEMO)
    (new / "config.json").write_text("{", encoding="utf-8")
    assert {link.name for link in link_runs(tmp_path).iterdir()} == {
        new.name,
        f"{other.name} optim.nesterov=true",
    }


def test_a_folder_that_takes_no_links_is_shown_as_it_is(tmp_path):
    with_config(plant(tmp_path, 20))
    (tmp_path / LINKS).touch()
    assert link_runs(tmp_path) == tmp_path


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    sweep(tmp_path)
    (tmp_path / FOLDER).write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be written"):
        write_summaries(tmp_path)


def test_summaries_need_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from repro.report.tensorboard import write_summaries\n"
        f"write_summaries(Path({str(tmp_path)!r})); print('torch' in sys.modules)"
    )
    sweep(tmp_path)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_serving_writes_first_and_names_the_address_of_the_charts(tmp_path, monkeypatch, told):
    class Forever:
        def wait(self, seconds):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        tensorboard, "threading", SimpleNamespace(Event=Forever)
    )  # not waiting for the writers' threads
    monkeypatch.setattr(tensorboard, "launch", lambda work, options: "http://localhost:6006/")
    with pytest.raises(InputError, match="no runs in"):
        serve(tmp_path, [])
    sweep(tmp_path)
    for folder in list(tmp_path.iterdir()):
        (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        serve(tmp_path, [])
    assert f"http://localhost:6006/{VIEW}" in told[0]
    assert (tmp_path / FOLDER / "cifar10-plain-demo").is_dir()


def test_a_folder_that_cannot_be_written_is_shown_with_the_users_options(tmp_path, monkeypatch, capsys):
    asked = []

    def launched(*given):
        asked.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(tensorboard, "launch", launched)
    sweep(tmp_path)
    for folder in list(tmp_path.iterdir()):
        (folder / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / FOLDER).touch()  # a file in place of the folder of charts
    options = ["--port", "6007", "--bind_all"]
    assert main(["tensorboard", f"paths.work={tmp_path}", *options]) == 130
    assert main(["tensorboard", *options, f"paths.work={tmp_path}"]) == 130
    assert asked == [(tmp_path / LINKS, options)] * 2
    assert "cannot be written" in capsys.readouterr().out


def test_options_that_tensorboard_does_not_take_are_bad_input(tmp_path):
    with pytest.raises(InputError, match="bind_all"):
        launch(tmp_path, ["--host", "localhost", "--bind_all"])
    assert main(["tensorboard", "--logdir", str(tmp_path)]) == 2
