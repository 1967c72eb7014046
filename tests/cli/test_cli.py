"""The command line: help, output, exit codes, invalid input."""

from __future__ import annotations

import argparse
import csv
import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from repro.bench import choose
from repro.cli.main import main
from repro.cli.parser import parser
from repro.config.arguments import OPTIONS_WITH_A_VALUE, command_line, paths_from, words_together
from repro.config.compose import GROUPS, plan
from repro.config.paths import shared_dir
from repro.data.presence import check_there
from repro.errors import InputError
from repro.runtime.lock import hold
from repro.runtime.stop import LATER
from tests.planted import DEMO, plant

COMMANDS = (
    *("run", "show", "list", "data", "bench", "table", "figure", "check", "export", "evaluate", "render", "report"),
    *("publish", "tensorboard", "status", "cancel", "doctor", "compare", "predict", "detect", "convert", "completion"),
)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WORK", "RESULTS"):
        monkeypatch.setenv(f"REPRO_{name}", str(tmp_path / name.lower()))


SMOKE = ["data=synthetic", "scale=smoke", "execution.threads=1", "execution.progress=none", "device=cpu"]


def test_help_teaches_and_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], *([name] for name in COMMANDS)):
        assert main([*words, "--help"]) == 0
        said = capsys.readouterr().out
        assert "repro " + (words[0] if words else "run") in said.split("example" if words else "start here")[1]


