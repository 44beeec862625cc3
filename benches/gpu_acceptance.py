"""What a GPU must show, in parts that each end within four minutes; on the machine that has it, with what
benches/gpu_programs.py packed there.

    python3 gpu_acceptance.py PROGRAMS                    all parts, in this order, whatever the one before said
    python3 gpu_acceptance.py PROGRAMS data               beforehand; the only part that needs no GPU
    python3 gpu_acceptance.py PROGRAMS parity speed       these two

    data       4,000 synthetic images of 256 px, made on the CPU and kept; precision and pipeline make them where they are missing
    parity     every operator, forward and gradients, against f64 and finite differences; networks, trainings and
               checkpoints against the CPU's; ten losses against PyTorch's fixture
    speed      bench_gpu.py: ResNet-50 and DenseNet-121 at batch 128 beside PyTorch, ResNet-50 beside torch.compile too;
               its own flags measure more
    precision  six short trainings of a ResNet-50, f32 and bf16 from three seeds each, whose AUROC must lie within each
               other's spread
    pipeline   every stage once, and how near training's images per second come to the bare step's

A part that reaches --limit is ended: what it measured stays, what it did not run is named and counts as failed.
The result file, GPU-COMMIT.md, has a section for each part, with its seconds; a call replaces those of its own parts only.
Ends with 0 where all holds, with 1 where something failed, with 2 where there is no GPU or no programs.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from gpu_programs import STAGES, TESTS, stop, unpacked

HERE = Path(__file__).resolve().parent
CRATES = HERE.parent / "crates"
# Seconds that bench_gpu.py has to say what it did not run.
MARGIN = 5
# What the speed part leaves out of bench_gpu.py, so that it ends in time.
SKIP = "densenet121 (whole|.*compiled)|evaluate.*compiled"
TRAINED = """
backbone = "resnet50"
init = "random"
epochs = 6
batch = 128
eval_batch = 128
lr = 0.05
schedule = "cosine"
warmup_epochs = 1
crop = 224
"""
PROFILE = f"""
[phantom]
patients = 1600
size = 256
contrast = 1.5
[prep]
root = "phantom"
split = "official"
size = 256
[global]{TRAINED}[local]{TRAINED}"""
# Half the batch and half the rate: twice the steps of as many images.
SHORT = [f"--set=global.{setting}" for setting in ("epochs=5", "batch=64", "lr=0.025")]


class Over(Exception):
    """A part has reached its limit."""


class Stopped(Exception):
    """A part cannot go on."""


def with_section(text, heading, title, body):
    """The text of a result file with that section in the place of the one of this title; the others stay as they are."""
    titles = [part.capitalize() for part in PARTS]
    pieces = re.split(rf"^## ({'|'.join(titles)})$", text, flags=re.MULTILINE)
    sections = dict(zip(pieces[1::2], pieces[2::2])) | {title: body}
    written = [f"## {each}\n\n{sections[each].strip()}\n" for each in titles if each in sections]
    return "\n".join([f"# {heading}\n", *written])


def replace(file, text):
    """Writes the file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(text)
    os.replace(beside, file)


def end(process):
    """Ends a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


class Part:
    """A section of the result file, written as it grows, and the clock that ends what it runs."""

    def __init__(self, name, file, heading, limit):
        self.title, self.file, self.heading, self.limit = name.capitalize(), file, heading, limit
        self.start, self.lines, self.failed, self.todo = time.monotonic(), [], [], []
        print(f"\n## {self.title}\n", flush=True)
        self.write()

    def seconds(self):
        return time.monotonic() - self.start

    def left(self):
        return self.limit - self.seconds()

    def write(self, ended=None):
        if self.file:
            head = ended or f"Has not ended; not run yet: {', '.join(self.todo)}."
            text = self.file.read_text() if self.file.exists() else ""
            replace(self.file, with_section(text, self.heading, self.title, "\n".join([head, "", *self.lines])))

    def say(self, line):
        print(line, flush=True)
        self.lines.append(line)
        self.write()

    def quote(self, text):
        if text.strip():
            self.say(f"\n```\n{text.strip()}\n```\n")

    def check(self, what, holds, figures=""):
        if not holds:
            self.failed.append(what)
        self.say(f"- {'holds' if holds else 'FAILS'}: {what} {figures}".rstrip())

    def plan(self, names):
        """What the part will run; `done` takes a name off this list, and what is left at the end was not run."""
        self.todo = list(names)
        self.write()

    def done(self, name):
        self.todo.remove(name)
        self.write()

    def run(self, command, given="", shown=False, **more):
        """Exit code and output of a program, of which nothing is left when the part's time is over."""
        if self.left() <= 0:
            raise Over
        with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+", errors="replace") as output:
            asked.write(given)
            asked.seek(0)
            more |= {"stdin": asked, "stdout": None if shown else output, "stderr": output}
            process = subprocess.Popen(command, start_new_session=True, **more)
            try:
                process.wait(timeout=self.left())
            except subprocess.TimeoutExpired:
                output.seek(0)
                self.quote(output.read()[-2000:])
                raise Over from None
            finally:
                end(process)
            output.seek(0)
            return process.returncode, output.read()

    def end(self, why):
        if self.todo:
            self.check(f"not run: {', '.join(self.todo)}", False, f"({why})")
        says = f"{len(self.failed)} failed" if self.failed else "all hold"
        line = f"{self.seconds():.0f} s of at most {self.limit:.0f}: {says}."
        print(line, flush=True)
        self.write(line)


