"""The script of the page in a browser: tables sort and filter, methods switch off, sections fold; and without it."""

import base64
import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import test_reports_images
import test_reports_movies
from PIL import Image

from cryosip.reports import output, page
from cryosip.reports.style import STYLES, newcomer

VALUES = ("1,234", "—", "3.1<small>[2, 4]</small>", "1.2e-04", "not reached", "−2", "12.5 †", "0 of 9", "", "3.1",
          "1e3", "0.05 to 7", "27", "8")  # fmt: skip
RISING = ["−2", "0 of 9", "1.2e-04", "0.05 to 7", "3.1[2, 4]", "3.1", "8", "12.5 †", "27", "1e3", "1,234"]
FALLING = ["1,234", "1e3", "27", "12.5 †", "8", "3.1[2, 4]", "3.1", "0.05 to 7", "1.2e-04", "0 of 9", "−2"]
NONE = ["—", "not reached", ""]
HEAD = "<thead><tr><th></th><th>Name</th><th>Value</th></tr></thead>"
LONG = "".join(f"<tr><th>{i}</th><td>K={20 - i}</td><td>{value}</td></tr>" for i, value in enumerate(VALUES))
PART = '<tr class="part"><th colspan="3">{}</th></tr>' + "".join(
    f"<tr><th></th><td>row {i}</td><td>{9 - i}</td></tr>" for i in range(5)
)
BODY = f"""<nav><a href="#target">second</a></nav><main>
<section><h2>First</h2><div class="wide"><table id="long">{HEAD}<tbody>{LONG}</tbody></table></div></section>
<section id="second"><h2>Second</h2><p id="target">here</p>
<table id="parts" class="paper">{HEAD}<tbody>{PART.format("a")}{PART.format("b")}</tbody>
<tbody>{PART.format("c")}</tbody></table>
<table id="spans">{HEAD}<tbody>{LONG.replace("<th>0<", '<th rowspan="1">0<')}</tbody></table>
<table id="short">{HEAD}<tbody>{LONG[: LONG.index("<tr><th>3<")]}</tbody></table></section></main>"""
VISIBLE = (
    "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility({visibilityProperty: true}))"
)
ESCAPE = "\ue00c"
CONTROLS = ".tool, main button"


@pytest.fixture
def opened(browser):
    """Opens a page that has nothing to complain of; what a test asks of the browser ends with it."""

    def get(file: Path):
        browser.get_log("browser")
        browser.get(file.as_uri())
        assert browser.get_log("browser") == []
        return browser

    yield get
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.fixture
def tables(tmp_path) -> Path:
    """A page of tables."""
    text = '{% extends "base.html" %}{% block body %}{{ body | svg }}{% endblock %}'
    (tmp_path / "tables.html").write_text(output.environment().from_string(text).render(body=BODY), encoding="utf-8")
    return tmp_path / "tables.html"


@pytest.fixture(scope="module")
def report(write_into, tmp_path_factory) -> Path:
    """A report with lines, a movie, clouds as pictures, and a method that it does not know."""
    folder = tmp_path_factory.mktemp("report")
    write = partial(write_into, folder / "results")
    for discrepancy in ("energy", "kl"):
        way = {"step": [0, 100, 25_000], "seconds": [0.0, 1.0, 9.0], "w2": [1.6, 0.5, 0.2]}
        test_reports_movies.put(write, test_reports_movies.way(1), discrepancy, curve=way)
    for k in range(2, 16):
        write(method="mixture", setting=f"K={k}", options={"n_components": k}, metrics={"w2": 0.5 / k})
    write(method="mine", setting="only", metrics={"w2": 0.1})
    test_reports_images.put(write, "paper-nanocluster", "flow", "published", 0)
    test_reports_images.put(write, "paper-nanocluster", "maximum-likelihood", "per image", 0)
    return page.build(folder / "results", folder / "report")


def visible(browser, selector: str) -> int:
    """How many of the elements are seen."""
    return len(browser.execute_script(VISIBLE, selector))


def column(browser, table: str, at: int = 3) -> list[str]:
    """What the visible cells of a column say, in order."""
    cells = browser.execute_script(VISIBLE, f"#{table} tbody tr > :nth-child({at})")
    return [cell.get_property("textContent") for cell in cells]


def find(browser, selector: str):
    return browser.find_element("css selector", selector)


