"""The report in use: contents, dates and links, dark figures, values of curves, the short version for print."""

from __future__ import annotations

import html as markup
import json
import re

import pytest

from repro.report.figures import inline_svg, picture, plot, shown_plots
from repro.report.figures.style import COLOURS, DARK, SPARE
from repro.report.html.charts import chart
from repro.report.html.figures import figure_views
from repro.report.html.page import PRINTED, TEMPLATES, commits, main_figure, newest, page
from repro.report.render import read_evidence
from repro.results.read import read_curve, read_records
from tests.planted import DEMO, edit, plant
from tests.planted_figures import plant_responses
from tests.rendered import found, luminance, plant_some, short_table_1

STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "results"
    plant_some(folder)
    return folder


@pytest.fixture(scope="module")
def html(results):
    with short_table_1():
        return read_evidence(results).page()


def svg_of(name, root, scale="paper", columns=None):
    return inline_svg(picture(plot(name, read_records([root]), scale), columns, show_notes=False), "figure", "label")


def panels_of(svg):
    return json.loads(markup.unescape(found(r'data-panels="([^"]*)"', svg)[1]))


def values_of(panel, pairs):
    """Return x and y of points in the picture, as the script of the page computes them."""
    left, top, right, bottom = panel["box"]
    (x_low, x_high), (y_low, y_high) = panel["x"], panel["y"]
    return [
        (
            x_low + (x - left) / (right - left) * (x_high - x_low),
            y_low + (bottom - y) / (bottom - top) * (y_high - y_low),
        )
        for x, y in pairs
    ]


# --- contents, date, links ---


def test_the_contents_lead_to_every_section_and_stay_in_view(html):
    nav = found(r"<nav.*?</nav>", html)[0]
    linked = re.findall(r'href="#([^"]+)"', nav)
    sections = re.findall(r'<section id="([^"]+)"', html)
    wanted = [
        name for name in sections if not name.startswith("net-") and not re.match(r"figure-.*-(tenth|demo)$", name)
    ]
    assert linked == wanted and {"verdicts", "table-6", "figure-7", "runs"} <= set(linked)
    assert re.search(r"^nav \{[^}]*position: sticky", STYLE, re.MULTILINE)
    assert re.search(r'<div id="filter" role="search" hidden>', nav), "without the script there is no filter"


def test_the_page_has_the_date_and_the_commit_of_its_newest_record(tmp_path):
    for seed, finished in enumerate(
        ("2026-02-01T08:00:00+00:00", "2026-03-01T08:00:00+00:00", "2026-01-01T00:00:00+00:00")
    ):
        folder = plant(tmp_path / "runs", seed=seed)
        edit(folder, "provenance", "finished", value=finished)
        edit(folder, "provenance", "commit", value=f"{seed}" * 40)
    evidence = read_evidence(tmp_path)
    assert getattr(newest(evidence.reading), "seed", None) == 1
    with short_table_1():
        header = found(r"<header>.*?</header>", evidence.page(pictures=False))[0]
    assert '<time datetime="2026-03-01T08:00:00+00:00">2026-03-01</time>' in header and "1" * 40 in header
    assert re.search(r'href="#run-cifar10-resnet20-s1-\w+"', header)


def test_commits_link_to_the_repository_if_there_is_one():
    commit = "0123456789abcdef0123456789abcdef01234567"
    text = f"<b> {commit}, clean tree"
    linked = commits("https://example.org/repro", text)
    assert f'<a href="https://example.org/repro/commit/{commit}">{commit}</a>, clean tree' in linked
    assert commits("", text) == f"&lt;b&gt; {commit}, clean tree"
    assert "<a" not in commits("https://example.org/repro", 64 * "0"), "a digest is no commit"


def test_every_table_and_figure_links_to_its_files(html, results):
    for number in range(1, 15):
        for form in ("csv", "md", "tex"):
            assert f'href="tables/table{number}.{form}"' in html
    assert 'href="figures/figure6.csv"' in html and 'href="claims.md"' in html


def test_a_repository_is_a_part_of_the_page(results):
    evidence = read_evidence(results)
    made = page(evidence.reading, evidence.check, [], [], False, "https://example.org/repro")
    assert made.count("https://example.org/repro/commit/") == len(evidence.reading.records) + 1


# --- figures: values, nets, colours, no run ids ---


def test_a_figure_tells_the_script_where_each_line_is_drawn(tmp_path):
    for seed in range(2):
        plant(tmp_path, 20, "none", seed, 9.0 + seed)
    plant(tmp_path, 56, "none", 0, 8.0)
    svg = svg_of(6, tmp_path)
    first = panels_of(svg)[0]
    assert [(series["net"], series["line"], len(series["ids"])) for series in first["series"]] == [
        ("plain-20", "training error", 2),  # a line and the band of its seeds
        ("plain-20", "test error", 2),
        ("plain-56", "training error", 1),
        ("plain-56", "test error", 1),
    ]
    assert all(f'<g id="{name}">' in svg for series in first["series"] for name in series["ids"])
    points = plot(6, read_records([tmp_path])).panels[0].series[1].points["mean"]
    path = found(rf'<g id="{first["series"][1]["ids"][0]}">\s*<path d="([^"]*)"', svg)[1]
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    drawn = values_of(first, zip(numbers[::2], numbers[1::2], strict=True))
    shown = [(x, y) for x, y in points.items() if y < 20]
    assert len(shown) > 5
    for x, y in shown:
        nearest = min(drawn, key=lambda point: abs(point[0] - x))
        assert nearest == (pytest.approx(x, abs=1e-4), pytest.approx(y, abs=1e-3))


