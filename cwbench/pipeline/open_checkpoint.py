"""Checkpoints that a run evaluates without training them: the store's, the hub's, others' files, plugins' schemes.

:func:`locate_checkpoint` says which it is, before anything is built; what it returns knows the dataset of the
checkpoint, where that is recorded, and can load it.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from cwbench.api import Backbone, Classifier, Examples, OpenedCheckpoint
from cwbench.checkpoints.foreign_weights import fit_weights, read_weights
from cwbench.checkpoints.hub.address import SCHEME, address, refuse_outside
from cwbench.checkpoints.hub.fetch import fetch
from cwbench.checkpoints.store import FOREIGN, Checkpoint, Store
from cwbench.internal import code_digest, digest
from cwbench.internal.errors import CheckpointError, CwbenchError, UsageError, named_reason
from cwbench.internal.validation import validated
from cwbench.pipeline.build_report import training_record
from cwbench.pipeline.clean_accuracy import reproduced
from cwbench.pipeline.subject import Subject
from cwbench.plan import EvaluationPlan
from cwbench.plugins.naming import PluginSpec, build_plugin
from cwbench.plugins.registry import Registry
from cwbench.report.records import SourceRecord
from cwbench.spec import RunSpec
from cwbench.training.rebuild import moved_to, rebuilt

DECIDE_LOGITS = ("api", "backbones", "checkpoints", "defenses")
"""The packages whose code can change what a network with given weights computes."""


@dataclass(frozen=True)
class LocatedCheckpoint(ABC):
    """A checkpoint that was found; nothing is built yet."""

    uri: str

    @property
    def dataset(self) -> PluginSpec | None:
        """The dataset that it was trained for, where that is recorded."""
        return None

    @final
    def dataset_of(self, spec: RunSpec) -> PluginSpec:
        """Return the dataset of a run that evaluates the checkpoint: the run's own, or what it was trained for."""
        return spec.dataset if "dataset" in spec.model_fields_set else self.dataset or spec.dataset

    @abstractmethod
    def load(self, plan: EvaluationPlan, test: Examples) -> Subject:
        """Build the classifier for the classes and images of a plan's dataset, in eval mode, on the plan's device.

        Args:
            plan: its dataset, device and plugins.
            test: the dataset's test split, on which a published clean accuracy must be reproduced.

        Raises:
            CheckpointError: it is for other classes or images, its file is damaged or does not fit, or it does not
                reproduce the clean accuracy that was published with it.
            UsageError: its parts are not installed.
        """


def locate_checkpoint(uri: str, backbone: PluginSpec | None, store: Store) -> LocatedCheckpoint:
    """Find a checkpoint.

    Args:
        uri: a digest or a folder of the store, ``hf://user/repo[/FILE]``, a file, or a scheme of a plugin.
        backbone: the network of a file of weights.
        store: the checkpoints of this machine.

    Raises:
        CheckpointError: there is none, or it is damaged.
        UsageError: a backbone is missing, or is given where the checkpoint names its own.
    """
    scheme = uri.partition("://")[0] if "://" in uri else None
    hub_file = address(uri).file if scheme == "hf" else None
    path, _ = _split(uri)
    if hub_file or (scheme is None and (path.is_file() or path.suffix in FOREIGN)):
        if backbone is None:
            raise UsageError(f"{uri} does not say which network it is for", "name it with --backbone NAME")
        return WeightsFile(uri, backbone)
    if backbone is not None:
        raise UsageError(f"--backbone: {uri} says itself which network it is for", "leave it out")
    return StoredCheckpoint(uri, store.opened(uri)) if scheme in (None, "hf") else PluginCheckpoint(uri)


@final
@dataclass(frozen=True)
class StoredCheckpoint(LocatedCheckpoint):
    """One of cwbench's own: in the store, in a folder, or published on the hub."""

    checkpoint: Checkpoint

    @property
    def dataset(self) -> PluginSpec:
        about = self.checkpoint.identity["dataset"]
        return PluginSpec(name=about["name"], fields=about["fields"])

    def load(self, plan: EvaluationPlan, test: Examples) -> Subject:
        uri, checkpoint, dataset, registry = self.uri, self.checkpoint, plan.dataset, plan.registry
        about = checkpoint.identity["dataset"]
        if (tuple(about["classes"]), tuple(about["shape"])) != (tuple(dataset.classes), dataset.shape):
            classes, (channels, size) = about["classes"], about["shape"]
            raise CheckpointError(
                f"checkpoint {uri} is for {about['name']}: {len(classes)} classes, {channels}×{size}×{size} pixels",
                f"{dataset.name} has others: leave --dataset out, or name that one",
            )
        found = rebuilt(checkpoint, registry, plan.device)
        training = training_record(checkpoint)
        on_hub, published = uri.startswith(SCHEME), checkpoint.published
        source = SourceRecord(
            kind="hub" if on_hub else "store",
            uri=uri if on_hub else checkpoint.key,
            sha256=str(checkpoint.sha256),
            revision=published.commit if published else None,
            clean=reproduced(checkpoint, found.model, dataset, test, plan.device, uri),
        )
        defense = checkpoint.identity["defense"]
        modules = (*found.backbone.defined_in(), *found.defense.defined_in())
        code = code_digest.of_code(*modules, packages=DECIDE_LOGITS)
        return Subject(
            found.model,
            str(PluginSpec(name=defense["name"], fields=_set_fields(defense, registry))),
            # The weights are what they are, but the network around them may have been edited since.
            digest.of_json([checkpoint.key, code]),
            backbone=found.backbone,
            defense=found.defense,
            training=training,
            source=source,
        )