def test_the_script_is_short_and_plain() -> None:
    text = (output.HERE / "page.js").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 120
    assert not [word for word in ("eval(", "Function(", "http", "innerHTML", "fetch(", "import") if word in text]


def test_a_click_sorts_by_number_then_the_other_way_then_not(opened, tables) -> None:
    """What is no number comes last both ways."""
    driver = opened(tables)
    button, heading = find(driver, "#long th:nth-child(3) button"), find(driver, "#long th:nth-child(3)")
    before = column(driver, "long")
    for expected, order in ((RISING + NONE, "ascending"), (FALLING + NONE, "descending"), (before, "none")):
        button.click()
        assert column(driver, "long") == expected
        assert heading.get_attribute("aria-sort") == order
    find(driver, "#long th:nth-child(2) button").click()
    assert column(driver, "long", 2) == [f"K={k}" for k in range(7, 21)]  # 7 before 10
    button.click()
    orders = [th.get_attribute("aria-sort") for th in driver.find_elements("css selector", "#long thead th")]
    assert orders == [None, "none", "ascending"]  # a column without a name is not offered


def test_rows_stay_under_their_heading_and_short_or_spanned_tables_as_they_are(opened, tables) -> None:
    driver = opened(tables)
    find(driver, "#parts th:nth-child(3) button").click()
    headings = [row.text for row in driver.find_elements("css selector", "#parts tbody tr")][::6]
    assert headings == ["a", "b", "c"]
    assert column(driver, "parts") == ["5", "6", "7", "8", "9"] * 3
    assert not driver.find_elements("css selector", "#spans button, #short button")


def test_a_text_hides_the_rows_that_do_not_hold_it(opened, tables) -> None:
    driver = opened(tables)
    fields = driver.find_elements("css selector", "input[type=search]")
    assert [field.accessible_name for field in fields] == ["Filter rows"] * 2  # not a table of 3 rows, or with spans
    status = find(driver, "[role=status]")
    fields[0].send_keys("k=1")
    assert column(driver, "long", 2) == [f"K={k}" for k in range(19, 9, -1)]
    assert status.text == "10 of 14 rows"
    fields[0].clear()
    fields[0].send_keys("nothing")
    assert (column(driver, "long"), status.text) == ([], "0 of 14 rows")
    fields[0].send_keys(ESCAPE)
    assert (len(column(driver, "long")), status.text) == (14, "")
    fields[1].send_keys("b row")  # with the heading above it
    assert [row.text for row in driver.execute_script(VISIBLE, "#parts tbody tr")] == [
        "b",
        *(f"row {i} {9 - i}" for i in range(5)),
    ]


def test_a_section_folds_by_the_keyboard_and_opens_for_a_link_into_it(opened, tables) -> None:
    driver = opened(tables)
    button = find(driver, "#second h2 button")
    button.send_keys("\n")
    assert button.get_attribute("aria-expanded") == "false"
    assert (visible(driver, "#target"), visible(driver, "#long")) == (0, 1)
    assert button.get_attribute("aria-controls") == "second"
    find(driver, "nav a").click()
    driver.execute_async_script("setTimeout(arguments[0], 50)")
    assert (button.get_attribute("aria-expanded"), visible(driver, "#target")) == ("true", 1)
    button.click()
    find(driver, "nav a").click()  # to where the page already is
    driver.execute_async_script("setTimeout(arguments[0], 50)")
    assert visible(driver, "#target") == 1
    fold, unfold = driver.find_elements("css selector", "nav button")
    fold.click()
    assert (visible(driver, "section > :not(h2)"), visible(driver, "h2")) == (0, 2)
    driver.execute_script("location.hash = ''; location.hash = 'target'")
    driver.execute_async_script("setTimeout(arguments[0], 50)")
    assert visible(driver, "section > :not(h2)") == 5
    unfold.click()
    assert visible(driver, "section > :not(h2)") == 7  # two of the first section


def test_what_a_screen_reader_is_told(opened, tables) -> None:
    driver = opened(tables)
    find(driver, "#long th:nth-child(3) button").click()
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    for node in (("button", "Value"), ("button", "First"), ("searchbox", "Filter rows"), ("button", "Fold all")):
        assert node in told, node
    assert {"main", "navigation", "status"} <= {role for role, _ in told}


