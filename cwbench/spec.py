"""What the user asked for: names and parameters, from the command line, YAML or JSON, through one parser."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, JsonValue, model_validator

from cwbench.internal.errors import UsageError, reason_of
from cwbench.internal.exact_number import Exact
from cwbench.internal.validation import Closed
from cwbench.plugins.naming import PluginSpec, read_value

DEFAULT_BATCH = 256
"""Images in one forward pass where nobody says otherwise."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Limit = Annotated[int, Field(ge=1)]


class EvaluationSettings(Closed):
    """How a model is evaluated.

    This is the one place for such an option: the command line, ``cwbench.run``, ``cwbench.evaluate``, sweeps, the study
    and the harness take it from here, and so does the digest that a killed evaluation goes on by. ``cwbench verify``
    evaluates with the settings that a report records. The docstring of a field is its help.
    """

    seed: Seed = 0
    """Where all random numbers begin, those of the training too."""
    limit: Limit | None = None
    """Evaluate only this many test examples, dealt out evenly over the classes; all of them if unset."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000_000)] | Literal["auto"] = "auto"
    """Images in one forward pass of the evaluation; auto is 256. It is halved where memory runs out."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What attacks search in; the verdict is always fp32. auto takes bf16 where it is measured to be faster and no
    weaker. With bf16 a training computes in mixed precision, too."""
    cascade: bool = False
    """Give each attack only the examples that are still robust under those before it: the worst case for less."""

    @property
    def images_per_pass(self) -> int:
        """The batch size as a number."""
        return DEFAULT_BATCH if self.batch_size == "auto" else self.batch_size


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | dict | PluginSpec) else value


class RunSpec(EvaluationSettings):
    """One run, as asked for. Fields left at None take the dataset's defaults."""

    defense: PluginSpec | None = None
    """What to train, for example mart:beta=6; a run names either this or a checkpoint."""
    checkpoint: str | None = None
    """What to evaluate instead: a digest or folder of cwbench's own, hf://user/repo[@revision][/FILE], FILE.safetensors
    or .pt with --backbone, or a scheme that a plugin opens."""
    attacks: Annotated[tuple[PluginSpec, ...], BeforeValidator(_one_or_many)] = ()
    """May be given several times, for example pgd:steps=50; the dataset's standard suite without it."""
    dataset: PluginSpec = PluginSpec(name="digits")
    """What to evaluate on; digits, or what the checkpoint was trained for."""
    data: Path | None = None
    """The folder with the data; the environment variable CWBENCH_DATA or the user's cache if unset."""
    backbone: PluginSpec | None = None
    """The network; the dataset's if unset."""
    recipe: str | None = None
    """How to train: paper or quick; the dataset's default if unset."""
    set: dict[str, JsonValue] = {}
    """Change the recipe, for example recipe.epochs=2."""
    norm: Literal["Linf", "L2"] | None = None
    """The norm of the threat; the dataset's if unset."""
    eps: Exact | None = None
    """The radius of the threat, kept exactly as written: 8/255. The dataset's if unset."""
    save_examples: bool = False
    """Keep the images that attacks return beside the report, for cwbench verify."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Record class-wise accuracy after every so many epochs of training."""
    resume: str | None = None
    """Go on with the unfinished training of this digest, and refuse if this run would train something else. Without it
    a run goes on with its own unfinished training, if there is one."""

    @property
    def settings(self) -> EvaluationSettings:
        """How the run evaluates."""
        return EvaluationSettings(**{name: getattr(self, name) for name in EvaluationSettings.model_fields})

    @model_validator(mode="after")
    def _one_subject(self) -> "RunSpec":
        if (self.defense is None) == (self.checkpoint is None):
            given = "both a defense and a checkpoint" if self.defense else "neither a defense nor a checkpoint"
            raise ValueError(f"it names {given}: give --defense NAME to train, or --checkpoint URI to evaluate one")
        training = [name for name in ("recipe", "set", "every", "resume") if getattr(self, name)]
        if self.checkpoint and training:
            raise ValueError(f"{training[0]!r} is for training, and a checkpoint is trained already: leave it out")
        return self


def parse_changes(texts: Sequence[str] | None) -> dict[str, JsonValue]:
    """Read ``recipe.epochs=2`` and the like, as the command line has them.

    Raises:
        UsageError: one is not FIELD=VALUE.
    """
    changes: dict[str, JsonValue] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UsageError(f"--set {text!r} is not FIELD=VALUE", "for example --set recipe.epochs=2")
        changes[name] = read_value(value)
    return changes


def read_config(path: Path, example: str = "defense: mart") -> dict[str, Any]:
    """Read a file of YAML whose keys are fields, one of them as in ``example``: of :class:`RunSpec` or of a sweep.

    Raises:
        UsageError: the file cannot be read, is not YAML or not a mapping, or sets a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}", "name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: {error}", "save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise UsageError(f"{path} is not valid YAML: {line}{told}", "mend it there") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {reason_of(error)}") from None
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} must hold a mapping such as {example!r}")
    return dict(content)


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice is an error and not the last one's win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                where = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is set twice", where)
        return super().construct_mapping(node, deep)
