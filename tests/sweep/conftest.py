"""A sweep of real cells that takes seconds, and the command line as users have it."""

import os
from pathlib import Path

import pytest
import yaml

from tests import command_line

FAST = {
    "name": "fast",
    "defenses": ["standard", "madry"],
    "attacks": ["fgsm", "pgd:steps=3"],
    "run": {"limit": 40, "set": {"recipe.epochs": 2}},
}


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a sweep file, ``fast`` with changes, and returns its path."""

    def do(**changes) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(FAST | changes), encoding="utf-8")
        return path

    return do


@pytest.fixture
def environment(tmp_path):
    return os.environ | {"CWBENCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def command(tmp_path, environment):
    """Return a function that runs a command of cwbench in an empty folder with a cache of its own."""

    def do(*arguments, **variables):
        return command_line.run(*map(str, arguments), cwd=tmp_path, environment=environment | variables)

    return do
