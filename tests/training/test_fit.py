"""Training: repeatable, cached, resumed to the same weights after being killed, and stopped by a loss that is none."""

import os
import signal
import subprocess
import sys
import time
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from cwbench.api import Defense, Loss
from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError
from cwbench.plugins.naming import PluginSpec
from cwbench.training.fit import fit
from cwbench.training.rebuild import load_classifier
from tests import command_line
from tests.training.jobs import job, same


def test_the_second_time_nothing_is_trained(tmp_path):
    store = Store(tmp_path)
    first = fit(job(), store)
    again = fit(job(), store)
    assert not first.cached
    assert again.cached
    assert same(first, again)
    assert len(first.record["losses"]) == 3


def test_training_repeats_itself_and_follows_the_seed(tmp_path):
    first = fit(job(), Store(tmp_path / "a"))
    assert same(first, fit(job(), Store(tmp_path / "b")))
    assert not same(first, fit(job(seed=1), Store(tmp_path / "c")))


def test_training_leaves_the_global_random_state(tmp_path):
    before = torch.get_rng_state()
    fit(job(), Store(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "content",
    [
        {"defense": "madry:steps=2"},
        {"seed": 1},
        {"eps": "0.05"},
        {"set": {"recipe.epochs": 4}},
        {"backbone": "digits-cnn", "recipe": "paper", "set": {}},
        {"defense": "madry", "norm": "L2", "eps": "0.1"},
        {"precision": "bf16"},
        {"set": {"recipe.epochs": 3, "recipe.clip_norm": 1}},
        {"defense": "rst"},
        {"defense": "rst:held_back=0.25"},
    ],
)
def test_whatever_determines_the_weights_is_in_the_digest(content):
    assert job(**content).digest != job().digest


def test_what_does_not_is_not():
    assert job(attacks="pgd:steps=3", limit=7, batch_size=9).digest == job().digest
    assert job(defense={"name": "madry"}).digest == job().digest


class Scaled(Defense):
    """Cross-entropy through a network with dropout, with a state that counts epochs."""

    name = "scaled"
    reference = "this test"
    fail_at: int = 10**9

    def prepare(self, task):
        return {"finished": -1, "n": task.n}

    def classifier(self, width, classes):
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(width, classes))

    def loss(self, model, batch, *, threat, inner, streams, state):
        total = nn.functional.cross_entropy(model(batch.x), batch.y) * (1 + state["finished"])
        return Loss(total * (torch.nan if state["finished"] >= self.fail_at else 1))

    def epoch_begin(self, state, progress):
        assert progress.epoch == state["finished"] + 2
        return {**state, "finished": progress.epoch - 1}


def test_curves_are_kept_under_what_determines_them():
    digests = {job(curves=curves).digest for curves in (None, {"every": 1}, {"every": 2}, {"every": 1, "limit": 5})}
    assert len(digests) == 4


class Recorder(Defense):
    """Remembers what it was called with; its loss is the sum of the last layer's biases, whose gradient is 1."""

    name = "recorder"
    reference = "this test"
    calls: ClassVar[list[dict[str, Any]]] = []

    def loss(self, model, batch, *, threat, inner, streams, state):
        draws = streams.uniform(batch.y.double())
        self.calls.append({"y": batch.y, "eps": threat.radius, "inner": inner, "draws": draws[:2].tolist()})
        return Loss(model.head.bias.sum() + 0 * model(batch.x).sum())


def test_each_batch_gets_its_order_numbers_eps_step_and_learning_rate(tmp_path):
    """By hand: 898 digits in 2 × 3 batches of 300, eps from 0 to 0.05 in the first half, a one-cycle rate."""
    Recorder.calls.clear()
    settings = {
        "recipe.epochs": 2,
        "recipe.batch_size": 300,
        "recipe.eps_warmup": 0.5,
        "recipe.lr": 0.6,
        "recipe.optimizer": {"kind": "sgd", "momentum": 0, "weight_decay": 0},
        "recipe.schedule": {"kind": "one-cycle", "peak_at": 0.5},
        "recipe.inner": [{"steps": 5, "step_size": 0.04}, {"steps": 2, "step_size": 0.02, "after": 0.5}],
    }
    training = job(Recorder(), defense="recorder", eps="0.05", set=settings)
    before = training.fresh_classifier().head.bias
    trained = fit(training, Store(tmp_path))
    calls = Recorder.calls
    assert [len(call["y"]) for call in calls] == [300, 300, 298] * 2
    assert [call["eps"] for call in calls] == pytest.approx([0.05 * share for share in (1e-3, 1 / 3, 2 / 3, 1, 1, 1)])
    assert [call["inner"].steps for call in calls] == [5, 5, 5, 2, 2, 2]
    # Half of the dataset's eps of 0.1, and while eps rises that share of it.
    steps = [0.04 * 0.5 * share for share in (1e-3, 1 / 3, 2 / 3)] + [0.02 * 0.5] * 3
    assert [call["inner"].step_size for call in calls] == pytest.approx(steps)
    orders = [torch.cat([call["y"] for call in calls[start : start + 3]]) for start in (0, 3)]
    assert not torch.equal(*orders), "each epoch has its own order"
    assert torch.equal(*[order.sort().values for order in orders])
    assert torch.equal(orders[0].sort().values, training.data.labelled.labels.sort().values), (
        "and sees every example once"
    )
    assert len({tuple(call["draws"]) for call in calls}) == 6, "no batch repeats another's random numbers"
    rates = [0.6 * share for share in (0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)]
    assert torch.allclose(before - trained.weights["head.bias"], torch.full((10,), sum(rates)), atol=1e-5)


class Stopped(Exception):  # noqa: N818 - the test's own, no error
    pass


