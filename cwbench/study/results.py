"""What the cells of a study have left behind, for findings to look at."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cwbench.api import Classifier, Examples
from cwbench.checkpoints.store import Checkpoint, Store
from cwbench.datasets import splits
from cwbench.internal.errors import ReportError
from cwbench.plan import Plan, make_plan
from cwbench.plugins.naming import PluginSpec
from cwbench.plugins.registry import Registry
from cwbench.report.predictions import PREDICTIONS, read_predictions
from cwbench.report.report import Report
from cwbench.study.findings.hypothesis_tests import Judged
from cwbench.study.settings import Machine, Scale
from cwbench.sweep.engine import Item
from cwbench.sweep.identity import Training, trainings_of
from cwbench.sweep.results import Results
from cwbench.training.rebuild import rebuilt

CellKey = tuple[str, str, int]
"""Defense, attack and seed of a cell."""


@dataclass
class Evidence:
    """Reports, predictions and networks of a study's cells."""

    scale: Scale
    machine: Machine
    registry: Registry
    store: Store
    results: Results
    items: dict[CellKey, Item]
    _judged: dict[CellKey, Judged] = field(default_factory=dict)

    def judged(self, defense: str, attack: str, seed: int) -> Judged:
        """Return what a cell found.

        Raises:
            ReportError: it has failed, or its files are damaged.
        """
        key = defense, attack, seed
        if key not in self._judged:
            self._judged[key] = self._read(self.items[key])
        return self._judged[key]

    def _read(self, item: Item) -> Judged:
        folder = item.identity.folder if item.identity else None
        report = self.results.report(folder) if folder else None
        if folder is None or report is None:
            reason = getattr(item.outcome, "reason", "it has not been run")
            raise ReportError(f"{item.name}: {reason}")
        content = self.results.predictions(folder, PREDICTIONS)
        if content is None:
            raise ReportError(f"the predictions of {item.name} are missing", "remove its folder to run it again")
        with tempfile.TemporaryDirectory() as place:  # where a sidecar is read and recounted
            (Path(place) / PREDICTIONS).write_bytes(content)
            columns = read_predictions(report, Path(place))
        assert columns  # noqa: S101 - the file lies there
        return Judged(report, columns)

    def reports(self, defense: str, attack: str) -> list[Report]:
        """Return the report of each seed."""
        return [self.judged(defense, attack, seed).report for seed in self.scale.seeds]

    def checkpoint(self, defense: str, attack: str, seed: int) -> Checkpoint:
        """Return the checkpoint that a cell judged."""
        training = self.judged(defense, attack, seed).report.training
        found = self.store.find(training.checkpoint) if training else None
        if found is None:
            raise ReportError(
                f"the checkpoint of {defense}, seed {seed}, is not in {self.store.root}", "train it again"
            )
        return found

    def network(self, defense: str, attack: str, seed: int) -> Classifier:
        """Return the network that a cell judged, on the device."""
        return rebuilt(
            self.checkpoint(defense, attack, seed), self.registry, self.plan(defense, attack, seed).device
        ).model

    def plan(self, defense: str, attack: str, seed: int) -> Plan:
        """Return the plan of a cell."""
        return make_plan(self.scale.run(defense, attack, seed, self.machine), self.registry)

    def test(self, defense: str, attack: str) -> Examples:
        """Return the test split."""
        plan = self.plan(defense, attack, self.scale.seeds[0])
        return splits.open_split(plan.dataset, "test", plan.root)

    def without(self, defense: str, attack: str, seed: int, removed: int) -> Classifier:
        """Return the network of a cell's defense that was trained without a class."""
        plan = self.plan(defense, attack, seed)
        key = without_training(self.scale, self.machine, plan, defense, attack, seed, removed)[-1].key
        found = self.store.find(key)
        if found is None:
            name = plan.dataset.classes[removed]
            raise ReportError(f"{defense} without class {name} could not be trained", "the failures tell why")
        return rebuilt(found, self.registry, plan.device).model


def without_training(
    scale: Scale, machine: Machine, plan: Plan, defense: str, attack: str, seed: int, removed: int
) -> Sequence[Training]:
    """Return the training of a defense without a class."""
    spec = scale.run(defense, attack, seed, machine)
    with splits.remembering():  # of its own: what one class is removed from need not stay until the last one is
        return trainings_of(spec, plan, splits.open_split(plan.dataset, "test", plan.root), removed)


def temperature(inverse: float) -> str:
    """Return Temperature-PGD at 1/T as users write it."""
    fields = {} if inverse == 5 else {"inverse_temperature": inverse}
    return str(PluginSpec(name="tpgd", fields=fields))
