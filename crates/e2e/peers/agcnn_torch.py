"""AG-CNN in PyTorch, by the recipe of a profile: the peer that our figures are held against.

Reads the pictures and the split that `prep` published, trains global, local and fusion as the stages do, and prints
a line per epoch on stderr and one JSON object: mean AUROC of the three branches on the test split with
patient-bootstrap intervals, AUROC of No Finding, seconds per stage.

    python agcnn_torch.py artifacts/nih-1/prep profiles/nih-sample.toml --seed 1 --threads 4

Needs torch, torchvision, pyarrow, scikit-image, scikit-learn.
"""

import argparse
import io
import json
import math
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torchvision
from PIL import Image
from skimage.measure import label as components
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

ROOT = Path(__file__).parents[2]
OUTPUTS = 15
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def recipe(profile, stage):
    """The stage's defaults under the profile's section."""
    values = tomllib.loads((ROOT / stage / "default.toml").read_text())[stage]
    return values | tomllib.loads(Path(profile).read_text()).get(stage, {})


def load(folder):
    """Pictures [N, 1, S, S] u8, targets [N, 15], patients and ids by split."""
    splits = {}
    for split in ("train", "validation", "test"):
        tables = [pq.read_table(path) for path in sorted(Path(folder, "images").glob(f"{split}-*.parquet"))]
        rows = [row for table in tables for row in table.to_pylist()]
        names = [name for name in tables[0].column_names if name.startswith("label_")]
        splits[split] = {
            "x": torch.stack([picture(row["image"]["bytes"]) for row in rows]),
            "y": torch.tensor([[float(row[name]) for name in names] for row in rows]),
            "patient": np.array([row["patient_id"] for row in rows]),
        }
    return splits


def picture(data):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).unsqueeze(0)


