"""Checkpoints that a run judges without training them: the store's, the hub's, others' files, plugins' schemes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cwbench import digest
from cwbench.api import Backbone, Dataset, Defense, Examples, OpenedCheckpoint
from cwbench.assemble import training_record
from cwbench.checkpoints import FOREIGN, Checkpoint, Store
from cwbench.errors import CwbenchError
from cwbench.foreign import fit_weights, read_weights
from cwbench.hub.address import SCHEME, address, refuse_outside
from cwbench.hub.fetch import fetch
from cwbench.model import Classifier
from cwbench.plan import build
from cwbench.plugins import one_line
from cwbench.records import SourceRecord, TrainingRecord
from cwbench.registry import Registry
from cwbench.reproduced import reproduced
from cwbench.spec import PluginSpec, validated
from cwbench.training.job import NO_INFLUENCE
from cwbench.training.rebuild import placed, rebuilt


@dataclass(frozen=True)
class Opened:
    """A classifier and everything that is known of it."""

    model: nn.Module
    """In eval mode, on the device."""
    subject: str
    source: SourceRecord
    identity: str
    """A digest of what determines its outputs."""
    backbone: Backbone | None = None
    defense: Defense | None = None
    training: TrainingRecord | None = None


@dataclass(frozen=True)
class Located:
    """A checkpoint that was found, before anything is built: a description names the dataset that a run needs."""

    uri: str
    stored: Checkpoint | None
    """One of cwbench's own; None for a file or a scheme of a plugin."""

    @property
    def dataset(self) -> PluginSpec | None:
        """The dataset that it was trained for, where that is recorded."""
        if self.stored is None:
            return None
        about = self.stored.identity["dataset"]
        return PluginSpec(name=about["name"], fields=about["fields"])


def locate(uri: str, backbone: PluginSpec | None, store: Store) -> Located:
    """Find a checkpoint.

    Raises:
        CwbenchError: there is none, it is damaged, or a backbone is missing or too much.
    """
    scheme = uri.partition("://")[0] if "://" in uri else None
    hub_file = address(uri).file if scheme == "hf" else None
    path, _ = _split(uri)
    if hub_file or (scheme is None and (path.is_file() or path.suffix in FOREIGN)):
        if backbone is None:
            raise CwbenchError(f"{uri} does not say which network it is for", "name it with --backbone NAME")
        return Located(uri, None)
    if backbone is not None:
        raise CwbenchError(f"--backbone: {uri} says itself which network it is for", "leave it out")
    return Located(uri, store.opened(uri) if scheme in (None, "hf") else None)


def opened(
    located: Located,
    *,
    dataset: Dataset,
    test: Examples,
    backbone: PluginSpec | None,
    registry: Registry,
    device: torch.device,
) -> Opened:
    """Build the classifier of a checkpoint, for the classes and images of a dataset.

    Raises:
        CwbenchError: it is for other classes or images, its parts are not installed, its file is damaged or does not
            fit, or it does not reproduce the clean accuracy that was published with it.
    """
    if located.stored:
        return _stored(located.uri, located.stored, dataset, test, registry, device)
    if backbone:
        return _foreign(located.uri, build(registry.backbone(backbone.name), backbone, "backbone"), dataset, device)
    return _by_plugin(located.uri, dataset, registry, device)


def _stored(
    uri: str, checkpoint: Checkpoint, dataset: Dataset, test: Examples, registry: Registry, device: torch.device
) -> Opened:
    described = checkpoint.identity["dataset"]
    if (tuple(described["classes"]), tuple(described["shape"])) != (tuple(dataset.classes), dataset.shape):
        classes, (channels, size) = described["classes"], described["shape"]
        raise CwbenchError(
            f"checkpoint {uri} is for {described['name']}: {len(classes)} classes, {channels}×{size}×{size} pixels",
            f"{dataset.name} has others: leave --dataset out, or name that one",
        )
    found = rebuilt(checkpoint, registry, device)
    parts = {kind: checkpoint.identity[kind] for kind in ("defense", "backbone")}
    try:
        training = training_record(checkpoint)
    except (KeyError, TypeError, ValueError) as error:
        raise CwbenchError(f"checkpoint {uri}: its record lacks {error}", "train it again with this cwbench") from None
    published = checkpoint.published
    source = SourceRecord(
        kind="hub" if uri.startswith(SCHEME) else "store",
        uri=uri if uri.startswith(SCHEME) else checkpoint.key,
        sha256=str(checkpoint.sha256),
        revision=published.commit if published else None,
        clean=reproduced(checkpoint, found.model, dataset, test, device, uri),
    )
    return Opened(
        found.model,
        subject=str(PluginSpec(name=parts["defense"]["name"], fields=_set_fields(parts["defense"], registry))),
        source=source,
        identity=checkpoint.key,
        backbone=validated(registry.backbone(parts["backbone"]["name"]), parts["backbone"]["fields"], "the backbone"),
        defense=validated(registry.defense(parts["defense"]["name"]), parts["defense"]["fields"], "the defense"),
        training=training,
    )


