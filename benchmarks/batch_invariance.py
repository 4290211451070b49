"""Whether the verdicts depend on the batch size: a robust network is attacked with batches of 1, 7 and 256.

python benchmarks/batch_invariance.py --defense mart --dataset digits
python benchmarks/batch_invariance.py --defense madry --dataset mnist --recipe quick --data DIR --limit 1000
"""

import argparse
import tempfile
from itertools import combinations
from pathlib import Path

import cwbench
from cwbench.internal.malloc import keep_freed_memory
from cwbench.report.predictions import column, read_predictions

SIZES = (1, 7, 256)


def main() -> None:
    """Print for each attack how many verdicts differ between two batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("defense", "dataset", "recipe", "data"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--limit", type=int)
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    keep_freed_memory()
    columns = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            report = cwbench.run(**options, batch_size=size, out=folder)
            (path,) = Path(folder).glob("*/report.json")
            columns[size] = read_predictions(report, path.parent)
    for label in ["clean", *map(column, report.labels())]:
        for a, b in combinations(SIZES, 2):
            right = [columns[size][label] == columns[size]["labels"] for size in (a, b)]
            differing = int((right[0] != right[1]).sum())
            print(f"{label}: batch {a} against {b}: {differing} of {len(right[0])} verdicts differ")


if __name__ == "__main__":
    main()
