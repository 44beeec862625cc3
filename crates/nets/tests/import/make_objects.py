"""Writes objects.pth: a checkpoint as training scripts save it, with whatever Python had at hand beside the weights.

    python make_objects.py

Made with torch 1.13, NumPy 1.24.
"""

import argparse
import collections
import datetime
import enum
import pathlib
import random
from pathlib import Path

import numpy as np
import torch

here = Path(__file__).parent


class Mode(enum.Enum):
    GREY = 1


class Options:
    def __init__(self):
        self.lr = 0.1
        self.mode = Mode.GREY


class Bag(dict):
    """A dict with attributes, as configuration libraries have."""


def ramp(*shape, start=0.0):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float32) / 4 + start).reshape(shape)


weights = collections.OrderedDict(
    {
        "module._orig_mod.conv1.weight": ramp(2, 3, 1, 2, start=-1),
        "module._orig_mod.bn1.running_mean": ramp(2, start=5),
        "module._orig_mod.bn1.num_batches_tracked": torch.tensor(7),
        "module._orig_mod.features.denseblock1.denselayer1.norm1.weight": ramp(3),
        "module._orig_mod.features.denseblock1.denselayer12.conv2.weight": ramp(1, 2, 1, 1),
    }
)
bag = Bag(lr=0.1)
bag.note = "attributes"
checkpoint = {
    "n_averaged": torch.tensor(3.0),
    "best_loss": np.float64(0.15),
    "curve": np.arange(6.0),
    "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("/data"), seed=2**80),
    "date": datetime.datetime(2026, 11, 28),
    "mode": Mode.GREY,
    "options": Options(),
    "bag": bag,
    "counts": collections.defaultdict(list, a=[1]),
    "names": {"a", "b"},
    "device": torch.device("cpu"),
    "shape": torch.Size([1, 2]),
    "rng": random.Random(1).getstate()[:1],
    "complex": torch.zeros(2, dtype=torch.complex64),
    "empty": torch.zeros(0),
    "raw": b"\x00\xff",
    "optimizer": {"state": {0: {"exp_avg": ramp(2), "step": torch.tensor(1.0)}}},
    "network_params": weights,
}
torch.save(checkpoint, here / "objects.pth")
