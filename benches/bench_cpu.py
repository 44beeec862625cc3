"""Training and evaluation steps, ours beside PyTorch's, interleaved in one run.

    python3 bench_cpu.py EXAMPLES [--cases resnet50-train,resnet50-evaluate,...] [--threads N] [--pairs 7]
    python3 bench_cpu.py EXAMPLES --layers

EXAMPLES is the folder with the built examples of crates/nets. PyTorch is installed into a venv of its own (--venv, default
~/.cache/agcnn-bench) the first time. It runs in the better of its modes: channels_last, with a malloc that keeps its
memory. Both processes live through all pairs of a case; each pair is a step of ours, then one of PyTorch's.

A case is BACKBONE-train or BACKBONE-evaluate, with -bf16 behind it for bf16, PyTorch's by autocast.

Prints a line per case, and `ratio NAME VALUE`: median over the pairs of ours / PyTorch's images per second, above 1 is
faster. Ends with exit code 1, without a conclusion, where other processes used more than 5 % of the machine. Either way
--results keeps the run in a file of its own, rewritten after every case: machine, versions, arguments, the seconds of
every pair. `just bench-history` has all of them in a table.

With --layers, ours alone: every convolution of ResNet-50 and DenseNet-121 beside what this machine can multiply and
copy, and the share of every operator in a training step.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import machine

CASES = [
    "resnet50-train",
    "resnet50-evaluate",
    "resnet50-train-bf16",
    "resnet50-evaluate-bf16",
    "resnet18-train",
    "resnet18-evaluate",
    "densenet121-train",
    "densenet121-evaluate",
    "densenet121-train-bf16",
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


def torch_python(venv):
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"installing PyTorch into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "torchvision"], check=True)
    return python


def torch_versions(python):
    ask = "from importlib.metadata import version; print(version('torch'), version('torchvision'))"
    torch, torchvision = (machine.said(python.absolute(), "-c", ask) or "- -").split()
    return {"torch": torch, "torchvision": torchvision}


def checked(cases):
    """The cases, or a message: an unknown precision would be measured as f32."""
    for case in cases:
        if not re.fullmatch(r"\w+-(train|evaluate)(-(f32|bf16))?", case):
            sys.exit(f"error: no case {case!r}, expected BACKBONE-train or BACKBONE-evaluate, then -bf16 if you like; hint: {CASES[0]}")
    return cases


def measure(case, args, python):
    """The pairs of a case, and what follows from them; all seconds and sides are ours first."""
    backbone, what, precision = [*case.split("-"), "f32"][:3]
    shape = [backbone, str(args.batch), str(args.side), precision]
    ours = Peer([args.examples / "step_speed", *shape], {"RAYON_NUM_THREADS": str(args.threads)})
    script = [python, HERE / "step_torch.py", *shape, str(args.threads)]
    both = (ours, Peer(script, {"GLIBC_TUNABLES": MALLOC}))
    for _ in range(2):
        [process.step(what) for process in both]
    before, all_before, start = [process.status() for process in both], machine.busy(), time.monotonic()
    pairs = [[process.step(what) for process in both] for _ in range(args.pairs)]
    after, all_after, wall = [process.status() for process in both], machine.busy(), time.monotonic() - start
    [process.close() for process in both]
    own = sum(now[2] - then[2] for then, now in zip(before, after))
    others = machine.others(all_after - all_before, own, wall)
    sides = [
        {
            "name": process.name,
            "images_per_second": args.batch / median(seconds),
            "peak_mb": now[0],
            "minor_faults_per_step": (now[1] - then[1]) / args.pairs,
        }
        for process, seconds, then, now in zip(both, zip(*pairs), before, after)
    ]
    ratios = [its / mine for mine, its in pairs]
    return {
        "case": case,
        "ours": sides[0],
        "peer": sides[1],
        "seconds": pairs,
        "ratio": median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "others": others,
        "disturbed": others > machine.LIMIT,
    }


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
    parser.add_argument("--results", type=Path, default=machine.RESULTS, help="folder of the file that keeps the run")
    args = parser.parse_args()
    if args.layers:
        for backbone in ("resnet50", "densenet121"):
            shape = [backbone, str(args.batch), str(args.side), "f32", str(args.pairs)]
            env = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
            subprocess.run([args.examples / "step_profile", *shape], check=True, env=env)
        return
    cases = checked(args.cases.split(","))
    python = torch_python(args.venv)

    # Paths are left out: they say nothing about speed.
    arguments = {"cases": cases} | {name: getattr(args, name) for name in ("batch", "side", "pairs", "threads")}
    run = machine.record("cpu", arguments, torch_versions(python))
    run["glibc_tunables"] = {"ours": os.environ.get("GLIBC_TUNABLES"), "peer": MALLOC}
    run["cases"] = []
    path = machine.new_file(run, args.results)
    for case in cases:
        done = measure(case, args, python)
        run["cases"].append(done)
        machine.write(path, run)
        ours, peer = done["ours"], done["peer"]
        print(
            f"{case}, batch {args.batch}, {args.side} px: {ours['images_per_second']:.1f} images/s ({ours['name']}), "
            f"{peer['images_per_second']:.1f} ({peer['name']}); {ours['peak_mb']:.0f} MB, {peer['peak_mb']:.0f} MB; "
            f"{ours['minor_faults_per_step']:.0f} minor faults per step of ours",
            flush=True,
        )
    print(f"kept in {path}", file=sys.stderr)
    disturbed = [f"{done['case']}: other processes used {done['others']:.0%} of the machine" for done in run["cases"] if done["disturbed"]]
    if disturbed:
        sys.exit("no conclusion: " + "; ".join(disturbed))
    for done in run["cases"]:
        name = done["case"].replace("evaluate", "eval")
        print(f"ratio {name} {done['ratio']:.2f}")
        print(f"ratio {name}-memory {done['peer']['peak_mb'] / done['ours']['peak_mb']:.2f}")


if __name__ == "__main__":
    main()
