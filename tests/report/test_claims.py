"""Claims: the file, verdicts on planted records, records that are left out, and the effect of one record."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import pytest

from repro.cli.main import main
from repro.config.compose import plan
from repro.errors import InputError
from repro.papers.claims import load_claims
from repro.report.claims.evidence import command
from repro.report.claims.explain import explain
from repro.report.claims.format import to_json, to_markdown
from repro.report.claims.metrics import value_of
from repro.report.claims.terminal import to_text
from repro.report.claims.verdicts import check
from repro.report.claims.wording import proxy_text, verdict_text
from repro.results.read import read_curve, read_records
from tests.planted import DEMO, PRESENT, edit, scale_science
from tests.planted_claims import finding, plant_group, plant_paper, verdicts
from tests.planted_claims import plant_seeds as plant

UNDECIDABLE = {claim.id for claim in load_claims().claims if claim.undecidable}
COUNTED = {"no_extra_params", "flops_152_vs_vgg", "flops_34_vs_vgg19"}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Plant every group with the paper's values, published."""
    root = tmp_path_factory.mktemp("paper") / "runs"
    plant_paper(root)
    return root


@pytest.fixture(scope="module")
def checked(paper):
    return check(read_records([paper]))


# ------------------------------------------------------------------------------------------------------------ verdicts


def test_without_a_run_counts_alone_decide(tmp_path):
    found = verdicts(tmp_path)
    assert {id for id, verdict in found.items() if verdict.status == "holds"} == COUNTED
    assert {id for id, verdict in found.items() if verdict.status == "not decidable here"} == UNDECIDABLE
    assert {v.status for id, v in found.items() if id not in COUNTED | UNDECIDABLE} == {"not run"}
    assert finding(found["no_extra_params"], "parameters at 34 layers").outcome.numbers == (21_623_848,)


def test_with_the_papers_own_values_every_claim_holds(checked):
    assert {verdict.claim.id for verdict in checked.verdicts if verdict.status != "holds"} == UNDECIDABLE


def test_a_reversed_order_fails_and_an_unclear_one_is_inconclusive(tmp_path):
    plant(tmp_path, "plain20")
    plant(tmp_path, "plain56", shift=-6.0)
    found = verdicts(tmp_path)["degradation_cifar"]
    assert (found.status, finding(found, "test error").status) == ("fails", "fails")
    assert finding(found, "training error").status == "fails"
    shutil.rmtree(tmp_path)
    plant(tmp_path, "plain20", noise=40)
    plant(tmp_path, "plain56", noise=40, shift=-2.0)
    assert verdicts(tmp_path)["degradation_cifar"].status == "inconclusive"


def test_a_claim_of_which_a_part_is_not_run_is_inconclusive_and_says_so(tmp_path):
    plant(tmp_path, "plain20", "plain56")
    found = verdicts(tmp_path)["not_overfitting"]
    assert found.status == "inconclusive"
    assert finding(found, "training error, CIFAR-10").status == "holds"
    assert finding(found, "training error, ImageNet").because == "no run of plain-18, plain-34"


def test_fewer_seeds_than_were_set_decide_nothing_and_the_missing_are_named(tmp_path):
    plant(tmp_path, "plain20")
    for seed in (0, 1, 3):
        plant_group(tmp_path, "plain56", seed)
    found = verdicts(tmp_path)["degradation_cifar"]
    part = finding(found, "test error")
    assert (found.status, part.because) == ("inconclusive", "too few seeds: plain-56 3 of 5")
    assert part.outcome.p is not None and part.outcome.p < 0.001
    assert part.groups[1].missing == (2, 4)
    assert part.groups[1].command == "repro run model.depth=56 model.shortcut=none seed=2,4"


def test_one_seed_a_group_is_not_tested(tmp_path):
    plant(tmp_path, "plain20", "plain56", seeds=1)
    part = finding(verdicts(tmp_path)["degradation_cifar"], "test error")
    assert (part.status, part.outcome.p, part.groups[0].sample.std) == ("inconclusive", None, None)
    assert part.groups[0].sample.mean == pytest.approx(8.9)


