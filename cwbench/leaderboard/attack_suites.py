"""Which attacks make a suite: only what was judged alike is ranked together."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel, ValidationError

from cwbench.internal.errors import ReportError, reason_of
from cwbench.report.report import Report

Labels = Annotated[list[str], Field(min_length=1)]


class Suites(RootModel[dict[str, dict[str, dict[str, Labels]]]]):
    """The labels of the attacks of each suite, by dataset, norm and name of the suite."""

    def known(self, dataset: str, norm: str) -> Mapping[str, list[str]]:
        """Return the suites of a dataset under a norm, by name."""
        return self.root.get(dataset, {}).get(norm, {})

    def name_of(self, report: Report) -> str:
        """Return the name of the suite that a report has run.

        Raises:
            ReportError: it ran another set of attacks, or nobody has said which ones its dataset asks for.
        """
        known = self.known(report.dataset.name, report.threat.norm)
        if not known:
            raise ReportError(
                f"dataset: no suite is known for {report.dataset.name} under {report.threat.norm}",
                "a maintainer of the board adds it to its suites.json",
            )
        labels = report.labels()
        for name, suite in known.items():
            if sorted(labels) == sorted(suite):
                return name
        closest, suite = max(known.items(), key=lambda item: len(set(item[1]) & set(labels)))
        missing, more = [label for label in suite if label not in labels], [x for x in labels if x not in suite]
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has also {', '.join(more)}"] * bool(more)
        raise ReportError(
            f"attacks: of another suite: against {closest!r} it {' and '.join(parts)}",
            "run it without --attack for the dataset's standard suite",
        )


def read_suites(extra: Path) -> Suites:
    """Return cwbench's suites and those that a board adds for other datasets.

    Raises:
        ReportError: the board's file is no such mapping, or redefines what cwbench knows.
    """
    own = resources.files("cwbench.leaderboard").joinpath("suites.json").read_text(encoding="utf-8")
    suites = json.loads(own)
    if extra.is_file():
        try:
            added = Suites.model_validate_json(extra.read_bytes(), strict=True).root
        except (OSError, ValidationError) as error:
            raise ReportError(f"{extra} is not a table of suites: {reason_of(error)}") from None
        again = sorted(set(added) & set(suites))
        if again:
            raise ReportError(f"{extra} redefines {again[0]}, which cwbench knows", "leave it out")
        suites |= added
    return Suites(suites)
