"""Training and evaluation steps, ours beside PyTorch's, interleaved in one run.

    python3 bench_cpu.py EXAMPLES [--cases resnet50-train,resnet50-evaluate,...] [--threads N] [--pairs 7]
    python3 bench_cpu.py EXAMPLES --layers

EXAMPLES is the folder with the built examples of crates/nets. PyTorch is installed into a venv of its own (--venv, default
~/.cache/agcnn-bench) the first time. It runs in the better of its modes: channels_last, with a malloc that keeps its
memory. Both processes live through all pairs of a case; each pair is a step of ours, then one of PyTorch's.

Prints a line per case, and `ratio NAME VALUE`: median over the pairs of ours / PyTorch's images per second, above 1 is
faster. Ends with exit code 1, without a conclusion, where other processes used more than 5 % of the machine.

With --layers, ours alone: every convolution of ResNet-50 and DenseNet-121 beside what this machine can multiply and
copy, and the share of every operator in a training step.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

CASES = [
    "resnet50-train",
    "resnet50-evaluate",
    "resnet50-train-bf16",
    "resnet18-train",
    "resnet18-evaluate",
    "densenet121-train",
    "densenet121-evaluate",
]
MALLOC = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
HERE = Path(__file__).parent


class Peer:
    """A process that runs a step for every line it gets."""

    def __init__(self, command, env):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=os.environ | env)
        self.name = self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with code {self.process.wait()}")
        return line.strip()

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        return self.line()

    def step(self, what):
        return float(self.ask(what))

    def status(self):
        """(Peak of the resident memory in MB, minor page faults, seconds of CPU)."""
        folder = Path("/proc", str(self.process.pid))
        peak = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("VmHWM"))
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return int(peak.split()[1]) / 1024, int(fields[7]), sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def busy():
    """Seconds that the machine's CPUs have worked since it started, and that others took from it."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def torch_python(venv):
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"installing PyTorch into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "torchvision"], check=True)
    return python


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--venv", type=Path, default=Path.home() / ".cache" / "agcnn-bench")
    args = parser.parse_args()
    if args.layers:
        for backbone in ("resnet50", "densenet121"):
            shape = [backbone, str(args.batch), str(args.side), "f32", str(args.pairs)]
            env = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
            subprocess.run([args.examples / "step_profile", *shape], check=True, env=env)
        return
    python = torch_python(args.venv)

    ratios, disturbed = [], []
    for case in args.cases.split(","):
        backbone, what, precision = [*case.split("-"), "f32"][:3]
        shape = [backbone, str(args.batch), str(args.side), precision]
        ours = Peer([args.examples / "step_speed", *shape], {"RAYON_NUM_THREADS": str(args.threads)})
        script = [python, HERE / "step_torch.py", *shape, str(args.threads)]
        peer = Peer(script, {"GLIBC_TUNABLES": MALLOC})
        both = (ours, peer)
        for _ in range(2):
            [process.step(what) for process in both]
        before, all_before = [process.status() for process in both], busy()
        pairs = [[process.step(what) for process in both] for _ in range(args.pairs)]
        after, all_after = [process.status() for process in both], busy()
        seconds = sum(map(sum, pairs))
        own = sum(now[2] - then[2] for then, now in zip(before, after))
        others = (all_after - all_before - own) / (seconds * os.cpu_count())
        if others > 0.05:
            disturbed.append(f"{case}: other processes used {others:.0%} of the machine")
        speeds = [args.batch / median(column) for column in zip(*pairs)]
        ratio = median(theirs / own for own, theirs in pairs)
        faults = (after[0][1] - before[0][1]) / args.pairs
        print(
            f"{case}, batch {args.batch}, {args.side} px: {speeds[0]:.1f} images/s ({ours.name}), "
            f"{speeds[1]:.1f} ({peer.name}); {after[0][0]:.0f} MB, {after[1][0]:.0f} MB; "
            f"{faults:.0f} minor faults per step of ours",
            flush=True,
        )
        ratios.append(f"ratio {case.replace('evaluate', 'eval')} {ratio:.2f}")
        ratios.append(f"ratio {case.replace('evaluate', 'eval')}-memory {after[1][0] / after[0][0]:.2f}")
        [process.close() for process in both]
    if disturbed:
        sys.exit("no conclusion: " + "; ".join(disturbed))
    print("\n".join(ratios))


if __name__ == "__main__":
    main()
