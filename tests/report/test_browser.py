"""The page in a real Chromium: what a reader sees, clicks and downloads."""

import io
import itertools
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError, sync_playwright

from explorer import Schedule
from explorer.frontier import best_by_budget
from explorer.ledger import Ledger
from explorer.report.compare import write_comparison
from explorer.report.html import render
from explorer.report.page import write_report
from explorer.report.palette import DARK, INK, SURFACE
from explorer.report.payload import PAYLOAD_VERSION, PagePayload
from tests.ledger.test_ledger import make_header, make_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Open a page and wait until it is drawn; at the end, no page may have logged an error."""
    complaints, contexts = [], []

    def open_page(path, *, width=1280, height=800, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(300_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # WebGL without a graphics card warns about its speed.
        page.on("console", lambda message: complaints.append(message.text) if "WebGL" not in message.text else None)
        page.goto(f"file://{path}")
        page.wait_for_selector("body[data-drawn=yes]", timeout=600_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="module")
def report(real_ledger, tmp_path_factory):
    return write_report(real_ledger, tmp_path_factory.mktemp("report"), price=3.6)


def hovered(page, graph, place):
    """The text that appears when the mouse is on a place of a graph. What is still being drawn takes it away again."""
    for _ in range(30):
        x, y = place()
        page.mouse.move(x + 2, y + 1)
        page.mouse.move(x, y)
        with suppress(TimeoutError):
            text = "graph => document.querySelector(`${graph} .hoverlayer`).textContent"
            return page.wait_for_function(text, arg=graph, timeout=2_000).json_value()
    raise AssertionError(f"nothing appears in {graph}")


def frontier(page, expression):
    """The value of a JavaScript expression about the drawn frontier figure, `gd`."""
    return page.evaluate(f"(() => {{ const gd = document.getElementById('frontier'); return {expression}; }})()")


def curve(page, name):
    return frontier(page, f"gd._fullData.filter(t => t.name === {name!r}).map(t => [Array.from(t.x), Array.from(t.y)])[0]")


def choose(page, budget):
    """Move the slider of budgets by keyboard, as a reader would, from its end."""
    page.focus("#budget")
    page.keyboard.press("End")
    while page.inner_text("#chosen") != budget:
        page.keyboard.press("ArrowLeft")


def test_every_figure_is_drawn(opened, report):
    page = opened(report.page)
    assert page.locator(".headline").inner_text() == report.headline
    assert page.evaluate("document.querySelector('#hypervolume svg') === null")  # folded, and drawn when it is opened
    page.click("#section-sweep summary")
    figures = page.locator(".figure")
    assert figures.count() >= 8
    for figure in figures.all():
        if not figure.is_visible():  # no triangle at this budget, which has too few trials
            assert figure.get_attribute("id") == "ternary"
            continue
        figure.scroll_into_view_if_needed()
        figure.locator("svg.main-svg").first.wait_for()
        assert figure.locator("svg.main-svg").count() > 0
        assert figure.bounding_box()["height"] > 100
    page.hover("#frontier")
    toolbar, drawing = (
        page.locator("#frontier .modebar").bounding_box(),
        page.locator("#frontier .main-svg").first.bounding_box(),
    )
    assert toolbar["y"] + toolbar["height"] <= drawing["y"] + 4  # above the figure, where it covers nothing
    image = Image.open(io.BytesIO(page.screenshot())).convert("L")
    assert len(image.getcolors()) > 20
    assert max(share for share, _ in image.getcolors()) < 0.97 * image.width * image.height


def test_the_unit_of_cost_changes_with_its_axis(opened, report, real_trials):
    page = opened(report.page)
    best = best_by_budget(real_trials)
    staged = best[best.kind == "staged"]
    for unit, expected, title in (
        ("fraction", staged.cost, "fraction of full training"),
        ("flops", staged.planned_flops, "counted FLOPs"),
        ("seconds", staged.train_seconds, "device-seconds"),
        ("money", staged.train_seconds / 1000, "device-hours at 3.6"),
    ):
        page.select_option("#unit", unit)
        x, y = curve(page, "staged schedules")
        assert x == pytest.approx(list(expected), rel=1e-5)
        assert y == pytest.approx(list(staged.test_mean))
        assert title in frontier(page, "gd.layout.xaxis.title.text")
    page.select_option("#scale", "linear")
    assert frontier(page, "gd._fullLayout.xaxis.type") == "linear"


def test_the_budget_slider_moves_by_keyboard_and_tells_interpolated_budgets(opened, report, real_trials):
    page = opened(report.page)
    best = best_by_budget(real_trials)
    most_expensive = best[(best.kind == "staged") & (best.budget == "50%")].iloc[0]
    choose(page, "50%")
    assert page.inner_text("#expect-staged") == f"{most_expensive.test_mean:.1%}"
    assert (
        page.inner_text("#interval-staged") == f"95 % interval {most_expensive.test_low:.1%} to {most_expensive.test_high:.1%}"
    )
    assert "mean of 2 fresh seeds" in page.inner_text("#basis")
    page.keyboard.press("ArrowLeft")
    assert 25 < float(page.inner_text("#chosen").rstrip("%")) < 50
    assert "Predicted from 2 trained budgets" in page.inner_text("#basis")
    assert page.inner_text("#interval-staged").startswith("predicted, 95 % interval ")
    assert f"--budget {page.inner_text('#chosen')}" in page.inner_text("#command")
    page.keyboard.press("Home")
    assert page.inner_text("#chosen") == "25%"
    page.keyboard.press("End")
    assert page.inner_text("#chosen") == "100%"
    assert "The schedule is that of 50%" in page.inner_text("#basis")


def test_predictions_are_dashed_named_and_kept_in_the_schedule_file(opened, report, tmp_path):
    page = opened(report.page)
    for kind, name in (("staged", "staged schedules"), ("baseline", "baseline (full model throughout)")):
        x, y = curve(page, f"predicted, {kind}")
        assert frontier(page, f"gd._fullData.find(t => t.name === 'predicted, {kind}').line.dash") == "dash"
        measured_x, measured_y = curve(page, name)
        assert (x[0], y[0]) == pytest.approx((measured_x[-1], measured_y[-1]), rel=1e-5)  # it leads on from the measured curve
        assert x[-1] == pytest.approx(1)
    legend = page.text_content("#frontier .legend")
    assert "predicted, staged" in legend
    assert "predicted, baseline" in legend
    page.locator("#frontier").scroll_into_view_if_needed()
    place = """(() => {
        const l = gd._fullLayout, box = gd.getBoundingClientRect();
        const points = gd._fullData.filter(t => t.marker?.opacity === 0)[0];
        const [x, y] = [l.xaxis.d2p(points.x[6]), l.yaxis.d2p(points.y[6])];
        return [box.left + l.xaxis._offset + x, box.top + l.yaxis._offset + y];
    })()"""
    text = hovered(page, "#frontier", lambda: frontier(page, place))
    assert re.match(r"predicted [\d.]+%", text)
    assert "from 2 trained budgets" in text
    page.mouse.click(*frontier(page, place))  # nothing to show, and no error
    page.select_option("#unit", "flops")
    assert curve(page, "predicted, staged")[0][-1] == pytest.approx(curve(page, "predicted, baseline")[0][-1], rel=1e-5)
    assert page.locator("#section-budgets tr", has_text="staged, predicted").count() >= 1
    page.focus("#budget")
    page.keyboard.press("End")
    with page.expect_download() as downloading:
        page.click("#download")
    path = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(path)
    prediction = Schedule.load(path).provenance.prediction
    assert str(prediction.budget) == "100%"
    shown = "baseline" if "baseline" in page.inner_text("#schedule-name") else "staged"
    assert f"{prediction.test:.1%}" == page.inner_text(f"#expect-{shown}")
    low, high = prediction.interval
    assert page.inner_text(f"#interval-{shown}") == f"predicted, 95 % interval {low:.1%} to {high:.1%}"


def test_the_schedule_is_downloaded_and_loads(opened, report, tmp_path):
    page = opened(report.page)
    choose(page, "50%")
    with page.expect_download() as downloading:
        page.click("#download")
    path = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(path)
    assert Schedule.load(path) == Schedule.load(report.schedules["50%"])
    assert f"explorer train --schedule {path.name} --task tiny.yaml --budget 50%" in page.inner_text("#command")
    with page.expect_download() as downloading:
        page.click("#download-space")
    assert downloading.value.suggested_filename == "tiny.yaml"


def test_a_click_on_a_point_shows_its_schedule(opened, report):
    page = opened(report.page)
    trace = frontier(page, "gd.data.findIndex(t => t.name === 'baseline (full model throughout)')")
    # The point that is farthest from those of other traces, which might be hovered in its place.
    index, *place = frontier(
        page,
        f"""(() => {{
            const l = gd._fullLayout, box = gd.getBoundingClientRect();
            const at = t => Array.from(t.x, (x, i) => [l.xaxis.d2p(x), l.yaxis.d2p(t.y[i])]);
            const others = gd._fullData.filter((t, n) => n !== {trace} && t.customdata).flatMap(at);
            const room = p => Math.min(...others.map(o => Math.hypot(o[0] - p[0], o[1] - p[1])));
            const points = at(gd._fullData[{trace}]);
            const best = points.map(room).reduce((b, r, i, all) => r > all[b] ? i : b, 0);
            return [best, box.left + l.xaxis._offset + points[best][0], box.top + l.yaxis._offset + points[best][1]];
        }})()""",
    )
    candidate = frontier(page, f"gd.data[{trace}].customdata[{index}][0]")
    budget = candidate.split("pct")[0]
    assert candidate not in page.inner_text("#schedule-name")
    assert "learning rate" in hovered(page, "#frontier", lambda: place)
    page.mouse.click(*place)
    assert page.inner_text("#schedule-name") == f"{candidate}: baseline, the full model throughout"
    assert page.inner_text("#chosen") == f"{budget}%"
    assert page.locator("#stage-rows tr").count() == 1


def test_text_of_a_ledger_is_text(opened, tmp_path):
    hostile = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header().model_copy(update={"git_commit": hostile, "hardware": hostile}))
    ledger.append(make_record("good", device=hostile, worker=hostile))
    ledger.append(make_record("other", worker="another host", finished=3.0))
    ledger.append(
        make_record("bad", status="failed", outcome=None, reason=f"RuntimeError: {hostile}", started=5.0, finished=9.0)
    )
    page = opened(write_report(ledger, tmp_path / "out").page)
    assert hostile in page.inner_text("main")
    page.click("#section-sweep summary")
    bar = page.locator("#workers .barlayer .point path").last
    bar.scroll_into_view_if_needed()

    def middle():
        box = bar.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    assert "<script>" in hovered(page, "#workers", middle)
    assert page.evaluate("window.hacked") is None


def test_two_sweeps_in_one_page(opened, real_ledger, large_ledger, tmp_path):
    page = opened(write_comparison([real_ledger, large_ledger], tmp_path))
    names = frontier(page, "gd.data.filter(t => t.showlegend !== false).map(t => t.name)")
    curves = {
        f"{sweep}: {kind}" for sweep in ("tiny", "large") for kind in ("staged schedules", "baseline (full model throughout)")
    }
    assert set(names) == {*curves, "tiny: predicted, staged", "tiny: predicted, baseline"}  # the large one was trained to 100 %
    assert page.input_value("#unit") == "flops"  # their full trainings do not cost the same
    assert page.locator("table").first.locator("tbody tr").count() == 2
    page.select_option("#unit", "fraction")
    assert "each sweep's own full training" in frontier(page, "gd.layout.xaxis.title.text")


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.nightly), "dark"])
def test_light_and_dark(opened, report, scheme):
    page = opened(report.page, color_scheme=scheme)
    surface, ink = (SURFACE, INK) if scheme == "light" else (DARK[SURFACE], DARK[INK])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == rgb(surface)
    assert frontier(page, "gd._fullLayout.paper_bgcolor") == surface
    assert frontier(page, "gd._fullLayout.font.color") == ink
    # Darker is more of the model on both pages.
    colors = page.evaluate("[...document.querySelectorAll('#timeline .point path')].map(e => getComputedStyle(e).fill)")
    rates = page.evaluate("document.getElementById('timeline').data[0].customdata.map(([start, end, rate]) => rate)")
    by_rate = sorted(zip(rates, (brightness(color) for color in colors), strict=True))
    assert all(more <= less for (_, less), (_, more) in itertools.pairwise(by_rate))
    assert by_rate[0][1] > by_rate[-1][1] + 50
    corner = Image.open(io.BytesIO(page.screenshot())).convert("RGB").getpixel((5, 5))
    assert corner == tuple(bytes.fromhex(surface[1:]))


def brightness(color):
    """Mean of red, green and blue of `rgb(1, 2, 3)`."""
    return sum(map(int, color.removeprefix("rgb(").rstrip(")").split(","))) / 3


def rgb(color):
    red, green, blue = bytes.fromhex(color[1:])
    return f"rgb({red}, {green}, {blue})"


def test_on_a_phone_nothing_is_wider_than_the_screen(opened, report):
    page = opened(report.page, width=390, height=844, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#frontier").bounding_box()["width"] > 330
    page.click("#section-sweep summary")
    page.locator("#parallel").scroll_into_view_if_needed()
    page.locator("#parallel svg.main-svg").first.wait_for()
    # Tables, the command line aside, and parallel coordinates fit: nothing scrolls sideways.
    wider = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(wider) == 0


@pytest.mark.nightly
def test_a_thousand_trials(opened, large_ledger, tmp_path):
    page_file = write_report(large_ledger, tmp_path).page
    assert page_file.stat().st_size < 5_000_000
    page = opened(page_file)
    points = frontier(
        page, "gd.data.filter(t => t.name && t.name.startsWith('single runs')).reduce((n, t) => n + t.x.length, 0)"
    )
    assert points == 1000
    assert page.locator("#ternary svg.main-svg").count() > 0


def test_a_payload_of_another_version_is_refused(chromium, tmp_path):
    payload = PagePayload(name="tiny", units=(), figures=(), version=PAYLOAD_VERSION + 1)
    path = tmp_path / "index.html"
    path.write_text(render("layout.html", payload, name="tiny"))
    page = chromium.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#other-version:not([hidden])", timeout=300_000)
    assert "another version" in page.inner_text("main")
    page.close()


@contextmanager
def watched(ledger, out):
    command = [sys.executable, "-m", "explorer", "report", ledger.location, "--out", str(out), "--watch", "--every", "1"]
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    default_sigint = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **default_sigint)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.nightly
def test_a_watched_page_follows_its_sweep_and_keeps_what_the_reader_chose(opened, copied, tmp_path):
    records = copied.records()
    with watched(copied, tmp_path / "out") as process:
        assert f"{len(records)} trials" in process.stdout.readline()
        page = opened(tmp_path / "out" / "index.html")
        page.select_option("#unit", "flops")
        new = records[0].trial.model_copy(update={"id": "25pct-staged-999"})
        copied.append(records[0].model_copy(update={"trial": new, "finished": records[-1].finished + 1}))
        page.wait_for_function(f"document.body.innerText.includes('{len(records) + 1} trials')", timeout=300_000)
        page.wait_for_selector("body[data-drawn=yes]", timeout=600_000)
        assert page.input_value("#unit") == "flops"
        assert "counted FLOPs" in frontier(page, "gd.layout.xaxis.title.text")
        page.wait_for_function("window.explorerUpdated !== undefined", timeout=300_000)  # it has checked
        process.send_signal(signal.SIGINT)
        process.wait(timeout=300)
        page.wait_for_function("window.explorerUpdated === undefined", timeout=300_000)  # the last page does not check
        page.wait_for_selector("body[data-drawn=yes]", timeout=600_000)


def test_a_chosen_budget_stays_where_a_newer_page_has_more(opened, tmp_path):
    """At 50 %, which was the first of two budgets and is the third of four then."""
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())

    def add(*budgets):
        for budget in budgets:
            accuracy = float(budget.rstrip("%")) / 200
            ledger.append(make_record(f"{budget}-staged", budget=budget, validation=accuracy, test=accuracy))

    add("50%", "100%")
    page = opened(write_report(ledger, tmp_path / "out").page)
    choose(page, "50%")
    add("10%", "25%")
    write_report(ledger, tmp_path / "out")
    page.reload()
    page.wait_for_selector("body[data-drawn=yes]", timeout=600_000)
    assert page.inner_text("#chosen") == "50%"


def test_the_command_is_copied_or_selected_where_a_page_has_no_clipboard(opened, report):
    page = opened(report.page)
    command = page.inner_text("#command")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over plain http
    page.click("#copy")
    assert page.evaluate("getSelection().toString()") == command


def test_ticks_of_close_accuracies_differ(opened, tmp_path):
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    for budget, accuracy in (("10%", 0.981), ("25%", 0.984), ("100%", 0.989)):
        ledger.append(make_record(budget, budget=budget, validation=accuracy, test=accuracy))
    page = opened(write_report(ledger, tmp_path / "out").page)
    ticks = page.evaluate("[...document.querySelectorAll('#frontier .ytick text')].map((each) => each.textContent)")
    assert len(ticks) == len(set(ticks)) > 2
