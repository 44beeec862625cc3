"""The report in a real browser: it needs no network, shows everything, filters its gallery, and prints."""

import base64
import io
import json
import os

import pypdf
import pytest
from browser import chromium, resize
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select


class Page:
    """The report, open in Chromium."""

    def __init__(self, driver, path):
        self.driver, self.path = driver, path

    def open(self, width, dark=False):
        resize(self.driver, width, dark)
        self.driver.get(self.path.as_uri())

    def run(self, script):
        return self.driver.execute_script(script)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector):
        return [element for element in self.all(selector) if element.is_displayed()]


@pytest.fixture(scope="module")
def page(runs):
    driver = chromium()
    yield Page(driver, runs.artifacts / "smoke" / "report" / "index.html")
    driver.quit()


def test_loads_without_errors_or_network(page):
    page.open(1280)
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert page.path.as_uri() in requests
    assert [url for url in requests if url != page.path.as_uri() and not url.startswith("data:")] == []


def test_every_figure_is_seen(page):
    page.open(1280)
    figures = page.all("figure.scroll > svg")
    assert len(figures) == 8
    for picture in figures + page.all(".case svg") + page.all(".case img"):
        assert picture.size["width"] > 50 and picture.size["height"] > 50
    assert page.run("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")
    # Drawn, not only sized: every figure has marks inside its frame.
    assert page.run("return [...document.querySelectorAll('figure.scroll > svg')].every(svg => svg.children.length > 20)")


def test_everything_can_be_read_out(page):
    page.open(1280)
    for picture in page.all("figure.scroll > svg") + page.all(".case svg"):
        assert picture.get_attribute("role") == "img" and len(picture.get_attribute("aria-label")) > 10
    assert all(len(image.get_attribute("alt")) > 5 for image in page.all("img"))
    assert page.run("return document.documentElement.lang") == "en"
    assert page.run("return [...document.querySelectorAll('table')].every(table => table.querySelector('th[scope]'))")
    for link in page.all("nav a"):
        assert page.all(link.get_attribute("href").rpartition("/")[2].partition("html")[2]), link.text


def test_the_gallery_filters(page):
    page.open(1280)
    every = len(page.shown(".case"))
    assert every == 6
    counts = {}
    for kind in ["best", "worst", "random"]:
        page.driver.find_element(By.CSS_SELECTOR, f"input[value={kind}]").click()
        shown = page.shown(".case")
        assert {case.get_attribute("data-kind") for case in shown} == {kind}
        assert page.driver.find_element(By.ID, "shown").text == f"{len(shown)} of {every} cases"
        counts[kind] = len(shown)
    assert sum(counts.values()) == every
    page.driver.find_element(By.CSS_SELECTOR, "input[value=all]").click()
    options = Select(page.driver.find_element(By.ID, "finding"))
    finding = options.options[1].get_attribute("value")
    options.select_by_value(finding)
    shown = page.shown(".case")
    assert 0 < len(shown) < every
    assert all(finding in case.get_attribute("data-findings").split() for case in shown)
    options.select_by_value("all")
    page.driver.find_element(By.ID, "heat").click()
    assert page.shown(".heat") == [] and len(page.shown(".case")) == every


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_screen(page, width):
    page.open(width)
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert float(page.run("return getComputedStyle(document.body).fontSize").removesuffix("px")) >= 14
    folder = os.environ.get("AGCNN_SCREENSHOTS")
    if folder:
        picture = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        with open(f"{folder}/report-{width}.png", "wb") as file:
            file.write(base64.b64decode(picture["data"]))


def test_light_and_dark(page):
    def contrast():
        script = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
        return [sum(map(int, colour[4:-1].split(",")[:3])) for colour in page.run(script)]

    page.open(1280)
    ink, ground = contrast()
    assert ink < 200 and ground > 700
    page.open(1280, dark=True)
    ink, ground = contrast()
    assert ink > 600 and ground < 150


def test_prints_on_pages(page):
    page.open(1280)
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pages = pypdf.PdfReader(io.BytesIO(base64.b64decode(printed["data"]))).pages
    assert 5 <= len(pages) <= 40
    text = [sheet.extract_text() for sheet in pages]
    assert "AG-CNN on chest X-rays" in text[0] and "Not for clinical use" in "".join(text[-2:])
    # What is folded on the screen is open on paper; what is for the mouse is gone.
    assert any("torchxrayvision" in sheet for sheet in text)
    assert not any("heat map\n" in sheet and "Show" in sheet for sheet in text)