def test_what_decides_nothing_is_shown(tmp_path):
    plant(tmp_path, "resnet20", shift=1.0)
    plant(tmp_path, "resnet32", "resnet44", "resnet56", "resnet110")
    found = verdicts(tmp_path)["resnet_cifar_improves"]
    assert (found.status, finding(found, "published ResNet-20").status) == ("holds", "fails")
    assert finding(found, "published ResNet-110").status == "holds"


def test_about_equal_has_to_be_shown(tmp_path):
    plant(tmp_path, "resnet34a", "resnet34b", "resnet34c", seeds=3)
    assert verdicts(tmp_path)["projections_not_essential"].status == "holds"
    plant(tmp_path, "resnet34a", seeds=3, noise=8)
    assert verdicts(tmp_path)["projections_not_essential"].status == "inconclusive"
    plant(tmp_path, "resnet34a", seeds=3, shift=3.0)
    assert verdicts(tmp_path)["projections_not_essential"].status == "fails"


def test_seeds_pair_by_their_number_and_not_by_their_place(tmp_path):
    plant(tmp_path, "warm110")
    for seed in range(1, 6):
        plant_group(tmp_path, "cold110", seed)
    part = finding(verdicts(tmp_path)["warmup_needed"], "final test error")
    warm, cold = (dict(zip(group.seeds, group.values, strict=True)) for group in part.groups)
    assert (set(warm), set(cold)) == ({0, 1, 2, 3, 4}, {1, 2, 3, 4})
    assert part.outcome.test == "paired t test"
    assert part.outcome.difference == pytest.approx(sum(cold[seed] - warm[seed] for seed in (1, 2, 3, 4)) / 4)


def test_one_evaluation_significantly_in_the_other_order_fails_throughout(tmp_path):
    plant(tmp_path, "plain18", "plain34", seeds=3)
    assert verdicts(tmp_path)["plain34_worse_train"].status == "holds"
    for file in tmp_path.glob("imagenet-plain34*/curve.csv"):
        lines = file.read_text(encoding="utf-8").splitlines()
        cells = lines[3].split(",")
        lines[3] = ",".join([*cells[:4], "30.0", *cells[5:]])
        file.write_text("\n".join(lines), encoding="utf-8")
    part = finding(verdicts(tmp_path)["plain34_worse_train"], "training error at every evaluation")
    assert part.status == "fails"
    assert "19 of 20 evaluations" in part.outcome.statistic


def test_a_constructed_net_is_no_seed_of_the_net_with_a_random_start(tmp_path):
    plant(tmp_path, "plain20", "plain56", seeds=3, scale="demo", science=DEMO)
    plant(tmp_path, "constructed56", seeds=8, scale="demo", science=DEMO)
    proxy = verdicts(tmp_path)["degradation_cifar"].proxy
    assert proxy is not None and len(proxy.findings[0].groups[1].seeds) == 3


# ------------------------------------------------------------------------------------------------- evidence left out


def test_a_wrong_record_is_named_and_left_out(tmp_path):
    runs = tmp_path / "runs"
    plant(runs, "plain20", "plain56", seeds=6)
    folders = sorted(runs.glob("*plain56*"))
    edit(folders[0], "fingerprint", value="0" * 16)
    edit(folders[1], "provenance", "dirty", value=True)
    edit(folders[2], "provenance", "commit", value="unknown")
    edit(folders[3], "result", "final", "errors", value=3)
    found = check(read_records([runs]))
    part = finding(next(v for v in found.verdicts if v.claim.id == "degradation_cifar"), "test error")
    assert part.groups[1].run_ids == (folders[4].name,)
    assert part.status == "inconclusive" and part.groups[1].missing == (0, 1, 2, 3)
    reasons = {problem.name: (problem.reason, problem.breaks) for problem in found.problems}
    assert set(reasons) == {f"runs/{folder.name}" for folder in folders[:4]}
    assert "fingerprint" in reasons[f"runs/{folders[0].name}"][0]
    assert reasons[f"runs/{folders[1].name}"] == ("it was made from a tree with uncommitted changes", True)
    assert reasons[f"runs/{folders[2].name}"] == ("it was made from an unknown commit", False)
    assert all(f"Left out: {name}" in to_text(found) for name in reasons)