def number(pattern, text):
    """The last number that the pattern finds."""
    found = re.findall(pattern, text)
    if not found:
        raise Stopped(f"no {pattern} in what it says")
    return float(found[-1])


def stage(part, here, name, artifacts, *more):
    """Runs a stage; what it says."""
    device = ["--device", "cuda"] if name in ("global", "attend", "local", "fusion") else []
    command = [here.folder / name, "--config", "profile.toml", "--artifacts-dir", artifacts, *device, *more]
    code, said = part.run(command, cwd=here.data, env=os.environ | here.environment)
    if code:
        part.quote(said[-4000:])
        raise Stopped(f"{name} ended with {code}")
    return said


def are_made(here):
    """Whether these programs have made the data, or found them current."""
    stamp = here.data / "made"
    return stamp.is_file() and stamp.read_text() == here.commit + PROFILE and (here.data / "artifacts/default/prep").exists()


def data(part, here):
    here.data.mkdir(parents=True, exist_ok=True)
    (here.data / "profile.toml").write_text(PROFILE)
    part.plan(["phantom", "prep"])
    for name in list(part.todo):
        start = part.seconds()
        stage(part, here, name, "artifacts")
        part.say(f"- {name}: {part.seconds() - start:.0f} s")
        part.done(name)
    replace(here.data / "made", here.commit + PROFILE)


def runs_on_data(here, name):
    """A folder of artefacts that has the data and nothing else, so that everything behind them runs."""
    if not are_made(here):
        raise Stopped("no data")
    shutil.rmtree(here.data / name, ignore_errors=True)
    shutil.copytree(here.data / "artifacts", here.data / name, symlinks=True, copy_function=os.link)
    return name


def parity(part, here):
    part.plan(TESTS)
    for name in TESTS:
        crate = CRATES / ("nets" if name in ("cuda", "parity") else "ops")
        env = os.environ | here.environment | {"AGCNN_DEVICE": "cuda", "CARGO_MANIFEST_DIR": str(crate)}
        start = part.seconds()
        code, said = part.run([here.folder / f"test-{name}", "--nocapture", "--skip", "torchvision"], env=env, cwd=crate)
        result = re.findall(r"test result: (.*?); finished", said) or ["no result"]
        part.done(name)
        part.check(f"{crate.name}, {name}", code == 0, f"{result[0]}, {part.seconds() - start:.0f} s")
        if name == "parity":
            part.quote("\n".join(line for line in said.splitlines() if re.search(r"loss|logits|ratio", line)))
        if code:
            part.quote(said[-4000:])


def speed(part, here):
    part.plan(["the rest of the benchmark"])
    out = here.results / "speed.new"
    out.unlink(missing_ok=True)
    flags = ["--batches", "128", "--rounds", "5", "--fit-steps", "30", "--skip", SKIP, "--out", out]
    command = [sys.executable, HERE / "bench_gpu.py", here.programs, *flags, "--limit", str(max(1, part.left() - MARGIN))]
    try:
        code, said = part.run(command, shown=True)
        part.todo.clear()
    finally:
        if out.exists():
            # Its heading is this file's.
            part.lines += [line for line in out.read_text().splitlines() if not line.startswith("# ")] + [""]
            out.unlink()
    part.check("the benchmark ran, and all of it", code == 0)
    if code:
        part.quote(said[-4000:])


