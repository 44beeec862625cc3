"""What timm's and torchvision's ConvNeXt compute, for the test in ../convnext.rs.

    python make.py                writes model.safetensors (timm's names) and expected.safetensors beside this file
    python make.py --tiny FOLDER  the same of ConvNeXt-T into FOLDER (110 MB), to compare by hand

Random weights of 5 blocks, 8 to 32 wide. Images are made as in ../dinov2. `map_SIDE` is the last map, `[1, h, w, K]`, before
the head's layer norm. Made with torch 2.15.0, timm 1.0.31 and torchvision 0.29.2 on a CPU, in f32; the script checks that
torchvision's network of the same weights says the same, and writes them as torchvision.pth.
"""

import argparse
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from make import uniform  # noqa: E402

TEST = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))
TINY = dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768))


def torchvisions(name):
    """torchvision's name of timm's tensor."""
    part = name.split(".")
    if part[0] == "stem":
        return ".".join(["features", "0", *part[1:]])
    stage = int(part[1])
    if part[2] == "downsample":
        return ".".join(["features", str(2 * stage), *part[3:]])
    field = ".".join(part[4:])
    for ours, theirs in [("conv_dw", "block.0"), ("norm", "block.2"), ("mlp.fc1", "block.3"), ("mlp.fc2", "block.5"), ("gamma", "layer_scale")]:
        field = field.replace(ours, theirs) if field.startswith(ours) else field
    return f"features.{2 * stage + 1}.{part[3]}.{field}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", type=Path)
    folder = parser.parse_args().tiny
    shape, sides = (TEST, [64, 96]) if folder is None else (TINY, [224])
    folder = folder or HERE
    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    model = timm.models.convnext.ConvNeXt(num_classes=7, **shape).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.normal_(0, 1.0 / tensor[0].numel() ** 0.5)
            elif name.endswith("bias"):
                tensor.normal_(0, 0.2)
            else:
                tensor.uniform_(0.5, 1.5)
    settings = [
        CNBlockConfig(width, following, depth)
        for width, following, depth in zip(shape["dims"], [*shape["dims"][1:], None], shape["depths"])
    ]
    other = ConvNeXt(settings, layer_scale=1.0, num_classes=7).eval()
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    theirs = other.state_dict()
    for name, tensor in state.items():
        theirs[torchvisions(name)] = tensor.reshape(theirs[torchvisions(name)].shape)
    other.load_state_dict(theirs)
    tensors = {}
    for side in sides:
        image = uniform("pictures", [1, side, side, 3], -2.0, 2.0, side).permute(0, 3, 1, 2)
        with torch.no_grad():
            tensors[f"map_{side}"] = model.forward_features(image).permute(0, 2, 3, 1).contiguous()
            same = other.features(image).permute(0, 2, 3, 1)
        print(side, "torchvision:", (same - tensors[f"map_{side}"]).abs().max().item())
    save_file(tensors, folder / "expected.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    torch.save(other.state_dict(), folder / "torchvision.pth")


main()
