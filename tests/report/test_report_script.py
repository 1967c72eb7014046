"""The script of the report in a browser: filter, values below the pointer, nets switched off, the current section."""

from __future__ import annotations

import html as markup
import json
import shutil
import subprocess

import pytest

from repro.report.figures import plot
from repro.report.html.page import page
from repro.report.render import read_evidence
from repro.results.read import read_curve, read_records
from tests.rendered import found, plant_some, short_table_1

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium at hand")

RUNNER = """<script>
const all = selector => Array.from(document.querySelectorAll(selector));
const visible = selector => all(selector).filter(part => part.checkVisibility()).map(part => part.id);
function type(text) {
  const input = document.querySelector("#filter input");
  input.value = text;
  input.dispatchEvent(new Event("input"));
  return { claims: visible(".claims > li"), rows: visible(".values:not(.data) tbody tr"), runs: visible(".run"),
    blocks: visible("#tables > .block"), told: document.querySelector("#filter output").textContent };
}
function at(svg, x, y) {
  const place = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  svg.dispatchEvent(new PointerEvent("pointermove", { clientX: place.x, clientY: place.y }));
  const tip = document.querySelector(".tip");
  return tip.hidden ? null : Array.from(tip.children).map(row => row.textContent);
}
addEventListener("load", async () => {
  const found = await (async () => { BODY })();
  const shown = document.body.appendChild(document.createElement("pre"));
  shown.id = "found";
  shown.textContent = JSON.stringify(found);
});
</script>"""
"""Shows as JSON in the page what BODY returns."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script") / "results"
    plant_some(folder)
    return folder


@pytest.fixture(scope="module")
def html(results):
    """A page with two tables and one figure, which is quick to make."""
    evidence = read_evidence(results)
    with short_table_1():
        tables = [evidence.tables[number] for number in (2, 6)]
    return page(evidence.reading, evidence.check, tables, [plot(6, evidence.reading)])


@pytest.fixture
def run(html, tmp_path):
    """Return a function that runs a script in the page and returns what it returns."""

    def run(body, *options):
        file = tmp_path / "page.html"
        file.write_text(html.replace("</body>", RUNNER.replace("BODY", body) + "</body>"), encoding="utf-8")
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", *options]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        return json.loads(markup.unescape(found(r'<pre id="found">(.*?)</pre>', told)[1]))

    return run


def test_the_filter_shows_matching_claims_rows_and_runs_and_puts_all_back(run, results):
    before, hits, none, after = run(
        "return [type(''), type('plain-20  PLAIN20-S3'), type('nothing-like-this'), type('')];",
    )
    records = read_records([results / "runs"]).records
    assert len(before["runs"]) == len(records) and len(before["blocks"]) == 2
    assert [name for name in hits["runs"] if "plain20-s3" not in name] == []
    assert len(hits["runs"]) == 1 and "1 run" in hits["told"] and hits["blocks"] == []
    assert (none["claims"], none["rows"], none["runs"], none["blocks"]) == ([], [], [], [])
    assert {**after, "told": ""} == {**before, "told": ""}


def test_the_filter_opens_lists_with_matches_and_closes_them_again(run):
    before, hits, after = run("return ['', 'degradation_cifar', ''].map(text => type(text).claims);")
    assert "claim-degradation_cifar" in hits and all("degradation_cifar" in name for name in hits[:1])
    assert before == after and len(before) > len(hits)


def test_a_figure_shows_the_values_below_the_pointer_and_can_hide_a_net(run, results):
    rows, off, hidden, shown = run("""
        const figure = document.querySelector("#figure-6 figure"), svg = figure.querySelector("svg");
        const panel = svg.panels()[1], series = panel.series.find(one => one.line === "test error");
        const [x, y] = series.points[series.points.length - 2];
        const button = all("#figure-6 .switches button").find(one => one.textContent === "ResNet-20");
        const hide = () => series.ids.map(id => getComputedStyle(document.getElementById(id)).display);
        const rows = at(svg, x, y);
        button.click();
        const off = at(svg, x, y), hidden = hide();
        button.click();
        return [rows, off, hidden, hide()];
    """)
    records = [r for r in read_records([results / "runs"]).records if r.label == "ResNet-20"]
    curves = [read_curve(record).iloc[-2] for record in records]
    error = sum(curve["eval_error"] for curve in curves) / len(curves)
    assert float(rows[0].split()[-1]) == pytest.approx(curves[0]["step"] / 1e4, rel=1e-3)
    ours = [row for row in rows if row.startswith("ResNet-20, test error ")]
    assert len(ours) == 1 and float(ours[0].split()[-1]) == pytest.approx(error, rel=6e-4)
    assert not any("ResNet-20" in row for row in off or [])
    assert set(hidden) == {"none"} and "none" not in shown


def test_the_curve_of_a_run_shows_step_and_errors(run, results):
    record = next(r for r in read_records([results / "runs"]).records if r.scale == "demo")
    curve = read_curve(record).iloc[-1]
    rows = run(f"""
        const svg = document.querySelector('#run-{record.run_id} .curve svg');
        return at(svg, 349, 60);
    """)
    assert rows[0] == f"step {curve['step']:.0f}"
    values = {row.rsplit(" ", 1)[0]: float(row.rsplit(" ", 1)[1]) for row in rows[1:]}
    assert values["test error"] == pytest.approx(curve["eval_error"], rel=6e-4)
    assert values["training error"] == pytest.approx(curve["train_error"], rel=6e-4)


@pytest.mark.parametrize("size", ["1280,900", "390,844"])
def test_the_current_section_is_marked_in_the_contents_which_stay(run, size):
    marked, top = run(
        """
        scrollTo(0, document.getElementById("table-6").getBoundingClientRect().top);
        const marked = () => all("nav [aria-current]").map(link => link.hash);
        // The page marks in its next frame, which a busy machine draws late.
        for (let tries = 0; tries < 200 && !marked().includes("#table-6"); tries++)
          await new Promise(done => setTimeout(done, 20));
        return [marked(), document.querySelector("nav").getBoundingClientRect().top];
        """,
        f"--window-size={size}",
    )
    assert marked == ["#tables", "#table-6"]
    assert 0 <= top <= 20
