"""A stage in shards as tasks of Ray, and the merge behind them.

    python cluster/ray_shards.py --shards 16 --cpus 8 prep --config profiles/official.toml --run official
    python cluster/ray_shards.py --shards 16 --cpus 8 --gpus 1 attend --config profiles/official.toml --run official

On a Ray cluster (`ray job submit -- python cluster/ray_shards.py ...`), its nodes must see this folder, the images and
artifacts/ under the same paths; without one, Ray starts on this machine. The tasks only call the stage's binary: what
they compute goes through the file system, and nothing through Ray's object store.
"""

import argparse
import os
import subprocess
import sys

import ray

RETRIES = 2
# Of the stages' exit codes, those behind which another attempt would end as the first: usage, missing input, bad data.
HOPELESS = {2, 3, 4}


@ray.remote(max_retries=RETRIES, retry_exceptions=True)
def shard(command: list[str], folder: str, index: int, count: int) -> tuple[int, int]:
    """Runs one shard; returns its index and exit code. Another code than those above raises, and Ray tries again."""
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    done = subprocess.run(
        [*command, "--shard", f"{index}/{count}"],
        cwd=folder,
        env={**os.environ, "RAYON_NUM_THREADS": str(max(1, cpus))},
        check=False,
    )
    if done.returncode not in HOPELESS | {0}:
        raise RuntimeError(f"shard {index}/{count} ended with {done.returncode}")
    return index, done.returncode


def main() -> int:
    """Runs all shards, then the merge; the exit code is that of the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True, help="how many")
    parser.add_argument("--cpus", type=int, default=1, help="of each shard")
    parser.add_argument("--gpus", type=float, default=0, help="of each shard")
    parser.add_argument("--bin", default="target/release", help="folder of the binaries")
    parser.add_argument("stage", nargs=argparse.REMAINDER, help="the stage and its arguments")
    args = parser.parse_args()
    if not args.stage:
        parser.error("which stage?")
    command = [os.path.join(os.path.abspath(args.bin), args.stage[0]), *args.stage[1:]]
    ray.init(ignore_reinit_error=True, log_to_driver=True)
    task = shard.options(num_cpus=args.cpus, num_gpus=args.gpus)
    waiting = [task.remote(command, os.getcwd(), index, args.shards) for index in range(args.shards)]
    while waiting:
        done, waiting = ray.wait(waiting)
        index, code = ray.get(done[0])
        if code != 0:
            print(f"shard {index}/{args.shards} ended with {code}", file=sys.stderr)
            return code
    return subprocess.run([*command, "--merge"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
