"""How long a newcomer waits: the first run from an empty cache, the same run again, and ``cwbench --help``.

python benchmarks/quickstart.py
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

RUN = ["run", "--defense", "mart", "--attack", "tpgd"]
ROUNDS = 3


def seconds(arguments: list[str], folder: str) -> float:
    """Return how long the command took in a process of its own."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cwbench", *arguments],
        cwd=folder,
        env=os.environ | {"CWBENCH_CACHE": os.path.join(folder, "cache")},  # noqa: PTH118 - joins two strings
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def main() -> None:
    """Print the median and the largest of a few rounds."""
    found: dict[str, list[float]] = {"first run": [], "second run": [], "--help": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            found["first run"].append(seconds(RUN, folder))
            found["second run"].append(seconds(RUN, folder))
            found["--help"].append(seconds(["--help"], folder))
    for name, times in found.items():
        print(f"{name}: median {statistics.median(times):.2f} s, largest {max(times):.2f} s, n = {ROUNDS}")


if __name__ == "__main__":
    main()
