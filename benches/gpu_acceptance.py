"""What a GPU must show, in one go; on the machine that has it, with what benches/gpu_programs.py packed.

    python3 gpu_acceptance.py PROGRAMS [parity] [speed] [pipeline]

All three by default, in this order, whatever the one before said. Parity: every operator, forward and gradients, against
f64 and finite differences; networks, trainings and checkpoints against the CPU's; ten losses against PyTorch's fixture.
Speed: bench_gpu.py. Pipeline: 10,000 synthetic images at 224 px; the global branch in f32 and bf16 from three seeds each, whose
AUROC must lie within each other's spread, and how near its images per second come to the bare step's; then every stage.
Everything is written to benches/results/GPU-COMMIT.md. Ends with 1 where something failed.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from gpu_programs import STAGES, TESTS, unpacked

HERE = Path(__file__).resolve().parent
CRATES = HERE.parent / "crates"
PHANTOM = """
[phantom]
patients = 4000
size = 256
contrast = 1.5
[prep]
root = "phantom"
split = "official"
size = 256
[global]
backbone = "resnet50"
init = "random"
epochs = 4
batch = 128
lr = 0.05
warmup_epochs = 1
crop = 224
[local]
backbone = "resnet50"
init = "random"
epochs = 4
batch = 128
lr = 0.05
warmup_epochs = 1
crop = 224
"""


class Report:
    def __init__(self, path):
        self.path, self.failed = path, []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def say(self, line=""):
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")

    def check(self, what, holds, figures=""):
        self.say(f"- {'holds' if holds else 'FAILS'}: {what} {figures}".rstrip())
        if not holds:
            self.failed.append(what)


def parity(report, folder, environment):
    report.say("\n## Parity\n")
    for name in TESTS:
        crate = CRATES / ("nets" if name in ("cuda", "parity") else "ops")
        env = os.environ | environment | {"AGCNN_DEVICE": "cuda", "CARGO_MANIFEST_DIR": str(crate)}
        arguments = ["--nocapture", "--skip", "torchvision"]
        done = subprocess.run([folder / f"test-{name}", *arguments], env=env, cwd=crate, capture_output=True, text=True)
        result = re.findall(r"test result: (.*?); finished", done.stdout) or ["no result"]
        report.check(f"{crate.name}, {name}", done.returncode == 0, result[0])
        if name == "parity":
            report.say("\n```\n" + "\n".join(line for line in done.stdout.splitlines() if re.search(r"loss|logits|ratio", line)) + "\n```\n")
        if done.returncode:
            report.say("\n```\n" + (done.stdout + done.stderr)[-4000:] + "\n```\n")


def speed(report, folder, environment, programs):
    out = report.path.with_suffix(".bench.md")
    done = subprocess.run([sys.executable, HERE / "bench_gpu.py", programs, "--out", out])
    report.say("\n## Speed\n")
    report.check("the benchmark ran", done.returncode == 0)
    if out.exists():
        report.say(out.read_text())
        out.unlink()


def pipeline(report, folder, environment):
    report.say("\n## Pipeline\n")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (work / "profile.toml").write_text(PHANTOM)

    def stage(name, *more):
        start = time.perf_counter()
        device = ["--device", "cuda"] if name in ("global", "attend", "local", "fusion") else []
        command = [folder / name, "--config", "profile.toml", *device, *more]
        done = subprocess.run(command, env=os.environ | environment, cwd=work, capture_output=True, text=True)
        if done.returncode:
            report.say("\n```\n" + done.stderr[-4000:] + "\n```\n")
            raise SystemExit(f"{name} ended with {done.returncode}")
        return done.stdout + done.stderr, time.perf_counter() - start

    said, seconds = zip(*[stage(name) for name in ("phantom", "prep")])
    report.say(f"- phantom {seconds[0]:.0f} s, prep {seconds[1]:.0f} s")
    auroc, images = {}, {}
    for precision in ("f32", "bf16"):
        for seed in ("1", "2", "3"):
            run = f"{precision}-{seed}"
            for name in ("phantom", "prep", "global"):  # the store has the first two
                said, _ = stage(name, "--run", run, "--seed", seed, "--set", f"global.precision={precision}")
            auroc[precision, seed] = float(re.findall(r"mean AUROC .*?([0-9.]+) on test", said)[0])
            images[precision, seed] = float(re.findall(r"(\d+) images/s", said)[-1])
            report.say(f"- {run}: mean AUROC {auroc[precision, seed]:.4f} on test, {images[precision, seed]:.0f} images/s")
    of = {p: [value for (q, _), value in auroc.items() if p == q] for p in ("f32", "bf16")}
    spread = max(of["f32"]) - min(of["f32"])
    apart = abs(sum(of["bf16"]) - sum(of["f32"])) / 3
    report.check("bf16 reaches f32's AUROC within the spread of its seeds", apart <= spread, f"({apart:.4f}, spread {spread:.4f})")
    peer = subprocess.run(
        [folder / "step_speed", "resnet50", "128", "224", "bf16", "cuda"],
        input="train 20\ntrain 60\n", env=os.environ | environment, capture_output=True, text=True, check=True,
    )
    bare = 128 / float(peer.stdout.split()[-1])
    share = sorted(images["bf16", seed] for seed in ("1", "2", "3"))[1] / bare
    report.check("training's images/s are at least 90 % of the bare step's", share >= 0.9, f"({share:.0%} of {bare:.0f})")
    took = [stage(name, "--set", "global.precision=bf16", "--set", "local.precision=bf16")[1] for name in STAGES]
    report.say("- every stage: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in zip(STAGES, took)))


def main():
    programs, parts = Path(sys.argv[1]), sys.argv[2:] or ["parity", "speed", "pipeline"]
    folder, environment = unpacked(programs)
    gpu = "no GPU"
    if shutil.which("nvidia-smi"):
        gpu = subprocess.check_output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], text=True).splitlines()[0]
    commit = (folder / "commit").read_text().strip()
    report = Report(HERE / "results" / (re.sub(r"[^A-Za-z0-9]+", "-", gpu.split(",")[0]).strip("-").lower() + f"-{commit}.md"))
    report.say(f"# {gpu}, commit {commit}")
    if "parity" in parts:
        parity(report, folder, environment)
    if "speed" in parts:
        speed(report, folder, environment, programs)
    if "pipeline" in parts:
        try:
            pipeline(report, folder, environment)
        except SystemExit as stopped:
            report.check(f"the pipeline runs ({stopped})", False)
    report.say(f"\n{len(report.failed)} failed" if report.failed else "\nall hold")
    sys.exit(bool(report.failed))


if __name__ == "__main__":
    main()