def test_the_curve_of_a_run_keeps_its_steps_and_errors_in_its_points(tmp_path):
    record = read_records([plant(tmp_path).parent]).records[0]
    curve = read_curve(record)
    drawn = chart(curve, "run-x", "test")
    (panel,) = json.loads(drawn["panels"])
    assert [series["ids"] for series in panel["series"]] == [["run-x-training"], ["run-x-evaluated"]]
    assert [series["line"] for series in panel["series"]] == ["training error", "test error"]
    pairs = [tuple(map(float, pair.split(","))) for pair in drawn["points"]["evaluated"].split()]
    values = [(round(x), round(y, 2)) for x, y in values_of(panel, pairs)]
    assert values == [(step, round(error, 2)) for step, error in zip(curve["step"], curve["eval_error"], strict=True)]


def test_figures_take_their_colours_from_the_scheme_of_the_page(tmp_path, html):
    plant(tmp_path, 20, "none")
    plant(tmp_path, 110, "A")
    svg = svg_of(6, tmp_path)
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) == set(), "every colour has one for dark mode"
    used = set(re.findall(r"var\(--fig-(\w+)\)", svg))
    assert {"000000", "ffffff", "0072b2"} <= used
    for scheme in re.findall(r":root \{ (--fig-[^}]*)\}", html):
        assert used <= set(re.findall(r"--fig-(\w+):", scheme))
    assert len(re.findall(r":root \{ --fig-", html)) == 2


def test_colours_of_figures_stand_out_in_dark_mode_and_differ():
    curves = {colour.lower() for colour in (*COLOURS.values(), *SPARE)}
    assert len({DARK[colour] for colour in curves}) == len(curves)
    ground = luminance(DARK["#ffffff"])
    assert DARK["#ffffff"] in STYLE, "the ground of the page"
    for colour in curves | {"#333333", "#444444", "#767676"}:
        assert (luminance(DARK[colour]) + 0.05) / (ground + 0.05) >= 4.5, colour


def test_pictures_count_runs_and_never_name_them(tmp_path):
    plant(tmp_path, 20, "none", 0)
    for seed in (1, 2):
        plant(tmp_path, 20, "none", seed, dirty=True)
    shown = plot(1, read_records([tmp_path]))
    assert any("-s1-" in note and "-s2-" in note for note in shown.notes)
    drawn = picture(shown)
    (notes,) = [text.get_text() for text in drawn.texts if "uncommitted" in text.get_text()]
    assert "2 runs" in notes and not re.search(r"-s\d-", notes)
    assert "uncommitted" not in svg_of(1, tmp_path), "the page has them below"


def test_figures_of_curves_say_why_training_errors_can_be_above_test_errors(tmp_path):
    plant_responses(tmp_path, 20, "A")
    plant(tmp_path, 20, "A", scale="demo", science=DEMO)
    views = {view["anchor"]: view for view in figure_views(shown_plots(read_records([tmp_path])), pictures=False)}
    told = {name for name, view in views.items() if any("augmented" in note for note in view["notes"])}
    assert {"figure-6", "figure-6-demo"} <= told and not told & {"figure-1", "figure-7"}


# --- the first picture and table ---


def test_the_page_begins_with_plain_and_residual_nets_at_the_largest_published_budget(tmp_path):
    for shortcut in ("none", "A"):
        plant(tmp_path, 20, shortcut, scale="demo", science=DEMO)
    evidence = read_evidence(tmp_path.parent)
    plots = shown_plots(read_records([tmp_path]))
    made = page(read_records([tmp_path]), evidence.check, [], plots, False)
    first = found(r'<main id="main">\s*<section id="(\w+)"', made)
    result = found(r'<section id="result".*?</table>\s*</div>\s*</section>', made)[0]
    assert first[1] == "result" and 'id="figure-6-demo"' in result
    assert re.findall(r'<th scope="row">((?:plain|ResNet)-20)</th><td>269,722</td>', result) == [
        "plain-20",
        "ResNet-20",
    ]
    for shortcut, anchor in (("A", "figure-6-demo"), ("none", "figure-6")):
        plant(tmp_path, 20, shortcut)
        chosen = main_figure(figure_views(shown_plots(read_records([tmp_path])), pictures=False))
        assert chosen is not None and chosen["anchor"] == anchor


# --- print ---


def test_the_short_version_for_print_has_verdicts_table_6_and_three_figures(html):
    assert PRINTED == {"tables": (6,), "figures": (1, 6, 7)}
    short = re.findall(r'<section id="([^"]+)" class="[^"]*\bshort\b', html)
    figures = [name for name in re.findall(r'<section id="(figure-[^"]+)"', html) if re.match(r"figure-[167]\b", name)]
    main, *others = figures
    assert short == ["result", main, "verdicts", "tables", "table-6", "figures", *others]
    rules = STYLE[STYLE.index("@media print") :]
    assert re.search(
        r"main > section:not\(\.short\), section\.short > \.block:not\(\.short\) \{ display: none; \}", rules
    )
