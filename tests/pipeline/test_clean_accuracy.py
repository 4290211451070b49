"""A published clean accuracy on other data: refused where the data should be the same, noted where they need not be."""

from types import SimpleNamespace

import pytest
import torch

from cwbench.datasets.digits import Digits
from cwbench.internal.errors import CwbenchError
from cwbench.pipeline.clean_accuracy import reproduced


def verdict(**described):
    about = {"name": "digits", "fields": {}} | described
    checkpoint = SimpleNamespace(published=SimpleNamespace(clean={"dataset": "0" * 64}), identity={"dataset": about})
    test = Digits().load("test", None)
    return reproduced(checkpoint, None, Digits(), test, torch.device("cpu"), "hf://me/net")


def test_other_data_of_the_same_dataset_are_refused():
    with pytest.raises(CwbenchError, match="on another test split of digits than the one here"):
        verdict()


@pytest.mark.parametrize("described", [{"name": "folder"}, {"fields": {"size": 8}}])
def test_data_of_another_dataset_are_noted(described):
    assert verdict(**described) == "other data"
