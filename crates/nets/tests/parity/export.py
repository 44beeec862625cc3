"""Loads ours.safetensors into torchvision, and saves its trunk in torchvision's ways; see export.rs.

    python export.py BACKBONE FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file, save_file

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
