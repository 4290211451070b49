"""Whether the parts of a report agree: every function here raises ValueError where they cannot."""

from collections.abc import Iterator, Sequence
from operator import lt

from cwbench.report.intervals import wilson
from cwbench.report.records import (
    Accuracy,
    AttackRecord,
    Counts,
    DatasetRecord,
    EpsCurve,
    Figures,
    SavedExamples,
    TrainingRecord,
    WorstClass,
    diagonal,
)

ROUNDING_OF_FIGURES = 1e-9


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
        fewer = sum(map(lt, row, old))  # of every cell; only the diagonal may lose
        if fewer > (row[truth] < old[truth]):
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


def check_examples(files: Sequence[SavedExamples], attacks: Sequence[AttackRecord]) -> None:
    """Check that saved examples are of attacks of the report, and as many as each attacked."""
    attacked = {attack.label: attack.cost.examples for attack in attacks}
    if len({saved.file for saved in files}) != len(files) or any(saved.attack not in attacked for saved in files):
        raise ValueError("examples: a file is named twice, or is of an attack that did not run")
    for label in {saved.attack for saved in files}:
        n = sum(saved.n for saved in files if saved.attack == label)
        if n != attacked[label]:
            raise ValueError(f"examples: {n} are saved of {label}, which attacked {attacked[label]}")


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


def check_figures(name: str, stored: Figures, correct: Sequence[int], data: DatasetRecord) -> None:
    """Derive every figure from the correct examples of each class, and compare.

    Numbers may differ in their last digits, as between versions of SciPy. Nothing is built on the way: a board checks
    thousands of reports.
    """
    wrong = next(_wrong(stored, correct, data), None)
    if wrong:
        raise ValueError(f"{name}: figures.{wrong} does not follow from the counts")


def _wrong(stored: Figures, correct: Sequence[int], data: DatasetRecord) -> Iterator[str]:
    """Yield the paths of figures that do not follow from the counts."""
    n = data.n_per_class
    if len(stored.classes) != len(n):
        yield "classes"
        return
    for index, entry in enumerate(stored.classes):
        if not _follows(entry, correct[index], n[index]):
            yield f"classes[{index}]"
    if not _follows(stored.overall, sum(correct), sum(n)):
        yield "overall"
    shares = [(correct[index] / count, index) for index, count in enumerate(n) if count]
    if not _worst_follows(stored.worst_class, shares, correct, data):
        yield "worst_class"
    gap = max(shares)[0] - min(shares)[0] if shares else None
    if stored.gap != gap and (stored.gap is None or gap is None or not _close(stored.gap, gap)):
        yield "gap"
    if stored.superclasses.keys() != data.superclasses.keys():
        yield "superclasses"
        return
    for name, group in data.superclasses.items():
        if not _follows(stored.superclasses[name], sum(correct[i] for i in group), sum(n[i] for i in group)):
            yield f"superclasses.{name}"


def _worst_follows(
    stored: WorstClass | None, shares: Sequence[tuple[float, int]], correct: Sequence[int], data: DatasetRecord
) -> bool:
    if not shares or stored is None:
        return not shares and stored is None
    accuracy, index = min(shares)
    interval = wilson(correct[index], data.n_per_class[index], comparisons=len(shares))
    named = (stored.index, stored.name) == (index, data.classes[index])
    return (
        named and interval is not None and all(map(_close, (stored.accuracy, *stored.interval), (accuracy, *interval)))
    )


def _follows(entry: Accuracy, correct: int, n: int) -> bool:
    interval = wilson(correct, n)
    if (entry.n, entry.correct) != (n, correct) or (entry.accuracy is None) != (n == 0):
        return False
    if entry.interval is None or interval is None or entry.accuracy is None:
        return entry.interval is None and interval is None and entry.accuracy is None
    return _close(entry.accuracy, correct / n) and all(map(_close, entry.interval, interval))


def _close(a: float, b: float) -> bool:
    return abs(a - b) < ROUNDING_OF_FIGURES
