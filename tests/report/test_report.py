"""The report page: valid HTML without external files, links between numbers and runs, only values of records."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import shutil
import types
from html.parser import HTMLParser
from typing import Any

import pytest

from repro.cli.main import main
from repro.config.compose import plan
from repro.config.paths import shared_dir
from repro.report.claims.wording import sentence
from repro.report.figures import shown_plots
from repro.report.html.figures import figure_views
from repro.report.html.page import TEMPLATES
from repro.report.html.runs import _started, repeat
from repro.report.render import Evidence, read_evidence
from repro.results.read import read_records
from tests.planted import PROVENANCE, edit, plant, scale_science
from tests.rendered import luminance, plant_some, short_table_1

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
SPITEFUL = "<script>alert(1)</script>\"'&`x`"


class Page(HTMLParser):
    """Collects elements as they open, with attributes and text; reports unbalanced ones."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.opened: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"{element['tag']} is never closed" for element in self.opened]

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", "children": [], **dict(attributes)}
        if self.opened:
            self.opened[-1]["children"].append(tag)
        self.found.append(element)
        if tag not in VOID:
            self.opened.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.opened.pop()

    def handle_endtag(self, tag):
        if not self.opened or self.opened[-1]["tag"] != tag:
            self.faults.append(f"</{tag}> closes {self.opened[-1]['tag'] if self.opened else 'nothing'}")
        else:
            self.opened.pop()

    def handle_data(self, data):
        for element in self.opened:
            element["text"] += data

    def all(self, *tags):
        return [element for element in self.found if element["tag"] in tags]

    def id(self, name):
        (element,) = [element for element in self.found if element.get("id") == name]
        return element


def rendered(results):
    with short_table_1():
        return read_evidence(results).page()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "results"
    plant_some(folder)
    return folder


@pytest.fixture(scope="module")
def html(results):
    return rendered(results)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def part(html, anchor, end):
    start = html.index(f'id="{anchor}"')
    return html[start : html.index(end, start)]


def test_the_page_is_balanced_and_every_link_has_its_target(page):
    assert page.faults == []
    ids = [element["id"] for element in page.found if "id" in element]
    assert len(ids) == len(set(ids))
    targets = [
        e[name][1:] for e in page.found for name in ("href", "xlink:href") if (e.get(name) or "").startswith("#")
    ]
    targets += [name for e in page.found for name in (e.get("aria-labelledby") or "").split()]
    assert targets and set(targets) <= set(ids)


def test_the_page_needs_nothing_from_elsewhere(page, html):
    outside = [e for e in page.found for name in ("src", "srcset", "data") if name in e]
    assert outside == []
    hrefs = [e.get("href") or "" for e in page.all("link", "a")]
    outward = {href for href in hrefs if not href.startswith(("#", "runs/", "figures/", "tables/", "claims"))}
    assert {"data:,", "https://arxiv.org/abs/1512.03385"} <= outward
    assert [href for href in outward if not re.fullmatch(r"data:,|https://arxiv\.org/abs/[\d.]+", href)] == []
    assert [e for e in page.all("link") if e["href"] != "data:,"] == []
    assert not re.search(r"@import|url\((?!#)", html)
    assert all(not e.get("src") for e in page.all("script", "iframe", "img"))


