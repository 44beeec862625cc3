"""Resizes a picture with Pillow, for `../pillow.rs`: `python make.py` in this folder (made with Pillow 13.0.0).

The picture is a sum of waves with hard edges, so that aliasing would show. Each `<w>x<h>.png` is the source, each
`<w>x<h>-<size>.png` what `Image.resize((size, size), BILINEAR)` makes of it; `contrast-<factor>.png` is
`ImageEnhance.Contrast` on the first of them.
"""

import numpy as np
from PIL import Image, ImageEnhance


def source(width, height):
    y, x = np.mgrid[0:height, 0:width]
    waves = 90 * np.sin(x / 2.3) * np.cos(y / 5.1) + 60 * np.sin((x + 2 * y) / 17)
    edges = 60 * ((x // 13 + y // 7) % 2) * (x > width // 3)
    return Image.fromarray(np.clip(100 + waves + edges, 0, 255).astype(np.uint8), "L")


first = None
for width, height, sizes in [(128, 128, (48, 32, 160)), (100, 75, (40,))]:
    picture = source(width, height)
    picture.save(f"{width}x{height}.png", optimize=True)
    for size in sizes:
        small = picture.resize((size, size), Image.Resampling.BILINEAR)
        small.save(f"{width}x{height}-{size}.png", optimize=True)
        first = first or small
for factor in (0.6, 1.5):
    ImageEnhance.Contrast(first).enhance(factor).save(f"contrast-{factor}.png", optimize=True)
