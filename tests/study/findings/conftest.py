"""Reports with counts that a test chooses."""

from pathlib import Path

import pytest

from cwbench.report.records import Condition, Figures, WorstCase, diagonal
from cwbench.report.report import read_report

REPORTS = Path(__file__).parents[2] / "report" / "written"


@pytest.fixture(scope="session")
def board_report():
    """A real report with the standard suite of digits."""
    return read_report(REPORTS / "v1-digits-madry-suite.json")


@pytest.fixture(scope="session")
def made(board_report):
    """Return a function that makes a report of chosen confusion counts out of a real one.

    ``confusions`` maps ``clean`` and labels of attacks that the real report has to K×K counts.
    """

    def do(confusions, *, superclasses=None, subject="madry", seed=0, curves=None):
        k = len(next(iter(confusions.values())))
        n = [sum(row) for row in confusions["clean"]]
        data = board_report.dataset.model_copy(
            update={
                "classes": [f"c{index}" for index in range(k)],
                "n_per_class": n,
                "n_available": sum(n),
                "superclasses": superclasses or {},
            }
        )
        attacks = []
        for attack in board_report.attacks:
            if attack.label in confusions:
                condition = Condition.of(confusions[attack.label], data)
                attacks.append(attack.model_copy(update=dict(condition)))
        clean = Condition.of(confusions["clean"], data)
        worst = [min(column) for column in zip(*(diagonal(a.confusion) for a in [clean, *attacks]), strict=True)]
        training = board_report.training
        if curves is not None:
            training = training.model_copy(update={"curves": curves})
        return board_report.model_copy(
            update={
                "subject": subject,
                "dataset": data,
                "clean": clean,
                "attacks": attacks,
                "worst_case_counts": WorstCase(correct=worst, figures=Figures.of(worst, data)),
                "training": training,
                "provenance": board_report.provenance.model_copy(update={"seed": seed}),
            }
        )

    return do
