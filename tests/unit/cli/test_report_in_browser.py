"""The page of a report as a browser shows it: `nox -s browser`."""

import shutil

import pytest
from report_runs import a_history, write_run
from sweeps import descent, made

from keras_patterns.cli import main

pytestmark = [pytest.mark.once, pytest.mark.browser]

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
EVIL = '</script><script>document.title = "stolen"</script><img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no Chromium: apt-get install chromium-headless-shell")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_report(browser, tmp_path, monkeypatch):
    """Writes the report of folders and opens it; whatever the page complains of or asks for
    elsewhere fails the test.
    """
    monkeypatch.chdir(tmp_path)
    contexts, complaints = [], []

    def open_(*folders, out="report.html", **options):
        assert main(["report", *folders, "-o", out]) == 0
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        requests = []
        page.goto((tmp_path / out).as_uri())
        assert page.evaluate("document.documentElement.dataset.drawn") is not None
        assert requests == [(tmp_path / out).as_uri()]
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def hover(page, share=0.5, chart=0):
    page.locator(".u-over").nth(chart).scroll_into_view_if_needed()
    box = page.locator(".u-over").nth(chart).bounding_box()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    return page.locator(".tip").nth(chart)


def painted(page, chart=0):
    """How many pixels of a chart have a color."""
    script = """index => {
        const canvas = document.querySelectorAll("canvas")[index];
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return data.filter((value, i) => i % 4 === 3 && value > 0).length;
    }"""
    return page.evaluate(script, chart)


def scale_of(page, chart=0):
    """The steps that a chart shows, as its axis has them: read by the cursor at both ends."""
    ends = []
    for share in (0.001, 0.999):
        ends.append(hover(page, share, chart).locator("b").inner_text())
    return [int(end.removeprefix("step ").replace(",", "")) for end in ends]


def test_it_is_drawn_and_hover_shows_the_values(tmp_path, open_report):
    write_run(tmp_path / "run")
    page = open_report("run")
    assert page.evaluate("document.documentElement.dataset.drawn") == "3"
    assert all(painted(page, index) > 2_000 for index in range(3))
    tip = hover(page)
    assert tip.is_visible()
    said = tip.inner_text()
    history = a_history()
    assert "step 50" in said
    assert f"{history['history']['loss'][4]:.5g}" in said
    assert f"{history['history']['val_loss'][4]:.5g}" in said


def test_hover_near_a_mark_says_what_happened(tmp_path, open_report):
    write_run(tmp_path / "run")
    tip = hover(open_report("run"), 0.25)
    assert "rolled back at step 25: the loss is not finite" in tip.inner_text()


def test_zoom_holds_for_all_charts_of_steps_and_goes_back(tmp_path, open_report):
    write_run(tmp_path / "run")
    page = open_report("run")
    whole = scale_of(page, 1)
    page.locator(".u-over").first.scroll_into_view_if_needed()
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    for chart in range(3):
        low, high = scale_of(page, chart)
        assert low >= 35
        assert high <= 65
    page.locator("button", has_text="reset zoom").nth(2).click()
    assert scale_of(page, 1) == whole


def test_a_logarithmic_axis_and_a_hidden_series_outlast_a_reload(tmp_path, open_report):
    write_run(tmp_path / "run")
    page = open_report("run")
    before = painted(page)
    button = page.locator("button", has_text="log").first
    button.click()
    page.locator(".u-legend .u-series").nth(2).click()
    page.reload()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".u-legend .u-series").nth(2).get_attribute("class").endswith("u-off")
    assert painted(page) != before


def test_a_planted_script_does_nothing(tmp_path, open_report):
    history = a_history()
    history["history"][EVIL] = [1.0] * 10
    history["events"] = [{"kind": EVIL, "step": 50, "text": EVIL}]
    write_run(tmp_path / "run", history=history, callbacks={EVIL: {"a": EVIL}})
    page = open_report("run")
    assert page.title() == "run"
    assert page.locator("img").count() == 0
    assert EVIL in hover(page).inner_text()
    assert page.title() == "run"


def test_a_script_that_is_not_its_own_is_refused(tmp_path, browser, monkeypatch):
    """What escaping might have missed: the control of the policy."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    assert main(["report", "run"]) == 0
    path = tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<main", f"{EVIL.removeprefix('</script>')}<main", 1))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.title() == "run"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(tmp_path, open_report, scheme):
    write_run(tmp_path / "run")
    page = open_report("run", color_scheme=scheme)
    red, *_ = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red > 200) == (scheme == "light")
    page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    assert painted(page) > 2_000


@pytest.mark.parametrize("width", [360, 1240])
def test_no_page_is_wider_than_the_screen(tmp_path, open_report, width):
    write_run(tmp_path / "run")
    made(descent()).save(tmp_path / "run")
    write_run(tmp_path / "other")
    page = open_report("run", "other", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert painted(page) > 1_000
    assert hover(page).is_visible()


def test_without_scripts_all_but_the_curves_is_there(tmp_path, open_report, browser):
    write_run(tmp_path / "run")
    open_report("run")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    words = page.locator("body").inner_text()
    assert "The curves need JavaScript" in words
    assert "the loss is not finite" in words
    context.close()


def test_a_page_that_is_watched_reloads_itself(tmp_path, browser, monkeypatch):
    from keras_patterns.cli.reporting.page import make_page
    from keras_patterns.cli.reporting.reading import read_folder_facts

    write_run(tmp_path / "run", steps=50, total_steps=100)
    out = tmp_path / "report.html"
    out.write_text(make_page([read_folder_facts(str(tmp_path / "run"))], 0.3), encoding="utf-8")
    page = browser.new_page()
    page.goto(out.as_uri())
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run", steps=80, total_steps=100)
    out.write_text(make_page([read_folder_facts(str(tmp_path / "run"))]), encoding="utf-8")
    page.locator("dd", has_text="80of 100").wait_for()
    page.close()
