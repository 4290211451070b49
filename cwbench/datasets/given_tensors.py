"""Images and labels that were handed in as tensors, as a dataset of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from pydantic import Field

from cwbench.api import Dataset, Examples, Inner, Recipe, Split, TensorExamples, Threat

STEPS = 20
"""Of attacks that leave them unset, each of a quarter of eps."""
IMAGE_SUITE, VECTOR_SUITE = Dataset.suite, ("fgsm", "pgd", "cw-pgd", "tpgd", "apgd-ce", "apgd-t", "fab-t")
"""The standard suites of tensors: square, and autoattack with it, need images."""


@final
class GivenTensors(Dataset):
    """Tensors x and y with the threat that they are evaluated under. They have no training split.

    It is made for ``cwbench.evaluate`` and not offered by name.
    """

    name = "tensors"
    reference = "tensors that were handed in"
    classes_from_files: ClassVar[bool] = True
    backbone: ClassVar[str] = ""
    recipes: ClassVar[Mapping[str, Recipe]] = {}

    examples: Any = Field(exclude=True)
    """:class:`cwbench.api.TensorExamples`."""
    names: tuple[str, ...] = Field(exclude=True)
    """Of the classes."""
    groups: dict[str, tuple[int, ...]] = Field(exclude=True)
    """The superclasses."""
    threat: Any = Field(exclude=True)
    """:class:`cwbench.api.Threat`."""

    @classmethod
    def of(
        cls, examples: TensorExamples, names: tuple[str, ...], groups: Mapping[str, tuple[int, ...]], threat: Threat
    ) -> "GivenTensors":
        """Return examples, the names of their classes, their superclasses and their threat as a dataset."""
        return cls(examples=examples, names=names, groups=dict(groups), threat=threat)

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]  # known of the object, as the base class allows
        return self.names

    @property
    def superclasses(self) -> Mapping[str, tuple[int, ...]]:  # type: ignore[override]
        return self.groups

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        channels, *sides = self.examples.x.shape[1:]
        return int(channels), int(sides[-1]) if sides else 1

    @property
    def sizes(self) -> Mapping[Split, int]:  # type: ignore[override]
        return {"test": len(self.examples)}

    @property
    def norm(self) -> Literal["Linf", "L2"]:  # type: ignore[override]
        norm: Literal["Linf", "L2"] = self.threat.norm
        return norm

    @property
    def eps(self) -> str:  # type: ignore[override]
        return str(self.threat.eps)

    @property
    def attack(self) -> Inner:  # type: ignore[override]
        return Inner(steps=STEPS, step_size=self.threat.radius / 4)

    @property
    def suite(self) -> tuple[str, ...]:  # type: ignore[override]
        return IMAGE_SUITE if self.examples.x.dim() == 4 else VECTOR_SUITE

    def load(self, split: Split, root: Path | None) -> Examples:
        del split, root  # there is one split, and it is here
        found: TensorExamples = self.examples
        return found
