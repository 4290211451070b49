"""What a recipe may ask of the training loop besides its rate: averages, clipping, a held-out part, precision."""

from typing import ClassVar

import pytest
import torch

from cwbench.api import Batch, Defense, Loss
from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError
from cwbench.training.average import Average
from cwbench.training.fit import fit
from tests.training.jobs import job, same

SGD = {"kind": "sgd", "momentum": 0, "weight_decay": 0}
PLAIN = {"recipe.epochs": 2, "recipe.lr": 1.0, "recipe.batch_size": 449, "recipe.optimizer": SGD}
CONSTANT = {"recipe.schedule": {"kind": "multi-step"}}


class Slope(Defense):
    """Its loss is ``slope`` times the sum of the last layer's biases, so every step lowers each bias by that."""

    name = "slope"
    reference = "this test"
    slope: float = 1.0

    def loss(self, model, batch, *, threat, inner, streams, state):
        return Loss(self.slope * model.head.bias.sum() + 0 * model(batch.x).sum())


def near(value):
    return pytest.approx(value, abs=1e-5)


def drop(tmp_path, **recipe):
    """Return how far the judged biases are below those at the beginning."""
    training = job(Slope(), defense="slope", set=PLAIN | CONSTANT | recipe)
    trained = fit(training, Store(tmp_path))
    fallen = training.fresh_classifier().head.bias.detach() - trained.weights["head.bias"]
    assert (fallen - fallen[0]).abs().max() < 1e-5
    return float(fallen[0])


def test_without_an_average_the_last_weights_are_judged(tmp_path):
    assert drop(tmp_path) == near(4)


def test_an_exponential_average_is_that_of_its_definition(tmp_path):
    """After four steps down of 1: the mean of the first ones until the decay of 0.5 remembers less, then halves."""
    average = 1.0
    for step, value in enumerate((2, 3, 4), 1):
        average += max(0.5, 1 / (step + 1)) * (value - average)
    assert drop(tmp_path, **{"recipe.average": {"kind": "ema", "decay": 0.5}}) == near(average)


def test_a_mean_is_over_the_ends_of_epochs(tmp_path):
    """Two steps an epoch: 2, 4, 6, 8 at the ends; after half of the training the last two of them."""
    recipe = {"recipe.epochs": 4, "recipe.average": {"kind": "mean", "after": 0.5}}
    assert drop(tmp_path, **recipe) == near(7)


def test_gradients_are_clipped_to_a_length(tmp_path):
    """Ten biases with a slope of 1: a gradient of length √10, shortened to 0.1."""
    assert drop(tmp_path, **{"recipe.clip_norm": 0.1}) == near(4 * 0.1 / 10**0.5)
    assert drop(tmp_path, **{"recipe.clip_norm": 4}) == near(4)


def test_a_temperature_is_not_averaged():
    from cwbench.defenses.hypersphere import HypersphereHead

    head, recipe = HypersphereHead(4, 3, 1.0), job(set={"recipe.average": {"kind": "ema"}, "recipe.epochs": 2}).recipe
    average = Average(recipe.average, recipe.epochs)
    average.after_step(head)
    head.inverse_temperature.fill_(9)
    average.after_step(head)
    assert float(average.weights(head)["inverse_temperature"]) == 9


class Alternating(Defense):
    """Makes a network that is robust in the second of three epochs: elsewhere it always says 0."""

    name = "alternating"
    reference = "this test"
    seen: ClassVar[list[int]] = []

    def prepare(self, task):
        self.seen.append(task.n)
        return {"epoch": 0}

    def epoch_begin(self, state, progress):
        return {"epoch": progress.epoch}

    def loss(self, model, batch: Batch, *, threat, inner, streams, state):
        if state["epoch"] == 2:
            return Loss(torch.nn.functional.cross_entropy(model(batch.x), batch.y))
        return Loss(torch.nn.functional.cross_entropy(model(batch.x), torch.zeros_like(batch.y)))


