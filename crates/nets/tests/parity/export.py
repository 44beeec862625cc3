"""Loads ours.safetensors into torchvision, and saves its trunk in torchvision's ways; see export.rs.

    python export.py BACKBONE FOLDER

Needs torch and torchvision, 1.13 and 0.14 (Debian 12's) or newer, and NumPy.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision


def load_file(path):
    """As safetensors.torch, which Debian does not have: every tensor of an f32 file."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    assert all(entry["dtype"] == "F32" for entry in header.values())
    data = lambda first, end: np.frombuffer(content[start + first : start + end], "<f4").copy()
    return {name: torch.from_numpy(data(*entry["data_offsets"])).reshape(entry["shape"]) for name, entry in header.items()}


def save_file(tensors, path):
    """As safetensors.torch."""
    dtypes = {torch.float32: "F32", torch.int64: "I64"}
    header, data = {}, b""
    for name, tensor in tensors.items():
        values = tensor.contiguous().numpy().tobytes()
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": dtypes[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        data += values
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


backbone, folder = sys.argv[1], Path(sys.argv[2])
net = getattr(torchvision.models, backbone)(num_classes=15)
missing, unexpected = net.load_state_dict(load_file(folder / "ours.safetensors"), strict=False)
assert not unexpected, unexpected
assert all(name.endswith("num_batches_tracked") for name in missing), missing
net.load_state_dict(load_file(folder / "ours.safetensors"))  # strict: torch itself excuses num_batches_tracked

net.eval()
pictures = torch.from_numpy(np.load(folder / "pictures.npy")).permute(0, 3, 1, 2)
with torch.no_grad():
    np.save(folder / "logits.npy", net(pictures).numpy())

full = getattr(torchvision.models, backbone)()
state = full.state_dict()
state.update({name: value for name, value in net.state_dict().items() if not name.startswith(("fc.", "classifier."))})
full.load_state_dict(state)
torch.save(full.state_dict(), folder / "zip.pth")
torch.save(full.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
save_file(full.state_dict(), folder / "theirs.safetensors")
