"""How large a study is done, and which runs it is made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from cwbench.api import Dataset
from cwbench.internal import digest
from cwbench.internal.errors import UsageError
from cwbench.internal.validation import Closed
from cwbench.plan import changed_recipe, named_recipe
from cwbench.plugins.naming import PluginSpec, build_plugin, wrong_names
from cwbench.plugins.registry import Registry
from cwbench.spec import EvaluationSettings, Limit, RunSpec, Seed

REFERENCE = "madry"
"""The defense that the study looks at unless it compares several."""
STANDARD = "standard"
INSTANCE_WISE = (REFERENCE, "trades", "mart", "rst")
"""Those of tables 2 to 4."""
HYPERSPHERE = (REFERENCE, "he", "he-lis", "he-cmp")
"""Those of table 5."""
PAPER = "paper"
STUDY_ATTACKS = ("fgsm", "pgd", "cw", "transfer", "nattack")
"""Table 2: white-box, and black-box by transfer and by queries."""
QUICK_ATTACKS = ("fgsm", "pgd", "cw-pgd", "transfer", "square:queries=1000")
"""The same kinds at a fraction of the cost: CW as PGD on its margin, and fewer queries."""
INVERSE_TEMPERATURES = (2.0, 5.0, 10.0, 50.0)
"""5 is table 3's; table 4 sweeps the others (RECIPES: 2, 5, 10, 50 are sensible)."""
POINTS = 20
"""About so many points the curves of figure 1 have."""


Index = Annotated[int, Field(ge=0)]


class Scale(Closed):
    """What a study is done on. Two results belong together if they are of the same scale."""

    dataset: PluginSpec = PluginSpec(name="digits")
    """What to train and evaluate on."""
    recipe: str | None = None
    """How to train: paper is the paper's own; the dataset's default if unset."""
    defenses: Annotated[tuple[PluginSpec, ...], Field(min_length=1)] | None = None
    """Which of the paper's defenses take part, and others in tables 2 to 4; may be given several times, all of the
    paper's if unset."""
    attacks: Annotated[tuple[PluginSpec, ...], Field(min_length=1)] | None = None
    """The attacks of table 2; may be given several times, with recipe paper the paper's if unset."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Trainings of each defense; may be given several times, and figures are their means."""
    limit: Limit | None = None
    """Evaluate only this many test examples, dealt out evenly over the classes; all of them if unset."""
    set: dict[str, JsonValue] = {}
    """Change the recipe, for example recipe.epochs=2."""
    homing: Annotated[tuple[Index, ...], Field(min_length=1)] | Literal["all", "most-confused"] = "all"
    """Indices of the confound classes that are removed in figure 3."""
    example: Annotated[int, Field(ge=0)] | None = None
    """The test image of figure 5 b–d; one of the most vulnerable class if unset."""
    superclasses: dict[str, tuple[int, ...]] = {}
    """Groups for figure 2 where the dataset has none."""

    @model_validator(mode="after")
    def _distinct(self) -> "Scale":
        lists: dict[str, Sequence[object]] = {"seeds": self.seeds, "defenses": [d.name for d in self.defenses or ()]}
        lists["homing"] = [] if isinstance(self.homing, str) else self.homing
        lists["attacks"] = [str(a) for a in self.attacks or ()]
        for name, values in lists.items():
            if len(set(values)) != len(values):
                raise ValueError(f"{name} holds one of them twice")
        return self

    @property
    def shared(self) -> dict[str, Any]:
        """What all pieces have in common: those that differ in nothing else belong on one page."""
        return self.model_dump(mode="json", exclude={"attacks", "homing", "example", "superclasses"})

    @property
    def folder(self) -> str:
        """A name for a study of this scale: of the whole dataset, or with a digest of what is different."""
        plain = Scale(dataset=self.dataset, recipe=self.recipe)
        name = f"{self.dataset.name}-{self.recipe or 'default'}"
        alike = self.shared == plain.shared and not self.dataset.fields
        return name if alike else f"{name}-{digest.of_json(self.shared)[:8]}"

    def spelled(self, defense: str) -> str:
        """Return one of the study's defenses as it takes part: ``mart`` may be ``mart:beta=6``."""
        given = [spec for spec in self.defenses or () if spec.name == defense]
        return str(given[0]) if given else defense

    def run(self, defense: str, attack: str, seed: int, where: "Machine") -> RunSpec:
        """Return the run of a cell: one defense, one attack, one seed."""
        return RunSpec(
            **where.settings.model_dump(exclude={"seed", "limit"}),
            defense=PluginSpec.model_validate(self.spelled(defense)),
            attacks=(PluginSpec.model_validate(attack),),
            dataset=self.dataset,
            recipe=self.recipe,
            seed=seed,
            limit=self.limit,
            set=self.set,
            every=where.every if defense == REFERENCE else None,
            data=where.data,
        )

    def of(self, names: Sequence[str], others: bool = False) -> list[str]:
        """Return which of some defenses take part, as text; with ``others`` also those that the study does not have."""
        if self.defenses is None:
            return list(names)
        known = {*INSTANCE_WISE, *HYPERSPHERE, STANDARD}
        taking_part = [d for d in self.defenses if d.name in names or (others and d.name not in known)]
        return [d.name if d.name in names else str(d) for d in taking_part]

    @property
    def table2_attacks(self) -> tuple[str, ...]:
        if self.attacks:
            return tuple(map(str, self.attacks))
        return STUDY_ATTACKS if self.recipe == PAPER else QUICK_ATTACKS


class Machine(Closed):
    """Where and how a study is done; its results depend on none of it but by rounding."""

    data: Path | None = None
    settings: EvaluationSettings = EvaluationSettings(precision="fp32")
    """Seed and limit are the scale's. ``precision`` is fp32, as in sweeps, unless it is given: what ``auto`` measures
    may come out otherwise in the next process, and is another cell."""
    every: int
    """After how many epochs a point of figure 1 is measured."""


def dataset_of(scale: Scale, registry: Registry) -> Dataset:
    """Return the dataset of a study.

    Raises:
        UsageError: unknown names or fields.
    """
    problems = [
        *wrong_names("dataset", registry.dataset, [scale.dataset]),
        *wrong_names("defense", registry.defense, scale.defenses or ()),
        *wrong_names("attack", registry.attack, scale.attacks or ()),
    ]
    if problems:
        raise UsageError("; ".join(problems), "nothing has been run")
    dataset: Dataset = build_plugin(registry.dataset(scale.dataset.name), scale.dataset, "dataset")
    changed_recipe(named_recipe(dataset, scale.recipe or dataset.default_recipe), scale.set)
    return dataset


def curve_step(scale: Scale, dataset: Dataset) -> int:
    """Return after how many epochs a point of figure 1 is measured."""
    recipe = changed_recipe(dataset.recipes[scale.recipe or dataset.default_recipe], scale.set)
    return max(1, recipe.epochs // POINTS)
