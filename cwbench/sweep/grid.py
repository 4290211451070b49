"""A sweep as its file has it: a grid of defenses × attacks × datasets × seeds, with exceptions for some cells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue, ValidationError, model_validator

from cwbench.internal.errors import UsageError, did_you_mean
from cwbench.internal.validation import Closed, explained, json_schema, validated
from cwbench.plugins.naming import PluginSpec
from cwbench.spec import RunSpec, read_config

AXES = ("defense", "checkpoint", "attacks", "dataset", "backbone", "recipe", "eps", "seed")
"""Fields of a run that a grid may vary, in the order in which a cell's name tells them."""


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Axis = Annotated[tuple[JsonValue, ...], BeforeValidator(_many), Field(min_length=1)]
Plugins = Annotated[tuple[PluginSpec, ...], BeforeValidator(_many), Field(min_length=1)]
Attacks = Annotated[
    tuple[Annotated[tuple[PluginSpec, ...], BeforeValidator(_many), Field(min_length=1)], ...],
    BeforeValidator(_many),
    Field(min_length=1),
]


class Resources(Closed):
    """What a cell takes while it runs."""

    cpus: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processors, and threads of PyTorch: results depend on the number of threads by rounding, so it belongs to the
    cell and not to the machine."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0
    """GPUs that Ray reserves for a cell; a fraction shares one."""


class CellRule(Closed):
    """What is different in some cells."""

    where: dict[str, Axis]
    """Which cells: for axes such as ``defense``, the values, of which a cell must have one. A plugin is meant by its
    name, with whatever fields, or by its whole text."""
    set: dict[str, JsonValue] = {}
    """Fields of their run."""
    skip: bool = False
    """Leave these cells out."""

    @model_validator(mode="after")
    def _says_something(self) -> "CellRule":
        unknown = [axis for axis in self.where if axis not in AXES]
        if unknown:
            raise ValueError(f"where: there is no axis {unknown[0]!r} ({did_you_mean(unknown[0], AXES)})")
        if bool(self.set) == self.skip:
            raise ValueError("a rule has either fields to set or skip: true")
        return self


class SweepSpec(Closed):
    """A sweep file, ``sweeps/*.yaml``: every combination of its axes is a cell, which is a run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
    defenses: Plugins | None = None
    checkpoints: Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)] | None = None
    """What to judge instead of defenses."""
    attacks: Attacks | None = None
    """Each entry is an attack, or a list of attacks that are judged together; without, the dataset's standard suite."""
    datasets: Plugins = (PluginSpec(name="digits"),)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(_many), Field(min_length=1)] = (
        0,
    )
    backbones: Plugins | None = None
    recipes: Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)] | None = None
    eps: Annotated[tuple[str | float, ...], BeforeValidator(_many), Field(min_length=1)] | None = None
    run: dict[str, JsonValue] = {}
    """Fields that every cell's run has, such as ``limit`` or ``set``. ``precision`` is fp32 unless it is given: what
    ``auto`` measures differs from machine to machine, and a cell's report should not."""
    cells: tuple[CellRule, ...] = ()
    """Exceptions, in this order: a later one overrides an earlier one."""
    resources: Resources = Resources()
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a cell is begun again whose worker was lost. An error is not tried again: it would come again."""

    @model_validator(mode="after")
    def _one_subject(self) -> "SweepSpec":
        if (self.defenses is None) == (self.checkpoints is None):
            raise ValueError("a sweep has either defenses or checkpoints")
        taken = [name for name in self.run if name in self.axes()]
        if taken:
            raise ValueError(f"run: {taken[0]!r} is an axis already")
        moved = [name for rule in self.cells for name in rule.set if name in self.axes()]
        if moved:
            raise ValueError(f"cells: a rule cannot set {moved[0]!r}, which is an axis: it would be another cell")
        return self

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Return the values of each axis that the sweep has, by the name of the run's field."""
        axes = {
            "defense": self.defenses,
            "checkpoint": self.checkpoints,
            "attacks": self.attacks,
            "dataset": self.datasets,
            "backbone": self.backbones,
            "recipe": self.recipes,
            "eps": self.eps,
            "seed": self.seeds,
        }
        return {name: values for name, values in axes.items() if values is not None}


