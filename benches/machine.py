"""Where a measurement ran, what others used meanwhile, and the dated file that keeps it in benches/results."""

import json
import os
import platform
import re
import subprocess
import time
from datetime import datetime, timezone
from itertools import chain, count
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
# Of the format of the files.
VERSION = 1
# Share of the machine that others may use: above it, a measurement allows no conclusion.
LIMIT = 0.05
# Instruction sets that decide which kernels run, ours and PyTorch's; the last four are Arm's.
FLAGS = [
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "bf16", "sve", "sve2"),
]
# Environment variables that change speed.
TUNING = ("AGCNN_ISA", "ATEN_", "CARGO_BUILD_JOBS", "CARGO_INCREMENTAL", "CARGO_PROFILE_", "DNNL_", "GOMP_", "KMP_", "MALLOC_")
TUNING += ("MKL_", "OMP_", "ONEDNN_", "RUSTFLAGS")


def cpuinfo():
    """What Linux tells of the last CPU, empty elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def cpu():
    """The name of the CPU, where Linux tells it."""
    named = cpuinfo()
    if "CPU part" in named:
        return f"{platform.machine()}, implementer {named.get('CPU implementer')}, part {named['CPU part']}"
    if "model name" not in named:
        return platform.processor() or platform.machine()
    return f"{named['model name']}, family {named.get('cpu family')}, model {named.get('model')}"


def described():
    """CPU, instruction sets, memory, system; nothing that names the host."""
    named = cpuinfo()
    has = set((named.get("flags") or named.get("Features") or "").split())
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    # The number alone: what stands behind it is the builder's.
    release = re.match(r"[\d.]*", platform.release())[0]
    return {
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in has],
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "os": system,
        "kernel": f"{platform.system()} {release}",
    }


def said(*command):
    """The first line that a command prints, None where it fails or is missing."""
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip().partition("\n")[0] or None if done.returncode == 0 else None


def busy():
    """Seconds that the machine's CPUs have worked since it started, and that others took from it. Linux only."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def others(worked, own, wall):
    """Share of the machine that other processes used in `wall` seconds: its CPUs worked `worked` seconds, `own` for us."""
    return max(0.0, (worked - own) / (wall * os.cpu_count()))


def others_now(seconds):
    """The same, over so many seconds in which we do nothing."""
    before, start = busy(), time.monotonic()
    time.sleep(seconds)
    return others(busy() - before, 0, time.monotonic() - start)


def record(kind, arguments, versions):
    """The head of a file: what ran, when, where."""
    return {
        "version": VERSION,
        "kind": kind,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": said("git", "describe", "--always", "--dirty"),
        "machine": described(),
        "versions": {"rustc": said("rustc", "--version"), "glibc": platform.libc_ver()[1] or None} | versions,
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(TUNING)},
        "arguments": arguments,
    }


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-")


def new_file(head, folder):
    """Where to keep it: KIND-MACHINE-DATE-COMMIT.json, with a number behind it where an earlier run has that name."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = slug(f"{head['machine']['cpu']} {head['machine']['cpus']} cpus")
    commit = re.sub(r"[^\w.-]", "-", head["commit"] or "unknown")
    stem = f"{head['kind']}-{machine}-{head['date'][:10]}-{commit}"
    names = (f"{stem}{number}.json" for number in chain([""], (f"-{number}" for number in count(2))))
    return next(path for path in (folder / name for name in names) if not path.exists())


def write(path, content):
    """The whole file or, where this is interrupted, what was there before."""
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)
