"""The attended region by NumPy, scikit-image and PyTorch: writes oracle.json beside this file.

Needs numpy, scikit-image and torch; run it with no arguments. Boxes are compared exactly, so a threshold is moved a
little until no pixel of the enlarged map lies so close to it that rounding could carry the pixel across.
"""

import json
from pathlib import Path

import numpy as np
import torch
from skimage.filters import threshold_otsu
from skimage.measure import label

MARGIN = 2e-6  # least distance of a pixel to the threshold, unless the case is exact by construction
THRESHOLDS = [0.0, 0.3, 0.5, 0.7, 0.9, "otsu"]


def statistic(f, name):
    """[h, w, K] -> [h, w]; AG-CNN (arXiv 1801.09927) eq. 3 and its alternatives."""
    f = f.astype(np.float64)
    return {
        "max": lambda: np.abs(f).max(-1),
        "l1": lambda: np.abs(f).mean(-1),
        "l2": lambda: np.sqrt((f**2).sum(-1)) / f.shape[-1],
    }[name]().astype(np.float32)


def normalise(h, name):
    if h.max() == h.min():
        return None
    return {
        "minmax": lambda: (h - h.min()) / (h.max() - h.min()),
        "max": lambda: h / h.max(),
        "none": lambda: h,
    }[name]()


def enlarge(h, side):
    t = torch.from_numpy(h)[None, None]
    return torch.nn.functional.interpolate(t, (side, side), mode="bilinear", align_corners=False)[0, 0].numpy()


def region(h, side, normal, tau, exact):
    """Box [x_min, y_min, x_max, y_max] half-open or None, tau as applied, share of the mask; None where Otsu is too close to call."""
    n = normalise(h, normal)
    if n is None:
        return {"box": None, "tau": float(h[0, 0]) if tau == "otsu" else tau, "mask_frac": 0.0}
    big = enlarge(n, side).astype(np.float64)
    t = float(np.float32(threshold_otsu(big))) if tau == "otsu" else tau
    while not exact and t > 0.0 and np.abs(big - t).min() < MARGIN:
        if tau == "otsu":
            return None
        t = round(t + 1e-4, 4)
    mask = big > t
    parts = label(mask, connectivity=2)
    best = None
    for i in range(1, parts.max() + 1):
        ys, xs = np.nonzero(parts == i)
        first = int(ys[0] * side + xs[0])
        rank = (len(xs), float(big[ys, xs].max()), -first)
        if best is None or rank > best[0]:
            best = (rank, [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1])
    return {"box": best and best[1], "tau": t, "mask_frac": float(mask.mean())}


def case(name, draw, side, exact=False):
    f = np.round(draw(), 3).astype(np.float32)
    heat = {s: statistic(f, s) for s in ("max", "l1", "l2")}
    found = []
    for s, h in heat.items():
        for n in ("minmax", "max", "none"):
            for t in THRESHOLDS:
                r = region(h, side, n, t, exact)
                if r is not None:
                    found.append({"statistic": s, "normalise": n, "otsu": t == "otsu"} | r)
    return {
        "name": name,
        "side": side,
        "shape": list(f.shape),
        "map": [round(float(x), 3) for x in f.ravel()],
        "heat": {s: [float(f"{x:.8g}") for x in h.ravel()] for s, h in heat.items()},
        "regions": found,
    }


def picture(rows):
    """A one-channel map from rows of digits: 0 to 9 tenths."""
    return np.array([[int(c) / 10 for c in row] for row in rows.split()])[..., None]


def main():
    rng = np.random.default_rng(20180126)
    cases = [
        case("random relu 7x7 to 224", lambda: np.maximum(rng.normal(size=(7, 7, 8)), 0), 224),
        case("random signed 7x7 to 224", lambda: rng.normal(size=(7, 7, 8)), 224),
        case("sparse 7x7 to 224", lambda: np.maximum(rng.normal(-2, 1, size=(7, 7, 3)), 0), 224),
        case("random 4x4 to 112", lambda: np.maximum(rng.normal(size=(4, 4, 16)), 0), 112),
        case("random 3x5 to 40", lambda: rng.normal(size=(3, 5, 4)), 40),
        case("random 16x16 to 16", lambda: rng.normal(size=(16, 16, 2)), 16),
        case("constant", lambda: np.full((7, 7, 4), 0.25), 224, exact=True),
        case("all zero", lambda: np.zeros((7, 7, 2)), 56, exact=True),
        case("one hot cell in the corner", lambda: picture("000 000 009"), 96),
        # At the map's own size nothing is interpolated, so that ties are exact.
        case("diagonal touch", lambda: picture("8000 0800 0090 9000"), 4, exact=True),
        case("equal areas, higher peak second", lambda: picture("88000 00000 00099 00000 80000"), 5, exact=True),
        case("equal areas, equal peaks", lambda: picture("00099 00000 99000 00000 00099"), 5, exact=True),
        case("touching all borders", lambda: picture("00900 00900 99999 00900 00900"), 5, exact=True),
        case("ring around the peak", lambda: picture("8888888 8000008 8000008 8009008 8000008 8000008 8888888"), 7, exact=True),
        case("values on the threshold", lambda: picture("05 50"), 2, exact=True),
    ]
    out = Path(__file__).with_name("oracle.json")
    out.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
    print(f"{len(cases)} cases, {sum(len(c['regions']) for c in cases)} regions")


if __name__ == "__main__":
    main()
