"""Training and evaluation steps on a GPU, ours beside PyTorch's, interleaved in one run.

    python3 bench_gpu.py PROGRAMS                                  the whole matrix
    python3 bench_gpu.py PROGRAMS --batches 128 --rounds 5         one batch size
    python3 bench_gpu.py PROGRAMS --skip 'densenet121|compiled'    without the cases whose names this expression finds

PROGRAMS is what gpu_programs.py packs. This Python must have PyTorch with CUDA, torchvision and their libraries,
which ours are run with too. Both processes of a case live through all its rounds; a round is some steps of each, in turn.

Prints and writes, case by case in this order, what has names like these:

    resnet50 train, batch 128              images per second of ours and of PyTorch (channels_last, bf16 autocast,
    resnet50 evaluate, batch 128           cudnn.benchmark), the median over the rounds of ours / theirs (above 1 is
                                           faster), and the most memory in use
    resnet50 whole epochs, batch 128       data included, as a share of the bare step's speed
    resnet50 operators, batch 128          each one of a step against the roofline
    resnet50 train, batch 128, compiled    beside torch.compile, which takes a minute to begin

Ends with 1 where a case failed or was not run, and says which; with 2 where this machine has no PyTorch with CUDA.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from statistics import median

from bench_cpu import Peer
from gpu_programs import stop, unpacked

HERE = Path(__file__).parent
# Seconds of steps per round.
ROUND = 0.5
# Batch of whole epochs and operators.
WHOLE = 128
HEAD = """
| case | images/s | PyTorch's | ratio | MB in use / kept | PyTorch's |
| --- | --- | --- | --- | --- | --- |"""

Case = namedtuple("Case", "name kind backbone batch what mode")


class Over(BaseException):
    """The limit is reached."""


class Process(Peer):
    """A peer that can be ended before its first line."""

    started = []

    def __init__(self, command, environment):
        Process.started.append(self)
        super().__init__(command, environment)


def end_processes():
    for peer in Process.started:
        if hasattr(peer, "process"):
            peer.process.kill()
            peer.process.wait()
    Process.started.clear()


def planned(args):
    """All cases in order: what takes long to begin comes last."""
    backbones, batches = args.backbones.split(","), [int(batch) for batch in args.batches.split(",")]
    compiled = [int(batch) for batch in args.compile_batches.split(",") if batch]

    def steps(mode, of, behind=""):
        for backbone in backbones:
            for batch in of:
                for what in ("train", "evaluate"):
                    yield Case(f"{backbone} {what}, batch {batch}{behind}", "steps", backbone, batch, what, mode)

    cases = list(steps("cuda", batches))
    if WHOLE in batches:
        cases += [Case(f"{backbone} whole epochs, batch {WHOLE}", "epochs", backbone, WHOLE, "", "") for backbone in backbones]
    cases += [Case(f"{backbone} operators, batch {WHOLE}", "operators", backbone, WHOLE, "", "") for backbone in backbones]
    cases += steps("compile", [batch for batch in batches if batch in compiled], ", compiled")
    return [case for case in cases if not (args.skip and re.search(args.skip, case.name))]


class Bench:
    def __init__(self, args):
        self.args, self.lines, self.bare, self.peers, self.last = args, [], {}, [], None
        self.folder, self.environment = unpacked(args.programs)

    def say(self, line=""):
        print(line, flush=True)
        self.lines.append(line)
        if self.args.out:
            self.args.out.parent.mkdir(parents=True, exist_ok=True)
            self.args.out.write_text("\n".join(self.lines) + "\n")

    def head(self):
        try:
            import torch
        except ImportError:
            stop("this Python has no PyTorch", "python3 -m pip install torch torchvision, or a Python that has them")
        if not torch.cuda.is_available():
            stop("PyTorch finds no GPU", "`just bench-gpu` is for a machine with one; `just bench-cpu` needs none")
        args, commit = self.args, (self.folder / "commit").read_text().strip()
        self.say(f"# {torch.cuda.get_device_name()}, commit {commit}, {args.precision}, {args.side} px\n")
        versions = f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
        self.say(f"{versions}; {args.rounds} rounds, interleaved; medians.")

    def shape(self, case):
        return [case.backbone, str(case.batch), str(self.args.side), self.args.precision]

    def output(self, program, *arguments):
        """What a program of ours prints."""
        command, environment = [self.folder / program, *arguments], os.environ | self.environment
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def steps(self, case):
        if self.last is None or self.last[2:4] != case[2:4] or self.last.mode != case.mode or not self.peers:
            self.close()
            self.peers = [Process([self.folder / "step_speed", *self.shape(case), "cuda"], self.environment)]
            command = [sys.executable, HERE / "step_torch.py", *self.shape(case), str(os.cpu_count()), case.mode]
            self.peers.append(Process(command, {}))
        # Algorithms are chosen, programs compiled.
        for peer in self.peers:
            peer.step(f"{case.what} 5")
        seconds = max(peer.step(f"{case.what} 3") for peer in self.peers)
        order = f"{case.what} {max(3, round(ROUND / seconds))}"
        rounds = [[peer.step(order) for peer in self.peers] for _ in range(self.args.rounds)]
        ours, theirs = (case.batch / median(column) for column in zip(*rounds))
        ratio = median(theirs / ours for ours, theirs in rounds)
        memory = ["-", "-"]
        if case.what == "train":
            self.bare.setdefault((case.backbone, case.batch), ours)
            # Evaluation takes less: the peak is training's.
            memory = [peer.ask("memory").replace(" ", " / ") for peer in self.peers]
        if self.last is None or (self.last.kind, self.last.mode) != ("steps", case.mode):
            self.say(HEAD)
        self.say("| " + " | ".join([case.name, f"{ours:.0f}", f"{theirs:.0f}", f"{ratio:.2f}", *memory]) + " |")
        self.last = case

    def epochs(self, case):
        self.close()
        printed = self.output("fit_speed", *self.shape(case), "cuda", str(self.args.fit_steps), "4")
        # The first epoch is warming up.
        speed = sorted(map(float, printed.split("\n")[2:-1]))[1]
        bare = self.bare.get((case.backbone, case.batch))
        share = f", {speed / bare:.0%} of the bare step's" if bare else ""
        self.say(f"\n{case.name}, with their data: {speed:.0f} images/s{share}")
        self.last = case

    def operators(self, case):
        self.close()
        self.say(f"\n```\n{self.output('step_profile', *self.shape(case), '5', 'cuda')}```")
        self.last = case

    def close(self):
        for peer in self.peers:
            peer.close()
        self.peers = []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, metavar="PROGRAMS", help="folder with programs.tar.xz")
    parser.add_argument("--backbones", default="resnet50,densenet121", help="default: %(default)s")
    parser.add_argument("--batches", default="64,128,256", help="default: %(default)s")
    parser.add_argument("--compile-batches", default="128", help="those of them with torch.compile too; default: %(default)s")
    parser.add_argument("--precision", default="bf16", help="f32, tf32 or bf16; default: %(default)s")
    parser.add_argument("--side", type=int, default=224, help="px; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--fit-steps", type=int, default=60, help="steps of a whole epoch; default: %(default)s")
    parser.add_argument("--skip", metavar="REGEX", help="leaves out the cases whose names it finds")
    limit = "ends what runs then, and says what was not run; default: none"
    parser.add_argument("--limit", type=float, default=0, metavar="SECONDS", help=limit)
    parser.add_argument("--out", type=Path, metavar="FILE", help="written as the cases end")
    args = parser.parse_args()

    def over(*_):
        raise Over

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, args.limit)
    todo, failed, bench = planned(args), [], None
    try:
        bench = Bench(args)
        bench.head()
        while todo:
            case = todo[0]
            try:
                getattr(bench, case.kind)(case)
            except (Exception, SystemExit) as why:  # a peer that ended is a SystemExit
                failed.append(f"{case.name}: {why}")
                end_processes()
                bench.peers = []
            todo.pop(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Over:
        pass
    finally:
        end_processes()
    say = bench.say if bench else print
    if failed or todo:
        say("")
    for each in failed:
        say(f"- FAILS: {each}")
    if todo:
        say(f"- FAILS: not run: {'; '.join(case.name for case in todo)} (the limit of {args.limit:.0f} s)")
    sys.exit(bool(failed or todo))


if __name__ == "__main__":
    main()