def _set_fields(described: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """Return the fields of a described defense that are not at their default: what a user would have written."""
    defaults = registry.defense(described["name"])().model_dump(mode="json")
    return {name: value for name, value in described["fields"].items() if defaults.get(name) != value}


def _split(uri: str) -> tuple[Path, str | None]:
    """Return the path of a file of weights, and the entry of it that is named behind ``#``."""
    path, _, part = uri.partition("#")
    return (Path(uri), None) if Path(uri).is_file() else (Path(path), part or None)


@final
@dataclass(frozen=True)
class WeightsFile(LocatedCheckpoint):
    """A file of weights that other code wrote, here or on the hub, with the network that it is for."""

    backbone: PluginSpec

    def load(self, plan: EvaluationPlan, test: Examples) -> Subject:
        del test  # nothing was published with it that could be reproduced
        dataset = plan.dataset
        backbone: Backbone = build_plugin(plan.registry.backbone(self.backbone.name), self.backbone, "backbone")
        path, name, entry, revision = self._fetched()
        weights = read_weights(path, entry)
        channels, size = dataset.shape
        with torch.random.fork_rng(devices=[]):
            features = backbone.build(channels=channels, size=size)
            model = Classifier(features, nn.Linear(features.width, len(dataset.classes)))
        notes = fit_weights(model, weights, subject=name, backbone=backbone.name)
        source = SourceRecord(
            kind="hub" if revision else "file",
            uri=self.uri if revision else path.name,
            sha256=weights.sha256,
            revision=revision,
            clean="not recorded",
            notes=[*weights.notes, *notes],
        )
        code = code_digest.of_code(
            *backbone.defined_in(), "cwbench.checkpoints.foreign_weights", packages=DECIDE_LOGITS
        )
        identity = [weights.sha256, entry, backbone.name, backbone.model_dump(mode="json"), code]
        return Subject(
            moved_to(model, plan.device).eval(),
            Path(name).name,
            digest.of_json(identity),
            backbone=backbone,
            source=source,
        )

    def _fetched(self) -> tuple[Path, str, str | None, str | None]:
        """Return the file on this machine, its name in messages, the entry to read, and the commit of a hub's file."""
        if not self.uri.startswith(SCHEME):
            path, entry = _split(self.uri)
            return path, path.name, entry, None
        plain, _, part = self.uri.partition("#")
        at = address(plain)
        refuse_outside(str(at.file), self.uri)
        fetched = fetch(at, [str(at.file)])
        return fetched.files[str(at.file)], plain, part or None, fetched.commit


@final
@dataclass(frozen=True)
class PluginCheckpoint(LocatedCheckpoint):
    """A checkpoint of a scheme that a plugin opens."""

    def load(self, plan: EvaluationPlan, test: Examples) -> Subject:
        """Ask the plugins, the last registered first; the first that answers has it."""
        del test
        uri = self.uri
        caller = plan.registry.discovery.manager.hook.cwbench_open_checkpoint
        for implementation in reversed(caller.get_hookimpls()):
            known = {"uri": uri, "dataset": plan.dataset}
            try:
                found = implementation.function(**{name: known[name] for name in implementation.argnames})
            except (CwbenchError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise CheckpointError(
                    f"plugin {implementation.plugin_name} could not open {uri}: {named_reason(error)}",
                    "tell its author",
                ) from error
            if found is not None:
                return self._checked(found, implementation.plugin_name, plan.device)
        scheme = uri.partition("://")[0]
        names = ", ".join(implementation.plugin_name for implementation in caller.get_hookimpls()) or "none"
        likely = f"cwbench-{re.sub(r'[^a-z0-9-]', '', scheme.lower())}"
        raise CheckpointError(
            f"nothing opens {scheme}:// checkpoints",
            f"install the plugin that does, such as {likely}; those installed that open any: {names}",
        )

    def _checked(self, found: Any, plugin: str, device: torch.device) -> Subject:
        if not isinstance(found, OpenedCheckpoint) or not isinstance(found.model, nn.Module):
            raise CheckpointError(
                f"plugin {plugin} did not return a cwbench.api.OpenedCheckpoint with an nn.Module for {self.uri}",
                "tell its author",
            )
        record = {
            "kind": "plugin",
            "uri": self.uri,
            "sha256": found.sha256,
            "revision": found.revision,
            "clean": "not recorded",
            "notes": found.notes,
            "external": [asdict(figure) for figure in found.external],
        }
        source = validated(SourceRecord, record, f"what plugin {plugin} opened for {self.uri}")
        return Subject(found.model.to(device).eval(), found.subject, found.sha256, source=source)
