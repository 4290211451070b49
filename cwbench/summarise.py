"""Predictions to integer counts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]


def per_class(labels: Ints, classes: int) -> list[int]:
    """Return how many examples each class has."""
    counts: list[int] = np.bincount(labels, minlength=classes).tolist()
    return counts


def confusion(labels: Ints, predictions: Ints, classes: int) -> list[list[int]]:
    """Return the K×K counts: row true class, column predicted class."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    rows: list[list[int]] = flat.reshape(classes, classes).tolist()
    return rows


def standing(labels: Ints, conditions: Iterable[Ints], classes: int) -> list[int]:
    """Return for each class how many examples are predicted correctly under every condition."""
    right = np.ones(len(labels), dtype=bool)
    for predictions in conditions:
        right &= predictions == labels
    return per_class(labels[right], classes)
