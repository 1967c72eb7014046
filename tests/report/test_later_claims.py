"""Claims of later papers: their files, their commands, verdicts on planted runs, and ``repro check --paper``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repro.cli.main import main
from repro.config.compose import plan
from repro.config.run import later_defaults
from repro.papers import later_tables, load_recipe, load_table
from repro.papers.claims import Claims, Group, load_claims, papers_with_claims
from repro.report.claims.freeze import faults
from repro.report.claims.power import planned
from repro.report.claims.verdicts import check, check_papers
from repro.results.channels import CHANNELS
from repro.results.lesions import LESIONS
from repro.results.read import read_records
from repro.results.scales import word
from tests.planted import edit, plant, plant_channels, plant_lesions, plant_planned

LATER = papers_with_claims()[1:]
NO_NUMBERS = ("shallow_ensembles", "visualizing_residual")
"""Papers that print curves and pictures only."""


def science_of(recipe: str, run: Any) -> dict[str, Any]:
    return {**later_defaults(), **load_recipe(recipe).fields, **run}


def plant_group(root: Path, claims: Claims, group: Group, error: float, seconds: float = 100.0) -> None:
    """Plant all seeds of a group around ``error``, from the command that trains them."""
    words = [f"{key}={word(value)}" for key, value in group.run.items()]
    seeds = f"seed={','.join(map(str, range(group.seeds)))}"
    for config in plan([*claims.words[group.recipe].split(), *words, seeds]).runs:
        folder = plant_planned(root, config, round(error + (config.seed % 3 - 1) / 10, 2))
        edit(folder, "wall_seconds", value=seconds + config.seed)


def test_the_papers_with_claims() -> None:
    later = [
        "densenet",
        "highway",
        "identity_mappings",
        "shallow_ensembles",
        "stochastic_depth",
        "visualizing_residual",
    ]
    assert papers_with_claims() == ["resnet", *later, "wide_resnet"]


@pytest.mark.parametrize("paper", LATER)
def test_the_words_of_every_group_make_the_runs_it_asks_for(paper: str) -> None:
    claims = load_claims(paper)
    for group in claims.groups.values():
        words = [f"{key}={word(value)}" for key, value in group.run.items()]
        (config,) = plan([*claims.words[group.recipe].split(), *words, "seed=1"]).runs
        assert config.science.flat() == science_of(group.recipe, group.run), group.name
        assert group.label.startswith(config.model.label.split()[0])


@pytest.mark.parametrize("paper", LATER)
def test_published_effects_are_those_of_the_papers_tables(paper: str) -> None:
    claims = load_claims(paper)
    tables = [load_table(key) for key in later_tables() if key.startswith(paper)]
    rows = [
        (t.number, science_of(t.recipe, r.run), r.paper["top1_error"].headline) for t in tables for r in t.rows if r.run
    ]
    compared = 0
    for claim in claims.claims:
        for c in (c for c in claim.comparisons if c.metric == "top1_error" and c.effect is not None):
            wanted = [science_of(claims.groups[n].recipe, claims.groups[n].run) for n in c.groups]
            printed = [{number: error for number, science, error in rows if science == group} for group in wanted]
            effects = []
            for number in set.intersection(*map(set, printed)):
                errors = [errors[number] for errors in printed]
                if c.test == "interaction":
                    effects.append(errors[3] - errors[2] - errors[1] + errors[0])
                else:
                    high = errors[1] if c.published is None else c.published.mean
                    assert high is not None
                    effects.append(high - errors[0])
            assert c.effect in [pytest.approx(effect) for effect in effects], (claim.id, c.name, effects)
            compared += 1
    assert compared >= 5 or paper in ("highway", *NO_NUMBERS), "it cites others' nets"


@pytest.mark.parametrize("paper", LATER)
def test_seeds_are_as_many_as_the_published_effects_need(paper: str) -> None:
    claims = load_claims(paper)
    plans = [plan for claim in claims.claims for c in claim.comparisons if (plan := planned(claims, c)) is not None]
    assert (plans or paper in NO_NUMBERS) and not [plan for plan in plans if plan.underpowered]
    assert {plan.spread for plan in plans} <= {0.16, 0.22}, "errors on CIFAR-100 vary more"


@pytest.mark.parametrize("paper", LATER)
def test_the_rules_are_frozen(paper: str) -> None:
    assert faults(paper) == []


def test_time_and_error_decide_the_claims_of_stochastic_depth(tmp_path: Path) -> None:
    claims = load_claims("stochastic_depth")
    errors = {"constant110": 6.41, "stochastic110": 5.25, "constant1202": 6.67, "stochastic1202": 4.91}
    for name, error in errors.items():
        plant_group(tmp_path, claims, claims.groups[name], error, 1242 if name == "constant110" else 907)
    found = {v.claim.id: v for v in check(read_records([tmp_path]), paper="stochastic_depth").verdicts}
    assert found["stochastic_depth_faster"].status == "holds"
    (finding,) = found["stochastic_depth_faster"].judgement.findings
    assert finding.outcome.difference == pytest.approx(0.137, abs=0.002)
    assert found["stochastic_depth_1202"].status == "holds"
    assert found["stochastic_depth_better"].status == "inconclusive", "CIFAR-100 was not run"
    edit(finding.groups[0].records[0].folder, "execution", "runs_per_gpu", value=4)
    found = {v.claim.id: v for v in check(read_records([tmp_path]), paper="stochastic_depth").verdicts}
    (finding,) = found["stochastic_depth_faster"].judgement.findings
    assert finding.status == "inconclusive" and finding.because.startswith("times of different machines")


def test_nets_without_blocks_decide_the_claims_of_shallow_ensembles(tmp_path: Path) -> None:
    for shortcut, rise in (("A", 10), ("none", 80)):
        for seed in range(3):
            plant_lesions(plant(tmp_path, 20, shortcut, seed), rise + seed)
    found = {v.claim.id: v for v in check(read_records([tmp_path]), paper="shallow_ensembles").verdicts}
    assert {verdict.status for verdict in found.values()} == {"holds"}
    (finding,) = found["lesion_deletion"].judgement.findings
    assert finding.outcome.difference == pytest.approx(70)
    folder = read_records([tmp_path]).records[-1].folder
    edit(folder, "images", value=2000, name=LESIONS.file)
    found = {v.claim.id: v for v in check(read_records([tmp_path]), paper="shallow_ensembles").verdicts}
    assert {verdict.status for verdict in found.values()} == {"inconclusive"}, "damaged on other images"
    (finding,) = found["lesion_deletion"].judgement.findings
    assert "1,000 images, 5 draws, seed 0, 2,000 images, 5 draws, seed 0" in finding.because
    edit(folder, "images", value=1000, name=LESIONS.file)
    (tmp_path / read_records([tmp_path]).records[0].run_id / LESIONS.file).unlink()
    assert check(read_records([tmp_path]), paper="shallow_ensembles").verdicts[0].status != "holds"


def test_channels_that_stay_alike_decide_the_claim_of_visualizing_residual(tmp_path: Path) -> None:
    for shortcut, overlap, correlation in (("A", 0.5, 0.8), ("none", 0.1, 0.2)):
        for seed in range(3):
            plant_channels(plant(tmp_path, 20, shortcut, seed), overlap + seed / 100, correlation + seed / 50)
    (found,) = check(read_records([tmp_path]), paper="visualizing_residual").verdicts
    assert found.status == "holds"
    differences = [finding.outcome.difference for finding in found.judgement.findings]
    assert differences == [pytest.approx(0.4), pytest.approx(0.6)]
    run = read_records([tmp_path]).records[0].folder
    plant_channels(run, 0.1, 0.1, images=2000)
    (found,) = check(read_records([tmp_path]), paper="visualizing_residual").verdicts
    assert found.status != "holds", "compared on other images"
    assert CHANNELS.read_file(run / CHANNELS.file).stages[0].images == 2000


def test_a_wide_net_that_is_worse_than_a_deep_one_refutes(tmp_path: Path) -> None:
    claims = load_claims("wide_resnet")
    errors = {"wrn28_10": 4.6, "wrn40_8": 4.1, "wrn40_4": 4.53, "wrn16_8": 4.27}
    for name, error in errors.items():
        plant_group(tmp_path, claims, claims.groups[name], error)
    found = {v.claim.id: v.status for v in check(read_records([tmp_path]), paper="wide_resnet").verdicts}
    assert found["width_beats_depth"] == "fails"
    assert found["dropout_harms_wrn16_4"] == "not run"


def test_dense_nets_need_fewer_parameters_and_highway_nets_are_behind(tmp_path: Path) -> None:
    dense, highway = load_claims("densenet"), load_claims("highway")
    errors = {"dense_same100": 4.51, "resnet110": 6.41, "resnet50": 6.9, "dense_same40": 5.24, "resnet68": 6.8}
    for name, error in errors.items():
        plant_group(tmp_path, dense, dense.groups[name], error)
    for name, error in {"highway19_same": 7.7, "resnet140": 6.5, "highway19": 7.7, "highway11": 10.8}.items():
        plant_group(tmp_path, highway, highway.groups[name], error)
    found = {v.claim.id: v.status for v in check(read_records([tmp_path]), paper="densenet").verdicts}
    assert found["fewer_parameters_than_residual"] == found["dense_better_at_equal_size"] == "holds"
    assert found["a_tenth_of_the_parameters"] == "inconclusive", "CIFAR-100 was not run"
    assert found["dense_capacity"] == "not run"
    found = {v.claim.id: v.status for v in check(read_records([tmp_path]), paper="highway").verdicts}
    assert found["highway_behind_residual"] == found["highway_matches_fitnets"] == "holds"
    assert found["highway32_beats_teacher"] == "not run"


def test_the_command_judges_a_paper_or_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    folders = [f"paths.work={tmp_path}/work", f"paths.results={tmp_path}/results"]

    def said(*words: str) -> str:
        assert main(["check", *words, *folders]) == 0
        return capsys.readouterr().out

    assert said("--format", "json") == said("--format", "json", "--paper", "resnet")
    every = json.loads(said("--format", "json", "--paper", "all"))
    assert list(every) == papers_with_claims()
    assert every["resnet"] == json.loads(said("--format", "json"))
    assert "# The claims of Wide ResNet" in said("--format", "md", "--paper", "wide_resnet")
    assert "identity_shortcut_best" in said("--paper", "all")
    assert "model.width=10.0" in said("--paper", "wide_resnet", "dropout_helps_wrn28_10")
    for wrong in (["--paper", "alexnet"], ["--paper", "all", "width_beats_depth"]):
        assert main(["check", *wrong, *folders]) == 2
        assert wrong[1] in capsys.readouterr().err


def test_a_record_that_all_papers_leave_out_is_named_once(tmp_path: Path) -> None:
    (config,) = plan(["model.depth=20"]).runs
    plant_planned(tmp_path, config, dirty=True)
    first, *later = [one.problems for one in check_papers(papers_with_claims(), read_records([tmp_path]))]
    assert (len(first), [problems for problems in later if problems]) == (1, [])
