"""Writes, for every kernel of kernels.cu, how a mock driver calls it: `python3 launches.py FOLDER > launches.h`."""

import re
import sys
from pathlib import Path

folder = Path(sys.argv[1])
KERNEL = re.compile(r"^KERNEL void (?:NAME\((\w+)\)|(\w+))\(([^{]*)\)\s*\{(.*?)^\}", re.DOTALL | re.MULTILINE)
kernels = []
for text, types in [
    ((folder / "kernels.cu").read_text(), [None]),
    ((folder / "augment.inc").read_text(), [("f32", "float", 1), ("bf16", "bf16", 1)]),
    ((folder / "channels.inc").read_text(), [("f32", "float", 4), ("f32", "float", 1), ("bf16", "bf16", 8), ("bf16", "bf16", 1)]),
]:
    for generic, plain, parameters, body in KERNEL.findall(text):
        for kind in types:
            name = f"{generic}_{kind[0]}_{kind[2]}" if generic else plain
            arguments = []
            for at, parameter in enumerate(parameters.split(",")):
                type_ = re.match(r"(.*?)\w+$", parameter.strip(), re.DOTALL).group(1).strip()
                if kind:
                    type_ = re.sub(r"\bT\b", kind[1], type_)
                arguments.append(f"*({type_} *)a[{at}]")
            print(f"static void call_{name}(void **a) {{ {name}({', '.join(arguments)}); }}")
            kernels.append((name, int(bool(re.search("SYNC|sum_down|write_part", body)))))
print("static const struct { const char *name; void (*call)(void **); int waits; } LAUNCHES[] = {")
for name, waits in kernels:
    print(f'    {{"{name}", call_{name}, {waits}}},')
print("};")
