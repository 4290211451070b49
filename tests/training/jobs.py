"""Trainings of a few epochs on digits, for the tests of this folder."""

import torch

from cwbench.plan import make_plan
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec
from cwbench.training.job import Job


def job(*plugins, curves=None, **content) -> Job:
    spec = RunSpec.model_validate({"defense": "madry", "set": {"recipe.epochs": 3}} | content)
    return Job.of(make_plan(spec, installed().including(*plugins)), curves)


def same(first, second) -> bool:
    return all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
