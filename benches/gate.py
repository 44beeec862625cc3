"""How often predict's gate refuses what is no radiograph, and what is: the table of docs/predict.md.

    python benches/gate.py target/release/predict demo

Asks the run about its own test images, about 200 of them inverted and turned upside down, and about 200 pictures that are
no radiographs: grey crops of the photographs that scikit-image, scikit-learn and matplotlib ship, noise, and text. Needs
these three, numpy, Pillow and pyarrow.
"""

import argparse
import io
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pyarrow.parquet as pq
import skimage.data
import sklearn.datasets
from PIL import Image, ImageDraw

SIDE = 512


def photographs():
    names = ["astronaut", "camera", "coffee", "chelsea", "rocket", "brick", "grass", "gravel", "coins", "page", "moon", "text", "clock"]
    for name in names:
        try:
            yield getattr(skimage.data, name)()
        except Exception:  # some are downloaded
            continue
    yield from sklearn.datasets.load_sample_images().images
    for name in ["grace_hopper.jpg", "ada.png", "logo2.png"]:
        try:
            with matplotlib.cbook.get_sample_data(name, asfileobj=True) as file:
                yield np.asarray(Image.open(file).convert("RGB"))
        except (OSError, ValueError):
            continue


def others(rng):
    """120 crops of photographs, 40 of noise, 40 of text, all grey."""
    pictures = [np.asarray(Image.fromarray(p).convert("L")) for p in photographs()]
    for index in range(120):
        picture = pictures[index % len(pictures)]
        side = int(min(picture.shape) * rng.uniform(0.5, 1.0))
        y, x = (int(rng.integers(0, n - side + 1)) for n in picture.shape)
        yield np.asarray(Image.fromarray(picture[y : y + side, x : x + side]).resize((SIDE, SIDE)))
    for index in range(40):
        cells = 2 ** (2 + index % 8)
        noise = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
        yield np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    for _ in range(40):
        page = Image.new("L", (SIDE, SIDE), int(rng.integers(200, 256)))
        draw = ImageDraw.Draw(page)
        for line in range(12, SIDE - 20, int(rng.integers(14, 30))):
            draw.text((10, line), "".join(chr(c) for c in rng.integers(97, 123, 70)), fill=int(rng.integers(0, 60)))
        yield np.asarray(page)


def asked(program, flags, folder):
    """The word of refusal of every image of a folder, None where it was answered."""
    command = [program, *flags, folder, "--format", "json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answers = [json.loads(line)["refused"] for line in said.splitlines()]
    return [refused and refused["reason"] for refused in answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the program predict")
    parser.add_argument("run")
    parser.add_argument("--artifacts-dir", default="artifacts")
    args = parser.parse_args()
    flags = ["--run", args.run, "--artifacts-dir", args.artifacts_dir]
    rng = np.random.default_rng(1)
    files = sorted(Path(args.artifacts_dir, args.run, "prep/images").glob("test-*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, columns=["image_id", "image"]).to_pylist()]
    test = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows]
    chosen = [test[index] for index in rng.permutation(len(test))[:200]]
    sets = {
        "no radiographs": list(others(rng)),
        "inverted": [255 - image for image in chosen],
        "turned": [image[::-1] for image in chosen],
        "real test images": test,
    }
    for name, images in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            for index, image in enumerate(images):
                Image.fromarray(np.ascontiguousarray(image)).save(Path(folder, f"{index:05}.png"))
            words = asked(args.program, flags, folder)
        refused = Counter(word for word in words if word)
        print(f"{name}: {sum(refused.values())} of {len(words)} refused, {dict(refused)}")


if __name__ == "__main__":
    main()
