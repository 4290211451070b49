"""N Attack: a distribution of adversarial examples, learned from logits alone."""

from dataclasses import dataclass
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import (
    MOST_STEPS,
    Access,
    Attack,
    Budget,
    ExampleStreams,
    Model,
    Number,
    SlotState,
    Threat,
    columns,
    drive,
    misclassified,
)
from cwbench.attacks.margin import margin
from cwbench.attacks.tanh_space import decode, encode

AHEAD = 4
"""Batches' worth of images that are in flight, so that the last of them is not nearly empty."""


@dataclass
class _Search(SlotState):
    """Where each example stands."""

    origin: Tensor
    centre: Tensor
    """The image in tanh space."""
    mean: Tensor
    """μ, the learned mean of the Gaussian around it."""
    age: Tensor
    """Iterations, (n,)."""


@final
class NAttack(Attack):
    """Li et al. 2019, algorithm 1: natural evolution strategy on the mean of a Gaussian in tanh space.

    A population w_i = artanh(2x − 1) + μ + σ ε_i is decoded and projected into the ball; with the standardised margins
    A_i the mean moves by μ ← μ + lr / (n σ) Σ A_i ε_i. An example leaves as soon as one of its population is
    misclassified; the authors look every tenth iteration, at the mean alone, and their loss is a margin of
    log-probabilities, which differs from that of logits by nothing.
    """

    name = "nattack"
    reference = "Li, Li, Wang, Zhang & Gong 2019, NATTACK: Learning the Distributions of Adversarial Examples, ICML"
    access = Access.SCORE
    pooled = True
    effort = ("population", "iterations")

    population: Annotated[int, Field(ge=2)] = 300
    """Images asked about in each iteration."""
    iterations: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 500
    sigma: Annotated[Number, Field(gt=0)] = 0.1
    """Standard deviation of the Gaussian."""
    learning_rate: Annotated[Number, Field(gt=0)] = 0.02

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        answer = x.clone()
        leaving = misclassified(y, budget)

        def begin(rows: Tensor) -> _Search:
            images = x[rows]
            return _Search(
                images,
                origin=images,
                centre=encode(images),
                mean=0.001 * streams[rows].child("start").normal(images),
                age=torch.zeros_like(rows),
            )

        def step(state: _Search, rows: Tensor) -> tuple[Tensor, Tensor]:
            images = state.origin.repeat_interleave(self.population, 0)
            shape = (len(rows), self.population, *x.shape[1:])
            noise = streams[rows].child("population").at(state.age).normal(x.new_empty(shape))
            centre = (state.centre + state.mean).unsqueeze(1)
            people = threat.project(decode(centre + self.sigma * noise).flatten(0, 1), images)
            with torch.no_grad():
                logits = torch.cat([model(part) for part in people.split(budget.batch_size)])
            value = margin(logits, y[rows].repeat_interleave(self.population)).reshape(shape[:2])
            spread = value.std(1, correction=0, keepdim=True)
            fitness = ((value - value.mean(1, keepdim=True)) / (spread + 1e-7)).to(noise.dtype)
            pull = (fitness.reshape(*shape[:2], *[1] * (x.dim() - 1)) * noise).mean(1)
            state.mean = state.mean + self.learning_rate / self.sigma * pull
            state.age = state.age + 1
            best = value.argmax(1)
            every = torch.arange(len(rows), device=x.device)
            state.candidate = people.reshape(shape)[every, best]
            claimed = leaving.claims(logits.reshape(*shape[:2], -1)[every, best], rows)
            return claimed, state.age == self.iterations

        def finish(state: _Search, rows: Tensor, broken: Tensor) -> None:
            mean = threat.project(decode(state.centre + state.mean), state.origin)
            answer[rows] = torch.where(columns(broken, x), state.candidate, mean)
            budget.tick(len(rows))

        slots = max(1, AHEAD * budget.batch_size // self.population)
        drive(len(x), slots, device=x.device, begin=begin, step=step, finish=finish, confirm=leaving.confirm)
        return answer
