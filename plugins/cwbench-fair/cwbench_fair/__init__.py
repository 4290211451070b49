"""Defenses that answer the study: adversarial training that looks at each class and spends its effort where it lacks.

One file for each: FRL (Xu et al. 2021), CFA (Wei et al. 2023), WAT (Li & Liu 2023), DAFA (Lee et al. 2024).
"""

import cwbench
from cwbench.api import Defense
from cwbench_fair.cfa import CFA
from cwbench_fair.dafa import DAFA
from cwbench_fair.frl import FRL
from cwbench_fair.wat import WAT

cwbench_api_version = 1


@cwbench.hookimpl
def cwbench_defenses() -> list[type[Defense]]:
    return [FRL, CFA, WAT, DAFA]
