"""What PyTorch computes for resnet50 and densenet121, for the test beside it.

    python make.py resnet50|densenet121 [--search N]

Writes CASE/expected.safetensors. Made with torch 2.15.0 and torchvision 0.29.2 on a CPU, in f32 unless said otherwise.

The networks are torchvision's with 15 outputs, and global max pooling in place of average pooling. Weights, pictures and
targets are not stored: `uniform` makes them here and in main.rs, bit for bit, from their names and a salt.

The backward pass is piecewise smooth: where a ReLU's input or the gap between two candidates of a maximum is as small as
the rounding error, two correct programs take different branches and their gradients differ by far more than rounding. A
comparison at 1e-6 therefore needs an example without such points. Two choices make one: the shifts of the batch norms are
positive, so that most ReLUs are far from zero (and the network does not amplify rounding: with shifts around 0, PyTorch's
own f32 and f64 losses part by 70 % within ten steps), and `--search N` tries the salts 0 to N - 1 and prints for each the
smallest distance to a branch, in units of PyTorch's own RMS error there. SALT has the best of some hundred.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

SALT = {"resnet50": 47, "densenet121": 223}
SIDE = 64
BATCH = 4
OUTPUTS = 15
SAMPLE = 128
STEPS, LR, MOMENTUM, WEIGHT_DECAY = 10, 0.002, 0.9, 1e-4

MASK = (1 << 64) - 1


def mixed(x):
    """splitmix64's output function, elementwise on uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def bits(name, count, salt):
    """`count` uint64 from FNV-1a of the name."""
    start = 0xCBF29CE484222325 ^ salt
    for byte in name.encode():
        start = ((start ^ byte) * 0x100000001B3) & MASK
    step = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed(np.uint64(start) + step)


def uniform(name, shape, low, high, salt):
    """f32 in low .. high; computed in f64 and rounded once."""
    count = int(np.prod(shape, dtype=np.int64))
    unit = (bits(name, count, salt) >> np.uint64(40)).astype(np.float64) / (1 << 24)
    values = low + (high - low) * unit
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def value(name, shape, salt):
    """A parameter or running statistic by its name and shape."""
    if len(shape) > 1:  # variance 2 / fan-in for a convolution, a hundredth of that for the head
        fan = int(np.prod(shape[1:]))
        bound = float(np.sqrt((6.0 if len(shape) == 4 else 0.06) / fan))
        return uniform(name, shape, -bound, bound, salt)
    if name.endswith("running_var"):
        return uniform(name, shape, 0.5, 1.5, salt)
    if name.endswith("weight"):
        return uniform(name, shape, 0.75, 1.25, salt)
    if name.endswith("bias"):
        return uniform(name, shape, 0.25, 2.0, salt)
    return uniform(name, shape, -0.1, 0.1, salt)


class Max(nn.Module):
    def forward(self, x):
        return x.amax((2, 3), keepdim=True)


def network(case, salt):
    torch.manual_seed(0)
    net = getattr(torchvision.models, case)(num_classes=OUTPUTS)
    if case == "densenet121":
        # torchvision's forward calls F.adaptive_avg_pool2d
        def forward(x):
            x = torch.relu(net.features(x)).amax((2, 3))
            return net.classifier(x)

        net.forward = forward
    else:
        net.avgpool = Max()
    state = net.state_dict()
    for name, old in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = value(name, tuple(old.shape), salt)
    net.load_state_dict(state)
    return net


def example(salt):
    """Pictures, as [N, S, S, 3] like ours, and targets."""
    pictures = uniform("pictures", (BATCH, SIDE, SIDE, 3), -2.0, 2.0, salt)
    targets = (uniform("targets", (BATCH, OUTPUTS), 0.0, 1.0, salt) < 0.3).float()
    return pictures.permute(0, 3, 1, 2).contiguous(), targets


def gradients(net, pictures, targets):
    net.train()
    net.zero_grad()
    logits = net(pictures)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    loss.backward()
    return logits.detach(), loss.detach(), {name: p.grad.detach().double() for name, p in net.named_parameters()}


