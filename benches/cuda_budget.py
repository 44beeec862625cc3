"""What a training step asks of CUDA, held against cuda_budget.json: kernels, library calls, copies, allocations.

    python3 cuda_budget.py FIT_SPEED LIB

FIT_SPEED is the example fit_speed of crates/nets, built with the feature `cuda`; LIB has the libraries of the CUDA that
runs on the CPU (crates/ops/cuda/mock), which counts. Two trainings that differ in their number of steps alone are subtracted: what a step
takes, its input included, once everything is warm. A number above its budget is an error; so is one far below, since
a budget that nobody lowers protects nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

BUDGET = Path(__file__).with_suffix(".json")
FEW, MANY, BATCH, SIDE = 3, 7, 2, 64


def counts(example, libraries, backbone, steps):
    environment = os.environ | {"LD_LIBRARY_PATH": libraries, "MOCK_CUDA_REPORT": "1", "MOCK_CUDA_COUNT": "1", "MOCK_CUDA_MEGABYTES": "80000"}
    command = [example, backbone, str(BATCH), str(SIDE), "bf16", "cuda", str(steps), "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with code {done.returncode}\n{done.stderr}")
    return json.loads(done.stderr.splitlines()[-1])


def main():
    (example, libraries), wrong = sys.argv[1:], []
    for backbone, budget in json.loads(BUDGET.read_text()).items():
        few, many = (counts(example, libraries, backbone, steps) for steps in (FEW, MANY))
        of = {name: (many[name] - few[name]) / (MANY - FEW) for name in budget}
        launches = of["kernels"] + of["library"]
        print(f"{backbone}: {launches:g} launches per step; " + ", ".join(f"{v:g} {name}" for name, v in of.items()))
        for name, most in budget.items():
            if of[name] > most:
                wrong.append(f"{backbone}: {of[name]:g} {name} per step, at most {most}")
            elif of[name] < 0.9 * most:
                wrong.append(f"{backbone}: {of[name]:g} {name} per step; lower its budget of {most} in {BUDGET.name}")
        if os.environ.get("BY_NAME"):
            names = {n: (c - few["by_name"].get(n, 0)) / (MANY - FEW) for n, c in many["by_name"].items()}
            for name, each in sorted(names.items(), key=lambda item: -item[1]):
                print(f"  {each:8g} {name}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
