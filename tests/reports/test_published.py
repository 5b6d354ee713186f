"""The committed report: remade from its records, and looked at in a browser."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import jsonschema
import numpy as np
import pytest
from same_page import difference

from cryosip.records import sources
from cryosip.records.read import parsed, record_files
from cryosip.records.schema import json_schema
from cryosip.records.select import read_records
from cryosip.reports import packing, page, publish

PUBLISHED = Path(__file__).parents[2] / "reports/published"
NARROW, WIDE = 380, 1600
SMALLEST_LETTER = 5.0  # pixels, of a figure on a telephone that cannot be zoomed


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    (folder / "command").write_text(publish.unpack(PUBLISHED, folder))
    return folder


def test_the_committed_report_is_remade_from_its_records(unpacked):
    """On any machine: the same words, and numbers that differ by one in their last digit at most; all links resolve."""
    built = page.build(unpacked / "results", unpacked / "again", (unpacked / "command").read_text()).parent
    links = re.findall('<a href="([^"#:]+)"', (built / "index.html").read_text(encoding="utf-8"))
    assert links
    assert all((built / unquote(link)).is_file() for link in links)
    committed = {path.relative_to(unpacked / "report"): path for path in (unpacked / "report").rglob("*.*")}
    assert Path("index.html") in committed
    for name, path in [*committed.items(), *((path.name, path) for path in PUBLISHED.glob("*.csv"))]:
        assert not difference(path.read_text(encoding="utf-8"), (built / name).read_text(encoding="utf-8")), name


def test_what_is_kept_of_a_record_vouches_for_its_arrays(write, results, tmp_path):
    """What is kept: of what the page does not draw, no large ones."""
    names = ("theta", "theta_init", "theta_true", "y_estimated", "y_init", "y_observed")
    cloud = np.linspace(-2, 2, 200)[:, None]
    write(
        dict.fromkeys(names, cloud) | {"weights": np.full(200, 1 / 200), "unseen": np.ones((packing.LARGE, 1))},
        n=200,
        replicate=0,
    )
    write(n=200, replicate=1)
    with sources.opened(results) as (source,):
        packing.keep(source, tmp_path / "kept")
    records, skipped = read_records(tmp_path / "kept")
    assert skipped == []
    assert {record.replicate: bool(record.arrays) for record in records} == {0: True, 1: False}
    assert all("unseen" not in record.arrays for record in records)


@pytest.fixture(scope="module")
def page_file(unpacked: Path) -> Path:
    return unpacked / "report" / "index.html"


@pytest.fixture(params=[NARROW, WIDE])
def opened(request, browser, page_file):
    """The page at a width."""
    size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("performance", "browser"):
        browser.get_log(log)  # of earlier tests
    browser.get(page_file.as_uri())
    return browser


def test_the_page_asks_for_nothing_and_complains_of_nothing(opened, page_file):
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page_file.as_uri()}
    assert opened.get_log("browser") == []


def test_every_figure_is_seen_and_nothing_sticks_out(opened):
    seen = opened.execute_script(
        """
        document.querySelectorAll("details").forEach(d => d.open = true);
        const width = document.documentElement.clientWidth;
        const figures = [...document.querySelectorAll("figure")].map(figure => {
          const picture = figure.querySelector("svg"), svg = picture.getBoundingClientRect();
          const zoom = svg.width / picture.viewBox.baseVal.width;
          const texts = [...picture.querySelectorAll("text")];
          const letters = texts.map(t => parseFloat(getComputedStyle(t).fontSize) * zoom);
          return {name: figure.id, width: svg.width, height: svg.height, left: svg.left, right: svg.right,
                  drawn: picture.querySelectorAll("path, use, image").length, smallest: Math.min(...letters, 99)};
        });
        return {figures, width, scroll: document.documentElement.scrollWidth};
        """
    )
    assert len(seen["figures"]) > 50
    assert seen["scroll"] <= seen["width"]
    for figure in seen["figures"]:
        assert figure["width"] > 200, figure
        assert figure["height"] > 80, figure
        assert figure["left"] >= 0, figure
        assert figure["right"] <= seen["width"], figure
        assert figure["drawn"] >= 2, figure
        assert figure["smallest"] >= SMALLEST_LETTER, figure


def test_every_section_that_is_linked_is_there(opened):
    links = opened.execute_script("return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    ids = set(opened.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)"))
    sections = {urlparse(link).fragment for link in links if link.startswith("#")}
    assert sections
    assert sections <= ids


def test_every_published_record_is_as_the_schema_says(tmp_path):
    """And as the type says; its id is that of its content."""
    publish.unpack(PUBLISHED, tmp_path)
    files = record_files(tmp_path / "results")
    validator = jsonschema.Draft202012Validator(json_schema())
    assert len(files) > 700
    for file in files:
        table = json.loads(file.read_text())
        validator.validate(table)
        assert parsed(table).run_id == file.stem
