"""A table of defenses × attacks over seeds, each cell by ``cwbench run``, as Markdown.

    python benchmarks/defense_table.py --dataset digits --seeds 0 1 2
    python benchmarks/defense_table.py --dataset mnist --recipe quick --data DIR --defenses standard madry he-lis

Cells are the mean over the seeds of overall and of worst-class accuracy, and in brackets the lowest and highest seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from tabulate import tabulate

from cwbench.report.report import Report

DEFENSES = ["standard", "madry", "trades", "mart", "rst", "he", "he-lis", "he-cmp", "fast"]
ATTACKS = ["pgd", "tpgd"]


def run(defense: str, seed: int, options: list[str]) -> tuple[Report, float]:
    """Return the report of a run in a process of its own, and its seconds."""
    command = [sys.executable, "-m", "cwbench", "run", "--defense", defense, "--seed", str(seed), "--json", *options]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Report.model_validate(json.loads(done.stdout)), time.perf_counter() - began


def cell(values: list[float]) -> str:
    """Return mean and range in per cent."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} [{100 * min(values):.1f}, {100 * max(values):.1f}]"


def main() -> None:
    """Run the grid and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--recipe")
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--defenses", nargs="+", default=DEFENSES)
    args = parser.parse_args()
    options = [part for attack in ATTACKS for part in ("--attack", attack)] + ["--dataset", args.dataset]
    options += [
        part for name in ("recipe", "data") if getattr(args, name) for part in (f"--{name}", getattr(args, name))
    ]
    rows = []
    for defense in args.defenses:
        runs = [run(defense, seed, options) for seed in args.seeds]
        reports = [report for report, _ in runs]
        row = [defense, cell([report.accuracy("clean") for report in reports])]
        for attack in ATTACKS:
            row.append(cell([report.accuracy(attack) for report in reports]))
            row.append(cell([report.worst_class(attack).accuracy for report in reports]))
        rows.append([*row, f"{max(seconds for _, seconds in runs):.0f}"])
        print(defense, "done", file=sys.stderr, flush=True)
    headers = [
        "defense",
        "clean",
        *[f"{attack}{part}" for attack in ATTACKS for part in ("", ", worst class")],
        "seconds",
    ]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