def test_headings_landmarks_and_names_for_who_cannot_see(page):
    levels = [int(e["tag"][1]) for e in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for tag in ("header", "nav", "main", "footer"):
        assert len(page.all(tag)) == 1, tag
    first_link = page.all("a")[0]
    assert first_link["href"] == "#main" and page.id("main")["tag"] == "main"
    assert [e for e in page.all("svg") if e.get("role") != "img" or not e.get("aria-label")] == []
    assert [e for e in page.all("th") if e.get("scope") not in ("col", "row")] == []
    tables = [e for e in page.all("table") if "values" in e.get("class", "")]
    assert len(tables) > 14
    assert [table for table in tables if table["children"][0] != "caption"] == []
    regions = [e for e in page.found if e.get("role") == "region"]
    assert [e for e in regions if not (e.get("aria-label") or e.get("aria-labelledby"))] == []
    assert {e.get("tabindex") for e in regions} == {"0"}


def test_text_has_the_contrast_that_wcag_asks_for_in_light_dark_and_print():
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for text in ("text", "muted", "link", "good", "bad", "open", "training", "evaluated"):
            for ground in ("ground", "raised", "target"):
                light, dark = sorted((luminance(scheme[text]), luminance(scheme[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, scheme)


def test_all_tables_all_figures_and_all_claims_are_there(page):
    ids = {element.get("id") for element in page.found}
    assert {f"table-{number}" for number in range(1, 15)} <= ids
    assert {f"figure-{number}" for number in (1, 4, 6, 7)} <= ids
    assert {"figure-warmup", "figure-gradient_flow", "figure-constructed_solution", "figure-1-demo"} <= ids
    assert len([name for name in ids if name and name.startswith("claim-")]) >= 41


def test_a_number_leads_to_its_runs_and_a_run_back_to_the_row(html, results):
    records = [r for r in read_records([results / "runs"]).records if r.key == "cifar10-resnet20"]
    row = re.search(r'<tr id="(table-6-row-\d+)"><th scope="row">ResNet-20</th>.*?</tr>', html)
    assert row is not None
    for record in records:
        assert f'href="#run-{record.run_id}"' in row[0]
        section = part(html, f"run-{record.run_id}", "</article>")
        assert f'href="#{row[1]}"' in section
        assert 'href="#claim-' in section and 'href="#figure-6"' in section
    mean = re.search(r'<a class="number" href="#(net-[^"]+)">8.70 ± 0.08 \(n=5\)</a>', row[0])
    assert mean is not None
    net = part(html, mean[1], "</section>")
    assert net.count("<article") == 5 and "Everything else follows the recipe" in net


def test_a_single_run_is_where_its_number_leads(html, results):
    (run_id,) = [r.run_id for r in read_records([results / "runs"]).records if r.key == "cifar10-resnet56"]
    assert f'<a class="number" href="#run-{run_id}">7.00 (n=1)</a>' in html


def test_a_run_tells_its_departures_curve_provenance_and_command(html, results):
    record = next(r for r in read_records([results / "runs"]).records if r.scale == "demo")
    run = part(html, f"run-{record.run_id}", "</article>")
    for text in ("NVIDIA H200", "clean tree", "0123456789abcdef", "tf32", record.fingerprint, "81,920 images/s"):
        assert text in run
    assert 'class="training" points="' in run and 'class="evaluated" points="' in run
    assert "80.00" in run and f"runs/{record.run_id}/curve.csv" in run
    net = html[: html.index(f'id="run-{record.run_id}"')].rpartition('<section id="net-')[2]
    assert "not the paper&#39;s budget" in net
    departures = net[net.index("Departs from the recipe") : net.index("All other settings")]
    assert re.search(r"optim\.steps</code></th><td>400</td><td>64000</td>", departures)
    assert "optim.momentum" not in departures and "optim.momentum" in net


def test_a_figure_stands_on_the_page_at_the_papers_and_at_the_largest_reduced_budget(tmp_path):
    for scale in ("smoke", "demo", "tenth"):
        plant(tmp_path, 20, "A", 0, 40.0, scale=scale, science=scale_science(scale))
    shown = {
        view["anchor"]: view["notes"] for view in figure_views(shown_plots(read_records([tmp_path])), pictures=False)
    }
    assert [anchor for anchor in shown if anchor.startswith("figure-6")] == ["figure-6", "figure-6-tenth"]
    others = [note for note in shown["figure-6-tenth"] if "repro figure" in note]
    assert [re.findall(r"`(.+)`", note) for note in others] == [
        ["repro figure 6 --scale demo"],
        ["repro figure 6 --scale smoke"],
    ]


def test_the_command_of_a_run_makes_that_run(results):
    runs = [*read_records([results / "runs"]).records]
    published = plan([]).runs[0].paths.results / "runs"
    runs += read_records([published]).records
    commands = [repeat(record) for record in runs]
    assert len(runs) > 3
    for record, command in zip(runs, commands, strict=True):
        assert command is not None
        (made,) = plan(shlex.split(command)[2:]).runs
        # Runs planted with other settings than scale=demo are named in full.
        assert made.run_id == record.run_id
    assert (
        repeat(next(r for r in runs if r.key == "cifar10-plain20"))
        == "repro run model.depth=20 model.shortcut=none seed=0"
    )


def test_a_scale_that_is_no_longer_there_has_no_command_of_its_own(tmp_path):
    plant(tmp_path, scale="tiny")
    (record,) = read_records([tmp_path]).records
    assert repeat(record) is None


def test_what_a_record_says_is_text_and_never_markup(tmp_path):
    folder = plant(tmp_path / "runs", device=SPITEFUL, command=SPITEFUL, data_digests={SPITEFUL: SPITEFUL})
    edit(folder, "label", value=SPITEFUL)
    refused = tmp_path / "runs" / "<b>refused"
    refused.mkdir()
    (refused / "record.json").write_text("{}", encoding="utf-8")
    html = rendered(tmp_path)
    assert "<script>alert" not in html and "<b>refused" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 4 and "&lt;b&gt;refused" in html
    page = Page(html)
    assert page.faults == [] and len(page.all("script")) == 1


def test_the_same_records_give_the_same_bytes_wherever_they_lie(results, html, tmp_path):
    for folder in sorted((results / "runs").iterdir(), reverse=True):
        shutil.copytree(folder, tmp_path / "elsewhere" / "runs" / folder.name)
    assert rendered(tmp_path / "elsewhere") == html
    assert str(results) not in html


def test_without_records_the_page_says_so(tmp_path):
    html = rendered(tmp_path)
    assert "No run has been published yet" in html
    assert Page(html).faults == []


def test_what_is_refused_or_broken_is_named(tmp_path):
    dirty = plant(tmp_path / "runs", 20, seed=0, dirty=True)
    blind = plant(tmp_path / "runs", 20, seed=1)
    (blind / "curve.csv").unlink()
    html = rendered(tmp_path)
    left_out = part(html, "left-out", "</section>")
    assert dirty.name in left_out and "uncommitted changes" in left_out
    assert "uncommitted changes" in part(html, f"run-{dirty.name}", "</article>")
    assert "No curve: it has no curve.csv" in part(html, f"run-{blind.name}", "</article>")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"started": "T", "resumed_at": None}, "T"),
        ({"started": "T", "resumed_at": 4000}, "T, the last part, from step 4,000"),
        ({"started": "T", "resumed_at": 9, "parts": ({"from_step": 0}, {"from_step": 9})}, "T, in 2 parts"),
        (
            {"started": "T", "resumed_at": 9, "parts": ({"from_step": 9},)},
            "T, from step 9; earlier parts are unknown",
        ),
    ],
)
def test_when_a_run_started_says_in_how_many_parts(told, text):
    assert _started(dataclasses.replace(PROVENANCE, **told)) == text


