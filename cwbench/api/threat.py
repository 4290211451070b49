"""What an attacker may do: a ball of radius eps around each image, cut by the box [0, 1]."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from pydantic import PrivateAttr, field_validator
from torch import Tensor

from cwbench.api.streams import Streams
from cwbench.internal.errors import UsageError, did_you_mean, reason_of
from cwbench.internal.exact_number import ROUNDING, Exact
from cwbench.internal.validation import Closed


class Threat(Closed, ABC):
    """A norm and a radius, in units of pixels in [0, 1]. Images are (N, C, H, W) or any (N, ...)."""

    norm: ClassVar[Literal["Linf", "L2"]]

    eps: Exact
    _factors: Tensor | None = PrivateAttr(None)

    @field_validator("eps")
    @classmethod
    def _positive(cls, eps: Exact) -> Exact:
        if eps.value <= 0:
            raise ValueError(f"eps must be above 0, not {eps}")
        if cls.norm == "Linf" and eps.value > 1:
            raise ValueError(f"eps {eps} is above 1, the whole range of a pixel: write 8/255, not 8")
        return eps

    @property
    def radius(self) -> float:
        return self.eps.value

    def scaled(self, fraction: float) -> "Threat":
        """Return the same norm with ``fraction`` of the radius, for a training that lets eps rise."""
        return self if fraction == 1 else type(self)(eps=Exact.model_validate(self.radius * fraction))

    @final
    def each(self, factors: Tensor) -> "Threat":
        """Return the same ball with a radius of its own for each of N examples: the radius times ``factors``, (N,).

        It serves batches of exactly these N examples, for a training whose margin depends on the class.
        """
        several = self.model_copy()
        several._factors = factors
        return several

    @final
    def reach(self, x: Tensor) -> Tensor | float:
        """Return the radius, or where examples have their own those, shaped to meet the rows of ``x``."""
        if self._factors is None:
            return self.radius
        return (self.radius * self._factors).to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))

    @abstractmethod
    def project(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Return the point of ball and box that projection from ``candidate`` gives; shapes as ``x``."""

    @abstractmethod
    def random_start(self, x: Tensor, *, streams: Streams) -> Tensor:
        """Return points drawn uniformly from the ball around each ``x``, projected into the box."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the direction of unit norm along which a linear function of this gradient grows fastest."""

    @abstractmethod
    def distance(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Return the distance of each candidate from its image, shape (N,), float64."""

    @final
    def excess(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Return how far each candidate lies outside ball or box, shape (N,), float64; at most 0 is inside."""
        radius = self.radius if self._factors is None else self.radius * self._factors.double()
        return torch.maximum(self.distance(candidate, x) - radius, self.outside(candidate))

    @staticmethod
    def outside(candidate: Tensor) -> Tensor:
        """Return how far each candidate lies outside the box [0, 1], shape (N,), float64; at most 0 is inside."""
        flat = candidate.flatten(1).double()
        return torch.maximum(-flat, flat - 1).amax(1)

    @final
    def contains(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Tell for each candidate whether it lies in ball and box up to float32 rounding, shape (N,)."""
        return self.excess(candidate, x) <= ROUNDING


@final
class Linf(Threat):
    """No pixel may change by more than eps."""

    norm = "Linf"

    def project(self, candidate: Tensor, x: Tensor) -> Tensor:
        radius = self.reach(x)
        return torch.minimum(torch.maximum(candidate, x - radius), x + radius).clamp_(0, 1)

    def random_start(self, x: Tensor, *, streams: Streams) -> Tensor:
        return (x + self.reach(x) * (2 * streams.uniform(x) - 1)).clamp_(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def distance(self, candidate: Tensor, x: Tensor) -> Tensor:
        return (candidate.double() - x.double()).flatten(1).abs().amax(1)


@final
class L2(Threat):
    """The Euclidean length of the change is at most eps."""

    norm = "L2"

    def project(self, candidate: Tensor, x: Tensor) -> Tensor:
        # Clamping first and shrinking towards x after stays inside both: x is in the box, and the box is convex.
        delta = candidate.clamp(0, 1) - x
        # Lengths in float64: in float32 those of a large image are off by more than the rounding that is forgiven.
        factor = (self.reach(x.double()) / _lengths(delta.double()).clamp_min(1e-12)).clamp_max(1)
        return x + delta * factor.to(x.dtype)

    def random_start(self, x: Tensor, *, streams: Streams) -> Tensor:
        # A direction is a normalised Gaussian; a radius r·u^(1/d) makes the points uniform in the volume.
        gauss = streams.child("direction").normal(x)
        direction = gauss / _lengths(gauss)
        draws = streams.child("radius").uniform(x.flatten(1)[:, :1])
        share = draws.pow(1 / math.prod(x.shape[1:])).reshape(-1, *[1] * (x.dim() - 1))
        return self.project(x + self.reach(x) * share * direction, x)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient / _lengths(gradient).clamp_min(1e-30)

    def distance(self, candidate: Tensor, x: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm((candidate.double() - x.double()).flatten(1), dim=1)
        return lengths


def _lengths(batch: Tensor) -> Tensor:
    """Return the Euclidean length of each row, shaped to divide the batch by."""
    lengths: Tensor = torch.linalg.vector_norm(batch.flatten(1), dim=1)
    return lengths.reshape(-1, *[1] * (batch.dim() - 1))


NORMS: dict[str, type[Threat]] = {threat.norm: threat for threat in (Linf, L2)}


def make_threat(norm: str, eps: object) -> Threat:
    """Build a threat from what a user wrote, for example ``make_threat("Linf", "8/255")``.

    Raises:
        UsageError: unknown norm; eps is not a finite number above 0, or above 1 for Linf.
    """
    if norm not in NORMS:
        raise UsageError(f"unknown norm {norm!r}", did_you_mean(norm, NORMS))
    try:
        exact = eps if isinstance(eps, Exact) else Exact.model_validate(eps)
        return NORMS[norm](eps=exact)
    except ValueError as error:
        raise UsageError(f"bad eps: {_complaint(error)}", "for example --eps 8/255 or --eps 0.1") from None


def _complaint(error: ValueError) -> str:
    """Return what is wrong with an eps, without the name of the field."""
    return reason_of(error).removeprefix("eps: ")
