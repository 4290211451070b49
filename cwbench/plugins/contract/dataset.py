"""The contract of datasets."""

from pathlib import Path

import torch

from cwbench.api import Dataset, make_threat
from cwbench.datasets import splits
from cwbench.internal.errors import CwbenchError
from cwbench.plugins.contract.contract import broken
from cwbench.plugins.naming import PluginSpec, build_plugin
from cwbench.plugins.registry import installed


def check_dataset(dataset: Dataset, *, root: Path | None, load: bool) -> None:
    """Check threat, suite, backbone and recipes, and with ``load`` the test split itself."""
    registry = installed().including(dataset)
    try:
        make_threat(dataset.norm, dataset.eps)
        suite = [PluginSpec.model_validate(text) for text in dataset.suite]
        attacks = [build_plugin(registry.attack(spec.name), spec, "attack") for spec in suite]
        backbone = registry.backbone(dataset.backbone)()
    except CwbenchError as error:
        broken(dataset, str(error))
    for attack in attacks:
        if dataset.norm not in attack.norms:
            broken(dataset, f"attack {attack.name} of its suite cannot be bounded by {dataset.norm}")
        if attacks.count(attack) > 1:
            broken(dataset, f"attack {attack.name} is in its suite {attacks.count(attack)} times")
    channels, size = dataset.shape
    with torch.random.fork_rng(devices=[]):
        features = backbone.build(channels=channels, size=size).eval()
    with torch.no_grad():
        features(torch.zeros(1, channels, size, size))
    if len(set(dataset.classes)) != len(dataset.classes):
        broken(dataset, "two classes have the same name")
    if load:
        try:
            examples = splits.open_split(dataset, "test", root)
        except CwbenchError as error:
            broken(dataset, str(error))
        if splits.digest(examples) != splits.digest(splits.open_split(dataset, "test", root)):
            broken(dataset, "loading the test split twice gave different examples")
