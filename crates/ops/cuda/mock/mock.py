"""Builds a CUDA that runs on the CPU, to build and test the feature `cuda` without a GPU and without a toolkit.

    python3 mock.py OUT

OUT is then a CUDA_HOME: bin/nvcc stands in for the compiler, and lib/ holds libcuda, libcudnn, libcublas and what else
candle links. Our kernels run for real, convolutions and matrix products by their definition, and of candle's own kernels
those that this project meets; everything else that cudarc may name is there, and does nothing. Run it in the workspace:
names are read from the sources of the very cudarc and candle-kernels that Cargo.lock has.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE, OUT = Path(__file__).resolve().parent, Path(sys.argv[1]).resolve()
LIB, WORK = OUT / "lib", OUT / "work"


def sources(package):
    """The folder of a dependency's sources."""
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    packages = json.loads(subprocess.check_output(command, text=True))["packages"]
    return next(Path(each["manifest_path"]).parent / "src" for each in packages if each["name"] == package)


def library(name, version, declarations, pattern, text="", needs=("cuda",)):
    """lib{name}.so.{version}: what `text` defines, and every other function that `declarations` declare, doing nothing."""
    declared = set()
    for path in declarations:
        declared |= set(re.findall(rf"\bfn ({pattern})\(", path.read_text()))
    defined = set(re.findall(r"^(?:int|const char \*)\s*(\w+)\(", text, re.MULTILINE))
    for each in re.findall(r"^ALGORITHM\((\w+)\)", text, re.MULTILINE):
        defined |= {f"cudnnGetConvolution{each}Algorithm_v7", f"cudnnGetConvolution{each}WorkspaceSize"}
    call = "" if name == "cuda" else 'mock_call("{}"); '
    rest = "".join(f"int {each}(void) {{ {call.format(each)}return 0; }}\n" for each in sorted(declared - defined))
    head = "" if name == "cuda" else "extern void mock_call(const char *);\n"
    (WORK / f"{name}.c").write_text(head + text + rest)
    soname = f"lib{name}.so.{version}"
    command = ["cc", "-w", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", f"-I{HERE}", f"-I{HERE.parent}", f"-I{WORK}"]
    command += [f"-Wl,-soname,{soname}", "-o", LIB / soname, WORK / f"{name}.c"]
    if name == "cudnn":  # whose sums have no order
        command += ["-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"]
    if name != "cuda":
        command += [f"-L{LIB}", *[f"-l{need}" for need in needs]]
    subprocess.check_call([*command, "-lm", "-lpthread"])
    link = LIB / f"lib{name}.so"
    link.unlink(missing_ok=True)
    link.symlink_to(soname)


for folder in (LIB, WORK, OUT / "bin"):
    folder.mkdir(parents=True, exist_ok=True)
shutil.copy(HERE / "nvcc", OUT / "bin" / "nvcc")
os.chmod(OUT / "bin" / "nvcc", 0o755)
launches = subprocess.check_output([sys.executable, HERE / "launches.py", HERE.parent], text=True)
(WORK / "launches.h").write_text(launches)

cudarc = sources("cudarc")
own = {name: (HERE / f"{name}.c").read_text() for name in ("driver", "cudnn", "cublas", "curand", "nccl")}
library("cuda", 1, [cudarc / "driver/sys/mod.rs"], r"cu[A-Za-z0-9_]+", own["driver"])
library("cudnn", 9, [cudarc / "cudnn/sys/mod.rs"], r"cudnn[A-Za-z0-9_]+", own["cudnn"])
library("cublas", 13, [cudarc / "cublas/sys/mod.rs", cudarc / "cublas/result.rs"], r"cu[A-Za-z0-9_]+", own["cublas"])
library("cublasLt", 13, [cudarc / "cublaslt/sys/mod.rs"], r"cu[A-Za-z0-9_]+")
library("curand", 10, [cudarc / "curand/sys/mod.rs"], r"curand[A-Za-z0-9_]+", own["curand"])
library("nccl", 2, [cudarc / "nccl/sys/mod.rs"], r"nccl[A-Za-z0-9_]+", own["nccl"])
library("nvrtc", 13, [cudarc / "nvrtc/sys/mod.rs"], r"nvrtc[A-Za-z0-9_]+")
# candle-kernels links the runtime for kernels of its own, which are not built here.
library("cudart", 13, [sources("candle-kernels") / "ffi.rs"], r"\w+")
# And it names the library of C++, for the same kernels: an empty one, so that no C++ compiler need be installed.
(WORK / "stdc++.c").write_text("")
subprocess.check_call(["cc", "-shared", "-o", LIB / "libstdc++.so", WORK / "stdc++.c"])
