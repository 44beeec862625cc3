"""The README's pictures, from a run's report: pictures.py ARTIFACTS/RUN FOLDER

report.png: headline, forest plot and four cases; crops.png: a contact sheet of overlays (radiograph, heat map, crop).
"""

import base64
import io
import pathlib
import sys

from browser import chromium, resize
from PIL import Image

WIDTH = 1100
HIDE = """document.querySelectorAll('details').forEach(details => details.open = false);
document.querySelector('nav').style.position = 'static';
document.querySelectorAll('.case').forEach((figure, i) => figure.hidden = ![2, 4, 13, 26].includes(i));"""


def clip(driver, top, bottom):
    """The page between the top of one element and the bottom of another."""
    edges = "return [document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY, " \
            "document.querySelector(arguments[1]).getBoundingClientRect().bottom + scrollY]"
    y, end = driver.execute_script(edges, top, bottom)
    area = {"x": 0, "y": y, "width": WIDTH, "height": end - y + 12, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": area})
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def stack(pictures, columns=1):
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    if columns == 1:
        tops = [sum(p.height for p in pictures[:i]) for i in range(len(pictures) + 1)]
        places, size = [(0, top) for top in tops], (width, tops[-1])
    else:
        places = [(i % columns * (width + 8), i // columns * (height + 8)) for i in range(len(pictures))]
        size = columns * (width + 8) - 8, -(-len(pictures) // columns) * (height + 8) - 8
    sheet = Image.new("RGB", size, "white")
    for picture, place in zip(pictures, places):
        sheet.paste(picture, place)
    return sheet


if __name__ == "__main__":
    run, folder = map(pathlib.Path, sys.argv[1:])
    driver = chromium()
    resize(driver, WIDTH)
    driver.get((run / "report/index.html").resolve().as_uri())
    driver.execute_script(HIDE)
    parts = [("h1", "#headline table"), ("#findings figure", "#findings figure svg"), (".gallery", ".gallery")]
    stack([clip(driver, *part) for part in parts]).save(folder / "report.png", optimize=True)
    driver.quit()
    overlays = sorted((run / "report/overlays").glob("*.png"))[:10]
    stack([Image.open(path).resize((480, 160)) for path in overlays], columns=2).save(folder / "crops.png", optimize=True)