def pixels(driver, figure: str) -> np.ndarray:
    """A figure as it is drawn, without what else stands on the page."""
    svg = driver.execute_script(VISIBLE, f"#{figure} svg")[0]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(svg.screenshot_as_base64))).convert("RGB")).astype(int)


def coloured(image: np.ndarray, colour: str) -> int:
    """How many pixels are of a colour, or of it on grey."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((abs(image - wanted).max(-1) < 12).sum())


def test_a_method_is_switched_off_in_all_figures_and_on_again(opened, report) -> None:
    driver = opened(report)
    driver.execute_script(
        "document.querySelectorAll('svg').forEach(s => s.animationsPaused?.() || s.pauseAnimations())"
    )
    labels = [label.text for label in driver.find_elements("css selector", ".methods label")]
    assert labels == ["flow, energy flow", "KL flow", "mixture", "maximum-likelihood", "mine"]
    boxes = dict(zip(labels, driver.find_elements("css selector", ".methods input"), strict=True))
    drawn = f'svg [style*="{STYLES["energy"].colour}"], svg [stroke="{STYLES["energy"].colour}"]'
    before, others = visible(driver, drawn), visible(driver, f'svg [style*="{STYLES["kl"].colour}"]')
    assert before > 20
    figure = pixels(driver, "fig1a")
    boxes["flow, energy flow"].click()
    assert (visible(driver, drawn), visible(driver, f'svg [style*="{STYLES["kl"].colour}"]')) == (0, others)
    without = pixels(driver, "fig1a")
    assert coloured(figure, STYLES["energy"].colour) > 50 > 5 > coloured(without, STYLES["energy"].colour)
    assert coloured(without, STYLES["kl"].colour) > 50
    dimmed = driver.execute_script(
        "return [...document.querySelectorAll('tr, svg [id*=-text_]')].filter(e => getComputedStyle(e).opacity < 1)"
        ".map(e => [e.localName, e.textContent.trim().split('\\n')[0]])"
    )
    assert [text for _, text in dimmed if not text.startswith("energy flow")] == []
    assert {name for name, _ in dimmed} == {"g", "tr"}
    boxes["flow, energy flow"].click()
    assert visible(driver, drawn) == before


def test_clouds_as_pictures_and_newcomers_are_switched_too(opened, report) -> None:
    driver = opened(report)
    boxes = {box.accessible_name: box for box in driver.find_elements("css selector", ".methods input")}
    clouds = [f"fig4-{i}" for i in range(4)]  # start, flow, maximum-likelihood, truth
    boxes["maximum-likelihood"].click()
    assert [visible(driver, f"#{cloud} image") for cloud in clouds] == [1, 1, 0, 1]
    mine = f'svg [style*="{newcomer("mine").colour}"]'
    assert visible(driver, mine) > 0
    boxes["mine"].click()
    assert visible(driver, mine) == 0


def test_on_paper_all_is_shown_and_no_control(opened, report) -> None:
    driver = opened(report)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    parts = "section > :not(.tool), svg path, svg use, svg image, tr"
    before = visible(driver, parts)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    driver.execute_script("document.querySelectorAll('.methods input').forEach(box => box.click())")
    field = find(driver, "#methods input[type=search]")
    field.send_keys("nothing")
    find(driver, "nav button").click()
    assert visible(driver, parts) < before / 2
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert visible(driver, parts) == before
    assert visible(driver, ".tool") == 0


def test_without_a_script_all_is_there_and_no_control(opened, report) -> None:
    """And what moves, moves: the policy of the page forbids other scripts, not movies."""
    driver = opened(report)
    parts = "section > :not(.tool), svg path, svg use, svg image, tr"
    before, controls = visible(driver, parts), visible(driver, CONTROLS)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.refresh()
    assert controls > 20
    assert (visible(driver, parts), visible(driver, CONTROLS)) == (before, 0)
    movie = "document.querySelector('.moving svg')"
    moved = driver.execute_script(
        f"const svg = {movie}, path = svg.querySelector('path:has(animate)'), at = time => {{ svg.setCurrentTime(time);"
        "return getComputedStyle(path).d; }; return [at(0), at(3)]"
    )
    assert moved[0] != moved[1]


def test_another_script_does_not_run(opened, tables) -> None:
    text = tables.read_text(encoding="utf-8")
    tables.write_text(text.replace("</main>", "<script>document.title = 'ran'</script></main>"), encoding="utf-8")
    with pytest.raises(AssertionError, match="security"):
        opened(tables)
