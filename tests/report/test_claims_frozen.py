"""The frozen rules of the claims: what changes the digest, and an amendment from edit to freeze."""

from __future__ import annotations

import re
import shutil

import pytest

from repro.cli import main as cli
from repro.config.paths import shared_dir
from repro.errors import InputError
from repro.report import render
from repro.report.claims.freeze import LOCK, LOG, digest, faults, freeze, rules

ENTRY = "\n## 2026-12-01: a margin\n\nIt was wider than the effect.\n"


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """Return a copy of experiments/ with frozen rules."""
    folder = tmp_path / "experiments" / "resnet"
    shutil.copytree(shared_dir("experiments"), folder.parent)
    monkeypatch.setenv("REPRO_SHARE", str(tmp_path))
    if faults():
        add_entry(folder)
        freeze()
    return folder


def add_entry(folder):
    log = folder / LOG
    log.write_text(log.read_text(encoding="utf-8") + ENTRY, encoding="utf-8")


def change(file, pattern, new):
    text = file.read_text(encoding="utf-8")
    edited = re.sub(pattern, new, text, count=1)
    assert edited != text
    file.write_text(edited, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "pattern", "new", "named"),
    [
        ("claims", r"margin = [\d.]+", "margin = 9.25", "margin = 9.25 instead of"),
        ("claims", r"seeds = \d+", "seeds = 19", "seeds = 19 instead of"),
        ("claims", r"alpha = 0.05", "alpha = 0.06", "alpha = 0.06 instead of 0.05"),
        ("claims", r'groups = \["plain20", "plain56"\]', 'groups = ["plain56", "plain20"]', '= ["plain56", "plain20"]'),
        ("claims", r'"model.depth" = 56, "model.shortcut" = "none"', '"model.depth" = 50', "model.depth = 50 instead"),
        ("claims", r", decides = false", "", "decides = false is gone"),
        ("claims", r'undecidable = "A statement of intent."', "", "undecidable = true is gone"),
        ("cifar10_recipe", r'"optim.lr" = 0.1', '"optim.lr" = 0.2', "recipes / cifar10_recipe / optim.lr = 0.2"),
        ("imagenet_recipe", r'"optim.lr" = 0.1', '"optim.lr" = 0.2', "recipes / imagenet_recipe / optim.lr = 0.2"),
    ],
)
def test_an_edited_rule_without_an_entry_fails_verify(experiments, monkeypatch, capsys, file, pattern, new, named):
    monkeypatch.setattr(render, "read_evidence", lambda results: None)
    monkeypatch.setattr(render, "verify", lambda *about: [])
    assert cli.main(["render", "--verify"]) == 0
    change(experiments / f"{file}.toml", pattern, new)
    capsys.readouterr()
    assert cli.main(["render", "--verify"]) == 1
    # A recipe may be one of a later paper's claims too.
    sentences = capsys.readouterr().out.splitlines()
    assert sentences and all(named in sentence and LOG in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (r"\n# [^\n]+", "\n# Another comment."),
        (r'text = "[^"]+"', 'text = "In other words."'),
        (r'where = "[^"]+"', 'where = "section 9"'),
        (r'label = "[^"]+"', 'label = "another name"'),
        (r'undecidable = "A statement', 'undecidable = "Just a statement'),
        (r"margin = 0\.5\b", "margin = 0.50"),
    ],
)
def test_prose_is_no_rule(experiments, pattern, new):
    change(experiments / "claims.toml", pattern, new)
    assert faults() == []


def test_the_order_of_claims_is_no_rule(experiments):
    file = experiments / "claims.toml"
    head, *claims = file.read_text(encoding="utf-8").split("[[claims]]")
    file.write_text("[[claims]]".join([head, *(claim.rstrip() + "\n\n" for claim in reversed(claims))]), "utf-8")
    assert faults() == []


def test_an_amendment_is_frozen_with_its_reason(experiments):
    before, old = digest(rules()), (experiments / LOG).read_text(encoding="utf-8")
    change(experiments / "claims.toml", r"margin = [\d.]+", "margin = 9.25")
    if "Digest" in old.split("\n## ")[-1]:
        with pytest.raises(InputError, match=LOG):
            freeze()
        add_entry(experiments)
    assert faults()
    assert "1 changes" in freeze()
    log = (experiments / LOG).read_text(encoding="utf-8")
    assert faults() == [] and log.startswith(old.rstrip())
    last = log.split("\n## ")[-1]
    assert f"Digest: `{digest(rules())}`" in last and "margin = 9.25 instead of" in last
    assert digest(rules()) != before
    assert digest(rules()) in freeze()


def test_a_lock_that_is_edited_as_well_lacks_its_entry(experiments):
    shutil.copy(experiments / LOG, experiments / "log")
    change(experiments / "claims.toml", r"alpha = 0.05", "alpha = 0.06")
    add_entry(experiments)
    freeze()
    shutil.move(experiments / "log", experiments / LOG)
    (sentence,) = faults()
    assert f"ends with the digest {digest(rules())}" not in sentence and digest(rules()) in sentence


def test_a_lock_that_cannot_be_read_is_one_sentence(experiments):
    (experiments / LOCK).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"claims\.lock is not JSON"):
        faults()
    (experiments / LOCK).unlink()
    assert "is new" in faults()[0]
