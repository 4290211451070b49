"""The contract of datasets."""

from pathlib import Path

import torch

from cwbench import data
from cwbench.api import Dataset
from cwbench.errors import CwbenchError
from cwbench.plan import plan_attacks
from cwbench.registry import installed
from cwbench.spec import PluginSpec
from cwbench.testing.contract import broken
from cwbench.threat import make_threat


def check_dataset(dataset: Dataset, *, root: Path | None, load: bool) -> None:
    """Check threat, suite, backbone and recipes, and with ``load`` the test split itself."""
    registry = installed().including(dataset)
    try:
        threat = make_threat(dataset.norm, dataset.eps)
        plan_attacks(tuple(map(PluginSpec.model_validate, dataset.suite)), registry, threat, dataset.attack)
        backbone = registry.backbone(dataset.backbone)()
    except CwbenchError as error:
        broken(dataset, str(error))
    channels, size = dataset.shape
    with torch.random.fork_rng(devices=[]):
        features = backbone.build(channels=channels, size=size).eval()
    with torch.no_grad():
        features(torch.zeros(1, channels, size, size))
    if len(set(dataset.classes)) != len(dataset.classes):
        broken(dataset, "two classes have the same name")
    if load:
        try:
            examples = data.open_split(dataset, "test", root)
        except CwbenchError as error:
            broken(dataset, str(error))
        if data.digest(examples) != data.digest(data.open_split(dataset, "test", root)):
            broken(dataset, "loading the test split twice gave different examples")