def test_a_run_with_another_setting_is_no_seed_of_the_group(tmp_path):
    plant(tmp_path, "plain20", "plain56")
    plant_group(tmp_path, "plain56", 5, science={"optim.lr": 0.05})
    part = finding(verdicts(tmp_path)["degradation_cifar"], "test error")
    assert part.groups[1].seeds == (0, 1, 2, 3, 4)


def test_seeds_beyond_those_set_beforehand_do_not_count(tmp_path):
    plant(tmp_path, "plain20", "plain56", seeds=7)
    part = finding(verdicts(tmp_path)["degradation_cifar"], "test error")
    assert [group.seeds for group in part.groups] == [(0, 1, 2, 3, 4)] * 2
    assert len(part.notes) == 4 and all("5 seeds" in note for note in part.notes)
    assert [note.split("-")[-2] for note in part.notes] == ["s5", "s6"] * 2


def test_another_numerics_version_is_named_and_left_out(tmp_path):
    plant(tmp_path, "plain20", "plain56")
    old = plant_group(tmp_path, "plain56", 5, numerics_version=PRESENT - 1)
    part = finding(verdicts(tmp_path)["degradation_cifar"], "test error")
    assert part.groups[1].seeds == (0, 1, 2, 3, 4)
    (note,) = part.notes
    assert f"version 1 instead of {PRESENT}" in note and old.name in note


def test_groups_of_different_numerics_versions_are_not_compared(tmp_path):
    plant(tmp_path, "plain20")
    plant(tmp_path, "plain56", numerics_version=PRESENT - 1)
    assert verdicts(tmp_path)["degradation_cifar"].status == "not run"


def test_of_a_claim_without_enough_runs_what_is_there_is_shown(tmp_path):
    plant(tmp_path, "plain20", seeds=1)
    text = verdict_text(verdicts(tmp_path)["degradation_cifar"])
    assert text.startswith("so far ") and text.count("plain-20") == 2
    assert re.search(r"training error.*: plain-20 [\d.]+ \(n=1\) %; .*test error.*: plain-20 [\d.]+ \(n=1\) %", text)


def test_a_record_without_the_measure_is_named_and_left_out(tmp_path):
    folder = plant(tmp_path, "resnet34a", "resnet34b", seeds=3)
    edit(folder, "result", "views", value=[])
    part = finding(verdicts(tmp_path)["B_over_A"], "10-crop error")
    assert part.groups[0].seeds == (0, 1)
    assert part.notes == (f"left out: {folder.name}: it has no 10crop result",)


@pytest.mark.parametrize("name", ["plain20", "resnet34b", "resnet110", "constructed56"])
def test_deleting_a_record_changes_exactly_the_claims_that_rest_on_it(paper, checked, name):
    reading, before = read_records([paper]), checked
    groups = [group for v in before.verdicts for f in v.judgement.findings for group in f.groups]
    label = load_claims().groups[name].label
    run_id = next(group.run_ids[0] for group in groups if group.label == label)
    gone = next(record for record in reading.records if record.run_id == run_id)
    after = check(dataclasses.replace(reading, records=tuple(r for r in reading.records if r is not gone)))
    changed = {old.claim.id for old, new in zip(before.verdicts, after.verdicts, strict=True) if old != new}
    resting = {v.claim.id for v in before.verdicts if gone.run_id in v.judgement.run_ids}
    assert changed == resting != set()


def test_proxies_stand_beside_and_never_decide(tmp_path):
    plant(tmp_path, "plain20", "plain56", seeds=3, scale="demo", science=DEMO)
    found = verdicts(tmp_path)["degradation_cifar"]
    assert (found.status, found.proxy.status) == ("not run", "holds")
    assert found.judgement.run_ids == () and len(found.proxy.run_ids) == 6
    assert verdicts(tmp_path)["plain34_worse_val"].proxy is None


