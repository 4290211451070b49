"""AutoAttack: four attacks, each on what the ones before have left standing."""

from dataclasses import replace
from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from cwbench.api import MOST_STEPS, Access, Attack, Budget, ExampleStreams, Model, Threat, Tick, attempts
from cwbench.attacks.apgd_ce import APGDCE
from cwbench.attacks.apgd_t import APGDT
from cwbench.attacks.fab_t import FABT
from cwbench.attacks.square import Square


@final
class AutoAttack(Attack):
    """Croce & Hein 2020, section 5: APGD-CE, targeted APGD-DLR, targeted FAB and Square at their standard settings."""

    name = "autoattack"
    reference = "Croce & Hein 2020, Reliable Evaluation of Adversarial Robustness with an Ensemble of Attacks, ICML"
    access = Access.WHITE_BOX
    pooled = True
    effort = ("steps", "targets", "queries")
    needs_images = True

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 100
    """Steps of the first three, for each target where they have targets."""
    targets: Annotated[int, Field(ge=1)] = 9
    """Target classes of the second and third, or all others if there are fewer."""
    queries: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 5000
    """Queries of the last."""

    def notes(self, classes: int) -> tuple[str, ...]:
        return tuple(note for member in self._members() for note in member.notes(classes))

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        members = self._members()

        def attempt(position: int, rows: Tensor, tick: Tick) -> Tensor:
            member = members[position]
            return member.perturb(
                model,
                x[rows],
                y[rows],
                threat=threat,
                streams=streams[rows].child("member", member.name),
                budget=replace(budget, tick=tick),
            )

        return attempts(len(members), attempt, model=model, x=x, y=y, budget=budget)

    def _members(self) -> tuple[Attack, ...]:
        return (
            APGDCE(steps=self.steps),
            APGDT(steps=self.steps, targets=self.targets),
            FABT(steps=self.steps, targets=self.targets),
            Square(queries=self.queries, stretched=False),
        )
