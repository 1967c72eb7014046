"""From the command line to runs: sweeps, experiments, scales, invalid words."""

from __future__ import annotations

import collections
import os
import shutil
import time
from pathlib import Path

import pytest

from repro.config.arguments import choices
from repro.config.compose import Plan, Settings, describe, plan
from repro.config.paths import shared_dir
from repro.config.run import later_defaults
from repro.errors import InputError
from repro.launch.lacking import starts as needed
from repro.papers import load_recipe, load_table, table_numbers
from tests.runs import configs


def nets(words: list[str]) -> list[tuple[str, int]]:
    return [(run.model.label, run.seed) for run in plan(words).runs]


def test_depth_sweep_is_table_6_with_five_seeds_and_1202_last() -> None:
    runs = nets(["exp=cifar_depth_sweep"])
    counts = collections.Counter(label for label, _ in runs)
    assert counts == {f"ResNet-{depth}": 5 for depth in (20, 32, 44, 56, 110)} | {"ResNet-1202": 1}
    assert runs[-1] == ("ResNet-1202", 0)


def test_a_seed_on_the_command_line_takes_the_place_of_the_experiments() -> None:
    assert nets(["exp=cifar_depth_sweep", "seed=0"]) == [
        (f"ResNet-{depth}", 0) for depth in (20, 32, 44, 56, 110, 1202)
    ]


def test_a_depth_on_the_command_line_takes_the_place_of_the_experiments() -> None:
    assert nets(["exp=cifar_depth_sweep", "model.depth=56", "seed=1"]) == [("ResNet-56", 1)]


@pytest.mark.slow
def test_experiments_name_the_papers_nets() -> None:
    assert nets(["exp=cifar_plain_sweep"]) == [(f"plain-{depth}", 0) for depth in (20, 32, 44, 56, 110)]
    assert nets(["exp=cifar_degradation"]) == [("plain-20", 0), ("plain-56", 0)]
    assert sorted(nets(["exp=cifar_residual_vs_plain"])) == sorted(
        [("plain-20", 0), ("plain-56", 0), ("ResNet-20", 0), ("ResNet-56", 0)]
    )
    assert nets(["exp=cifar_shortcuts"]) == [("ResNet-20", 0), ("ResNet-20 B", 0), ("ResNet-20 C", 0)]


def test_open_choices_are_three_nets_by_the_defaults_and_then_by_one_switch_at_a_time() -> None:
    runs = plan(["exp=cifar_open_choices"]).runs
    nets_of: dict[str, list[str]] = collections.defaultdict(list)
    usual = {run.model.label: run.science.flat() for run in runs[:3]}
    for run in runs:
        recipe, default = run.science.flat(), usual[run.model.label]
        switched = [f"{key}={value}" for key, value in recipe.items() if value != default[key]]
        assert len(switched) == (run not in runs[:3])
        nets_of[" ".join(switched)].append(run.model.label)
    assert runs[0].run_id == plan([]).runs[0].run_id
    shortcuts_only = nets_of.pop("model.shortcut_subsample=avg_pool")
    assert shortcuts_only == ["ResNet-20"]
    assert {tuple(labels) for labels in nets_of.values()} == {("ResNet-20", "plain-20", "plain-56")}
    assert len(nets_of) == 15


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["paper", "tenth", "demo", "smoke"])
def test_three_times_the_steps_are_that_at_every_scale(scale):
    usual = plan(["exp=cifar_degradation", f"scale={scale}"]).runs
    long = plan(["exp=cifar_plain_long", f"scale={scale}"]).runs
    for one, other in zip(usual, long, strict=True):
        assert other.optim.steps == 3 * one.optim.steps
        assert other.optim.milestones == tuple(3 * step for step in one.optim.milestones)
        assert other.model == one.model


def test_sweeps_read_as_in_hydra() -> None:
    assert nets(["model.depth=20,56", "seed=range(2)"]) == [
        ("ResNet-20", 0),
        ("ResNet-20", 1),
        ("ResNet-56", 0),
        ("ResNet-56", 1),
    ]
    assert [run.scale for run in plan(["scale=demo,smoke"]).runs] == ["demo", "smoke"]
    assert plan(["optim.milestones=[10,20]"]).runs[0].optim.milestones == (10, 20)