def test_of_several_budgets_the_largest_with_all_runs_stands_beside_a_claim_and_is_named(tmp_path):
    tenth = scale_science("tenth")
    plant(tmp_path, "plain20", "plain56", seeds=3, scale="demo", science=DEMO)
    plant(tmp_path, "plain20", seeds=3, scale="tenth", science=tenth)
    assert "at demo scale, as the paper reports" in proxy_text(verdicts(tmp_path)["degradation_cifar"])
    plant(tmp_path, "plain56", seeds=2, scale="tenth", science=tenth)
    assert "at demo scale, as the paper reports" in proxy_text(verdicts(tmp_path)["degradation_cifar"]), "2 of 3 seeds"
    plant(tmp_path, "plain56", seeds=3, scale="tenth", science=tenth)
    text = proxy_text(verdicts(tmp_path)["degradation_cifar"])
    assert text.startswith("at a tenth of the budget, as the paper reports: training error: difference +")
    assert text.count("(n=3)") == 2
    said = to_text(check(read_records([tmp_path])))
    assert "At a tenth of the budget (proxies, no verdicts): 1 as the paper reports" in said


def test_proxies_are_not_held_against_published_limits(tmp_path):
    plant(tmp_path, "plain110", seeds=3, scale="demo", science=DEMO)
    claims = [claim for claim in load_claims().claims for c in claim.comparisons if c.test == "bound"]
    assert any("plain110" in c.groups for claim in claims for c in claim.comparisons)
    found = verdicts(tmp_path)
    for claim in claims:
        proxy = found[claim.id].proxy
        assert not [
            f
            for f in (proxy.findings if proxy else ())
            if f.comparison.metric.endswith("_error") and f.comparison.test == "bound"
        ]


def test_a_proxy_says_how_many_parts_of_a_claim_only_the_papers_budget_decides(tmp_path):
    plant(tmp_path, "plain20", "plain32", "plain44", "plain56", seeds=3, scale="demo", science=DEMO)
    claim = load_claims().claim("plain_cifar_degrades")
    parts = [c for c in claim.comparisons if c.decides]
    assert len(parts) == 2
    assert "; 1 part only at the paper's budget" in proxy_text(verdicts(tmp_path)["plain_cifar_degrades"])
    plant(tmp_path, "plain20", "plain56", seeds=3, scale="demo", science=DEMO)
    assert "only at" not in proxy_text(verdicts(tmp_path)["degradation_cifar"])


def test_only_a_fault_among_published_records_breaks_the_check(tmp_path):
    published, work = tmp_path / "results" / "runs", tmp_path / "scratch" / "runs"
    edit(plant(work, "plain20", seeds=1), "provenance", "dirty", value=True)
    reading = read_records([published, work])
    assert not check(reading, published).broken
    assert check(reading, work).broken
    (work / "cifar10-x").mkdir()
    (work / "cifar10-x" / "record.json").write_text("no", encoding="utf-8")
    assert not check(read_records([published, work]), published).broken


def test_the_words_of_a_proxy_make_the_runs_that_are_compared():
    claims = load_claims()
    group = claims.groups["cold110"]
    words = command(claims, group, [1], "demo").split()[2:]
    (config,) = plan(words).runs
    (wanted,) = [run for run in plan(["exp=cifar_warmup", "scale=demo", "seed=1"]).runs if run.optim.warmup == "none"]
    assert config.science == wanted.science
    assert command(claims, group, [1], "tenth").startswith("repro run scale=tenth ")


# ---------------------------------------------------------------------------------------------------- what is printed


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_text_has_a_line_for_every_claim_that_fits_and_one_for_what_cannot_be_decided(checked, width):
    text = to_text(checked, width)
    *lines, others = text.split("\n\n")[0].splitlines()
    decidable = [claim for claim in load_claims().claims if not claim.undecidable]
    assert [line.split()[:2] for line in lines] == [["holds", claim.id] for claim in decidable]
    assert max(map(len, text.splitlines())) <= width
    assert all(claim.text in line for claim, line in zip(decidable, lines, strict=True) if width == 200)
    assert others.startswith("not decidable here: ensemble_win")
    assert "cifar10-plain20-s0" not in text
    verbose = to_text(checked, width, verbose=True)
    assert "cifar10-plain20-s0" in verbose
    assert verdict_text(checked.verdicts[0]) in " ".join(verbose.split())