def normalised(x):
    return ((x.expand(-1, 3, -1, -1) / 255.0 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


class Branch(nn.Module):
    """A torchvision ResNet with global max pooling."""

    def __init__(self, name):
        super().__init__()
        net = getattr(torchvision.models, name)()
        self.trunk = nn.Sequential(*list(net.children())[:-2])
        self.fc = nn.Linear(net.fc.in_features, OUTPUTS)

    def forward(self, x):
        features = self.trunk(x)
        pool = F.adaptive_max_pool2d(features, 1).flatten(1)
        return self.fc(pool), pool, features


def centre(x, side):
    first = (x.shape[-1] - side) // 2
    return x[..., first : first + side, first : first + side]


@torch.no_grad()
def score(net, x, side):
    net.eval()
    parts = [net(normalised(centre(part, side).float())) for part in x.split(32)]
    return [torch.cat(values) for values in zip(*parts)]


def mean_auroc(logits, y):
    values = [
        roc_auc_score(y[:, k], logits[:, k]) for k in range(14) if 0 < y[:, k].sum() < len(y)
    ]
    return float(np.mean(values)) if values else float("nan")


def rate(cfg, epoch, step, steps):
    done, warmup = epoch * steps + step, cfg.get("warmup_epochs", 0) * steps
    if done < warmup:
        return cfg["lr"] * (done + 1) / warmup
    if cfg["schedule"] == "step":
        return cfg["lr"] * cfg["lr_factor"] ** sum(epoch >= milestone for milestone in cfg["lr_milestones"])
    part = (done - warmup) / (cfg["epochs"] * steps - warmup)
    return cfg["lr"] * 0.5 * (1 + math.cos(math.pi * part))


def fit(net, cfg, train, validation, batch_of, score_of):
    """Trains; returns the network with the weights of the best epoch by validation mean AUROC."""
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg["lr"], momentum=cfg["momentum"], weight_decay=cfg["weight_decay"])
    steps = -(-len(train["y"]) // cfg["batch"])
    best, kept = -1.0, None
    for epoch in range(cfg["epochs"]):
        net.train()
        total = 0.0
        order = torch.randperm(len(train["y"]))
        for step, indices in enumerate(order.split(cfg["batch"])):
            optimizer.param_groups[0]["lr"] = rate(cfg, epoch, step, steps)
            out = net(batch_of(indices))
            loss = F.binary_cross_entropy_with_logits(out[0] if isinstance(out, tuple) else out, train["y"][indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(indices)
        value = mean_auroc(score_of(net, validation).numpy(), validation["y"].numpy())
        print(f"epoch {epoch + 1}: loss {total / len(train['y']):.4f}, AUROC {value:.4f}", file=sys.stderr)
        if kept is None or value > best:
            best, kept = value, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(kept)
    return net


def fit_branch(cfg, splits):
    side = cfg["crop"]
    augment = v2.Compose(
        [v2.RandomResizedCrop(side, scale=(cfg["scale_min"], 1.0), antialias=True)]
        + ([v2.RandomHorizontalFlip()] if cfg["flip"] else [])
    )
    train = splits["train"]

    def batch_of(indices):
        return normalised(torch.stack([augment(train["x"][i]) for i in indices]).float())

    net = Branch(cfg["backbone"]).to(memory_format=torch.channels_last)
    return fit(net, cfg, train, splits["validation"], batch_of, lambda net, s: score(net, s["x"], side)[0])


def attend(cfg, features, x, side):
    """The crop of every picture: max of the channels, min-max, bilinear, threshold, largest 8-connected component."""
    size, offset = x.shape[-1], (x.shape[-1] - side) // 2
    heat = features.abs().amax(1, keepdim=True)
    low, high = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
    heat = F.interpolate((heat - low) / (high - low).clamp_min(1e-12), (side, side), mode="bilinear", align_corners=False)
    crops = []
    for image, h in zip(x, heat[:, 0].numpy()):
        found = components(h > cfg["threshold"], connectivity=2)
        if found.max() == 0:
            crops.append(image)
            continue
        ys, xs = np.nonzero(found == 1 + np.argmax(np.bincount(found.ravel())[1:]))
        box = image[:, ys.min() + offset : ys.max() + 1 + offset, xs.min() + offset : xs.max() + 1 + offset]
        crops.append(v2.functional.resize(box, [size, size], antialias=True))
    return torch.stack(crops)


def interval(logits, y, patients, draws=1000):
    """95 % percentile interval of the mean AUROC, patients drawn with replacement."""
    rng = np.random.default_rng(1)
    of = {p: np.flatnonzero(patients == p) for p in np.unique(patients)}
    ids = np.array(list(of))
    values = []
    for _ in range(draws):
        rows = np.concatenate([of[p] for p in rng.choice(ids, len(ids))])
        values.append(mean_auroc(logits[rows], y[rows]))
    return [float(v) for v in np.nanpercentile(values, [2.5, 97.5])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prep")
    parser.add_argument("profile")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only-global", action="store_true", help="stop after the global branch, without intervals")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)

    splits = load(args.prep)
    out, seconds = {}, {}

    def report(name, logits):
        test = splits["test"]
        logits, y = logits.numpy(), test["y"].numpy()
        out[name] = {
            "mean_auroc": mean_auroc(logits, y),
            "ci": None if args.only_global else interval(logits, y, test["patient"]),
            "no_finding": float(roc_auc_score(y[:, 14], logits[:, 14])),
        }

    pools = {name: [] for name in splits}
    start = time.time()
    cfg = recipe(args.profile, "global")
    net = fit_branch(cfg, splits)
    scored = {name: score(net, s["x"], cfg["crop"]) for name, s in splits.items()}
    report("global", scored["test"][0])
    seconds["global"] = time.time() - start
    if args.only_global:
        return say(args.seed, out, seconds)

    start = time.time()
    how = recipe(args.profile, "attend")
    crops = {}
    for name, s in splits.items():
        pools[name].append(scored[name][1])
        crops[name] = {**s, "x": attend(how, scored[name][2], s["x"], cfg["crop"])}
    seconds["attend"] = time.time() - start

    start = time.time()
    cfg = recipe(args.profile, "local")
    net = fit_branch(cfg, crops)
    for name, s in crops.items():
        logits, pool, _ = score(net, s["x"], cfg["crop"])
        pools[name].append(pool)
        if name == "test":
            report("local", logits)
    seconds["local"] = time.time() - start

    start = time.time()
    cfg = recipe(args.profile, "fusion")
    joined = {name: {"x": torch.cat(pools[name], 1), "y": splits[name]["y"]} for name in splits}
    layer = nn.Linear(joined["train"]["x"].shape[1], OUTPUTS)
    scores = lambda net, s: net(s["x"]).detach()
    layer = fit(layer, cfg, joined["train"], joined["validation"], lambda i: joined["train"]["x"][i], scores)
    report("fusion", scores(layer, joined["test"]))
    seconds["fusion"] = time.time() - start
    say(args.seed, out, seconds)


def say(seed, out, seconds):
    print(json.dumps({"seed": seed, "branches": out, "seconds": {k: round(v, 1) for k, v in seconds.items()}}))


if __name__ == "__main__":
    main()