def test_the_same_run_asked_for_twice_is_one() -> None:
    assert len(plan(["model.depth=20,20", "optim.lr=0.1,1e-1"]).runs) == 1


def family(name: str) -> str:
    if "localization" in name or name.endswith("_boxes"):
        return "images of one class with boxes"
    if name == "shapes_photos":
        return "ImageNet images"
    if "detection" in name or name == "imagenet_det" or name.startswith(("shapes", "voc", "coco")):
        return "images with boxes"
    return "ImageNet images" if "imagenet" in name else "small images"


KINDS = ("small images", "ImageNet images", "images with boxes", "images of one class with boxes")
DATA = {kind: [d for d in choices("data") if family(d) == kind] for kind in KINDS}


HELD_OUT = ("cifar_open_choices", "stochastic_depth")
"""Experiments with images held out of the training set, which SVHN does not have."""


@pytest.mark.parametrize("experiment", HELD_OUT)
def test_svhn_is_refused_where_images_are_held_out(experiment: str) -> None:
    with pytest.raises(InputError, match="train45k"):
        plan([f"exp={experiment}", "data=svhn"])


@pytest.mark.parametrize(
    ("experiment", "scale", "data"),
    # Every scale on the first data set of a kind, and one scale on the others.
    [(e, "paper", DATA[family(e)][0]) for e in choices("exp") if e != "paper"]
    + [
        pytest.param(e, scale, d, marks=pytest.mark.slow)
        for e in choices("exp")
        if e != "paper"
        for scale in choices("scale")
        for d in DATA[family(e)]
        if not (d == "svhn" and e in HELD_OUT)
        if scale == "tenth" or (scale != "paper" and d == DATA[family(e)][0])
    ],
)
def test_every_experiment_composes_at_every_scale_and_is_described(experiment: str, scale: str, data: str) -> None:
    runs = plan([f"exp={experiment}", f"scale={scale}", f"data={data}", "seed=0"]).runs
    assert runs
    assert {run.data.name for run in runs} == {data.removesuffix("_boxes")}
    assert describe("exp")[experiment]


@pytest.fixture(scope="module")
def paper() -> Plan:
    return plan(["exp=paper", "scale=tenth"])


def test_the_papers_plan_has_every_experiment_of_its_tables_and_figures_and_each_run_once(paper: Plan) -> None:
    rows = [row for number in table_numbers() for row in load_table(number).rows if row.run is not None]
    experiments = {row.experiment.partition(" ")[0] for row in rows}
    assert experiments - {"cifar_depth_sweep"} <= paper.experiments.keys()
    asked = plan(["exp=cifar_depth_sweep,cifar_degradation,cifar_plain_sweep", "scale=tenth"]).runs
    assert {run.run_id for run in asked} <= {run.run_id for run in paper.runs}
    assert len({run.run_id for run in paper.runs}) == len(paper.runs)
    assert {run.exp for run in paper.runs} <= paper.experiments.keys()
    shared = set(paper.experiments["imagenet_ensemble"]) & set(paper.experiments["imagenet_depth"])
    assert len(shared) == 3, "runs that two experiments ask for belong to both"


def test_detectors_and_localizers_start_from_a_net_that_the_plan_trains_before(paper: Plan) -> None:
    ids = [run.run_id for run in paper.runs]
    wanted = plan(["exp=imagenet_depth", "model.depth=101", "scale=tenth"]).runs[0].run_id
    on_coco = plan(["exp=coco_detection", f"detection.start={wanted}", "scale=tenth"]).runs[0].run_id
    starting = [run for run in paper.runs if run.starts_from and not run.starts_from.start_is_file]
    starts = [run.starts_from.start for run in starting if run.starts_from]
    deeper, shallower = (
        plan(["exp=imagenet_depth", f"model.depth={depth}", "scale=tenth"]).runs[0].run_id for depth in (152, 50)
    )
    assert sorted(map(str, starts)) == sorted([wanted] * 8 + [deeper, shallower] * 2 + [on_coco])
    assert all(ids.index(start) < paper.runs.index(run) for start, run in zip(starts, starting, strict=True) if start)
    localizers = [run for run in starting if run.localization]
    assert [set(run.localization.classes_of) for run in localizers if run.localization] == (
        [{wanted}] * 2 + [{shallower}] * 2 + [{shallower, wanted, deeper}] * 2
    )
    # What a net for proposals needs, and the members of an ensemble, are trained before it.
    for run in localizers:
        assert all(ids.index(name) < ids.index(run.run_id) for name in needed(run))


