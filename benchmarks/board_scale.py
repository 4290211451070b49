"""How long ``leaderboard check`` and ``leaderboard build`` take on a generated board, and how much memory.

    python -m benchmarks.board_scale --entries 10000 --template REPORT

Both commands run in processes of their own, one after the other; memory is the largest sum of a command's processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.generated import as_text, drawn
from cwbench.leaderboard.layout import Place
from cwbench.report.report import read_report

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Return the bytes of memory of a process and all below it; 0 once it has ended."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            # The pages that are its own: what a process shares with its parent would count twice.
            fields = Path(f"/proc/{one}/statm").read_text().split()
            total += (int(fields[1]) - int(fields[2])) * PAGE_BYTES
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except (OSError, IndexError):
            continue
    return total


def timed(*command: str) -> tuple[float, int]:
    """Return the seconds and the largest memory of a command."""
    began, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", "cwbench", "leaderboard", *command], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, resident(process.pid))
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{command} failed")
    return time.perf_counter() - began, most


def main() -> None:
    """Write the board, time both commands and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--template", type=Path, required=True, help="a report of a standard suite")
    args = parser.parse_args()
    template = read_report(args.template)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        size = 0
        for number in range(args.entries):
            report, _ = drawn(template, number)
            path, text = place.path(report), as_text(report)
            path.parent.mkdir(parents=True, exist_ok=True)
            size += path.write_text(text, encoding="utf-8")
        print(f"{args.entries:,} entries of {size / args.entries / 1024:.0f} KiB, {len(template.attacks)} attacks each")
        total = 0.0
        for command in ("check", "build"):
            seconds, memory = timed(command, "--board", folder)
            total += seconds
            print(f"{command}: {seconds:.1f} s, {memory / 2**20:.0f} MiB")
        print(f"both: {total:.1f} s")


if __name__ == "__main__":
    main()
