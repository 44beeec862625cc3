"""Writes the files beside it: the same few tensors in every way in which PyTorch and timm store weights.

    python make.py

Made with torch 2.15, safetensors 0.8. The values are small integers and quarters, exact in every type.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

here = Path(__file__).parent


def ramp(*shape, start=0.0):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float32) / 4 + start).reshape(shape)


weights = OrderedDict(
    {
        "conv1.weight": ramp(2, 3, 1, 2, start=-1),
        "bn1.running_mean": ramp(2, start=5),
        "bn1.num_batches_tracked": torch.tensor(7),
        "features.denseblock1.denselayer1.norm.1.weight": ramp(3),
        "features.denseblock1.denselayer12.conv.2.weight": ramp(1, 2, 1, 1),
    }
)

torch.save(weights, here / "zip.pth")
torch.save(weights, here / "legacy.pth", _use_new_zipfile_serialization=False)
save_file(dict(weights), here / "plain.safetensors")

# what a training script saves: parameters, half the precision, DataParallel, other things beside
mixed = OrderedDict(
    {
        "module.conv1.weight": torch.nn.Parameter(weights["conv1.weight"].half()),
        "module.bn1.running_mean": weights["bn1.running_mean"].bfloat16(),
        "module.bn1.num_batches_tracked": weights["bn1.num_batches_tracked"],
        "module.features.denseblock1.denselayer1.norm1.weight": ramp(3).double(),
        "module.features.denseblock1.denselayer12.conv2.weight": ramp(1, 2, 1, 1),
    }
)
torch.save({"epoch": 3, "best": 0.5, "arch": "resnet50", "state_dict": mixed}, here / "checkpoint.pth")
save_file({name.removeprefix("module."): value.data for name, value in mixed.items()}, here / "mixed.safetensors")

# views: a transpose, a slice with an offset, a tied weight
whole = ramp(4, 3)
views = {
    "transposed": whole.t(),
    "slice": whole[1:3, 1:],
    "tied": whole,
    "channels_last": ramp(2, 3, 2, 2).to(memory_format=torch.channels_last),
}
torch.save(views, here / "views.pth")
