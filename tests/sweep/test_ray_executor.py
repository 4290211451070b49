"""The same sweep on a Ray cluster of two workers on this machine, one of which is killed in the middle."""

import os
import signal
import subprocess
import sys
import time

import pytest

from .cells import results

ray = pytest.importorskip("ray", reason="the extra cwbench[ray] is not installed")

START = """
import sys, time
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": {"worker_niceness": 0}})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(nodes[0], allow_graceful=False)
print("killed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture
def cluster(environment):
    """A cluster of two machines with one CPU each; a line to its standard input kills the first of them."""
    process = subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    with process:
        address = process.stdout.readline().strip()
        yield process, address
        process.communicate("\n\n", timeout=60)


def test_a_killed_machine_changes_no_report(cluster, write, command, environment, tmp_path):
    path = write(seeds=[0, 1])
    alone = command("sweep", "run", path, "--out", tmp_path / "alone", CWBENCH_CACHE=str(tmp_path / "other"))
    assert alone.returncode == 0, alone.stderr
    process, address = cluster
    sweep = subprocess.Popen(
        [sys.executable, "-m", "cwbench", "sweep", "run", str(path), "--executor", "ray"],
        cwd=tmp_path,
        env=environment | {"RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    cells = tmp_path / "runs" / "cells"
    with sweep:
        until = time.monotonic() + 240
        while not list(cells.glob("*/report.json")):
            assert sweep.poll() is None, sweep.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "killed"
        out, err = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, (out, err)
    assert "8 of 8 cells are finished, 0 failed" in out
    assert results(cells) == results(tmp_path / "alone" / "cells")
    assert len(list((tmp_path / "runs" / "checkpoints").iterdir())) == 4


FREE = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
until = time.monotonic() + 60
while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < until:
    time.sleep(0.2)
print(ray.available_resources().get("CPU", 0))
"""


def test_ctrl_c_cancels_what_runs_on_the_cluster(cluster, write, environment, tmp_path):
    _, address = cluster
    path = write(seeds=[0, 1], run={"limit": 40, "set": {"recipe.epochs": 400}})
    sweep = subprocess.Popen(
        [sys.executable, "-m", "cwbench", "sweep", "run", str(path), "--executor", "ray"],
        cwd=tmp_path,
        env=environment | {"RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with sweep:
        until = time.monotonic() + 240
        while not list((tmp_path / "cache" / "checkpoints").glob("*.unfinished")):  # a worker is training
            assert sweep.poll() is None, sweep.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, err
    done = subprocess.run(
        [sys.executable, "-c", FREE, address], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[-1:] == ["2.0"], done.stderr


def test_a_cluster_that_does_not_answer_or_has_no_room_gets_one_line(cluster, write, command):
    away = command("sweep", "run", write(), "--executor", "ray", RAY_ADDRESS="127.0.0.1:9")
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (2, "", 1)
    assert "the Ray cluster 127.0.0.1:9 cannot be reached" in away.stderr
    _, address = cluster
    large = command("sweep", "run", write(resources={"cpus": 64}), "--executor", "ray", RAY_ADDRESS=address)
    assert large.returncode == 2
    assert "no machine of the Ray cluster has 64 CPUs" in large.stderr.splitlines()[-1]


def test_a_token_is_not_passed_on():
    from cwbench.sweep.ray_executor import PASSED_ON

    assert not [name for name in PASSED_ON if "TOKEN" in name]
    assert os.environ.get("HF_TOKEN") is None or "HF_TOKEN" not in PASSED_ON
