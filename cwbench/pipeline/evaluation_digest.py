"""The digest of everything that determines what attacks achieve: what a killed evaluation goes on by."""

from collections.abc import Mapping

import torch

from cwbench.api import Examples
from cwbench.datasets import splits
from cwbench.internal import code_digest, digest
from cwbench.internal.distributed import ALONE, Team
from cwbench.internal.exact_number import ROUNDING
from cwbench.plan import EvaluationPlan

DECIDE_VERDICTS = ("api", "attacks", "backbones", "datasets", "defenses", "evaluation")
"""The packages whose code can change what an attack achieves."""


def evaluation_digest(
    plan: EvaluationPlan,
    checkpoint: str,
    test: Examples,
    substitutes: Mapping[str | None, str],
    team: Team = ALONE,
    threads: int | None = None,
) -> str:
    """Return the digest of everything that determines what attacks achieve.

    Args:
        plan: dataset, threat, attacks and settings.
        checkpoint: the digest of what determines the evaluated network.
        test: the split.
        substitutes: the digests of the networks that transfer attacks use, by what they name.
        team: the processes that share the evaluation.
        threads: of the process that will evaluate; of this one by default.
    """
    attacks = [(planned.label, planned.attack) for planned in plan.attacks]
    return digest.of_json(
        {
            "checkpoint": checkpoint,
            "test": splits.digest(test),
            "threat": {"norm": plan.threat.norm, "eps": plan.threat.radius, "rounding": ROUNDING},
            "attacks": [[label, attack.name, attack.model_dump(mode="json")] for label, attack in attacks],
            "substitutes": {str(uri): used for uri, used in substitutes.items()},
            # Which of several GPUs it is changes nothing.
            "settings": plan.settings.model_dump(mode="json") | {"device": plan.device.type},
            "threads": threads or torch.get_num_threads(),
            "process": [team.rank, team.size],
            "torch": torch.__version__,
            "code": code_digest.of_code(
                "cwbench.evaluation.harness",
                *dict.fromkeys(module for _, attack in attacks for module in attack.defined_in()),
                packages=DECIDE_VERDICTS,
            ),
        }
    )
