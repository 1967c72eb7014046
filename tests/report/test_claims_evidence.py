"""The evidence of a comparison: fixed seeds, one numerics version, and a note on different devices."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess

import pytest

from repro.papers.claims import load_claims
from repro.report.claims.absent import absent
from repro.report.claims.evidence import CONFOUNDED, gather
from repro.report.claims.explain import explain
from repro.report.claims.terminal import to_text
from repro.report.claims.verdicts import check
from repro.report.claims.wording import verdict_text
from repro.results.read import read_records
from tests.planted import PRESENT
from tests.planted_claims import plant_group

OLD = PRESENT - 1
CPU = {"device": "AMD EPYC", "precision": "fp32"}
CLAIMS = load_claims()


def verdict(root, id="degradation_cifar"):
    return next(verdict for verdict in check(read_records([root])).verdicts if verdict.claim.id == id)


def evidence(root, id="degradation_cifar", part=0):
    """Return the groups of a comparison, and the notes on records that were left out."""
    return gather(CLAIMS, CLAIMS.claim(id).comparisons[part], read_records([root]).records)


def plant(root, *groups, seeds=range(5), **how):
    """Plant the ``seeds`` of the groups; return the folder of the last."""
    return [plant_group(root, name, seed, **how) for name in groups for seed in seeds][-1]


# --------------------------------------------------------------------------------------- rule 7: the seeds 0 to n-1


def test_other_seeds_than_those_from_0_on_decide_nothing(tmp_path):
    plant(tmp_path, "plain20")
    plant(tmp_path, "plain56", seeds=(7, 11, 12, 40, 99))
    assert verdict(tmp_path).status == "not run"
    found = evidence(tmp_path)
    assert found.groups[1].missing == (0, 1, 2, 3, 4)
    assert len([note for note in found.notes if "plain56-s" in note]) == 5


def test_deleting_a_bad_record_lets_no_other_seed_in(tmp_path):
    plant(tmp_path, "plain20")
    plant(tmp_path, "plain56", seeds=range(9))
    assert verdict(tmp_path).status == "holds"
    shutil.rmtree(next(tmp_path.glob("*plain56-s3-*")))
    found = verdict(tmp_path)
    group = found.judgement.findings[1].groups[1]
    assert (found.status, group.seeds, group.missing) == ("inconclusive", (0, 1, 2, 4), (3,))
    assert group.command.endswith("model.depth=56 model.shortcut=none seed=3")


def test_a_seed_without_the_measure_stays_missing(tmp_path):
    plant(tmp_path, "plain20")
    plant(tmp_path, "plain56", seeds=range(7))
    folder = next(tmp_path.glob("*plain56-s2-*"))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    record["result"]["train_running"] = None
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    found = evidence(tmp_path)
    assert found.groups[1].missing == (2,)
    assert f"left out: {folder.name}: it has no training error" in found.notes


def test_a_pair_that_lacks_a_side_is_named_and_the_comparison_lacks_a_run(tmp_path):
    plant(tmp_path, "warm110")
    plant(tmp_path, "cold110", seeds=(0, 1, 3, 4, 5))
    assert verdict(tmp_path, "warmup_needed").status == "inconclusive"
    found = evidence(tmp_path, "warmup_needed", part=-1)
    assert found.groups[1].missing == (2,)
    assert any("seed 2 " in note and "without warm-up" in note for note in found.notes)


def test_a_failed_seed_is_named_and_stays_missing(tmp_path):
    runs, work = tmp_path / "results" / "runs", tmp_path / "work"
    plant(runs, "plain20", "plain56")
    bad = next(runs.glob("*plain56-s3-*"))
    further = plant(work, "plain56", seeds=[5])
    shutil.move(bad, work / bad.name)
    for folder in (work / bad.name, further):
        record = folder / "record.json"
        values = json.loads(record.read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({"science": values["science"]}), encoding="utf-8")
        (folder / "failure.txt").write_text("the loss is not finite after step 120", encoding="utf-8")
        record.unlink()
    problems = absent(CLAIMS, read_records([runs, work]).records, [runs, work], None)
    (named,) = problems  # seed 5 does not count
    assert named.name == f"work/{bad.name}" and not named.breaks
    assert named.reason == "seed 3 of plain-56 failed and stays missing: the loss is not finite after step 120"
    checked = check(read_records([runs, work]), folders=[runs, work])
    assert named.reason in " ".join(explain(checked, "degradation_cifar").split()) and checked.exit_code() == 0


def git(root, *words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=root, check=True)


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-qm", "records")


def test_a_record_that_was_committed_and_deleted_is_named(tmp_path):
    runs = tmp_path / "results" / "runs"
    plant(runs, "plain56")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    assert absent(CLAIMS, (), (), runs) == []
    gone = next(runs.glob("*plain56-s3-*"))
    shutil.rmtree(gone)
    for committed in (False, True):
        if committed:
            # A similar record in the same commit is not a rename.
            plant(runs, "plain56", seeds=[5])
            commit(tmp_path)
        (named,) = absent(CLAIMS, (), (), runs)
        assert named.name == f"runs/{gone.name}" and "deleted since" in named.reason
    assert named.name in to_text(check(read_records([runs]), published=runs))


@pytest.mark.parametrize("replaced", [True, False])
def test_many_deleted_records_are_told_by_their_number_where_a_claim_would_use_them(tmp_path, replaced):
    runs = tmp_path / "results" / "runs"
    plant(runs, "plain20", "plain56", numerics_version=OLD)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    gone = sorted(folder.name for folder in runs.iterdir())
    shutil.rmtree(runs)
    plant(runs, *(["plain20", "plain56"] if replaced else ["resnet20"]))
    commit(tmp_path)
    checked = check(read_records([runs]), published=runs)
    assert [problem.name for problem in checked.problems] == [f"runs/{name}" for name in gone]
    verbose = to_text(checked, verbose=True)
    assert all(name in verbose for name in gone), "each is named on request"
    told = " ".join(to_text(checked).split())
    assert "10 published runs" in told and "`repro check -v`" in told and not any(name in told for name in gone)
    assert (f"of numerics version {OLD} and replaced by runs of version {PRESENT}" in told) == replaced
    assert ("deleted since" in told) != replaced
    whole = explain(checked, "degradation_cifar")
    assert "10 published runs" in whole and max(map(len, whole.splitlines())) <= 110
    assert "published runs" not in explain(checked, "coco_gain")
    assert check(read_records([runs]), published=runs, paper="densenet").problems == ()


def test_a_deleted_record_that_cannot_be_read_is_told_with_every_claim(tmp_path):
    runs = tmp_path / "results" / "runs"
    folder = plant(runs, "plain56", seeds=[0])
    (folder / "record.json").write_text('{"schema": 1}')
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    shutil.rmtree(folder)
    checked = check(read_records([runs]), published=runs)
    assert folder.name in explain(checked, "coco_gain") and folder.name in to_text(checked)


def test_without_git_nothing_is_said_of_what_was_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert absent(CLAIMS, (), (), tmp_path) == []


# ------------------------------------------------------------------------------------------------ rule 8: unlike runs


def test_some_runs_of_a_newer_version_do_not_displace_a_complete_older_one(tmp_path):
    plant(tmp_path, "plain20", "plain56", numerics_version=OLD)
    before = verdict(tmp_path)
    assert before.status == "holds"
    new = [plant(tmp_path, name, seeds=[0], shift=-6.0) for name in ("plain20", "plain56")]
    found = evidence(tmp_path)
    assert [group.seeds for group in found.groups] == [(0, 1, 2, 3, 4)] * 2
    assert {record.numerics_version for group in found.groups for record in group.records} == {OLD}
    names = ", ".join(folder.name for folder in new)
    (note,) = found.notes
    assert f"version {PRESENT} instead of {OLD}" in note and names in note
    assert verdict(tmp_path).status == before.status


def test_a_version_that_is_complete_in_all_groups_takes_the_place_of_an_older_one(tmp_path):
    plant(tmp_path, "plain20", "plain56", numerics_version=OLD)
    plant(tmp_path, "plain20", "plain56")
    found = evidence(tmp_path)
    assert {record.numerics_version for group in found.groups for record in group.records} == {PRESENT}
    shutil.rmtree(next(path for path in tmp_path.glob("*plain56-s4-*") if path.name in found.groups[1].run_ids))
    found = evidence(tmp_path)
    assert {record.numerics_version for group in found.groups for record in group.records} == {OLD}


def test_a_claim_rests_on_one_version_in_all_its_parts(tmp_path):
    cifar, imagenet = ("plain20", "plain56"), ("plain18", "plain34")
    plant(tmp_path, *cifar, numerics_version=OLD)
    plant(tmp_path, *imagenet, seeds=range(3), numerics_version=OLD)
    plant(tmp_path, *cifar)
    for part in (0, 1):
        found = evidence(tmp_path, "not_overfitting", part)
        assert {record.numerics_version for group in found.groups for record in group.records} == {OLD}
    # All parts of the other claim have the newer version.
    assert {r.numerics_version for g in evidence(tmp_path).groups for r in g.records} == {PRESENT}


def test_a_version_that_moved_some_runs_only_is_the_same_code_for_the_others(tmp_path):
    """Version 3 changed the ImageNet runs, whose statistics are taken in groups, but not the CIFAR-10 runs."""
    cifar, imagenet = ("plain20", "plain56"), ("plain18", "plain34")
    plant(tmp_path, *cifar)
    plant(tmp_path, *imagenet, seeds=range(3), numerics_version=2)
    before = [evidence(tmp_path, "not_overfitting", part) for part in (0, 1)]
    plant(tmp_path, *imagenet, seeds=range(3))
    after = [evidence(tmp_path, "not_overfitting", part) for part in (0, 1)]
    for part, found in enumerate((before, after)):
        versions = [{record.numerics_version for group in e.groups for record in group.records} for e in found]
        assert versions == [{2}, {2 + part}]
        assert [[group.missing for group in e.groups] for e in found] == [[()] * 2] * 2
    assert before[0].notes == before[1].notes == after[0].notes == ()
    (note,) = after[1].notes
    assert "version 2 instead of 3" in note


def test_where_no_version_is_complete_the_present_one_is_counted(tmp_path):
    plant(tmp_path, "plain20", numerics_version=OLD)
    plant(tmp_path, "plain56", seeds=range(4), numerics_version=OLD)
    for name in ("plain20", "plain56"):
        plant(tmp_path, name, seeds=[0])
    found = evidence(tmp_path)
    assert [group.seeds for group in found.groups] == [(0,), (0,)]
    assert verdict(tmp_path).status == "inconclusive"


@pytest.mark.parametrize("seeds", [range(5), range(2)])
def test_devices_that_differ_between_the_groups_are_named(tmp_path, seeds):
    plant(tmp_path, "plain20", "plain56")
    assert evidence(tmp_path).notes == ()
    plant(tmp_path, "plain20", seeds=seeds, **CPU)
    (note,) = evidence(tmp_path).notes
    entirely = len(seeds) == 5
    assert note.startswith(CONFOUNDED) == entirely
    assert (CONFOUNDED in verdict_text(verdict(tmp_path))) == entirely
    assert "plain-20 on AMD EPYC in fp32" in note and "plain-56 on NVIDIA H200 in tf32 (5 runs)" in note
    plant(tmp_path, "plain56", seeds=seeds, **CPU)
    assert evidence(tmp_path).notes == ()


def test_a_trend_whose_ends_share_no_device_is_confounded(tmp_path):
    nets = ("plain20", "plain32", "plain44", "plain56")
    (place,) = [i for i, c in enumerate(CLAIMS.claim("plain_cifar_degrades").comparisons) if c.test == "trend"]
    plant(tmp_path, *nets)
    plant(tmp_path, *nets[:2], **CPU)
    (note,) = evidence(tmp_path, "plain_cifar_degrades", place).notes
    assert note.startswith(CONFOUNDED)
    plant(tmp_path, "plain56", seeds=[2], **CPU)
    (note,) = evidence(tmp_path, "plain_cifar_degrades", place).notes
    assert note.startswith("devices differ")


def test_pairs_are_of_one_device(tmp_path):
    plant(tmp_path, "warm110", "cold110")
    plant(tmp_path, "warm110", seeds=[0], **CPU)
    plant(tmp_path, "cold110", seeds=[1], **CPU)
    (note,) = evidence(tmp_path, "warmup_needed", part=-1).notes
    assert note.startswith("devices differ between the groups")
    unpaired = dataclasses.replace(CLAIMS.claim("warmup_needed").comparisons[-1], paired=False)
    assert gather(CLAIMS, unpaired, read_records([tmp_path]).records).notes == ()
