"""Training steps by several ranks of one thread beside one process, interleaved: `just bench-ranks`.

Cases, on a machine of N cores, ResNet-18 at 112 px unless told otherwise:

* alone: one process of N threads, the whole batch: what N ranks are to be as fast as;
* ranks: N ranks of one thread, the same batch, batch norms over the whole batch; part: over each rank's part;
* one: one process of one thread, the same batch: strong scaling is one / (N ranks);
* weak: one process of one thread, an N-th of the batch: weak scaling is weak / ranks.
"""

import argparse
import json
import os
import statistics
import subprocess


def steps(program, mpirun, ranks, threads, batch, norms, options):
    """Seconds of each step but the first two."""
    command = [program, options.backbone, "max", str(options.side), str(batch * options.steps), str(batch), "1", "0.01", norms]
    if ranks > 1:
        command = [mpirun, "-n", str(ranks), *command]
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    said = json.loads(said)
    return said["seconds"][2:], said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", help="the folder of fit_ranks, built with the feature mpi")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--ranks", type=int, default=os.cpu_count())
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    program, n, batch = os.path.join(options.examples, "fit_ranks"), options.ranks, options.batch
    cases = {
        "alone": (1, n, batch, "whole"),
        "ranks": (n, 1, batch, "whole"),
        "part": (n, 1, batch, "part"),
        "one": (1, 1, batch, "whole"),
        "weak": (1, 1, batch // n, "whole"),
    }
    seconds = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, case in cases.items():
            took, said = steps(program, options.mpirun, *case, options)
            seconds[name] += took
            if name == "ranks":
                moved = said["sent"] / len(said["losses"])
                bound = 2 * (n - 1) / n * said["gradients"]
    median = {name: statistics.median(took) for name, took in seconds.items()}
    for name, took in seconds.items():
        print(f"{name:6} {median[name]:.4f} s, {min(took):.4f} to {max(took):.4f}, {len(took)} steps")
    print(f"overhead of {n} ranks against one process of {n} threads: {median['ranks'] / median['alone'] - 1:+.1%}")
    print(f"the same with batch norms of parts: {median['part'] / median['alone'] - 1:+.1%}")
    print(f"strong scaling: {median['one'] / median['ranks']:.2f} of {n}")
    print(f"weak scaling: {median['weak'] / median['ranks']:.2f} of 1")
    print(f"bytes per step and rank: {moved / 1e6:.2f} MB, a ring's {bound / 1e6:.2f} MB, {moved / bound - 1:+.2%}")


if __name__ == "__main__":
    main()
