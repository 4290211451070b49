"""A hub on 127.0.0.1, a checkpoint to publish, and the real command line in processes of their own."""

import os
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import cwbench
from cwbench.checkpoints.store import Checkpoint, Store
from tests import command_line

from .loopback import Hub

TOKEN = "hf_averysecrettokenofthetests"  # noqa: S105 - of a hub that lives for a test
STRANGER = "hf_somebodyelsestoken"


@pytest.fixture
def hub():
    server = Hub(token=TOKEN)
    yield server
    server.close()


@dataclass
class Trained:
    checkpoint: Checkpoint
    report: cwbench.Report
    runs: Path
    cache: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A network trained for a moment, with a report."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CWBENCH_CACHE", str(home / "cache"))
        report = cwbench.run(
            defense="madry",
            attacks=["fgsm", "pgd:steps=3"],
            set={"recipe.epochs": 3},
            precision="fp32",  # which one is faster is measured, and may come out otherwise in another process
            out=home / "runs",
        )
    (checkpoint,) = Store(home / "cache" / "checkpoints").all()
    return Trained(checkpoint, report, home / "runs", home / "cache")


@pytest.fixture
def command(hub, tmp_path):
    """Return a function that runs cwbench in a folder and a cache of its own, against the hub."""

    def run(*arguments: str, cache: Path | None = None, **variables: str) -> CompletedProcess[str]:
        environment = os.environ | {
            "CWBENCH_CACHE": str(cache or tmp_path / "cache"),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",  # a protocol of its own, for which the hub would be another server
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
        return command_line.run(*arguments, cwd=tmp_path, environment=environment | variables, timeout=120)

    return run


@pytest.fixture
def published(hub, command, trained):
    """Push the checkpoint as me/net, and return its commit."""
    done = command(
        "hub", "push", trained.checkpoint.digest, "me/net", "--runs", str(trained.runs), "--yes", cache=trained.cache
    )
    assert done.returncode == 0, done.stderr
    return hub.repos["me/net"].commits[-1][0]
