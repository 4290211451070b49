"""Whether the parts of a report agree: every function here raises ValueError where they cannot."""

from collections.abc import Sequence
from typing import Any

from cwbench.records import AttackRecord, Counts, DatasetRecord, EpsCurve, Figures, TrainingRecord, diagonal


def check_dataset(data: DatasetRecord) -> None:
    """Check that classes, superclasses and numbers of examples fit together."""
    k, judged = len(data.classes), sum(data.n_per_class)
    if len(data.n_per_class) != k:
        raise ValueError(f"dataset: {len(data.n_per_class)} counts for {k} classes")
    if len(set(data.classes)) != k:
        raise ValueError("dataset: two classes have the same name")
    for name, group in data.superclasses.items():
        if any(index >= k for index in group) or len(set(group)) != len(group):
            raise ValueError(f"dataset: superclass {name!r} names a class twice or beyond the {k} classes")
    if judged != min(data.limit or data.n_available, data.n_available):
        raise ValueError(f"dataset: {judged} judged of {data.n_available} with limit {data.limit}")


def check_labels(pairs: Sequence[tuple[str, str]]) -> None:
    """Check that each label is unique and begins with its attack's name."""
    if len({label for label, _ in pairs}) != len(pairs):
        raise ValueError("attacks: two have the same label")
    for label, name in pairs:
        if label.partition(":")[0] != name or name == "clean":
            raise ValueError(f"attacks: {label!r} is no label of {name!r}")


def check_worst_case(worst: list[int], clean: list[int], attacks: list[list[int]]) -> None:
    """Hold the worst case between the strongest attack and what is left if no two attacks break the same example."""
    if len(worst) != len(clean):
        raise ValueError(f"worst case: {len(worst)} counts for {len(clean)} classes")
    for index, stands in enumerate(worst):
        under = [attack[index] for attack in attacks]
        if stands > min([clean[index], *under]):
            raise ValueError(f"worst case: more examples of class {index} stand than under the strongest attack")
        if stands < clean[index] - sum(clean[index] - right for right in under):
            raise ValueError(f"worst case: fewer examples of class {index} stand than the attacks together broke")


def check_against_before(attack: AttackRecord, before: Counts) -> None:
    """Check that an example that was wrong before is not attacked and keeps its prediction.

    ``before`` are the clean counts, or in a cascade those under the attack before.
    """
    for truth, (row, old) in enumerate(zip(attack.confusion, before, strict=True)):
        if any(n < m for predicted, (n, m) in enumerate(zip(row, old, strict=True)) if predicted != truth):
            raise ValueError(
                f"{attack.label}: examples of class {truth} that are wrong before it have moved under attack"
            )
    right = sum(diagonal(before))
    if attack.cost.examples != right:
        raise ValueError(f"{attack.label}: {attack.cost.examples} were attacked, but {right} were right")


def check_eps_curve(label: str, curve: EpsCurve, before: list[int], under: list[int], radius: float) -> None:
    """Check that accuracy falls with eps, from what it was before to what it is under the attack at the threat's."""
    if curve.eps != sorted(set(curve.eps)) or curve.eps[0] != 0 or len(curve.eps) != len(curve.correct):
        raise ValueError(f"{label}: the eps of its curve must ascend from 0, one for each row of counts")
    if any(len(row) != len(before) for row in curve.correct):
        raise ValueError(f"{label}: its curve does not have {len(before)} counts for each eps")
    for lower, higher in zip(curve.correct, curve.correct[1:], strict=False):
        if any(a < b for a, b in zip(lower, higher, strict=True)):
            raise ValueError(f"{label}: its curve rises with eps")
    if curve.correct[0] != before or radius not in curve.eps or curve.correct[curve.eps.index(radius)] != under:
        raise ValueError(f"{label}: its curve does not meet the counts at 0 and at the threat's eps")


def check_training(training: TrainingRecord, k: int) -> None:
    """Check losses and curves against the number of epochs and classes."""
    epochs = training.recipe.get("epochs")
    if not isinstance(epochs, int) or not 1 <= len(training.losses) <= epochs:
        raise ValueError(f"training: {len(training.losses)} losses in {epochs} epochs")
    trained = [point.epoch for point in training.curves]
    if trained != sorted(set(trained)) or (trained and trained[-1] > len(training.losses)):
        raise ValueError(f"curves: epochs {trained} of {len(training.losses)} must ascend")
    for point in training.curves:
        if not len(point.n) == len(point.clean) == len(point.robust) == k:
            raise ValueError(f"curves: epoch {point.epoch} does not have {k} counts of each kind")
        if any(not r <= c <= n for r, c, n in zip(point.robust, point.clean, point.n, strict=True)):
            raise ValueError(f"curves: epoch {point.epoch} has more right than there are")


def check_confusion(name: str, confusion: Counts, n_per_class: list[int]) -> None:
    """Check that the counts are K×K and that each row adds up to its class."""
    k = len(n_per_class)
    if len(confusion) != k or any(len(row) != k for row in confusion):
        raise ValueError(f"{name}: the confusion counts are not {k}×{k}")
    for index, (row, n) in enumerate(zip(confusion, n_per_class, strict=True)):
        if sum(row) != n:
            raise ValueError(f"{name}: the counts of class {index} add up to {sum(row)}, but {n} were judged")


def check_figures(name: str, stored: Figures, derived: Figures) -> None:
    """Compare up to the last digits, which may differ between versions of SciPy."""
    difference = _first_difference(stored.model_dump(), derived.model_dump())
    if difference:
        raise ValueError(f"{name}: figures{difference} does not follow from the counts")


def _first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """Return the path of the first value that differs, or None."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        pairs = [(a[key], b[key], f"{path}.{key}") for key in a]
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = [(x, y, f"{path}[{index}]") for index, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(a, float) and isinstance(b, float):
        return None if abs(a - b) < 1e-9 else path
    else:
        return None if a == b else path
    return next((found for pair in pairs if (found := _first_difference(*pair))), None)