def test_one_sentence_counts_the_verdicts():
    def claims(*statuses, run_ids=("run",)):
        return [types.SimpleNamespace(status=status, run_ids=run_ids) for status in statuses]

    text = sentence(claims("holds", "fails", "fails", "not run", "not decidable here"))
    assert text == (
        "Of the paper's 5 claims, 1 holds, 2 fail, 1 lacks runs and 1 cannot be decided by runs of this project."
    )
    assert sentence(claims("not run", "not run")) == "Of the paper's 2 claims, none hold, none fail and 2 lack runs."
    counted = claims("holds", run_ids=())
    assert ", 1 holds (all counted on the nets, without training) and none" in sentence(counted)
    assert ", 2 hold (1 counted on the nets, without training) and none" in sentence([*counted, *claims("holds")])


def test_no_id_of_the_published_page_stands_there_twice():
    """Its pictures have ticks that exist only once they are drawn."""
    page = (shared_dir("results") / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) > 1000 and len(ids) == len(set(ids))


def test_ones_own_runs_stand_beside_the_published_ones_and_their_files_are_linked(tmp_path, capsys, monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    whole = Evidence.page
    monkeypatch.setattr(
        Evidence, "page", lambda evidence: whole(evidence, pictures=False)
    )  # which take most of the time
    own = plant(tmp_path / "work", seed=1).name
    published = plant(tmp_path / "results" / "runs", seed=0).name
    words = [f"paths.work={tmp_path / 'work'}", f"paths.results={tmp_path / 'results'}"]
    with short_table_1():
        assert main(["report", "--own", "--open", *words]) == 0
    page = tmp_path / "work" / "report.html"
    assert shown == [page.as_uri()] == capsys.readouterr().out.split()
    links = re.findall(r'href="([^"#:]+)"', page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).is_file()] == []
    assert {"claims.md", "tables/table6.csv", "figures/figure6.csv"} <= set(links)
    linked = re.findall(r"\]\(([^)]+)\)", (page.parent / "claims.md").read_text(encoding="utf-8"))
    assert linked and all((page.parent / link).is_file() for link in linked)
    for name in (own, published):
        assert any(f"{name}/record.json" in link for link in links)
    assert not (tmp_path / "results" / "report.html").exists()
