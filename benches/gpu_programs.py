"""Programs built for CUDA, packed for a GPU machine that has no compiler, and unpacked there.

    python3 gpu_programs.py FOLDER

builds the stages, the examples and the tests of the CUDA back end and packs them into FOLDER/programs.tar.xz. It needs
nvcc on PATH (`just cuda-toolkit`, then `. .cuda/env.sh`), no GPU.
"""

import hashlib
import json
import lzma
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

STAGES = ["phantom", "prep", "global", "attend", "local", "fusion", "report"]
EXAMPLES = ["step_speed", "fit_speed", "step_profile"]
TESTS = ["values", "gradients", "fused", "properties", "cuda", "parity"]
# What the programs are linked with, as pip installs it.
LIBRARIES = ["cu13/lib", "cudnn/lib", "cublas/lib", "curand/lib", "cuda_runtime/lib", "cuda_nvrtc/lib", "nccl/lib"]


def built(*arguments):
    """Builds, and gives the programs by name."""
    features = "--features=global/cuda,attend/cuda,local/cuda,fusion/cuda,nets/cuda,ops/cuda"
    command = ["cargo", *arguments, "--release", "--workspace", features, "--message-format=json"]
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "gpu"),
        "NVCC_APPEND_FLAGS": "--compress-mode=size",
        "CARGO_PROFILE_RELEASE_STRIP": "true",
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    messages = map(json.loads, done.stdout.splitlines())
    made = [message for message in messages if message.get("executable")]
    return {message["target"]["name"]: Path(message["executable"]) for message in made}


def pack(folder):
    made = built("build", "--bins", "--examples")
    programs = {name: made[name] for name in STAGES + EXAMPLES}
    tests = built("test", "--no-run", *[f"--test={name}" for name in TESTS])
    programs |= {f"test-{name}": tests[name] for name in TESTS}
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commit").write_text(commit)
    # The kernels of candle are in each of them: one dictionary for all is a tenth of the size.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 512 << 20}]
    with lzma.open(folder / "programs.tar.xz", "wb", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, path in programs.items():
            tar.add(path, name)
        tar.add(folder / "commit", "commit")
    print(f"{folder / 'programs.tar.xz'}: {(folder / 'programs.tar.xz').stat().st_size >> 20} MiB, {len(programs)} programs")


def stop(message, hint):
    """Ends the process for something that this machine lacks."""
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    sys.exit(2)


def unpacked(folder):
    """Where the programs are now, and the environment that they need. The same archive is unpacked once."""
    archive, target = folder / "programs.tar.xz", Path(tempfile.gettempdir()) / "agcnn-gpu-programs"
    if not archive.is_file():
        stop(f"no {archive}", f"`just gpu-programs` packs it where nvcc is; copy it to {folder}")
    stamp, digest = target / "unpacked", hashlib.sha256(archive.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        stamp.unlink(missing_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
        stamp.write_text(digest)
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    libraries = [str(site / each) for each in LIBRARIES if (site / each).is_dir()]
    libraries += ["/usr/local/nvidia/lib64", "/usr/local/cuda/lib64", os.environ.get("LD_LIBRARY_PATH", "")]
    return target, {"LD_LIBRARY_PATH": ":".join(filter(None, libraries))}


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
