"""Boards of drawn reports: no training, and everything adds up."""

from pathlib import Path

import pytest

from benchmarks.generated import drawn, write
from cwbench.leaderboard.layout import Place
from cwbench.leaderboard.submit import submit
from cwbench.report.report import Report, read_report


@pytest.fixture(scope="session")
def template(request) -> Report:
    """A real report of digits' standard suite."""
    return read_report(request.config.rootpath / "tests" / "report" / "written" / "v1-digits-madry-suite.json")


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "leaderboard")


@pytest.fixture
def run(template, tmp_path):
    """Return a function that writes a drawn run and returns the path of its report."""

    def written(number: int, **changes: object) -> Path:
        report, predictions = drawn(template, number, **changes)
        return write(report, predictions, tmp_path / "runs" / f"{number}-{len(list(tmp_path.rglob('report.json')))}")

    return written


@pytest.fixture
def board(place, run) -> Place:
    """A board of six entries."""
    submit([run(number) for number in range(6)], place)
    return place
