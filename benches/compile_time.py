"""What compiling costs, crate by crate: `just bench-compile`.

Builds the programs of the release profile from nothing, into a folder of its own that is removed at the end, and prints the
seconds of the whole build, those of the CPU, and the crates that took most. Sources must be at hand (`cargo fetch`): a
download is no part of it. --results keeps the run in a file of its own: machine, versions, every unit with its seconds.

Ends with exit code 1, without a conclusion, where other processes used more than 5 % of the machine, just before the build
or during it. Needs Linux.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

BUILD = ["cargo", "build", "--release", "--quiet", "--workspace", "--bins", "--timings"]
# Seconds to look at the others before the build.
LOOK = 3


def units(folder):
    """What cargo compiled, with the seconds that each took, from its own page of timings."""
    page = next(Path(folder, "cargo-timings").glob("cargo-timing-*.html")).read_text()
    found = json.loads(re.search(r"const UNIT_DATA = (\[.*?\]);", page, re.DOTALL)[1])
    named = [{key: unit[key] for key in ("name", "version")} | {"target": (unit.get("target") or "").strip()} for unit in found]
    timed = [unit | {"seconds": each["duration"]} for unit, each in zip(named, found)]
    return sorted(timed, key=lambda unit: -unit["seconds"])


def children():
    """Seconds of CPU of the processes that we started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=25, help="crates to print")
    parser.add_argument("--results", type=Path, default=machine.RESULTS, help="folder of the file that keeps the run")
    args = parser.parse_args()
    run = machine.record("compile", {"command": BUILD}, {"cargo": machine.said("cargo", "--version")})
    path = machine.new_file(run, args.results)
    run["others_before"] = machine.others_now(LOOK)
    if run["others_before"] > machine.LIMIT:
        print(f"other processes use {run['others_before']:.0%} of the machine: there will be no conclusion", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        own, worked, start = children(), machine.busy(), time.monotonic()
        subprocess.run([*BUILD, "--target-dir", folder], check=True)
        wall, worked, own = time.monotonic() - start, machine.busy() - worked, children() - own
        built = units(folder)
    run["others"] = machine.others(worked, own, wall)
    shares = {"before the build": run["others_before"], "during it": run["others"]}
    disturbed = [f"other processes used {share:.0%} of the machine {when}" for when, share in shares.items() if share > machine.LIMIT]
    run |= {"disturbed": bool(disturbed), "wall_seconds": wall, "cpu_seconds": own, "units": built}
    machine.write(path, run)
    print(f"{wall:.0f} s, of which the CPU {own:.0f} s; {len(built)} units")
    for unit in built[: args.most]:
        print(f"{unit['seconds']:7.1f} s  {' '.join(filter(None, (unit['name'], unit['version'], unit['target'])))}")
    print(f"kept in {path}", file=sys.stderr)
    if disturbed:
        sys.exit("no conclusion: " + "; ".join(disturbed))


if __name__ == "__main__":
    main()
