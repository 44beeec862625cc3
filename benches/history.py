"""All that `just bench-cpu` has kept, as a Markdown table over time.

    python3 history.py [FOLDER]

FOLDER is benches/results by default. A row is a machine, a configuration, a day and a commit, a column a case, a cell ours /
PyTorch's images per second (above 1 is faster): of several runs, each. A file that cannot be read is named and skipped; then
the exit code is 1.
"""

import json
import sys
from pathlib import Path

import machine
from bench_cpu import CASES

MARK = " †"
AGAIN = "hint: remove it or restore it from git, and measure again with just bench-cpu"


def has(content, **kinds):
    """Content has these keys, of these types? else say what is missing."""
    for key, kind in kinds.items():
        got = content.get(key) if isinstance(content, dict) else None
        if not isinstance(got, kind) or (isinstance(got, bool) and kind is not bool):
            raise ValueError(f"no {key} where one was expected; {AGAIN}")


def read(path):
    """A file of `just bench-cpu`: what its row says, and cells by case. A ValueError says what is wrong, with a hint."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"not readable as JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict) or content.get("kind") != "cpu":
        raise ValueError("not of just bench-cpu; hint: give it another name, or another folder")
    if content.get("version") != machine.VERSION:
        raise ValueError(f"format {content.get('version')!r}, this reads {machine.VERSION}; hint: run the newest history.py")
    has(content, date=str, machine=dict, versions=dict, arguments=dict, cases=list)
    has(content["machine"], cpu=str, cpus=int)
    has(content["arguments"], threads=int, batch=int, side=int)
    cells = {}
    for done in content["cases"]:
        has(done, case=str, ratio=(int, float), disturbed=bool)
        if not 0 < done["ratio"] < 1e6:
            raise ValueError(f"the ratio of {done['case']} is no number above 0; {AGAIN}")
        cells.setdefault(done["case"], []).append(f"{done['ratio']:.2f}{MARK if done['disturbed'] else ''}")
    where, how = content["machine"], content["arguments"]
    row = (
        f"{where['cpu']}, {where['cpus']} CPUs",
        content["date"][:10],
        str(content.get("commit") or "unknown"),
        str(content["versions"].get("torch") or "unknown"),
        f"{how['threads']} threads, {how['batch']} of {how['side']} px",
    )
    return content["date"], row, cells


def line(cells):
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def table(runs):
    rows = {}
    for _, row, cells in sorted(runs, key=lambda run: run[0]):
        for case, ratios in cells.items():
            rows.setdefault(row, {}).setdefault(case, []).extend(ratios)
    seen = list(dict.fromkeys(case for cells in rows.values() for case in cells))
    cases = [case for case in CASES if case in seen] + [case for case in seen if case not in CASES]
    yield line(["machine", "date", "commit", "PyTorch", "steps", *cases])
    yield line(["---"] * (5 + len(cases)))
    # Rows of one day stand in the order in which they were measured.
    for row, cells in sorted(rows.items(), key=lambda each: each[0][:2]):
        yield line([*row, *(", ".join(cells.get(case, ["-"])) for case in cases)])
    if any(ratio.endswith(MARK) for cells in rows.values() for ratios in cells.values() for ratio in ratios):
        yield f"\n†: other processes used more than {machine.LIMIT:.0%} of the machine; no conclusion."


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        return print(__doc__)
    folder = Path(*sys.argv[1:2] or [machine.RESULTS])
    runs, damaged = [], False
    for path in sorted(folder.glob("cpu-*.json")):
        try:
            runs.append(read(path))
        except ValueError as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            damaged = True
    if runs:
        print("\n".join(table(runs)))
    elif not damaged:
        sys.exit(f"error: no cpu-*.json in {folder}; hint: just bench-cpu writes them")
    if damaged:
        sys.exit(1)


if __name__ == "__main__":
    main()