def precision(part, here):
    pairs = [(precision, seed) for seed in "123" for precision in ("f32", "bf16")]
    compared = "bf16 beside f32"
    part.plan([*[f"{precision}-{seed}" for precision, seed in pairs], compared])
    artifacts = runs_on_data(here, "precision")
    auroc = {"f32": [], "bf16": []}
    for precision, seed in pairs:
        run, start = f"{precision}-{seed}", part.seconds()
        try:
            for name in ("phantom", "prep", "global"):  # the store has the first two
                said = stage(part, here, name, artifacts, "--run", run, "--seed", seed, *SHORT, f"--set=global.precision={precision}")
            value, images = number(r"mean AUROC .*?([0-9.]+) on test", said), number(r"(\d+) images/s", said)
            auroc[precision].append(value)
            part.say(f"- {run}: mean AUROC {value:.4f} on test, {images:.0f} images/s, {part.seconds() - start:.0f} s")
        except Stopped as why:
            part.check(run, False, f"({why})")
        part.done(run)
    if min(map(len, auroc.values())) < 3:
        raise Stopped("a training failed")
    spread = max(auroc["f32"]) - min(auroc["f32"])
    apart = abs(sum(auroc["bf16"]) - sum(auroc["f32"])) / 3
    part.done(compared)
    part.check("bf16 reaches f32's AUROC within the spread of its seeds", apart <= spread, f"({apart:.4f}, spread {spread:.4f})")


def pipeline(part, here):
    part.plan(["bare step", *STAGES])
    artifacts = runs_on_data(here, "pipeline")
    command = [here.folder / "step_speed", "resnet50", "128", "224", "bf16", "cuda"]
    code, said = part.run(command, given="train 20\ntrain 60\n", env=os.environ | here.environment)
    if code:
        part.quote(said[-4000:])
        raise Stopped(f"step_speed ended with {code}")
    bare = 128 / number(r"(?m)^([0-9.e-]+)$", said)
    part.say(f"- bare step: {bare:.0f} images/s")
    part.done("bare step")
    for name in STAGES:
        start = part.seconds()
        said = stage(part, here, name, artifacts, "--set=global.precision=bf16", "--set=local.precision=bf16")
        part.say(f"- {name}: {part.seconds() - start:.0f} s")
        part.done(name)
        if name == "global":
            # The first epoch is warming up.
            epochs = list(map(float, re.findall(r"(\d+) images/s", said)))[1:]
            share = median(epochs or [0]) / bare
            part.check("training's images/s are at least 90 % of the bare step's", share >= 0.9, f"({share:.0%} of {bare:.0f})")


PARTS = {"data": data, "parity": parity, "speed": speed, "precision": precision, "pipeline": pipeline}


def gpu():
    """Name and driver of the first GPU, or nothing."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return lines[0] if lines and "," in lines[0] else None


def run_part(name, here, file, heading):
    """Runs a part; whether all of it holds."""
    part, why = Part(name, file, heading, here.limit), "interrupted"
    try:
        PARTS[name](part, here)
    except Over:
        why = f"the limit of {here.limit:.0f} s"
    except (Stopped, OSError, ValueError) as stopped:
        why = f"{stopped}"
        if not part.todo:
            part.check(f"{name} goes to its end", False, f"({why})")
    finally:
        part.end(why)
    return not part.failed


def known(text):
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"no part {text}, expected {', '.join(PARTS)}")
    return text


def seconds(text):
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}, expected seconds above 0")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, metavar="PROGRAMS", help="folder with programs.tar.xz, which gpu_programs.py packs")
    parser.add_argument("parts", nargs="*", type=known, metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--limit", type=seconds, default=240, metavar="SECONDS", help="of each part; default: %(default)s")
    where = "of the result file; default: benches/results"
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER", help=where)
    where = "of the synthetic data and the runs on them, kept for the next call; default: beside the unpacked programs"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=where)
    here = parser.parse_intermixed_args()
    asked = [name for name in PARTS if not here.parts or name in here.parts]
    device = gpu()
    if not device and asked != ["data"]:
        stop("no GPU: nvidia-smi is missing or names none", "run it on a machine with one; the part `data` needs none")
    here.folder, here.environment = unpacked(here.programs)
    here.commit = (here.folder / "commit").read_text().strip()
    here.results, here.data = here.results.resolve(), (here.data or here.folder / "data").resolve()
    here.programs = here.programs.resolve()
    if {"precision", "pipeline"} & set(asked) and "data" not in asked and not are_made(here):
        asked.insert(0, "data")
    heading = f"{device}, commit {here.commit}"
    name = re.sub(r"[^A-Za-z0-9]+", "-", (device or "").split(",")[0]).strip("-").lower()
    file = here.results / f"{name}-{here.commit}.md" if device else None
    # So that what runs is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        failed = [name for name in asked if not run_part(name, here, file, heading)]
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n" + (f"failed: {', '.join(failed)}" if failed else "all hold") + (f"; {file}" if file else ""))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
