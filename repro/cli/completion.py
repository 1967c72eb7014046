"""Shell completion."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from repro.config.detection import DetectionConfig
from repro.config.execution import ExecutionConfig
from repro.config.localization import LocalizationConfig
from repro.config.paths import resolve_paths, shared_dir
from repro.config.science import groups

SCRIPT = """\
# repro completion: add  eval "$(repro completion)"  to ~/.bashrc or ~/.zshrc
[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_repro() {
  local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" word
  word="${line##* }"
  COMPREPLY=($(repro completion --line="$line" 2>/dev/null))
  # The shell treats the text after = as a separate word.
  case "$word$COMP_WORDBREAKS" in *=*=*) COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}") ;; esac
}
complete -o nospace -F _repro repro
"""
GROUPS = ("exp", "scale", "data", "model", "optim", "eval", "detection", "localization", "execution")
TAKE_RUNS = ("show", "compare", "evaluate", "convert", "lesion", "visualize", "predict", "detect", "publish", "cancel")
TAKE_SETTINGS = ("run", "show", "bench", "choices", "status")


def candidates(line: str, commands: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the completions of the last word of ``line``.

    Args:
        line: The text typed so far, from the program's name on; a blank at its end starts a new word.
        commands: The options of each command.
    """
    words = line.split(" ")
    last, command = words[-1], words[1] if len(words) > 2 else ""
    if not command:
        known: Iterable[str] = [f"{name} " for name in commands]
    elif last.startswith("-"):
        known = [f"{option} " for option in commands.get(command, ())]
    elif "=" in last:
        known = values(last.partition("=")[0])
    else:
        known = names(command)
    return sorted({word for word in known if word.startswith(last)})


def names(command: str) -> list[str]:
    """Return the words that a command takes: runs, keys, claims, figures, tables."""
    found = [f"paths.{name}=" for name in ("data", "work", "results")]
    if command in TAKE_RUNS:
        paths = resolve_paths({})
        roots: list[Path] = [paths["work"], paths["results"] / "runs", shared_dir("results") / "runs"]
        found += [f"{file.parent.name} " for root in roots for file in root.glob("*/config.json")]
        found += [f"{file.parent.name} " for root in roots for file in root.glob("*/record.json")]
    if command in TAKE_SETTINGS:
        found += [f"{group}=" for group in GROUPS] + ["seed=", "device=", "protocol="] + keys()
    if command == "check":
        from repro.papers.claims import load_claims

        found += [f"{claim.id} " for claim in load_claims().claims]
    if command in ("table", "figure"):
        from repro.papers import ALL_NETS, figure_names, later_figures, later_tables, table_numbers

        tables, figures = [*map(str, table_numbers()), *later_tables(), ALL_NETS], [*figure_names(), *later_figures()]
        found += [f"{name} " for name in (tables if command == "table" else figures)]
    return found


def keys() -> list[str]:
    others = {"detection": DetectionConfig, "localization": LocalizationConfig, "execution": ExecutionConfig}
    found = {**groups(), **others}
    return [f"{group}.{field.name}=" for group, kind in found.items() for field in dataclasses.fields(kind)]


def values(key: str) -> list[str]:
    """Return the completions of ``key=`` that are files of conf/."""
    return [f"{key}={file.stem} " for file in (shared_dir("conf") / key).glob("*.yaml")] if key in GROUPS else []
