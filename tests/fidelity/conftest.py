"""Networks trained here, and examples that they classify correctly."""

import pytest
import torch

from cwbench.api import TensorExamples
from cwbench.checkpoints.store import Store
from cwbench.datasets.digits import Digits
from cwbench.datasets.mnist import MNIST
from cwbench.plan import make_plan
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec
from cwbench.training.fit import fit
from cwbench.training.job import Job
from cwbench.training.rebuild import load_classifier

from .subject import Subject


class FewMNIST(MNIST):
    """Enough of MNIST for a network that is worth attacking."""

    name = "few-mnist"
    sizes = {"train": 12_000, "test": 250}

    def load(self, split, root):
        whole = super().load(split, root)
        return TensorExamples(whole.x[: self.sizes[split]], whole.labels[: self.sizes[split]])


def subject(name, examples, eps, pgd_seeds, **run):
    job = Job.of(make_plan(RunSpec.model_validate(run), installed().including(FewMNIST())))
    model = load_classifier(job, fit(job, Store.default()))
    x, y = examples.x, examples.labels
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return Subject(name, model, x[right], y[right], eps, pgd_seeds)


@pytest.fixture(scope="module")
def digits():
    return subject("digits", Digits().load("test", None), 0.15, 3, defense="madry", set={"recipe.epochs": 15})


@pytest.fixture(scope="module")
def mnist(mnist_root):
    one_epoch = {"recipe.epochs": 1, "recipe.batch_size": 32, "recipe.inner": [{"steps": 1, "step_size": 0.375}]}
    run = {"defense": "madry", "dataset": "few-mnist", "data": str(mnist_root), "recipe": "quick", "set": one_epoch}
    return subject("mnist", FewMNIST().load("test", mnist_root), 0.25, 8, **run)


@pytest.fixture(params=["digits", "mnist"])
def network(request):
    return request.getfixturevalue(request.param)
