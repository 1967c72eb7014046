"""The summary of finished runs: different runs are kept apart, and only the paper's recipe is beside the paper."""

from __future__ import annotations

from repro.report.summary import Summary
from repro.results.read import read_records
from tests.planted import DEMO, plant


def table(root):
    records = read_records([root]).records
    first, second, third, _, *rows = Summary("paper").table(records).splitlines()
    assert "running" in first and "training" in second and "error %" in third
    return first, rows


def test_seeds_are_one_row_beside_the_published_mean(tmp_path):
    plant(tmp_path, 110, "A", 0, 6.5)
    plant(tmp_path, 110, "A", 1, 6.7)
    head, (row,) = table(tmp_path)
    assert "test" in head
    for part in ("ResNet-110", "6.60 ± 0.14", "6.61", "−0.01"):
        assert part in row


def test_the_table_of_usual_nets_is_at_most_80_columns_wide(tmp_path):
    for depth in (20, 110):
        for seed in (0, 1):
            plant(tmp_path, depth, "A", seed, 8.7 + seed)
    records = read_records([tmp_path]).records
    assert max(map(len, Summary("paper").table(records).splitlines())) <= 80


def test_two_recipes_of_a_net_say_in_what_they_differ(tmp_path):
    plant(tmp_path, 20, "A", 0, 8.7)
    plant(tmp_path, 20, "A", 0, 8.6, science={"optim.nesterov": True})
    _, rows = table(tmp_path)
    assert sorted(" ".join(row.split()[:2]) for row in rows) == [
        "ResNet-20 optim.nesterov=False",
        "ResNet-20 optim.nesterov=True",
    ]
    assert sum("8.75" in row for row in rows) == 1, "only the paper's recipe has a published value"


def test_what_most_nets_share_is_not_repeated_in_every_row(tmp_path):
    """As in exp=cifar_open_choices, one switch at a time; batch norm over half a batch is one of them."""
    plant(tmp_path, 20, "A")
    plant(tmp_path, 20, "none")
    for science in ({"model.bn_group_size": 64}, {"optim.nesterov": True}, {"optim.momentum_form": "caffe"}):
        plant(tmp_path, 20, "A", science=science)
    _, rows = table(tmp_path)
    assert sorted(" ".join(row.split("  ")[0].split()) for row in rows) == [
        "ResNet-20",
        "ResNet-20 model.bn_group_size=64",
        "ResNet-20 optim.momentum_form=caffe",
        "ResNet-20 optim.nesterov=True",
        "plain-20",
    ]


def test_errors_of_two_splits_do_not_stand_under_the_name_of_one(tmp_path):
    plant(tmp_path, 20, "A", 0, 8.7)
    plant(tmp_path, 20, "A", 0, 8.9, science={"data.split": "train45k"})
    head, rows = table(tmp_path)
    assert "test or val5k" in head
    assert sum("data.split=train45k" in row for row in rows) == 1


def test_a_line_says_of_a_proxy_that_it_is_one(tmp_path):
    plant(tmp_path, 20, "A", 0, 55.0, scale="demo", science=DEMO)
    (record,) = read_records([tmp_path]).records
    line = Summary("paper").line(record)
    assert "test error 55.00 % (a proxy, scale=demo: not comparable with the paper)" in line
    assert "at its best epoch" in Summary("common").line(record)


def test_a_net_of_a_later_paper_is_told_by_its_label_and_stands_beside_its_paper(tmp_path):
    gated = {"model.gate": "exclusive", "model.gate_bias": -6.0}
    plant(tmp_path, 110, error=6.9)
    plant(tmp_path, 110, error=9.0, science=gated)
    plant(tmp_path, 110, error=60.0, science={"model.shortcut_dropout": 0.5})
    lines = Summary("paper").table(read_records([tmp_path]).records)
    assert "model.gate" not in lines
    (row,) = [line for line in lines.splitlines() if "exclusive gate -6" in line]
    assert row.split()[-2:] == ["8.70", "+0.30"]
    (failing,) = [line for line in lines.splitlines() if "shortcut dropout" in line]
    assert failing.split()[-2:] == ["–", "–"], "the paper says only that it fails"
