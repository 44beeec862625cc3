"""`predict serve` in a real browser: an image is dropped, its answer is seen and heard, and nothing leaves the page."""

import base64
import json
import os
import re
import subprocess

import pytest
from browser import chromium, resize
from conftest import BINARIES, ROOT
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

DROP = """
const [name, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name));
for (const kind of ["dragenter", "dragover", "drop"])
  document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
"""


class Page:
    """The served page, open in Chromium."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url

    def open(self, width=1280, dark=False):
        resize(self.driver, width, dark)
        self.driver.get(self.url)

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def at(self, name):
        return self.driver.find_element(By.ID, name)

    def wait(self, name, text):
        found = WebDriverWait(self.driver, 30, poll_frequency=0.05)
        found.until(lambda _: text in self.at(name).text, f"{name} never said {text!r}")

    def drop(self, name, contents):
        self.run(DROP, name, base64.b64encode(contents).decode())

    def rows(self):
        cells = "return [...document.querySelectorAll('#rows tr')].map(row => [...row.cells].map(cell => cell.textContent))"
        return self.run(cells)

    def screenshot(self, name):
        folder = os.environ.get("AGCNN_SCREENSHOTS")
        if folder:
            picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            with open(f"{folder}/serve-{name}.png", "wb") as file:
                file.write(base64.b64decode(picture["data"]))


@pytest.fixture(scope="module")
def served(runs):
    command = [BINARIES / "predict", "serve", "--port", "0", "--config", ROOT / "profiles/smoke.toml"]
    command += ["--set", "phantom.patients=60", "--set", "predict.max_novelty=100.0", "--run", "smoke"]
    server = subprocess.Popen(list(map(str, command)), cwd=runs.folder, stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    yield re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)[1] + "/"
    server.terminate()
    assert server.wait(20) == 0


@pytest.fixture(scope="module")
def image(runs):
    return sorted((runs.artifacts / "smoke/phantom").resolve().rglob("*.png"))[0]


@pytest.fixture(scope="module")
def page(served):
    driver = chromium()
    yield Page(driver, served)
    driver.quit()


def test_a_dropped_image_is_answered(page, image):
    page.open()
    page.drop("thorax <b>1</b>.png", image.read_bytes())
    page.wait("status", "Answered:")
    assert page.at("heading").text == "Answer for thorax <b>1</b>.png"
    rows = page.rows()
    called = sum(row[3] == "called" for row in rows)
    assert page.at("status").text == f"Answered: {called} of 15 called."
    assert page.run("return document.getElementById('file').files.length") == 1
    assert len(rows) == 15 and rows[0][0] == "Atelectasis" and rows[-1][0] == "No Finding"
    for row in rows:
        assert all(0 <= float(value) <= 1 for value in [row[1], *row[5:8]]), row
        assert row[3] in ["called", "not called", "no threshold"]
    for name in ["radiograph", "heat", "crop"]:
        assert page.run("const image = arguments[0]; return image.complete && image.naturalWidth > 0", page.at(name))
    stage, box = page.at("stage").rect, page.at("box").rect
    assert stage["x"] - 1 <= box["x"] and box["x"] + box["width"] <= stage["x"] + stage["width"] + 1
    assert box["width"] > 10 and "attended region: x " in page.at("caption").text
    assert "Not for clinical use" in page.at("notice").text
    page.screenshot("light")


def test_nothing_leaves_the_page_and_nothing_is_wrong(page, image):
    page.driver.get_log("browser"), page.driver.get_log("performance")
    page.open()
    page.drop("a.png", image.read_bytes())
    page.wait("status", "Answered:")
    assert page.driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith(page.url + "v1/predict") for url in requests)
    assert [url for url in requests if not url.startswith((page.url, "data:"))] == []
    # What another page could smuggle in does not run.
    page.run("const script = document.createElement('script'); script.textContent = 'window.ran = 1'; document.body.append(script)")
    assert page.run("return window.ran") is None


def test_the_keyboard_is_enough(page, image):
    page.open()
    page.at("file").send_keys(str(image))
    page.wait("status", "Answered:")
    assert page.run("return document.activeElement.id") == "result"
    press = lambda key: ActionChains(page.driver).send_keys(key).perform()
    seen = []
    for _ in range(4):
        press(Keys.TAB)
        seen.append(page.run("return document.activeElement.id"))
        if seen[-1] == "opacity":
            press(Keys.HOME)
            assert page.at("heat").value_of_css_property("opacity") == "0"
            assert page.at("opacity").get_attribute("aria-valuetext") == "0 %"
        if seen[-1] == "showbox":
            press(Keys.SPACE)
            assert not page.at("box").is_displayed()
    assert seen[:3] == ["opacity", "showbox", "tablebox"]


def test_everything_can_be_read_out(page, image):
    page.open()
    page.drop("a.png", image.read_bytes())
    page.wait("status", "Answered:")
    assert page.run("return document.documentElement.lang") == "en"
    assert page.at("status").get_attribute("aria-live") == "polite"
    unnamed = "return [...document.querySelectorAll('input, select')].filter(input => !input.labels.length).length"
    assert page.run(unnamed) == 0
    assert page.run("return [...document.images].every(image => image.hasAttribute('alt'))")
    assert page.run("return [...document.querySelectorAll('#rows tr')].every(row => row.cells[0].scope === 'row')")


def test_what_is_refused_or_wrong_is_said(page):
    page.open()
    page.drop("notes.txt", b"not an image")
    page.wait("problem", "notes.txt has no answer: image: no PNG, JPEG or DICOM file")
    assert not page.at("result").is_displayed() and page.at("problem").get_attribute("role") == "alert"
    # A photograph-like image is refused, and asked about where that is wanted.
    colour = page.run("""
        const canvas = new OffscreenCanvas(300, 300), context = canvas.getContext("2d");
        for (let x = 0; x < 300; x++) { context.fillStyle = `hsl(${x} 90% ${20 + x / 5}%)`; context.fillRect(x, 0, 1, 300); }
        return canvas.convertToBlob({ type: "image/jpeg" }).then(async (blob) =>
          btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer()))));""")
    page.drop("holiday.jpg", base64.b64decode(colour))
    page.wait("refused", "Refused: not grey")
    assert not page.at("table").is_displayed() and page.at("radiograph").is_displayed()
    page.at("nogate").click()
    page.wait("refused", "Asked all the same")
    assert page.at("table").is_displayed() and len(page.rows()) == 15
    Select(page.at("abstain")).select_by_value("0.1")
    page.wait("verdicthead", "verdict")
    assert {row[8] for row in page.rows()} <= {"present", "absent", "abstain", "no verdict"}
    page.screenshot("refused")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_fits_the_screen_by_day_and_night(page, image, width, dark):
    page.open(width, dark)
    page.drop(f"{'a' * 120}.png", image.read_bytes())
    page.wait("status", "Answered:")
    assert page.run("return document.documentElement.scrollWidth") <= width
    script = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    ink, ground = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in page.run(script)]
    assert (ink > 600 and ground < 150) if dark else (ink < 200 and ground > 700)
    page.screenshot(f"{width}-{'dark' if dark else 'light'}")
