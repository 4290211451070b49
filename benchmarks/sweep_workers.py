"""How much faster a sweep is with two local workers than with one: whole commands, in turn, each from nothing.

python benchmarks/sweep_workers.py --rounds 3 [--sweep sweeps/digits-60.yaml] [--epochs 10]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

SWEEPS = Path(__file__).parents[1] / "sweeps"


def timed(sweep: Path, workers: int) -> float:
    """Return the seconds that a sweep takes from an empty cache."""
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"CWBENCH_CACHE": f"{place}/cache", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "cwbench", "sweep", "run", str(sweep), "--workers", str(workers)]
        began = time.perf_counter()
        subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweep", type=Path, default=SWEEPS / "digits-60.yaml")
    parser.add_argument("--epochs", type=int, help="cut the recipe to so many")
    options = parser.parse_args()
    content = yaml.safe_load(options.sweep.read_text(encoding="utf-8"))
    if options.epochs:
        content.setdefault("run", {})["set"] = {"recipe.epochs": options.epochs}
    with tempfile.TemporaryDirectory() as place:
        sweep = Path(place) / "sweep.yaml"
        sweep.write_text(yaml.safe_dump(content), encoding="utf-8")
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(options.rounds):
            for workers, seconds in times.items():
                seconds.append(timed(sweep, workers))
                print(f"{workers} workers: {seconds[-1]:.1f} s", flush=True)
    medians = {workers: statistics.median(seconds) for workers, seconds in times.items()}
    print(f"medians {medians[1]:.1f} s and {medians[2]:.1f} s: ratio {medians[1] / medians[2]:.2f}")


if __name__ == "__main__":
    main()