def test_the_held_out_part_chooses_the_epoch_and_is_not_trained_on(tmp_path):
    settings = {"recipe.epochs": 3, "recipe.held_out": 0.2, "recipe.batch_size": 16, "recipe.lr": 0.01}
    training = job(Alternating(), defense="alternating", set=settings | CONSTANT, eps="0.001")
    trained = fit(training, Store(tmp_path))
    assert len(training.held_out) + len(training.data.labelled) == 898
    assert Alternating.seen == [len(training.data.labelled)]
    first, second, third = trained.record["scores"]
    assert second > first
    assert second > third
    assert trained.record["judged_epoch"] == 2
    assert trained.record["state"] == {"epoch": 2}


def test_a_run_says_how_its_epoch_was_chosen(tmp_path):
    import cwbench

    report = cwbench.run("madry", "fgsm", limit=20, set={"recipe.epochs": 2, "recipe.held_out": 0.1})
    assert report.training.selection.endswith("of 2: most robust on 10% of the training set, held out")
    fixed = cwbench.run("madry", "fgsm", limit=20, set={"recipe.epochs": 2})
    assert fixed.training.selection == "fixed epoch 2 of 2"


class Precise(Defense):
    """Notes the type of what layers and losses compute in."""

    name = "precise"
    reference = "this test"
    seen: ClassVar[set[tuple[torch.dtype, torch.dtype]]] = set()

    def loss(self, model, batch, *, threat, inner, streams, state):
        features = model.features(batch.x)
        logits = model(batch.x)
        self.seen.add((features.dtype, logits.dtype))
        return Loss(torch.nn.functional.cross_entropy(logits, batch.y))


def test_bf16_is_for_layers_and_not_for_losses_weights_or_verdicts(tmp_path):
    Precise.seen.clear()
    trained = fit(job(Precise(), defense="precise", precision="bf16", set={"recipe.epochs": 1}), Store(tmp_path))
    assert Precise.seen == {(torch.bfloat16, torch.float32)}
    assert all(tensor.dtype == torch.float32 for tensor in trained.weights.values())
    Precise.seen.clear()
    fit(job(Precise(), defense="precise", set={"recipe.epochs": 1}), Store(tmp_path))
    assert Precise.seen == {(torch.float32, torch.float32)}


def test_the_temperature_of_each_epoch_is_in_the_checkpoint_and_the_report(tmp_path):
    import cwbench

    training = job(defense="he-lis", set={"recipe.epochs": 4, "recipe.judge_epoch": 2})
    trained = fit(training, Store(tmp_path))
    assert trained.record["state"]["inverse_temperatures"] == [19.5, 38.0]
    assert float(trained.weights["head.inverse_temperature"]) == 38
    report = cwbench.run("he-lis", "fgsm", limit=20, set={"recipe.epochs": 4, "recipe.judge_epoch": 2})
    assert report.training.state["inverse_temperatures"] == [19.5, 38.0]


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(CwbenchError, match=r"a batch of 5,000 is larger than the 898 training examples of digits"):
        job(set={"recipe.batch_size": 5000})
    with pytest.raises(CwbenchError, match=r"a batch of 500 is larger than the 448 "):
        job(defense="rst", set={"recipe.batch_size": 500})


def test_images_of_another_size_train_where_the_network_allows_it(tmp_path):
    class Sizes(Slope):
        name = "sizes"
        seen: ClassVar[list[tuple[int, int]]] = []

        def loss(self, model, batch, *, threat, inner, streams, state):
            self.seen.append((batch.x.shape[-1], len(batch.x)))
            return Loss(model.head.bias.sum())

    stages = [{"size": 10, "batch_size": 300}, {"size": 16, "batch_size": 100, "after": 0.5}]
    settings = PLAIN | {"recipe.batch_size": 300, "recipe.resolutions": stages}
    fit(job(Sizes(), defense="sizes", set=settings), Store(tmp_path))
    assert Sizes.seen == [(10, 300), (10, 300), (10, 298), *[(16, 100)] * 8, (16, 98)]


def test_two_jobs_that_differ_in_nothing_are_the_same(tmp_path):
    settings = {"recipe.epochs": 2, "recipe.augment": {"kind": "crop-flip"}, "recipe.held_out": 0.3}
    first, second = (fit(job(set=settings), Store(tmp_path / name)) for name in "ab")
    assert same(first, second)
