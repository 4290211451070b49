"""An evaluation that several processes share: each judges its part of the examples."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from cwbench.api import Examples, Model, Threat
from cwbench.evaluation.harness import evaluate
from cwbench.evaluation.outcomes import AttackOutcome, Cost, Outcomes, Tools
from cwbench.internal.distributed import Team
from cwbench.internal.errors import UsageError
from cwbench.plan import PlannedAttack
from cwbench.spec import EvaluationSettings

Column = np.ndarray[Any, Any]


def evaluate_together(
    model: Model,
    examples: Examples,
    attacks: Sequence[PlannedAttack],
    *,
    ids: Tensor,
    classes: int,
    threat: Threat,
    settings: EvaluationSettings,
    tools: Tools,
    team: Team,
) -> Outcomes:
    """Return in every process what :func:`cwbench.evaluation.harness.evaluate` returns in one.

    An example's random numbers and verdict are its own, so the parts need only be put together. The signs of masked
    gradients are those of the leader's part.

    Raises:
        UsageError: as ``evaluate`` does; fewer examples than processes.
    """
    require_enough(ids, team)
    own = replace(tools, agree=lambda precision: team.from_leader(lambda: precision))
    part = evaluate(
        model,
        examples,
        attacks,
        ids=ids[team.rank :: team.size],
        classes=classes,
        threat=threat,
        settings=settings,
        tools=own,
    )
    return _whole(team.gathered(part))


def require_enough(ids: Tensor, team: Team) -> None:
    """Check that every process gets an example to judge.

    Raises:
        UsageError: there are fewer examples than processes.
    """
    if team.size > len(ids):
        raise UsageError(f"{team.size} processes cannot share {len(ids)} examples", "start fewer")


def _whole(parts: Sequence[Outcomes]) -> Outcomes:
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(
        first,
        ids=_dealt([part.ids for part in parts]),
        labels=_dealt([part.labels for part in parts]),
        clean=_dealt([part.clean for part in parts]),
        attacks=tuple(map(_one, zip(*[part.attacks for part in parts], strict=True))),
        folded=min(part.folded for part in parts),
        batch_size=min(part.batch_size for part in parts),
    )


def _one(parts: Sequence[AttackOutcome]) -> AttackOutcome:
    costs = [part.cost for part in parts]
    distances = [part.distances for part in parts if part.distances is not None]
    return replace(
        parts[0],
        predictions=_dealt([part.predictions for part in parts]),
        distances=_dealt(distances) if distances else None,
        cost=Cost(
            examples=sum(cost.examples for cost in costs),
            forward=sum(cost.forward for cost in costs),
            backward=sum(cost.backward for cost in costs),
            queries=sum(cost.queries for cost in costs),
            seconds=max(cost.seconds for cost in costs),
        ),
    )


def _dealt(parts: Sequence[Column]) -> Column:
    """Put columns back together that were dealt out in turn."""
    whole: Column = np.empty(sum(map(len, parts)), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
