"""Predictions to integer counts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cwbench.internal.exact_number import ROUNDING

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def per_class(labels: Ints, classes: int) -> list[int]:
    """Return how many examples each class has."""
    counts: list[int] = np.bincount(labels, minlength=classes).tolist()
    return counts


def confusion(labels: Ints, predictions: Ints, classes: int) -> list[list[int]]:
    """Return the K×K counts: row true class, column predicted class."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    rows: list[list[int]] = flat.reshape(classes, classes).tolist()
    return rows


def right_under(labels: Ints, conditions: Iterable[Ints], classes: int) -> list[int]:
    """Return for each class how many examples are predicted correctly under every condition."""
    right = np.ones(len(labels), dtype=bool)
    for predictions in conditions:
        right &= predictions == labels
    return per_class(labels[right], classes)


def right_at(labels: Ints, distances: Floats, eps: Sequence[float], classes: int) -> list[list[int]]:
    """Return for each eps how many examples of each class nothing within it breaks.

    ``distances`` are 0 for examples that were wrong before, and infinite where nothing was found.
    """
    allowed = [value + ROUNDING if value else 0 for value in eps]
    return [per_class(labels[distances > limit], classes) for limit in allowed]