def test_no_command_is_help_and_no_number_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "start here" in capsys.readouterr().out
    for command, name in (("table", "  6 "), ("figure", "  gradient_flow ")):
        assert main([command]) == 0
        assert name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("planted", "asked", "said"),
    [("demo", "paper", "--scale demo"), ("paper", "tenth", "--scale paper"), (None, "paper", "exp=cifar_plain_sweep")],
)
def test_a_figure_without_runs_says_which_scale_has_some(
    planted: str | None, asked: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if planted:
        plant(tmp_path / "work", 20, "A", scale=planted, science=DEMO if planted == "demo" else None)
    assert main(["figure", "6", "--scale", asked]) == 0
    assert said in capsys.readouterr().err
    if planted:
        assert main(["figure", "6", "--scale", planted]) == 0
        assert not capsys.readouterr().err


def test_help_and_tables_start_without_torch() -> None:
    code = (
        "import sys; from repro.cli.main import main\n"
        "main(['table', '6'])\n"
        "assert not {'torch', 'hydra', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "unknown command 'rnu': did you mean 'run'?"),
        (["run"], "`repro list`"),
        (["run", "exp=cifar_depth_swep"], "did you mean 'cifar_depth_sweep'?"),
        (["run", "model=cifar_resnt"], "did you mean 'cifar_resnet'?"),
        (["run", "modle.depth=20"], "did you mean 'model.depth'?"),
        (["run", "seed=abc"], "seed='abc' must be a whole number"),
        (["run", "model.depth=21"], "for example 20 or 26"),
        (["run", "optim.batch_size=-1"], "must be above 0"),
        (["run", "optim.lr=interval(0.01,0.1)"], "optim.lr=interval(0.01,0.1)"),
        (["run", "exp=glob(cifar_*)"], "exp=glob(cifar_*)"),
        (["run", "seed=range(5,3)"], "seed=range(5,3)"),
        (["run", "device=cpu,cuda"], "device "),
        (["show", "execution=local,slurm"], "execution "),
        (["run", f"paths.work=/tmp/{'x' * 300}"], "cannot be used (File name too long)"),
        (["run", "--dryrun"], "unrecognized arguments: --dryrun; `repro run --help`"),
        (["run", "--depth", "20"], "unrecognized arguments: --depth; `repro run --help`"),
        (["table", "15"], "12, 13, 14"),
        (["figure", "gradient_flo"], "gradient_flow"),
        (["check", "degradation_cifr"], "did you mean 'degradation_cifar'?"),
        (["check", "degradation_cifar", "context"], "name one claim"),
        (["render", "tabels"], "did you mean 'tables'?"),
        (["export", "a.csv", "b.csv"], "name one file"),
        (["evaluate", "nosuchrun"], "nosuchrun"),
        (["evaluate", "x", "--views", "11crop"], "11crop"),
        (["tensorboard"], "no runs in"),
        (
            ["run", "model=imagenet_resnet", "model.depth=20"],
            "is not a depth of model=imagenet_resnet: 18, 34, 50, 101, 152",
        ),
        (["run", "exp=imagenet_depth", "model.depth=50", "paths.data=/nowhere"], "/nowhere"),
        (["run", "model.depth=20", "model.constructed_from=56"], "must be a smaller depth"),
        (["run", "model.shortcut=B", "model.option_a=both_sides"], "model.option_a=both_sides is for model.shortcut=A"),
        (["run", "eval.views=[10crop]"], "is for ImageNet images"),
        (["run", "data.resize=[256,480]"], "is for ImageNet images"),
        (["check", "protocol=common"], "unknown word 'protocol=common'"),
        (["figure", "6", "protocol=common"], "unknown word 'protocol=common'"),
        (["table", "1", "protocol=common"], "unknown word 'protocol=common'"),
        (["status", "paths.work"], "'paths.work' sets nothing"),
        (["render", "tables", "--verify"], "leave out tables"),
        (["run", "protocol=comon", *SMOKE], "did you mean 'common'?"),
        (["table", "77"], "table 77"),
        (["table", "six"], "table six"),
        (["table", "6", "--format", "mdx"], "unknown format 'mdx': did you mean 'md'?"),
        (["table", "6", "protocol=comon"], "did you mean 'common'?"),
        (["table", "6", "paths.wrok=x"], "did you mean 'paths.work'?"),
        (["figure", "6", "--scale", "dmeo"], "did you mean 'demo'?"),
        (["data", "verify", "cifar11"], "did you mean 'cifar10'?"),
        (["data", "verfy", "cifar10"], "did you mean 'verify'?"),
        (["data", "verify", "cifar10"], "repro data fetch cifar10"),
        (["publish", "../../etc/passwd"], "there is no finished run"),
        (["publish"], "there is no finished run"),
        (["run", "-m", "seed=0,1"], "model.depth=20,56 seed=0,1,2"),
        (["show", "--config-dir", "conf"], "conf/exp"),
        (["run", "--cfg", "job"], "`repro show …`"),
        (["run", "hydra.run.dir=x"], "paths.work=…"),
        (["run", "hydra/launcher=submitit_slurm"], "execution=slurm"),
        (["run", "optim.wd=1e-4"], "did you mean 'optim.weight_decay'?"),
        (["run", "optim.learning_rate=1"], "did you mean 'optim.lr'?"),
        (["run", "depth=20"], "did you mean 'model.depth'?"),
        (["run", "optim.nothing=1"], "known: optim.batch_size, "),
        (["run", "execution.devices=2"], "add execution=ddp"),
        (["run", "seed=range(0,3,0)"], "seed=range(0,3,0)"),
        (["run", "seed=range(0,nan)"], "seed=range(0,nan)"),
        (["run", "seed=range(0,inf)"], "seed=range(0,inf)"),
        (["run", "paths.work="], "sets nothing"),
        (["run", "paths.wrok=x"], "did you mean 'paths.work'?"),
        (["status", "paths.work=x", "paths.work=y"], "given twice"),
        (["status", "paths.work=~nobodyhere/x"], "no home folder ~nobodyhere"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith("repro: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir()), "nothing is left half-written"


def test_a_printed_download_works_with_an_odd_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = f"paths.data={tmp_path}/my folder's"
    for name in ("cifar10", "cifar100", "svhn"):
        assert main(["data", "verify", name, word]) == 2
        assert shlex.split(capsys.readouterr().err.split("`")[1]) == ["repro", "data", "fetch", name, word]
    with pytest.raises(InputError) as error:
        check_there(plan([]).runs[0].data, Path(word.partition("=")[2]))
    assert shlex.split(str(error.value).split("`")[1])[-1] == word


def test_a_whole_small_sweep_from_run_to_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "exp=cifar_residual_vs_plain", *SMOKE]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "4 runs, 4 to start" in said
    assert "ResNet-56 seed 0: test error" in said
    assert "not comparable with the paper" in said
    assert main(words) == 0
    assert "nothing is left to do: all 4 runs have a record" in capsys.readouterr().out

    assert main(["status"]) == 0
    assert capsys.readouterr().out.count(" done ") == 4
    assert main(["publish"]) == 0
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 4
    capsys.readouterr()
    assert main(["figure", "6", "--scale", "smoke", "--published"]) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.split()]
    assert sorted(path.suffix for path in drawn) == [".csv", ".png", ".svg"]
    assert all(path.stat().st_size > 500 for path in drawn)
    assert main(["table", "6", "--format", "csv", "--published"]) == 0
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["ResNet-20"]["measured_mean"] == "", "a proxy never fills the column of measured values"
    assert float(rows["ResNet-20"]["proxy_smoke_data_synthetic_mean"]) > 0


def test_published_and_unpublished_records_are_read_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(tmp_path / "work", 20, "A", 0, 8.5)
    plant(tmp_path / "results" / "runs", 20, "A", 1, 9.5)
    for words, found in ((["--published"], "9.5"), (["--unpublished"], "8.5"), ([], "9.0")):
        assert main(["table", "6", "--format", "csv", *words]) == 0
        rows = {row["method"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
        assert rows["ResNet-20"]["measured_mean"] == found


def test_show_and_dry_run_train_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.depth=20,56", "execution.threads=1", "device=cpu"]) == 0
    shown = capsys.readouterr().out
    for text in ("269,722", "853,018", "40,551,040", "64,000", "depth: [20, 56]", "batch_size: 128", "2 runs, about"):
        assert text in shown
    assert main(["run", "--dry-run", "model.depth=20,56", "execution.threads=1", "device=cpu"]) == 0
    assert capsys.readouterr().out == shown
    # Libraries may choose their cache folders when they are first imported.
    assert {path.name for path in (tmp_path / "work").glob("*")} <= {"cache"}


def test_show_does_not_count_a_run_with_a_broken_record_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model.depth=20", "seed=0,1", *SMOKE]
    broken, other = (run.run_id for run in plan(words).runs)
    (tmp_path / "work" / broken).mkdir(parents=True)
    (tmp_path / "work" / broken / "record.json").write_text("{")
    assert main(["show", *words]) == 0
    shown = capsys.readouterr().out
    states = {line.split()[0]: line.split()[-1] for line in shown.splitlines() if line.startswith("synthetic-")}
    assert states[broken] == "invalid" != states[other] and "of them done" not in shown
    assert f"note: `repro run` will refuse {broken}: " in shown and "record.json" in shown


def test_list_names_all_that_conf_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for group in GROUPS:
        assert f"({group}=…)" in said
        for path in (shared_dir("conf") / group).glob("*.yaml"):
            assert f"  {path.stem} " in said


def test_status_of_nothing_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "repro run exp=cifar_residual_vs_plain scale=demo" in capsys.readouterr().out


def test_the_recorded_command_repeats_the_science_not_the_machine() -> None:
    words = [
        "exp=cifar_depth_sweep",
        "paths.work=/tmp/x",
        "device=cpu",
        "execution.threads=1",
        "optim.milestones=[1,2]",
    ]
    assert command_line(words) == "repro run exp=cifar_depth_sweep 'optim.milestones=[1,2]'"


def test_failed_runs_are_listed_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "optim.lr=1e30,0.02", *SMOKE]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 runs failed" in said
    assert "learning rate 1e+30" in said


@pytest.mark.parametrize(
    ("given", "together"),
    [
        (["run", "exp=a", "--dry-run", "seed=1"], ["run", "exp=a", "seed=1", "--dry-run"]),
        (["bench", "--json", "a=b.json", "c=d"], ["bench", "c=d", "--json", "a=b.json"]),
        (
            ["table", "6", "--format", "md", "--published", "e=f"],
            ["table", "6", "e=f", "--format", "md", "--published"],
        ),
        (["cancel", "--all", "a-run", "paths.work=w"], ["cancel", "a-run", "paths.work=w", "--all"]),
        (["publish", "a", "b"], ["publish", "a", "b"]),
        (["publish", "--weights", "a", "b"], ["publish", "a", "b", "--weights"]),
        (["status", "--json", "exp=a"], ["status", "exp=a", "--json"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_words_may_stand_before_and_after_options(given: list[str], together: list[str]) -> None:
    assert words_together(given) == together


def test_options_with_a_value_are_all_known() -> None:
    """Otherwise their value could be taken for a setting."""
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    actions = [action for sub in commands.choices.values() for action in sub._actions]
    found = {
        name for action in actions if action.option_strings and action.nargs != 0 for name in action.option_strings
    }
    assert found == set(OPTIONS_WITH_A_VALUE)


NAMES = ["1e5", "true", "1.50", "über", "a#b", "a b", "'a'", "a'b", "[a]", "(a),b", "${oc.env:HOME}", "a=b", r"a\=b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_the_text_as_it_stands_for_run_and_for_what_reads(name: str, tmp_path: Path) -> None:
    for word in (f"paths.work={tmp_path}/{name}", f"+paths.work={tmp_path}/{name}"):
        assert plan(["data=synthetic", word]).runs[0].paths.work == tmp_path / name == paths_from([word])["work"]
    (config,) = choose(["data=synthetic", f"paths.work={tmp_path}/{name}"], everything=False).configs
    assert config.paths.work == tmp_path / name


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert plan(["paths.data=~/imagenet"]).runs[0].paths.data == Path("/home/me/imagenet")
    assert paths_from(["paths.data=~/imagenet"])["data"] == Path("/home/me/imagenet")


def test_every_command_finds_the_runs_of_an_odd_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lr=0.1 (two) ü 'q' #${x} [y]"
    words = [f"paths.work={folder}/work", f"paths.results={folder}/results"]
    (folder / "results").mkdir(parents=True)
    assert main(["run", "model.depth=8", *SMOKE, *words]) == 0
    (record,) = folder.glob("work/*/record.json")
    run_id = record.parent.name
    for command in (["status"], ["export"], ["evaluate", run_id, *SMOKE[2:3], "device=cpu"], ["publish"]):
        capsys.readouterr()
        assert main([*command, *words]) == 0
        assert run_id in capsys.readouterr().out
    assert main(["export", f"{folder}/a=b.csv", *words]) == 0
    assert run_id in (folder / "a=b.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["table 6", "figure 6", "check", "report", "export", "status", "compare RUN"])
def test_folders_that_are_named_but_not_there_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "file").touch()
    for word, said in (
        (f"paths.results={tmp_path}/gone", "does not exist"),
        (f"paths.results={tmp_path}/file", "is a file"),
        (f"paths.work={tmp_path}/file", "is a file"),
    ):
        assert main([*command.split(), word]) == 2
        assert f"{word} {said}" in capsys.readouterr().err


def test_a_default_folder_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "gone"))
    assert main(["status", f"paths.work={tmp_path}/new"]) == 0
    assert main(["export", "--unpublished", f"paths.work={tmp_path}/new", f"paths.results={tmp_path}/none"]) == 0


def test_a_run_that_another_process_trains_is_no_success(tmp_path: Path) -> None:
    words = ["model.depth=8", *SMOKE]
    with hold(plan(words).runs[0].work_dir):
        assert main(["run", *words]) == LATER
    assert main(["run", *words]) == 0


def test_plans_of_classification_start_without_what_takes_seconds_to_load() -> None:
    code = (
        "import sys, repro.launch.plan; print(*sorted({'torch._dynamo', 'torchvision', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9")])
def test_no_memory_for_an_estimate_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("repro.launch.cost.measure_speed", fail)
    assert main(["show", *SMOKE]) == 1
    said = capsys.readouterr().err
    assert "out of memory" in said and said.count("\n") == 1