def schema() -> dict[str, Any]:
    """Return the JSON schema of a sweep file, for editors."""
    return json_schema(SweepSpec, "cwbench sweep", mode="validation")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    number: int
    """Counted from 1."""
    coordinates: dict[str, str]
    """Where it lies on each axis, as text."""
    spec: RunSpec

    @property
    def name(self) -> str:
        """Return what people call the cell: ``mart × pgd × digits × seed 0``."""
        parts = [f"seed {text}" if axis == "seed" else text for axis, text in self.coordinates.items()]
        return " × ".join(parts)


def read_sweep(path: Path) -> SweepSpec:
    """Read a sweep file.

    Raises:
        UsageError: it cannot be read, or is no sweep.
    """
    return validated(SweepSpec, read_config(path, "name: mine"), str(path))


def cells_of(sweep: SweepSpec) -> list[Cell]:
    """Return the cells of a sweep in the order of its axes, the last of which changes first.

    Raises:
        UsageError: names everything that makes no run, all at once: bad fields, a rule for cells that there are not,
            the same cell twice.
    """
    cells: list[Cell] = []
    problems: list[str] = []
    used: set[int] = set()
    for coordinates in _points(sweep):
        content: dict[str, Any] = {"precision": "fp32", **sweep.run, **coordinates}
        skipped = False
        for number, rule in enumerate(sweep.cells):
            if _matches(rule, coordinates):
                used.add(number)
                content, skipped = {**content, **rule.set}, skipped or rule.skip
        if skipped:
            continue
        try:
            spec = RunSpec.model_validate(content)
        except ValidationError as error:
            problems.append(str(explained(error, RunSpec, "a cell's run")))
            continue
        cells.append(Cell(len(cells) + 1, {axis: _text(value) for axis, value in coordinates.items()}, spec))
    problems += [
        f"rule {number + 1} of cells is for none of them" for number in range(len(sweep.cells)) if number not in used
    ]
    problems += [f"{cell.name} is there twice" for cell in _repeated(cells)]
    if not problems and not cells:
        problems.append("its rules skip every cell")
    refuse(sweep, problems)
    return cells


def _repeated(cells: Sequence[Cell]) -> Iterator[Cell]:
    seen: set[str] = set()
    for cell in cells:
        text = cell.spec.model_dump_json()
        if text in seen:
            yield cell
        seen.add(text)


def refuse(sweep: SweepSpec, problems: list[str]) -> None:
    """Raise all problems of a sweep in one line, each of them once; do nothing without any.

    Raises:
        UsageError: there are problems.
    """
    if problems:
        raise UsageError(
            f"sweep {sweep.name} cannot run: {'; '.join(dict.fromkeys(problems))}",
            "nothing has been run; mend its file",
        )


def _points(sweep: SweepSpec) -> Iterator[dict[str, Any]]:
    axes = sweep.axes()
    return (dict(zip(axes, point, strict=True)) for point in product(*axes.values()))


def unmatched(sweep: SweepSpec) -> Iterator[str]:
    """Yield what rules ask for that no cell has: a value that is on no axis is a typing error."""
    axes = sweep.axes()
    for number, rule in enumerate(sweep.cells, 1):
        for axis, values in rule.where.items():
            known = {name for value in axes.get(axis, ()) for name in _names(value)}
            for value in values:
                if str(value) not in known:
                    yield f"rule {number} of cells: no {axis} is {str(value)!r}"


def _matches(rule: CellRule, coordinates: dict[str, Any]) -> bool:
    return all(
        axis in coordinates and bool({str(value) for value in values} & _names(coordinates[axis]))
        for axis, values in rule.where.items()
    )


def _names(value: Any) -> set[str]:
    """Return what a rule may call a value: its text and, of plugins, their names."""
    members = value if isinstance(value, tuple) else (value,)
    plain = {member.name for member in members if isinstance(member, PluginSpec)}
    return plain | {str(member) for member in members} | {_text(value)}


def _text(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, tuple) else str(value)
