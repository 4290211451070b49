"""Sweeps whose processes are killed go on, and arrive at the same reports."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from .cells import results, written
from .conftest import FAST


def _started(tmp_path, environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "cwbench", "sweep", "run", str(tmp_path / "sweep.yaml"), *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(condition, process, seconds=200):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


LONG = {"attacks": ["fgsm", "pgd:steps=3", "tpgd:steps=2"], "run": {"limit": 40, "set": {"recipe.epochs": 3}}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of a sweep that nothing happened to."""
    home = tmp_path_factory.mktemp("whole")
    (home / "sweep.yaml").write_text(yaml.safe_dump(FAST | LONG), encoding="utf-8")
    with _started(home, os.environ | {"CWBENCH_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return results(home / "runs" / "cells")


def test_a_killed_sweep_goes_on_and_arrives_at_the_same_reports(whole, write, command, environment, tmp_path):
    write(**LONG)
    cells = tmp_path / "runs" / "cells"
    with _started(tmp_path, environment) as process:
        _wait_for(lambda: len(list(cells.glob("*/report.json"))) >= 2, process)
        os.killpg(process.pid, signal.SIGKILL)
    kept = written(cells)
    finished = {path: stamp for path, stamp in kept.items() if (path.parent / "report.json") in kept}
    assert 2 * 2 <= len(finished) < 6 * 2
    done = command("sweep", "run", tmp_path / "sweep.yaml")
    assert done.returncode == 0, done.stderr
    assert "6 of 6 cells are finished" in done.stdout
    assert results(cells) == whole
    assert finished.items() <= written(cells).items()


def test_a_lost_worker_costs_a_retry_and_no_cell(whole, write, environment, tmp_path):
    write(**LONG)
    with _started(tmp_path, environment, "--workers", "2") as process:
        cells = tmp_path / "runs" / "cells"
        _wait_for(lambda: list(cells.glob("*/report.json")), process)
        workers = _workers(process.pid)
        os.kill(workers[0], signal.SIGKILL)
        out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    assert "6 of 6 cells are finished" in out
    assert results(tmp_path / "runs" / "cells") == whole


def _workers(parent):
    """Return the processes below one that load the workers' code."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end while it is looked at
            above = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent and b"spawn_main" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(write, environment, command, tmp_path):
    write(**LONG)
    with _started(tmp_path, environment) as process:
        _wait_for(lambda: list((tmp_path / "runs" / "cells").glob("*/report.json")), process)
        workers = _workers(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    time.sleep(0.5)
    assert workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
