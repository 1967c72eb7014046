"""Options and settings of Hydra's applications, and their replacements."""

from __future__ import annotations

from collections.abc import Sequence

from repro.errors import InputError

SWEEPS = "values separated by commas are a sweep, as in model.depth=20,56 seed=0,1,2"
FOLDERS = "paths.work=… sets the folder that holds the folders of all runs"
CONF = "put your own experiment into conf/exp and choose it with exp=… (docs/extend.md)"
SHOW = "`repro show …` prints the runs and their composed settings"

OPTIONS = {
    ("-m", "--multirun"): SWEEPS,
    ("-cd", "--config-dir", "-cp", "--config-path", "-cn", "--config-name"): CONF,
    ("-c", "--cfg", "-p", "--package", "--resolve", "-i", "--info"): SHOW,
    ("-r", "--run"): "`repro run …` is the command",
    ("--experimental-rerun",): "the same command resumes where it stopped",
    ("--hydra-help",): "`repro run --help` and `repro list` show the options and settings",
}
SETTINGS = {
    ("run", "sweep", "job", "output_subdir", "runtime"): FOLDERS,
    ("launcher",): "execution=slurm submits runs to a cluster, execution.parallel=2 trains two at once here",
    ("sweeper", "mode"): SWEEPS,
    ("verbose", "job_logging", "hydra_logging"): "execution.progress=lines, bar or none sets how much is shown",
}


def refuse_options(arguments: Sequence[str]) -> None:
    """Raise ``InputError`` if an argument is an option of Hydra's applications."""
    for argument in arguments:
        option = argument.partition("=")[0]
        for names, instead in OPTIONS.items():
            if option in names:
                raise InputError(f"{option} is an option of Hydra's own applications: {instead}")


def refuse_setting(key: str) -> None:
    """Raise ``InputError`` if ``key`` is a setting of Hydra's applications."""
    group, *names = key.replace("/", ".").split(".")
    if group != "hydra":
        return
    name = names[0] if names else ""
    instead = next((text for parts, text in SETTINGS.items() if name in parts), f"leave it out; {SHOW}")
    raise InputError(f"{key} is a setting of Hydra's own applications: {instead}")
