"""The wheel: code, configuration, the paper's data and the published results, and nothing else."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", ".gitignore")
FOLDERS = ("repro", "conf", "experiments")
RECORD = "results/runs/synthetic-resnet20-s0-00000000/record.json"
CHECKPOINT = "results/work/synthetic-resnet20-s0-00000000/final.pt"


def project() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return settings


def used() -> list[str]:
    """Return the dependencies of the package itself, with those of its extras but the development tools."""
    extras = project()["optional-dependencies"]
    return [*project()["dependencies"], *(text for name in extras if name != "dev" for text in extras[name])]


def requirements(texts: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, texts)}


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return requirements([line for line in lines if line and not line.startswith("#")])


def test_the_lock_has_every_dependency_with_the_pinned_version_and_hashes() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    locked = [line.split("--hash=") for line in lines if line and not line.lstrip().startswith("#")]
    versions = requirements([requirement.strip() for requirement, *_ in locked])
    assert all(len(entry) > 1 for entry in locked)
    extras = [text for texts in project()["optional-dependencies"].values() for text in texts]
    for name, wanted in requirements(project()["dependencies"] + extras).items():
        assert wanted.specifier.contains(str(versions[name].specifier).removeprefix("==")), name
    for name, pin in pins().items():
        assert versions[name].specifier == pin.specifier, name


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project, with one published run, one unfinished run and downloaded data."""
    source = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (RECORD, CHECKPOINT, "data/cifar10/train_images.npy"):
        path = source / name
        path.parent.mkdir(parents=True)
        path.write_text("{}", encoding="utf-8")
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it."""
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (archive,) = out.glob("*.whl")
    with zipfile.ZipFile(archive) as files:
        files.extractall(out / "unpacked")
    return out / "unpacked"


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_wheel_holds_the_whole_package(source: Path, wheel: Path) -> None:
    code = files_under(source / "repro")
    assert {"cli/main.py", "data/__init__.py", "models/__init__.py"} <= code
    assert {name for name in files_under(wheel / "repro") if not name.startswith("share/")} == code


@pytest.mark.parametrize("folder", ["conf", "experiments"])
def test_wheel_holds_what_travels_with_the_code(source: Path, wheel: Path, folder: str) -> None:
    expected = files_under(source / folder)
    assert expected
    assert files_under(wheel / "repro" / "share" / folder) == expected


def test_wheel_holds_published_results_but_no_work(wheel: Path) -> None:
    assert (wheel / "repro" / "share" / RECORD).is_file()
    assert (wheel / "repro" / "share" / "constraints.txt").is_file()
    assert not (wheel / "repro" / "share" / CHECKPOINT).exists()
    tops = {path.name for path in wheel.iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"repro"}


def test_installed_package_finds_its_files(wheel: Path, tmp_path: Path) -> None:
    code = (
        "from repro.config.paths import shared_dir\n"
        "for name in ('conf/config.yaml', 'experiments/resnet/table6.toml', 'results/runs'):\n"
        "    folder, _, rest = name.partition('/')\n"
        "    print((shared_dir(folder) / rest).exists())"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REPRO_", "PYTHON"))}
    environment["PYTHONPATH"] = str(wheel)
    command = [sys.executable, "-P", "-c", code]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["True"] * 3


def test_every_dependency_is_constrained_within_its_range() -> None:
    ranges, exact = requirements(used()), pins()
    assert set(exact) == set(ranges)
    for name, pin in exact.items():
        (version,) = pin.specifier
        assert version.operator == "==", f"{pin} is not exact"
        assert ranges[name].specifier.contains(version.version), f"{pin} is outside of {ranges[name]}"


def test_every_import_is_a_declared_dependency() -> None:
    declared = set(requirements(used()))
    providers = packages_distributions()
    modules = {name.partition(".")[0] for path in (ROOT / "repro").rglob("*.py") for name in imported_names(path)}
    foreign = modules - set(sys.stdlib_module_names) - {"repro"}
    assert "torch" in foreign
    for module in sorted(foreign):
        assert declared & set(map(canonicalize_name, providers.get(module, [module]))), f"{module} is not declared"


def test_a_range_never_pins() -> None:
    for name, requirement in requirements(used()).items():
        operators = {part.operator for part in requirement.specifier}
        assert ">=" in operators, f"{name} has no lowest version"
        assert not operators & {"==", "==="}, f"{requirement} is a pin: pins belong into constraints.txt"


@pytest.mark.parametrize(("target", "has_tools"), [("demo", False), ("verify", False), ("test", True), ("check", True)])
def test_make_installs_the_constrained_versions_and_tools_only_for_what_uses_them(
    target: str, has_tools: bool, tmp_path: Path
) -> None:
    command = ["make", "--dry-run", target, f"VENV={tmp_path}/venv", "PIP_ARGS=--pre", f"PYTHON={sys.executable}"]
    outside = {**os.environ, "MAKEFLAGS": ""}  # of the make that may run these tests
    printed = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    installs = [line for line in printed.splitlines() if "pip install" in line]
    assert all("--constraint constraints.txt --pre" in line for line in installs)
    assert [".[dev]" in line for line in installs] == ([False, True] if has_tools else [False])


def test_citation_names_the_version_of_the_package() -> None:
    import repro

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.search(r"^version: (\S+)$", citation, flags=re.MULTILINE)
    assert cited is not None
    assert cited.group(1) == repro.__version__
