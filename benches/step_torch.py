"""As crates/nets/examples/step_speed.rs, in PyTorch's best modes: channels_last, f32, tf32 or bf16 autocast.

    python step_torch.py BACKBONE BATCH SIDE f32|tf32|bf16 THREADS [cpu|cuda|compile]

Every line `train` or `evaluate` on stdin, with a number behind it if it is not 1, runs so many such steps and prints the
seconds that each took; `memory` prints the MB of the GPU's memory in use at most, and kept at most. On a GPU with
cudnn.benchmark and the fused optimiser; `compile` is `cuda` through torch.compile.
"""

import contextlib
import sys
import time

import torch
import torchvision
from torch import nn

backbone, batch, side, precision, threads, mode = [*sys.argv[1:], "cpu"][:6]
device = "cpu" if mode == "cpu" else "cuda"
torch.set_num_threads(int(threads))
torch.backends.cudnn.benchmark = True
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
torch.manual_seed(1)
net = getattr(torchvision.models, backbone)(num_classes=15).to(device, memory_format=torch.channels_last)
fused = {"fused": True} if device == "cuda" else {}
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, **fused)
loss_of = nn.BCEWithLogitsLoss()
x = torch.randn(int(batch), 3, int(side), int(side), device=device).contiguous(memory_format=torch.channels_last)
y = torch.zeros(int(batch), 15, device=device)
cast = torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
run = torch.compile(net) if mode == "compile" else net
where = f"{threads} threads" if device == "cpu" else torch.cuda.get_device_name()
print(f"torch {torch.__version__} {mode}, {precision}, {where}", flush=True)


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


def train():
    optimizer.zero_grad(set_to_none=True)
    with cast:
        logits = run(x)
    loss_of(logits.float(), y).backward()
    optimizer.step()


def evaluate():
    with torch.inference_mode(), cast:
        run(x)


for line in sys.stdin:
    what, times = [*line.split(), "1"][:2]
    if what == "memory":
        most = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if device == "cuda" else (0, 0)
        print(most[0] // 10**6, most[1] // 10**6, flush=True)
        continue
    net.train(what == "train")
    step = train if what == "train" else evaluate
    start = time.perf_counter()
    for _ in range(int(times)):
        step()
    wait()
    print((time.perf_counter() - start) / int(times), flush=True)
