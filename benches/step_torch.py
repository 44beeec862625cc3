"""As crates/nets/examples/step_speed.rs, in PyTorch's best modes on a CPU: channels_last, f32 or bf16 autocast.

    python step_torch.py BACKBONE BATCH SIDE f32|bf16 THREADS

Every line `train` or `evaluate` on stdin runs one such step and prints the seconds it took.
"""

import contextlib
import sys
import time

import torch
import torchvision
from torch import nn

backbone, batch, side, precision, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
torch.manual_seed(1)
net = getattr(torchvision.models, backbone)(num_classes=15).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
loss_of = nn.BCEWithLogitsLoss()
x = torch.randn(int(batch), 3, int(side), int(side)).contiguous(memory_format=torch.channels_last)
y = torch.zeros(int(batch), 15)
cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
print(f"torch {torch.__version__}, {precision}, {threads} threads", flush=True)
for line in sys.stdin:
    what = line.strip()
    net.train(what == "train")
    start = time.perf_counter()
    if what == "train":
        optimizer.zero_grad(set_to_none=True)
        with cast:
            logits = net(x)
        loss_of(logits.float(), y).backward()
        optimizer.step()
    else:
        with torch.inference_mode(), cast:
            net(x)
    print(time.perf_counter() - start, flush=True)
