"""The file of claims: its content, and all ways in which it can be invalid."""

from __future__ import annotations

import re
import shutil

import numpy
import pytest

from repro.config.compose import plan
from repro.config.paths import shared_dir
from repro.errors import InputError
from repro.papers import load_recipe, load_table
from repro.papers.claims import load_claims
from repro.results.scales import DEFAULTS, compared, word

ON_SERVERS = {"coco_win", "voc12_margin", "det_margin", "loc_gain", "ensemble_win"}
TOLD = {"identity_not_optimal", "not_sota_focus"}
ADDED = {"depth_reversal_cifar", "depth_reversal_imagenet", "resnet_below_plain_cifar"}
"""Claims besides the 41 in the paper's text: their combination."""
UNDECIDABLE = {*ON_SERVERS, *TOLD}


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    folder = tmp_path / "experiments" / "resnet"
    shutil.copytree(shared_dir("experiments"), folder.parent)
    monkeypatch.setenv("REPRO_SHARE", str(tmp_path))
    return folder


def test_there_are_the_41_claims_and_two_that_the_paper_argues_from():
    claims = load_claims().claims
    assert len({claim.id for claim in claims if not claim.argued} - ADDED) == 41
    assert [claim.id for claim in claims if claim.argued] == ["constructed_solution", "single_layer_no_advantage"]
    assert {claim.id for claim in claims if claim.undecidable} == UNDECIDABLE


def test_the_words_of_every_group_make_the_runs_it_asks_for():
    claims = load_claims()
    for group in claims.groups.values():
        fields = {**load_recipe(group.recipe).fields, **group.run}
        start = ["detection.start=weights.pth"] if "detection.start" in fields else []
        words = [f"{key}={word(value)}" for key, value in group.run.items()]
        (config,) = plan([*claims.words[group.recipe].split(), *start, *words, "seed=1"]).runs
        wanted = {**DEFAULTS, **fields}
        assert {key: value for key, value in compared(config.science).items() if wanted[key] != value} == {}
        assert config.model.label.split(" from ")[0].split()[0] in group.label


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('groups = ["plain20", "plain56"]', 'groups = ["plain20", "plain65"]', "unknown group 'plain65'"),
        ('groups = ["plain20", "plain56"]', 'groups = ["plain20", "plain34"]', "different recipes cannot be compared"),
        ('groups = ["plain20", "plain56"]', 'groups = ["plain20"]', "order cannot compare 1 groups"),
        ('test = "order", metric = "top1', 'test = "ordr", metric = "top1', "did you mean 'order'"),
        (", margin = 0.36, paired", ", paired", "equal needs margin"),
        ('direction = "rising"', 'direction = "up"', "direction"),
        ("above = 60.0", "above = 60.0, below = 70.0", "bound needs either above or below"),
        ("window = [0.0, 0.25]", "window = [0.25, 0.0]", "window=[0.25, 0.0]"),
        ("seeds = 5", "seeds = 1", "one run has no spread"),
        ('id = "not_overfitting"', 'id = "degradation_cifar"', "degradation_cifar is "),
        ('undecidable = "A statement of intent."', "", "comparisons that decide it"),
        ("proxy_seeds = 3", "", "proxy_seeds is missing"),
        (", smallest = 0.59 }", " }", "order needs effect or smallest or by"),
        ("step = 0.32 }", "step = -0.32 }", "step=-0.32 must be at least 0"),
        ("effect_divisor = 3", "effect_divisor = 0", "effect_divisor=0.0 must be at least 1"),
        ("margin = 0.3, decides = false", "margin = 0.3", "a published value is shown beside a verdict"),
        ("mean = 7.72, std = 0.16, runs = 5 }", "mean = 7.72, runs = 5 }", "use test bound"),
    ],
)
def test_a_claims_file_that_does_not_fit_is_one_sentence(experiments, old, new, sentence):
    file = experiments / "claims.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        load_claims()
    assert str(error.value).startswith("experiments/resnet/claims.toml: ")


TABLES = {"10crop": 3, "multiscale": 4, "top1": 6}


def printed(c, name):
    """Return the paper's error of a group from its tables; only Table 2 has the nets of 18 layers."""
    run = dict(load_claims().groups[name].run)
    if c.metric.startswith("mAP"):
        rows = load_table(7 if c.metric == "mAP" else 9).rows
        (found,) = (row.paper[c.metric] for row in rows if row.run is not None and dict(row.run) == run)
        return found.headline
    view, _, metric = c.metric.rpartition("_top")
    for number in (TABLES[view or "top1"], 2):
        for row in load_table(number).rows:
            if row.run is not None and run.items() <= dict(row.run).items():
                value = row.paper[f"top{metric}"] if view else row.paper["top1_error"]
                return value.headline if value.mean is None else value.mean
    raise AssertionError(f"no table has {name}")


def test_published_effects_and_values_are_those_of_the_tables():
    compared = 0
    for claim in load_claims().claims:
        for c in claim.comparisons:
            if c.test == "value":
                assert c.published is not None and c.published.headline in (printed(c, c.groups[0]), 6.43), c.name
            elif c.effect is not None and len(c.groups) > 1:
                errors = [printed(c, name) for name in c.groups]
                gaps = numpy.diff(errors)
                if c.test == "interaction":
                    assert c.effect == pytest.approx(gaps[2] - gaps[0]), c.name
                elif c.test == "trend":
                    assert c.effect == pytest.approx(errors[0] - errors[-1]), c.name
                    assert c.step == pytest.approx(min(-gaps)), c.name
                else:
                    assert c.effect == pytest.approx(gaps[0]), c.name
                compared += 1
    assert compared > 15


def test_smallest_effects_without_a_published_one_are_thirds_of_what_their_comments_name():
    gains = {"32": 1.24, "44": 1.58, "56": 1.78, "110": 2.14}
    for c in load_claims().claim("resnet_below_plain_cifar").comparisons:
        depth = c.name.removesuffix(" layers")
        assert c.smallest == pytest.approx(gains[depth] / 3 if c.decides else 0, abs=0.01)
