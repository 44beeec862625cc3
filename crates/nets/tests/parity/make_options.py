"""What PyTorch computes with each option of a recipe, for options.rs beside it.

    python make_options.py [--search N]

Writes options/expected.json. Made with torch 2.15.0, torchvision 0.29.2 and timm 1.0.31 on a CPU, in f32.

ResNet-18 with 15 outputs and global max pooling, weights by make.py, trains ten epochs of one step on four grey pictures of
64 px, and is validated on four others after each. The losses are torchvision's and timm's own, and torch's with the weights of
Wang et al.; labels that nobody knows are left out of their mean. With SALT, the losses in f32 and in f64 part by less than 1e-6
(--search prints that for others).
"""

import argparse
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from timm.loss import AsymmetricLossMultiLabel
from timm.utils import ModelEmaV3
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from make import BATCH, OUTPUTS, SIDE, bits, network

SALT = 0
STEPS, LR, MOMENTUM, WEIGHT_DECAY = 10, 0.01, 0.9, 1e-4
SMALL = 48
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

CASES = {
    "bce": {},
    "weighted": {"loss": "weighted"},
    "focal": {"loss": "focal"},
    "asymmetric": {"loss": "asymmetric"},
    "smoothed": {"smoothing": 0.1},
    "weighted and smoothed": {"loss": "weighted", "smoothing": 0.1},
    "focal and smoothed": {"loss": "focal", "smoothing": 0.1},
    "asymmetric and smoothed": {"loss": "asymmetric", "smoothing": 0.1},
    "clipped": {"clip": 0.05},
    "averaged": {"ema": 0.6},
    "averaged with warm-up": {"ema": 0.6, "warmup": True},
    "milestones": {"milestones": [3, 6]},
    "plateau": {"patience": 1},
    "small first": {"small": 5},
    "all": {"loss": "asymmetric", "smoothing": 0.05, "clip": 0.05, "ema": 0.6, "warmup": True, "patience": 1, "small": 5},
}


def pictures(name, salt):
    grey = (bits(name, BATCH * SIDE * SIDE, salt) >> np.uint64(56)).astype(np.uint8)
    return grey.reshape(BATCH, SIDE, SIDE)


def labels(name, salt):
    """0, 1, or -1 for unknown; the last is "No Finding": known to be wrong where another is present, to be right where all
    are absent."""
    draws = (bits(name, BATCH * (OUTPUTS - 1), salt) >> np.uint64(40)) % np.uint64(10)
    rows = np.where(draws < 3, 1, np.where(draws < 8, 0, -1)).reshape(BATCH, OUTPUTS - 1)
    rows[0] = 0
    nothing = np.where((rows == 1).any(1), 0, np.where((rows == 0).all(1), 1, -1))
    return np.concatenate([rows, nothing[:, None]], 1)


def inputs(grey, dtype):
    x = torch.from_numpy(grey).to(dtype)[:, None] / 255
    mean, std = (torch.tensor(each, dtype=dtype)[None, :, None, None] for each in (MEAN, STD))
    return (x.expand(-1, 3, -1, -1) - mean) / std


def loss_of(case, logits, targets, smoothing):
    """The mean over the known labels."""
    known = targets >= 0
    z, y = logits[known], targets[known]
    t = y * (1 - smoothing) + smoothing / 2
    loss = case.get("loss", "bce")
    if loss == "weighted":
        positive, negative = (y == 1).sum(), (y == 0).sum()
        weights = torch.where(y == 1, (positive + negative) / positive, (positive + negative) / negative)
        return F.binary_cross_entropy_with_logits(z, t, weights)
    if loss == "focal":
        return sigmoid_focal_loss(z, t, alpha=0.25, gamma=2, reduction="mean")
    if loss == "asymmetric":
        # timm clamps the arguments of its logarithms to 1e-8; ours have no need of it.
        asymmetric = AsymmetricLossMultiLabel(4, 1, 0.05, eps=1e-37, smoothing=smoothing, reduction="mean")
        return asymmetric(z[None], y[None])
    return F.binary_cross_entropy_with_logits(z, t)


def train(case, salt, dtype=torch.float32):
    net = network("resnet18", salt).to(dtype)
    ema = ModelEmaV3(net, case["ema"], use_warmup=case.get("warmup", False)) if "ema" in case else None
    images, others = (inputs(pictures(name, salt), dtype) for name in ("train", "validation"))
    targets, other_targets = (torch.from_numpy(labels(f"{name} labels", salt)).to(dtype) for name in ("train", "validation"))
    smaller = inputs_resized(images, SMALL)
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    milestones = torch.optim.lr_scheduler.MultiStepLR(optimizer, case.get("milestones", []), 0.5)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=case.get("patience", 100))
    out = {"losses": [], "validation_losses": [], "rates": []}
    for step in range(STEPS):
        net.train()
        optimizer.zero_grad()
        loss = loss_of(case, net(smaller if step < case.get("small", 0) else images), targets, case.get("smoothing", 0))
        loss.backward()
        if "clip" in case:
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), case["clip"])
            assert norm > case["clip"]
        optimizer.step()
        out["losses"].append(loss.item())
        out["rates"].append(optimizer.param_groups[0]["lr"])
        if ema:
            ema.update(net, step + 1)
        shown = deepcopy(ema.module if ema else net).eval()
        with torch.no_grad():
            validation = loss_of(case, shown(others), other_targets, 0).item()
        out["validation_losses"].append(validation)
        if "milestones" in case:
            milestones.step()
        if "patience" in case:
            plateau.step(validation)
    return out


def inputs_resized(images, side):
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def parted(salt, case):
    single, double = (train(CASES[case], salt, dtype) for dtype in (torch.float32, torch.float64))
    keys = ("losses", "validation_losses")
    return max(float(np.abs(np.array(single[key]) / np.array(double[key]) - 1).max()) for key in keys)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", type=int, default=0, metavar="N")
    args = parser.parse_args()
    if args.search:
        for salt in range(args.search):
            print(salt, parted(salt, "bce"), parted(salt, "focal"), flush=True)
    else:
        out = {"versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}}
        out["salt"] = SALT
        out["labels"] = labels("train labels", SALT).tolist()
        out["cases"] = {}
        for name, case in CASES.items():
            out["cases"][name] = train(case, SALT)
            print(name, out["cases"][name], flush=True)
        path = Path(__file__).parent / "options" / "expected.json"
        path.write_text(json.dumps(out, indent=1) + "\n")
