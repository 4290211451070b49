"""What a defense may ask of the training loop: counts over an epoch, a held-out part, another step, averages."""

from typing import ClassVar

import pytest
import torch

from cwbench.api import Defense, EpochEMA, Loss, TrainingSet, hold_out, make_threat
from cwbench.checkpoints.store import Store
from cwbench.testing import ContractError, check
from cwbench.training.fit import fit
from tests.training.jobs import job


class Watching(Defense):
    """Counts labels, looks at what it held out, and notes what it finds when an epoch begins."""

    name = "watching"
    reference = "this test"
    seen: ClassVar[list] = []

    def training_set(self, dataset, labelled, root):
        kept, aside = hold_out(labelled, 0.2)
        return TrainingSet(kept, held_out=aside)

    def epoch_begin(self, state, progress):
        self.seen.append((progress.epoch, dict(progress.tally), len(progress.held_out), progress.attack.steps))
        draws = float(progress.streams.normal(torch.zeros(1)))
        return {"draws": [*state.get("draws", []), draws]}

    def loss(self, model, batch, *, threat, inner, streams, state):
        logits = model(batch.x)
        counted = torch.bincount(batch.y, minlength=10)
        return Loss(torch.nn.functional.cross_entropy(logits, batch.y), tally={"labels": counted})


def test_a_tally_is_of_a_whole_epoch_and_a_held_out_part_is_not_trained_on(tmp_path):
    Watching.seen.clear()
    training = job(Watching(), defense="watching", set={"recipe.epochs": 3, "recipe.batch_size": 100})
    trained = fit(training, Store(tmp_path))
    n = len(training.data.labelled)
    assert (n, len(training.data.held_out)) == (898 - 179, 179)
    assert [epoch for epoch, *_ in Watching.seen] == [1, 2, 3]
    assert Watching.seen[0][1] == {}
    for _, tally, held_out, steps in Watching.seen[1:]:
        expected = torch.bincount(training.data.labelled.labels, minlength=10)
        assert torch.equal(tally["labels"], expected.float())
        assert (held_out, steps) == (179, 20)
    assert len(set(trained.record["state"]["draws"])) == 1  # the same at each epoch
    assert trained.record["data"]["labelled"] == n


class Sideways(Defense):
    """Takes its loss at weights that it moves, and puts them back before the step."""

    name = "sideways"
    reference = "this test"
    back: bool = True

    def loss(self, model, batch, *, threat, inner, streams, state):
        bias = model.head.bias
        before = bias.detach().clone()
        with torch.no_grad():
            bias.add_(5)

        def put_back():
            with torch.no_grad():
                bias.copy_(before)

        total = bias.square().sum() / 2 + 0 * model(batch.x).sum()  # its gradient is the bias itself
        return Loss(total, before_step=put_back if self.back else None)


def test_the_step_is_taken_from_the_weights_that_were_put_back(tmp_path):
    recipe = {
        "recipe.epochs": 1,
        "recipe.lr": 0.5,
        "recipe.batch_size": 898,
        "recipe.optimizer": {"kind": "sgd", "momentum": 0, "weight_decay": 0},
        "recipe.schedule": {"kind": "multi-step"},
    }
    training = job(Sideways(), defense="sideways", set=recipe)
    trained = fit(training, Store(tmp_path))
    start = training.fresh_classifier().head.bias.detach()
    torch.testing.assert_close(trained.weights["head.bias"], start - 0.5 * (start + 5))


def test_a_defense_that_leaves_weights_moved_breaks_the_contract():
    check(Sideways())
    with pytest.raises(ContractError, match="it changes the model's weights"):
        check(Sideways(back=False))


class Picky(Defense):
    """Lowers every bias by one an epoch, and lets only some epochs into its average."""

    name = "picky"
    reference = "this test"
    taken: tuple[int, ...] = ()

    def averaging(self):
        return EpochEMA(decay=0.75, after=0)

    def averages(self, state, progress):
        return progress.epoch in self.taken

    def loss(self, model, batch, *, threat, inner, streams, state):
        return Loss(model.head.bias.sum() + 0 * model(batch.x).sum())


@pytest.mark.parametrize(
    ("taken", "lower"),
    [((), 4), ((2,), 2), ((1, 2), 0.75 * 1 + 0.25 * 2), ((1, 3, 4), 0.75 * (0.75 + 0.75) + 0.25 * 4)],
)
def test_an_average_of_the_epochs_that_a_defense_lets_in(taken, lower, tmp_path):
    recipe = {
        "recipe.epochs": 4,
        "recipe.lr": 1.0,
        "recipe.batch_size": 898,
        "recipe.optimizer": {"kind": "sgd", "momentum": 0, "weight_decay": 0},
        "recipe.schedule": {"kind": "multi-step"},
    }
    named = {"name": "picky", "fields": {"taken": list(taken)}}
    training = job(Picky(), defense=named, set=recipe)
    trained = fit(training, Store(tmp_path))
    fallen = training.fresh_classifier().head.bias.detach() - trained.weights["head.bias"]
    torch.testing.assert_close(fallen, torch.full_like(fallen, lower), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_each_example_has_a_ball_of_its_own(norm):
    factors = torch.tensor([0.5, 1.0, 2.0])
    threat = make_threat(norm, "0.1")
    x = torch.full((3, 1, 4, 4), 0.5)
    far = x + 0.4
    several = threat.each(factors).project(far, x)
    for row, factor in enumerate(factors.tolist()):
        alone = threat.scaled(factor).project(far[row : row + 1], x[row : row + 1])
        torch.testing.assert_close(several[row : row + 1], alone)
        distance = float(threat.distance(several, x)[row])
        assert distance == pytest.approx(0.1 * factor, rel=1e-5)
    assert (threat.each(factors).excess(several, x) <= 1e-6).all()
    assert float(threat.excess(several, x)[2]) == pytest.approx(0.1, rel=1e-4)
