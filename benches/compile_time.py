"""What compiling costs, crate by crate: `just bench-compile`.

Builds the programs of the release profile from nothing, into a folder of its own that is removed at the end, and prints the
seconds of the whole build, those of the CPU, and the crates that took most. Sources must be at hand (`cargo fetch`): a
download is no part of it.
"""

import argparse
import json
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path


def units(folder):
    """What cargo compiled, with the seconds that each took, from its own page of timings."""
    page = next(Path(folder, "cargo-timings").glob("cargo-timing-*.html")).read_text()
    return json.loads(re.search(r"const UNIT_DATA = (\[.*?\]);", page, re.DOTALL)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=25, help="crates to print")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = ["cargo", "build", "--release", "--quiet", "--workspace", "--bins", "--timings", "--target-dir", folder]
        start = time.time()
        subprocess.run(command, check=True)
        wall, used = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        built = sorted(units(folder), key=lambda unit: -unit["duration"])
    print(f"{wall:.0f} s, of which the CPU {used.ru_utime + used.ru_stime:.0f} s; {len(built)} units")
    for unit in built[: args.most]:
        print(f"{unit['duration']:7.1f} s  {unit['name']} {unit['version']}{unit.get('target') or ''}")


if __name__ == "__main__":
    main()
