"""Training steps by several ranks of one thread beside one process, interleaved: `just bench-ranks`.

Cases, on a machine of N cores, ResNet-18 at 112 px unless told otherwise:

* alone: one process of N threads, the whole batch: what N ranks are to be as fast as;
* ranks: N ranks of one thread, the same batch, batch norms over the whole batch; part: over each rank's part;
* one: one process of one thread, the same batch: strong scaling is one / (N ranks);
* weak: one process of one thread, an N-th of the batch: weak scaling is weak / ranks.

A case runs once in a round, in an order that turns around from round to round. What is said of two cases is the median, over the
rounds, of the ratio of their median steps, since a shared machine is not equally fast from minute to minute.
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
    parser.add_argument("--cases", default="alone,ranks,part,one,weak", help="those to run, of the above")
    options = parser.parse_args()
    program, n, batch = os.path.join(options.examples, "fit_ranks"), options.ranks, options.batch
    cases = {
        "alone": (1, n, batch, "whole"),
        "ranks": (n, 1, batch, "whole"),
        "part": (n, 1, batch, "part"),
        "one": (1, 1, batch, "whole"),
        "weak": (1, 1, batch // n, "whole"),
    }
    cases = {name: cases[name] for name in options.cases.split(",")}
    seconds = {name: [] for name in cases}
    for round in range(options.rounds):
        for name in list(cases)[:: 1 if round % 2 else -1]:
            took, said = steps(program, options.mpirun, *cases[name], options)
            seconds[name].append(took)
            if name == "ranks":
                moved = said["sent"] / len(said["losses"])
                bound = 2 * (n - 1) / n * said["gradients"]
    for name, rounds in seconds.items():
        took = sum(rounds, [])
        print(f"{name:6} {statistics.median(took):.4f} s, {min(took):.4f} to {max(took):.4f}, {len(took)} steps")

    def ratio(a, b):
        return sorted(statistics.median(a) / statistics.median(b) for a, b in zip(seconds[a], seconds[b]))

    def say(what, a, b, form, minus, of=""):
        if a in cases and b in cases:
            ratios = [ratio - minus for ratio in ratio(a, b)]
            middle, quarters = statistics.median(ratios), (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])
            said = [format(value, form) for value in (middle, *quarters)]
            print(f"{what}: {said[0]}{of}, half of the rounds {said[1]} to {said[2]}")

    say(f"overhead of {n} ranks against one process of {n} threads", "ranks", "alone", "+.1%", 1)
    say("the same with batch norms of parts", "part", "alone", "+.1%", 1)
    say("strong scaling", "one", "ranks", ".2f", 0, f" of {n}")
    say("weak scaling", "weak", "ranks", ".2f", 0, " of 1")
    if "ranks" in cases:
        print(f"bytes per step and rank: {moved / 1e6:.2f} MB, a ring's {bound / 1e6:.2f} MB, {moved / bound - 1:+.2%}")


if __name__ == "__main__":
    main()
