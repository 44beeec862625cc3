"""Builds a CUDA that runs on the CPU: python3 mock.py CUDARC OUT, where CUDARC is the folder of cudarc's sources.

OUT then holds libcuda.so.1, libcudnn.so.9, libcublas.so.13, ... as candle asks for them. Our kernels run for real,
convolutions by their definition; everything else that cudarc may name is there, and does nothing.
"""

import re
import subprocess
import sys
from pathlib import Path

here, cudarc, out = Path(__file__).parent, Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
(out / "launches.h").write_text(subprocess.check_output([sys.executable, here / "launches.py", here.parent], text=True))


def library(name, soname, sources, text, own, needs=()):
    names = set()
    for source in sources:
        names |= set(re.findall(r"\bfn ((?:cu|nvrtc)[A-Za-z0-9_]+)\(", (cudarc / "src" / source).read_text()))
    have = set(re.findall(r"^int (\w+)\(", text, re.MULTILINE))
    for which in ("Forward", "BackwardData", "BackwardFilter"):
        if name == "cudnn":
            have |= {f"cudnnGetConvolution{which}Algorithm_v7", f"cudnnGetConvolution{which}WorkspaceSize"}
    rest = "".join(
        f'int {each}(void) {{ {"" if own else f"mock_call({chr(34)}{each}{chr(34)});"} return 0; }}\n' for each in sorted(names - have)
    )
    head = "" if own else "extern void mock_call(const char *);\n"
    path = out / f"{name}.c"
    path.write_text(head + text + rest)
    command = ["cc", "-w", "-O2", "-shared", "-fPIC", f"-I{here}", f"-I{here.parent}", f"-I{out}", f"-Wl,-soname,{soname}"]
    subprocess.check_call([*command, "-o", out / soname, path, *[out / need for need in needs], "-lm"])


driver = (here / "driver.c").read_text().replace('"../kernels.cu"', '"kernels.cu"')
library("cuda", "libcuda.so.1", ["driver/sys/mod.rs"], driver, True)
needs = ["libcuda.so.1"]
library("cudnn", "libcudnn.so.9", ["cudnn/sys/mod.rs"], (here / "cudnn.c").read_text(), False, needs)
for name, soname, sources, text in [
    ("cublas", "libcublas.so.13", ["cublas/sys/mod.rs", "cublas/result.rs"], (here / "cublas.c").read_text()),
    ("curand", "libcurand.so.10", ["curand/sys/mod.rs"], "int curandCreateGenerator(void **h, int k) { *h = (void *)1; return 0; }\nint curandGenerateNormal(void *h, float *to, unsigned long n, float mean, float deviation) {\n    unsigned long long state = 1;\n    for (unsigned long i = 0; i < n; i++) {\n        double sum = -6;\n        for (int j = 0; j < 12; j++) sum += (double)((state = state * 6364136223846793005ull + 1442695040888963407ull) >> 40) / (1 << 24);\n        to[i] = mean + deviation * (float)sum;\n    }\n    return 0;\n}\n"),
    ("nvrtc", "libnvrtc.so.13", ["nvrtc/sys/mod.rs"], ""),
    ("cublasLt", "libcublasLt.so.13", ["cublaslt/sys/mod.rs"], ""),
]:
    library(name, soname, sources, text, False, needs)
