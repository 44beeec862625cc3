"""What Hugging Face's DINOv2 computes, for the test in ../dinov2.rs.

    python make.py                 writes model.safetensors and expected.safetensors beside this file
    python make.py --vitb FOLDER   the same of a ViT-B/14's true shape into FOLDER (350 MB), to compare by hand

The weights are random: model.safetensors is a `Dinov2Model` of 2 layers, 32 wide, for images of 56 px, as `save_pretrained`
writes it. Images are not stored: `uniform` of ../make.py makes them here and in the test. expected.safetensors has all
tokens behind the last layer norm, `[1, 1 + h w, K]`, for images of several sides, so that position embeddings are taken as
they are, enlarged and made smaller. Made with torch 2.15.0 and transformers 5.24.0 on a CPU, in f32.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from make import uniform  # noqa: E402

TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=56)
VITB = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vitb", type=Path)
    folder = parser.parse_args().vitb
    shape, sides = (TINY, [28, 56, 84]) if folder is None else (VITB, [224, 518])
    folder = folder or HERE
    torch.manual_seed(1)
    model = Dinov2Model(Dinov2Config(patch_size=14, mlp_ratio=4, **shape)).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1 and "token" not in name and "position" not in name:
                # attention that is not the same everywhere
                tensor.normal_(0, 1.5 / tensor[0].numel() ** 0.5)
            elif tensor.ndim > 1:
                tensor.normal_(0, 0.5)
            elif name.endswith("bias"):
                tensor.normal_(0, 0.2)
            else:
                tensor.uniform_(0.5, 1.5)
    folder.mkdir(exist_ok=True)
    tensors = {}
    for side in sides:
        image = uniform("pictures", [1, side, side, 3], -2.0, 2.0, side)
        with torch.no_grad():
            tensors[f"tokens_{side}"] = model(image.permute(0, 3, 1, 2)).last_hidden_state.contiguous()
    save_file(tensors, folder / "expected.safetensors")
    model.save_pretrained(folder)
    (folder / "config.json").unlink()


main()