def _set_fields(described: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """Return the fields of a described defense that are not at their default: what a user would have written."""
    defaults = registry.defense(described["name"])().model_dump(mode="json")
    return {name: value for name, value in described["fields"].items() if defaults.get(name) != value}


def _split(uri: str) -> tuple[Path, str | None]:
    """Return the path of a file of weights, and the entry of it that is named behind ``#``."""
    path, _, part = uri.partition("#")
    return (Path(uri), None) if Path(uri).is_file() else (Path(path), part or None)


def _foreign(uri: str, backbone: Backbone, dataset: Dataset, device: torch.device) -> Opened:
    if uri.startswith(SCHEME):
        plain, _, part = uri.partition("#")
        at = address(plain)
        refuse_outside(str(at.file), uri)
        fetched = fetch(at, [str(at.file)])
        path, revision = fetched.files[str(at.file)], fetched.commit
        name, entry = plain, part or None
    else:
        path, entry = _split(uri)
        revision, name = None, path.name
    weights = read_weights(path, entry)
    channels, size = dataset.shape
    with torch.random.fork_rng(devices=[]):
        features = backbone.build(channels=channels, size=size)
        model = Classifier(features, nn.Linear(features.width, len(dataset.classes)))
    notes = fit_weights(model, weights, subject=name, backbone=backbone.name)
    source = SourceRecord(
        kind="hub" if revision else "file",
        uri=uri if revision else path.name,
        sha256=weights.sha256,
        revision=revision,
        clean="not recorded",
        notes=[*weights.notes, *notes],
    )
    module = type(backbone).__module__
    identity = [weights.sha256, entry, backbone.name, backbone.model_dump(mode="json")]
    code = digest.of_code(module, "cwbench.foreign", skip=NO_INFLUENCE)
    subject = Path(name).name
    return Opened(placed(model, device).eval(), subject, source, digest.of_json([*identity, code]), backbone)


def _by_plugin(uri: str, dataset: Dataset, registry: Registry, device: torch.device) -> Opened:
    """Ask the plugins for a checkpoint of a scheme of their own; the first that answers has it."""
    caller = registry.discovery.manager.hook.cwbench_open_checkpoint
    for implementation in reversed(caller.get_hookimpls()):
        given = {name: value for name, value in (("uri", uri), ("dataset", dataset)) if name in implementation.argnames}
        try:
            found = implementation.function(**given)
        except (CwbenchError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise CwbenchError(
                f"plugin {implementation.plugin_name} could not open {uri}: {one_line(error)}", "tell its author"
            ) from error
        if found is not None:
            return _checked(found, uri, implementation.plugin_name, device)
    scheme = uri.partition("://")[0]
    known = ", ".join(implementation.plugin_name for implementation in caller.get_hookimpls()) or "none"
    likely = f"cwbench-{re.sub(r'[^a-z0-9-]', '', scheme.lower())}"
    raise CwbenchError(
        f"nothing opens {scheme}:// checkpoints",
        f"install the plugin that does, such as {likely}; those installed that open any: {known}",
    )


def _checked(found: Any, uri: str, plugin: str, device: torch.device) -> Opened:
    if not isinstance(found, OpenedCheckpoint) or not isinstance(found.model, nn.Module):
        raise CwbenchError(
            f"plugin {plugin} did not return a cwbench.api.OpenedCheckpoint with an nn.Module for {uri}",
            "tell its author",
        )
    record = {
        "kind": "plugin",
        "uri": uri,
        "sha256": found.sha256,
        "revision": found.revision,
        "clean": "not recorded",
        "notes": found.notes,
        "external": found.external,
    }
    source = validated(SourceRecord, record, f"what plugin {plugin} opened for {uri}")
    return Opened(found.model.to(device).eval(), found.subject, source, found.sha256)
