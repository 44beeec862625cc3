"""Training and evaluation steps on a GPU, ours beside PyTorch's, interleaved in one run.

    python3 bench_gpu.py PROGRAMS [--backbones resnet50,densenet121] [--batches 64,128,256] [--compile-batches 128] [--out FILE]

PROGRAMS is what gpu_programs.py packs. This Python must have PyTorch with CUDA, torchvision and their libraries,
which ours are run with too. All processes of a case live through all its rounds; a round is some steps of each, in turn.

Prints and writes a table: images per second of ours, of PyTorch (channels_last, bf16 autocast, cudnn.benchmark) eager and
compiled, the medians over the rounds of ours / theirs (above 1 is faster), and the most memory in use. Then whole epochs,
data included, as a share of the bare step's speed, and every operator of a step against the roofline.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from bench_cpu import Peer
from gpu_programs import unpacked

HERE = Path(__file__).parent
# Seconds of steps per round.
ROUND = 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path)
    parser.add_argument("--backbones", default="resnet50,densenet121")
    parser.add_argument("--batches", default="64,128,256")
    parser.add_argument("--compile-batches", default="128")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fit-steps", type=int, default=60)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder, environment = unpacked(args.programs)
    lines = []

    def say(line=""):
        print(line, flush=True)
        lines.append(line)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text("\n".join(lines) + "\n")

    import torch

    gpu = torch.cuda.get_device_name()
    commit = (folder / "commit").read_text().strip()
    say(f"# {gpu}, commit {commit}, {args.precision}, {args.side} px")
    say(f"\nPyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}; {args.rounds} rounds, interleaved; medians.\n")
    say("| case | images/s | PyTorch eager | compiled | ratio to eager | to compiled | MB in use / kept | eager's | compiled's |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    bare = {}
    for backbone in args.backbones.split(","):
        for batch in map(int, args.batches.split(",")):
            shape = [backbone, str(batch), str(args.side), args.precision]
            modes = ["cuda"] + (["compile"] if str(batch) in args.compile_batches.split(",") else [])
            peers = [Peer([folder / "step_speed", *shape, "cuda"], environment)]
            for mode in modes:
                peers.append(Peer([sys.executable, HERE / "step_torch.py", *shape, str(os.cpu_count()), mode], {}))
            memory = None
            for what in ("train", "evaluate"):
                # Algorithms are chosen, programs compiled.
                for peer in peers:
                    peer.step(f"{what} 5")
                seconds = max(peer.step(f"{what} 3") for peer in peers)
                order = f"{what} {max(3, round(ROUND / seconds))}"
                rounds = [[peer.step(order) for peer in peers] for _ in range(args.rounds)]
                # Evaluation takes less: the peak is training's.
                memory = memory or [peer.ask("memory").replace(" ", " / ") for peer in peers]
                speeds = [f"{batch / median(column):.0f}" for column in zip(*rounds)]
                ratios = [f"{median(row[at] / row[0] for row in rounds):.2f}" for at in range(1, len(peers))]
                if what == "train":
                    bare[backbone, batch] = batch / median(row[0] for row in rounds)
                cells = [f"{backbone} {what}, batch {batch}"]
                for column, count in ((speeds, 3), (ratios, 2), (memory if what == "train" else [], 3)):
                    cells += [*column, *["-"] * (count - len(column))]
                say("| " + " | ".join(cells) + " |")
            [peer.close() for peer in peers]
    say()
    for (backbone, batch), speed in bare.items():
        if batch != 128:
            continue
        command = [folder / "fit_speed", backbone, str(batch), str(args.side), args.precision, "cuda", str(args.fit_steps), "4"]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        # The first epoch is warming up.
        epochs = sorted(map(float, done.stdout.split("\n")[2:-1]))
        share = epochs[len(epochs) // 2] / speed
        say(f"{backbone}, batch {batch}, whole epochs with their data: {epochs[len(epochs) // 2]:.0f} images/s, {share:.0%} of the bare step's")
    for backbone in args.backbones.split(","):
        command = [folder / "step_profile", backbone, "128", str(args.side), args.precision, "5", "cuda"]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        say(f"\n```\n{done.stdout}```")


if __name__ == "__main__":
    main()