def test_the_text_counts_all_verdicts(checked):
    text = " ".join(to_text(checked, 80).split())
    assert "46 claims: 39 hold, 0 fail, 0 inconclusive, 0 not run, 7 not decidable here." in text


def test_one_claim_in_full_has_all_that_it_rests_on(checked):
    text = " ".join(explain(checked, "degradation_cifar").split())
    for part in (
        "degradation_cifar: holds",
        "(Figure 1)",
        "plain-20: 9.00 ± 0.08 % over 5 seeds: s0 8.90, s1 9.10, s2 9.00, s3 8.95, s4 9.05",
        "Welch's t test, difference +3.50 (95 %: +3.38 to +3.62), t(8.0)",
        "below 0.59",
        "spread of 0.16, 5 seeds show a difference of 0.32 with a power of 80 %",
    ):
        assert part in text
    assert len(re.findall(r"cifar10-plain56-s\d-[0-9a-f]{8}", text)) == 10


def test_one_claim_in_full_says_why_it_cannot_be_decided_and_which_is_unknown(tmp_path):
    found = check(read_records([tmp_path]))
    assert "Not decidable here: A statement of intent." in explain(found, "not_sota_focus")
    with pytest.raises(InputError, match="did you mean 'degradation_cifar'"):
        explain(found, "degradation_cifr")


def test_the_markdown_links_to_the_runs(paper, checked):
    text = to_markdown(checked)
    links = set(re.findall(r"\]\((runs/[^)]+)\)", text))
    assert len(links) == len(list(paper.iterdir()))
    assert all((paper.parent / link).is_file() for link in links)
    assert "## Holds (39)" in text and "## Not decidable here (7)" in text and "## Fails" not in text


def test_the_json_reads_back(checked):
    values = json.loads(to_json(checked))
    verdict = next(v for v in values["verdicts"] if v["id"] == "B_over_A")
    (part,) = verdict["judgement"]["findings"]
    assert (verdict["status"], part["status"], part["tests"], values["broken"]) == ("holds", "holds", 1, False)
    assert part["groups"][0]["values"] == [24.42, 24.62, 24.52]
    assert 0 < part["outcome"]["p_holds"] == part["p"] < 0.05 < part["outcome"]["p_fails"]
    assert part["outcome"]["beside"]["effect"] == 0.51


def test_the_exit_code(tmp_path):
    runs = tmp_path / "runs"
    folder = plant(runs, "plain20", "plain56")
    assert check(read_records([runs])).exit_code() == check(read_records([runs])).exit_code(strict=True) == 0
    plant(runs, "plain56", shift=-6.0)
    assert check(read_records([runs])).exit_code() == 0
    assert check(read_records([runs])).exit_code(strict=True) == 1
    edit(folder, "provenance", "dirty", value=True)
    assert check(read_records([runs])).exit_code() == 1
    own = runs.rename(tmp_path / "work")
    assert check(read_records([own]), published=runs).exit_code() == 0


def test_an_unknown_claim_is_refused_before_any_is_judged(capsys, monkeypatch):
    monkeypatch.setattr("repro.report.claims.verdicts.check_papers", None)
    assert main(["check", "degradation_cifr"]) == 2
    assert "'degradation_cifar'" in capsys.readouterr().err


def test_one_claim_in_full_has_no_other_format(capsys):
    assert main(["check", "degradation_cifar", "--format", "json"]) == 2
    assert "json" in capsys.readouterr().err


def test_the_first_quarter_ends_with_the_evaluation_at_its_last_step(tmp_path):
    plant_group(tmp_path, "resnet18a", 0)
    (record,) = read_records([tmp_path]).records
    (c,) = [c for c in load_claims().claim("resnet18_faster").comparisons if c.metric == "curve_eval_error"]
    assert value_of(record, c)[0] == pytest.approx(read_curve(record)["eval_error"].iloc[:5].mean())