def test_an_ensemble_of_localizers_has_members_of_the_plans_seed() -> None:
    runs = [run for run in plan(["exp=paper", "scale=tenth", "seed=1"]).runs if run.localization]
    ids = [run.run_id for run in runs]
    (ensemble,) = [run.localization for run in runs if run.localization and run.localization.members]
    assert set(ensemble.members) <= set(ids) and all("-s1-" in name for name in ensemble.members)


def test_settings_of_a_line_reach_its_experiment_and_those_of_the_user_go_before() -> None:
    smoke = plan(["exp=paper", "scale=smoke", "seed=3"]).runs
    assert {run.data.name for run in smoke} == {"synthetic", "shapes", "shapes_photos"}
    assert {run.seed for run in smoke} == {3}


def test_an_experiment_on_imagenet_refuses_small_images() -> None:
    with pytest.raises(InputError, match="data=imagenet"):
        plan(["exp=imagenet_depth", "data=cifar10"])


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["data=imagenet", "model.depth=50"], "model=imagenet_resnet"),
        (["data=imagenet", "model.depth=34"], "model=imagenet_resnet"),
        (["exp=cifar_depth_sweep", "data=tiny_imagenet"], "model=imagenet_resnet"),
        (["model=imagenet_resnet"], "data=imagenet"),
        (["model=imagenet_resnet", "data=synthetic"], "data=imagenet"),
    ],
)
def test_nets_and_images_that_do_not_belong_together_are_refused(words: list[str], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        plan(words)


def test_the_default_run_follows_the_paper_in_all_it_states_and_all_we_chose() -> None:
    """conf/ says how runs are trained, experiments/ what the paper says; both must agree."""
    recipe = load_recipe("cifar10_recipe").fields
    rows = [row for row in load_table(6).rows if row.run is not None]
    runs = plan(["exp=cifar_depth_sweep", "seed=0"]).runs
    for row, run in zip(rows, runs, strict=True):
        assert run.science.flat() == {**later_defaults(), **recipe, **dict(row.run or {})}


def test_a_scale_only_changes_the_budget_not_the_net() -> None:
    (paper,), (smoke,) = plan(["scale=paper"]).runs, plan(["scale=smoke"]).runs
    assert paper.model.shortcut == smoke.model.shortcut
    assert paper.optim.momentum == smoke.optim.momentum
    assert smoke.optim.steps < paper.optim.steps == 64000


def test_a_tenth_of_the_budget_changes_the_steps_and_when_to_evaluate_and_nothing_else() -> None:
    (paper,), (tenth,) = plan(["scale=paper"]).runs, plan(["scale=tenth"]).runs
    before, after = paper.science.flat(), tenth.science.flat()
    assert {key: value for key, value in after.items() if value != before[key]} == {
        "optim.steps": 6400,
        "optim.milestones": [3200, 4800],
        "eval.every_steps": 400,
    }
    assert tenth.run_id == "cifar10-resnet20-tenth-s0-2edf3680"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exp=cifar_depth_swep"], "unknown experiment 'cifar_depth_swep': did you mean 'cifar_depth_sweep'?"),
        (["model=resnet"], "did you mean 'cifar_resnet', 'imagenet_resnet', 'preact_resnet' or 'wide_resnet'?"),
        (["model=cifar_resnets"], "did you mean 'cifar_resnet'?"),
        (["data=cifar"], "did you mean 'cifar10' or 'cifar100'?"),
        (["modle.depth=20"], "unknown key 'modle.depth': did you mean 'model.depth'?"),
        (["+optim.foo=1"], "unknown key 'optim.foo'"),
        (["++optim.lrr=1"], "did you mean 'optim.lr'?"),
        (["~optim.lr"], "'~optim.lr'"),
        (["seed=abc"], "seed='abc' must be a whole number"),
        (["seed=0,abc"], "seed='abc' must be a whole number"),
        (["model.depth=21"], "6n+2"),
        (["model.depth=20,21"], "6n+2"),
        (["optim.batch_size=-1"], "must be above 0"),
        (["model.depth=[1"], "'model.depth=[1'"),
        (["model.depth"], "write key=value"),
        (["=3"], "write key=value"),
        (["model.depth=20", "model.depth=32"], "given twice"),
        (["protocol=comon"], "did you mean 'common'?"),
        (["scale=null"], "unknown scale"),
        (["model.bn_group_size=${nowhere}"], "nowhere"),
        (["sweep=[]"], "unknown key 'sweep'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words: list[str], said: str) -> None:
    with pytest.raises(InputError) as error:
        plan(words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_come_from_words_then_environment_then_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WORK", "RESULTS"):
        monkeypatch.delenv(f"REPRO_{name}", raising=False)
    assert plan([]).runs[0].paths.work.parts[-2:] == ("results", "work")
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "r"))
    assert plan([]).runs[0].paths.work == tmp_path / "r" / "work"
    monkeypatch.setenv("REPRO_WORK", str(tmp_path / "w"))
    assert plan([]).runs[0].paths.work == tmp_path / "w"
    assert plan([f"paths.work={tmp_path / 'x'}"]).runs[0].paths.work == tmp_path / "x"


def test_protocol_is_a_way_of_reading_and_not_in_the_fingerprint() -> None:
    paper, common = plan(["protocol=paper"]), plan(["protocol=common"])
    assert (paper.protocol, common.protocol) == ("paper", "common")
    assert paper.runs == common.runs


def test_device_is_a_short_word_for_execution_device(tmp_path: Path) -> None:
    assert configs(tmp_path, "device=cpu")[0].execution.device == "cpu"


@pytest.mark.parametrize(
    ("words", "steps", "milestones"),
    [
        (["optim=wide_sgd", "model=wide_resnet"], 78125, (23438, 46875, 62500)),
        (["optim=wide_sgd", "model=wide_resnet", "optim.batch_size=64"], 156250, (46875, 93750, 125000)),
        (["optim=stochastic_depth_sgd", "data.split=train45k"], 175781, (87891, 131836)),
        (["optim=densenet_sgd", "model=densenet"], 234375, (117188, 175781)),
        (["optim=wide_sgd", "data=synthetic", "data.train_images=1280"], 2000, (600, 1200, 1600)),
        (
            ["optim=wide_sgd", "data=synthetic", "data.train_images=1280", "data.split=train45k"],
            1800,
            (540, 1080, 1440),
        ),
        (["optim=wide_sgd", "data.train_images=45000", "data.split=train45k"], 70312, (21094, 42188, 56250)),
        (["optim=wide_sgd", "optim.steps=7", "optim.milestones=[5]"], 7, (5,)),
    ],
)
def test_a_schedule_in_epochs_is_one_in_steps(words: list[str], steps: int, milestones: tuple[int, ...]) -> None:
    """Deviation D35."""
    (run,) = plan(words).runs
    assert (run.optim.steps, run.optim.milestones) == (steps, milestones)


def test_an_edited_file_counts_in_a_process_that_has_read_it(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(shared_dir("conf"), conf)
    first = Settings(conf).compose({})
    file = conf / "optim" / "sgd.yaml"
    file.write_text(file.read_text().replace("lr: 0.1", "lr: 0.3"))
    os.utime(file, (time.time() + 5, time.time() + 5))  # some file systems have a coarse clock
    assert (first["optim"]["lr"], Settings(conf).compose({})["optim"]["lr"]) == (0.1, 0.3)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("detection.members=[RUN,RUN]", "RUN by the ids of your runs"),
        ("localization.classes_of=[RUN]", "RUN by the id of your run"),
        ("detection.start=RUN", "RUN by the id of your run"),
        ("detection.start=…", "a value of your own"),
        ("seed=...", "a value of your own"),
    ],
)
def test_a_placeholder_of_a_printed_command_is_to_be_replaced(word: str, said: str) -> None:
    with pytest.raises(InputError, match="replace") as error:
        plan(["exp=voc_detection", word])
    assert word in str(error.value) and said in str(error.value)


def test_a_run_whose_name_contains_a_placeholder_is_none(tmp_path: Path) -> None:
    run = plan(["exp=voc_detection", "detection.start=RUN-1"]).runs[0]
    assert run.detection is not None and run.detection.start == "RUN-1"