def branch_points(net, pictures):
    """What the forward pass compares with zero: inputs of ReLUs, gaps between the candidates of maxima."""
    found, handles = [], []

    def gap(candidates):
        first, second = candidates.topk(2, dim=2).values.unbind(2)
        return torch.where(first > 0, first - second, torch.inf)

    def relu(_, inputs):
        found.append(inputs[0].detach().clone())

    def stem(_, inputs):
        (x,) = inputs
        windows = nn.functional.unfold(nn.functional.pad(x, (1, 1, 1, 1)), 3, stride=2)
        found.append(gap(windows.reshape(*x.shape[:2], 9, -1)))

    def last(_, __, output):
        found.append(output)
        found.append(gap(torch.relu(output).flatten(2)))

    for module in net.modules():
        if isinstance(module, nn.ReLU):
            handles.append(module.register_forward_pre_hook(relu))
        if isinstance(module, nn.MaxPool2d):
            handles.append(module.register_forward_pre_hook(stem))
    handles.append((net.features if hasattr(net, "features") else net.layer4).register_forward_hook(last))
    net.train()
    with torch.no_grad():
        net(pictures)
    for handle in handles:
        handle.remove()
    return found


def margin(case, salt):
    """The smallest distance to a branch in units of the f32 error (RMS) of the same layer and channel."""
    pictures, _ = example(salt)
    single = branch_points(network(case, salt), pictures)
    double = branch_points(network(case, salt).double(), pictures.double())
    least = np.inf
    for a, b in zip(single, double):
        a, b = (x.transpose(0, 1).flatten(1).double() for x in (a, b))  # [C, everything else]
        both = a.isfinite() & b.isfinite()
        error = torch.where(both, a - b, 0.0).square().mean(1, keepdim=True).sqrt()
        distance = torch.where(both & (b != 0), b.abs() / error, torch.inf)
        least = min(least, distance.min().item())
    return least


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def make(case):
    salt = SALT[case]
    pictures, targets = example(salt)
    net = network(case, salt)
    out = {}

    net.eval()
    with torch.no_grad():
        out["eval_logits"] = net(pictures)
    logits, loss, single = gradients(net, pictures, targets)
    out["train_logits"], out["train_loss"] = logits, loss.reshape(1)
    double_logits, double_loss, double = gradients(network(case, salt).double(), pictures.double(), targets.double())
    print("loss", loss.item(), double_loss.item(), "logits", relative(logits.double(), double_logits))

    errors = []
    for name, exact in double.items():
        exact, got = exact.flatten(), single[name].flatten()
        index = np.arange(len(exact))
        if len(exact) > SAMPLE:
            index = (bits(f"sample {name}", SAMPLE, salt) % np.uint64(len(exact))).astype(np.int64)
        index = torch.from_numpy(index)
        out[f"grad {name}"] = exact[index]
        # PyTorch's own error over the sample and over the whole tensor, and the norm of the whole
        out[f"error {name}"] = torch.tensor(
            [relative(got[index], exact[index]), relative(got, exact), exact.norm().item()], dtype=torch.float64
        )
        errors.append(relative(got, exact))
    print("gradient errors: median", np.median(errors), "max", max(errors))

    def train(net, pictures, targets):
        optimizer = torch.optim.SGD(net.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        losses = []
        for _ in range(STEPS):
            _, loss, _ = gradients(net, pictures, targets)
            optimizer.step()
            losses.append(loss.item())
        net.eval()
        with torch.no_grad():
            return torch.tensor(losses, dtype=torch.float64), net(pictures)

    out["losses"], out["logits_after"] = train(network(case, salt), pictures, targets)
    losses, after = train(network(case, salt).double(), pictures.double(), targets.double())
    print("losses", out["losses"].tolist())
    parted = (out["losses"] / losses - 1).abs().max().item()
    print("f32 against f64: losses", parted, "logits after", relative(out["logits_after"].double(), after))

    meta = {"torch": torch.__version__, "torchvision": torchvision.__version__, "salt": str(salt)}
    folder = Path(__file__).parent / case
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in out.items()}, folder / "expected.safetensors", meta)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=list(SALT))
    parser.add_argument("--search", type=int, default=0, metavar="N")
    args = parser.parse_args()
    if args.search:
        for salt in range(args.search):
            print(salt, margin(args.case, salt), flush=True)
    else:
        make(args.case)
