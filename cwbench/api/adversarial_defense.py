"""Adversarial training: the inner maximisation that the defenses share."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from cwbench.api.classifier import Classifier, evaluating, frozen
from cwbench.api.defense import Batch, Defense, Loss, State
from cwbench.api.projected_ascent import MOST_STEPS, ascend
from cwbench.api.recipe import Inner
from cwbench.api.streams import Streams
from cwbench.api.threat import Threat
from cwbench.internal.exact_number import Number


class AdversarialDefense(Defense):
    """Attacks each batch with the model in eval mode and trains on the result in train mode.

    A subclass writes ``start``, what the inner attack increases (``inner_objective``), and the ``outer`` loss.
    """

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    """Steps of the inner attack; the recipe's if unset."""
    step_size: Annotated[Number, Field(gt=0)] | None = None
    """In units of pixels; the recipe's, scaled with eps, if unset."""

    @abstractmethod
    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        """Return where the inner attack begins, shape as ``x``."""

    @abstractmethod
    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Return the map from logits (N, K) on the iterates to what is increased, shape (N,)."""

    @abstractmethod
    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        """Return the loss to minimise; ``model`` is in train mode."""

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        del state
        return self.outer(model, batch, self.attacked(model, batch, threat=threat, inner=inner, streams=streams))

    @final
    def attacked(self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams) -> Tensor:
        """Return the result of the inner maximisation, shape as ``batch.x``; the model is left in its mode."""
        with evaluating(model), frozen(model):
            objective = self.inner_objective(model, batch)
            return ascend(
                model,
                lambda logits, rows: objective(logits),
                batch.x,
                start=self.start(batch.x, threat=threat, streams=streams),
                threat=threat,
                steps=self.steps or inner.steps,
                step_size=self.step_size or inner.step_size,
            )


def nearby_start(x: Tensor, streams: Streams) -> Tensor:
    """Return x + 0.001·N(0, I): the start of the inner attack in the codes of TRADES, RST, MART and HE."""
    return x + 0.001 * streams.normal(x)