@pytest.mark.parametrize(
    "content",
    [
        {"defense": "mart"},
        {"defense": "scaled"},
        {"defense": "scaled", "set": {"recipe.epochs": 5, "recipe.judge_epoch": 2}, "curves": {"every": 1}},
        {"defense": "standard", "recipe": "paper", "set": {"recipe.epochs": 91, "recipe.judge_epoch": 4}},
        {"defense": "rst"},
        {"defense": "he-cmp"},
        {"set": {"recipe.epochs": 4, "recipe.held_out": 0.2, "recipe.average": {"kind": "ema", "decay": 0.9}}},
        {"set": {"recipe.epochs": 4, "recipe.average": {"kind": "mean", "after": 0.25}}},
        {"set": {"recipe.epochs": 3, "recipe.augment": {"kind": "crop-flip", "pad": 1}, "recipe.clip_norm": 0.5}},
        {"defense": "standard", "precision": "bf16"},
    ],
    ids=[
        "adam",
        "state and dropout",
        "judged epoch is past",
        "sgd with momentum",
        "pseudo-labels",
        "temperature",
        "held out and averaged",
        "mean of epochs",
        "augmented and clipped",
        "bf16",
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, content):
    plugins = [Scaled()]
    whole = fit(job(*plugins, **content), Store(tmp_path / "whole"), lambda model: {"x": 1})
    store = Store(tmp_path / "broken")
    saves = []
    save_partial = Store.save_partial

    def stop_after_each(self, key, partial):
        save_partial(self, key, partial)
        saves.append(partial.content["epoch"])
        raise Stopped

    monkeypatch.setattr(Store, "save_partial", stop_after_each)
    resumed = None
    while resumed is None:
        try:
            resumed = fit(job(*plugins, **content), store, lambda model: {"x": 1})
        except Stopped:
            continue
    of_defense = saves[saves.index(1, 1) :] if saves.count(1) > 1 else saves  # after those of a teacher
    assert of_defense == list(range(1, len(of_defense) + 1)), "every epoch is trained once"
    assert same(whole, resumed)
    assert whole.record == resumed.record


def test_the_study_judges_an_epoch_before_the_last(tmp_path):
    """The weights of epoch 2 of 3 are those of a training that stops there, whatever follows."""
    settings = {"recipe.epochs": 3, "recipe.judge_epoch": 2}
    short = fit(job(set=settings), Store(tmp_path / "a"))
    full = fit(job(set=settings, curves={"every": 1}), Store(tmp_path / "b"), lambda model: {})
    assert len(short.record["losses"]) == 2
    assert len(full.record["losses"]) == 3
    assert [point["epoch"] for point in full.record["curves"]] == [1, 2, 3]
    assert same(short, full)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_epoch(tmp_path):
    store, defense = Store(tmp_path), PluginSpec(name="scaled", fields={"fail_at": 2})
    failing = job(Scaled(), defense=defense)
    message = rf"the loss of scaled became nan in epoch 3, batch 1.*epoch 2 is kept as {failing.digest[:12]}.*recipe.lr"
    with pytest.raises(CwbenchError, match=message):
        fit(failing, store)
    assert store.find(failing.digest) is None
    kept = store.find_partial(failing.digest)
    assert kept.content["epoch"] == 2
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())


class Overflowing(Defense):
    """A finite loss with a gradient that is not: the square root of 0."""

    name = "overflowing"
    reference = "this test"

    def loss(self, model, batch, *, threat, inner, streams, state):
        return Loss((0 * model(batch.x)).sum().abs().sqrt())


def test_weights_that_are_no_numbers_stop_even_after_the_last_batch(tmp_path):
    failing = job(Overflowing(), defense="overflowing", set={"recipe.batch_size": 898, "recipe.epochs": 1})
    with pytest.raises(CwbenchError, match=r"the weights of overflowing became infinite or NaN in epoch 1 "):
        fit(failing, Store(tmp_path))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    trained = fit(job(), Store(tmp_path))
    smaller = {name: tensor for name, tensor in trained.weights.items() if name != "head.bias"}
    with pytest.raises(CwbenchError, match=r"does not fit digits-cnn: .*head\.bias"):
        load_classifier(job(), type(trained)(trained.identity, smaller, {}))


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    return fit(job(set={"recipe.epochs": 8}), Store(tmp_path_factory.mktemp("reference")))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "ctrl-C"])
def test_a_killed_process_loses_at_most_an_epoch(never_killed, tmp_path, kill):
    """A real process, really killed in the middle; the same command goes on to the weights of one never killed."""
    command = ["run", "--defense", "madry", "--attack", "fgsm", "--out", "runs", "--set", "recipe.epochs=8"]
    environment = os.environ | {"CWBENCH_CACHE": str(tmp_path / "cache")}
    started = [sys.executable, "-m", "cwbench", *command]
    process = subprocess.Popen(started, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    store = Store(tmp_path / "cache" / "checkpoints")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        unfinished = list(store.root.glob("*.unfinished")) if store.root.exists() else []
        if unfinished and store.find_partial(unfinished[0].name.partition(".")[0]).content["epoch"] >= 3:
            break
        time.sleep(0.02)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=60)
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1].startswith("cwbench: interrupted")
    (unfinished,) = store.root.glob("*.unfinished")
    key = unfinished.name.partition(".")[0]
    done = store.find_partial(key).content["epoch"]
    assert done >= 3
    assert not (tmp_path / "runs").exists()
    resumed = command_line.run(*command, cwd=tmp_path, environment=environment)
    assert resumed.returncode == 0, resumed.stderr
    finished = store.find(key)
    assert same(finished, never_killed)
    assert len(finished.record["losses"]) == len(never_killed.record["losses"]) > done
