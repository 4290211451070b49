"""The four defenses against transcriptions of their equations in float64 NumPy, written without their code."""

import math

import numpy as np
import pytest
import torch
from cwbench_fair import CFA, DAFA, FRL, WAT
from cwbench_fair.classwise import measured
from cwbench_fair.dafa import weights_of
from torch import nn

from cwbench.api import (
    Batch,
    BatchStreams,
    Classifier,
    CwbenchError,
    Features,
    Inner,
    Progress,
    Task,
    TensorExamples,
    make_threat,
)
from cwbench.testing import check

K = 3
THREAT, INNER = make_threat("Linf", "0.1"), Inner(steps=4, step_size=0.05)
TASK = Task(("a", "b", "c"), 30, epochs=10)


class Flat(Features):
    width = 4

    def forward(self, x):
        return x.flatten(1)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Classifier(Flat(), nn.Linear(4, K)).train()


@pytest.fixture
def batch():
    torch.manual_seed(2)
    return Batch(torch.rand(12, 1, 2, 2), torch.arange(12) % K)


def progress(model, batch, epoch=8, **more):
    return Progress(
        model,
        epoch,
        10,
        held_out=TensorExamples(batch.x, batch.y),
        threat=THREAT,
        attack=INNER,
        streams=BatchStreams.of(0, "between"),
        **more,
    )


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def outputs(model, x):
    w, b = (t.detach().double().numpy() for t in (model.head.weight, model.head.bias))
    return x.flatten(1).double().numpy() @ w.T + b


def kl(p, q):
    return (p * np.log(p / q)).sum(1)


def trades_attack(model, x, radii, streams):
    """TRADES's inner attack on a linear model with the gradient by hand, within a radius for each example."""
    w = model.head.weight.detach().double().numpy()
    clean = x.flatten(1).double().numpy()
    here = clean + 0.001 * streams.normal(x).flatten(1).double().numpy()
    p = softmax(outputs(model, x))
    for _ in range(INNER.steps):
        q = softmax(here @ w.T + model.head.bias.detach().double().numpy())
        # d KL(p‖q)/dz′ = q − p
        here = here + INNER.step_size * np.sign((q - p) @ w)
        here = np.clip(np.clip(here, clean - radii[:, None], clean + radii[:, None]), 0, 1)
    return here


def logits_at(model, here):
    w, b = (t.detach().double().numpy() for t in (model.head.weight, model.head.bias))
    return here @ w.T + b


def test_the_weighted_trades_loss_of_frl_with_its_margins(model, batch):
    state = {"natural": [0.1, 0.0, 0.3], "boundary": [0.0, 0.2, 0.0], "margin": [1.0, 1.5, 2.0]}
    streams = BatchStreams.of(0, "loss")
    found = FRL().loss(model, batch, threat=THREAT, inner=INNER, streams=streams, state=state).total
    y = batch.y.numpy()
    radii = 0.1 * np.array(state["margin"])[y]
    p = softmax(outputs(model, batch.x))
    q = softmax(logits_at(model, trades_attack(model, batch.x, radii, BatchStreams.of(0, "loss"))))
    clean = -np.log(p[np.arange(12), y])
    expected = (
        (1 + np.array(state["natural"])[y]) * clean + 6 * (1 + np.array(state["boundary"])[y]) * kl(p, q)
    ).mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)


def errors(model, batch, stood):
    """Return R_nat and R_bndy per class, from which examples stand under attack."""
    right = outputs(model, batch.x).argmax(1) == batch.y.numpy()
    y = batch.y.numpy()
    natural = np.array([(~right)[y == k].mean() for k in range(K)])
    boundary = np.array([(right & ~stood)[y == k].mean() for k in range(K)])
    return natural, boundary


def test_what_is_measured_on_the_held_out_part(model, batch):
    found = measured(progress(model, batch), objective="kl")
    own = BatchStreams.of(0, "between").child("held out", 0)
    here = trades_attack(model, batch.x, np.full(12, 0.1), own)
    stood = logits_at(model, here).argmax(1) == batch.y.numpy()
    natural, boundary = errors(model, batch, stood)
    np.testing.assert_allclose(found.natural_error, natural)
    np.testing.assert_allclose(found.boundary_error, boundary)
    p, q, y = softmax(outputs(model, batch.x)), softmax(logits_at(model, here)), batch.y.numpy()
    np.testing.assert_allclose(found.moved, [kl(p, q)[y == k].mean() for k in range(K)], rtol=1e-4)
    np.testing.assert_allclose(
        found.clean_loss, [-np.log(p[np.arange(12), y])[y == k].mean() for k in range(K)], rtol=1e-5
    )


@pytest.mark.parametrize("strategy", ["reweight", "remargin", "reweight-remargin"])
def test_multipliers_and_margins_of_frl_follow_the_violations(model, batch, strategy):
    defense = FRL(strategy=strategy, tau_natural=0.02, tau_boundary=0.01, alpha_natural=0.3, alpha_boundary=0.4)
    state = {"natural": [0.5, 0.0, 0.0], "boundary": [0.2, 0.2, 0.2], "margin": [1.0, 1.2, 1.99]}
    new = defense.epoch_begin(state, progress(model, batch))
    found = measured(progress(model, batch), objective="kl")
    natural, boundary = found.natural_error.numpy(), found.boundary_error.numpy()
    for k in range(K):
        over = natural[k] - natural.mean() - 0.02
        assert new["natural"][k] == pytest.approx(max(state["natural"][k] + 0.3 * over, 0))
        over = boundary[k] - boundary.mean() - 0.01
        rises = strategy != "remargin"
        assert new["boundary"][k] == pytest.approx(max(0.2 + 0.4 * over, 0) if rises else 0.2)
        widens = strategy != "reweight"
        wider = min(max(state["margin"][k] * math.exp(0.4 * over), 1), 2)
        assert new["margin"][k] == pytest.approx(wider if widens else state["margin"][k])


def test_frl_is_plain_trades_until_its_warmup_is_over(model, batch):
    state = FRL().prepare(TASK)
    for epoch in range(1, 6):
        assert FRL().epoch_begin(state, progress(model, batch, epoch)) == state
    assert FRL(tau_natural=0, tau_boundary=0).epoch_begin(state, progress(model, batch, 6)) != state


def test_the_weights_of_wat_are_hedges(model, batch):
    defense, state = WAT(eta=0.7), WAT().prepare(TASK)
    assert defense.epoch_begin(state, progress(model, batch, 1)) == state
    total = np.zeros(K + 1)
    for epoch in (2, 3):
        state = defense.epoch_begin(state, progress(model, batch, epoch))
        found = measured(progress(model, batch, epoch), objective="kl")
        losses = found.clean_loss.numpy() + 6 * found.moved.numpy()
        total += np.append(losses, losses.mean())
        weights = np.exp(0.7 * total) / np.exp(0.7 * total).sum()
        objective = weights[:K] @ losses + weights[K] * losses.mean()
        np.testing.assert_allclose(np.mean(state["weights"] * losses), objective)
        np.testing.assert_allclose(state["weights"], K * weights[:K] + weights[K])
    hardest = int(total[:K].argmax())
    assert state["weights"][hardest] == max(state["weights"])


def test_dafa_moves_weight_from_the_easy_to_the_hard_that_are_similar():
    # By hand: class 0 is the hardest (0.5), then 1 (0.6), then 2 (0.9).
    p = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.6, 0.1], [0.05, 0.05, 0.9]], dtype=torch.float64)
    w0 = 1 + 0.3 * 0.6 + 0.2 * 0.9
    w1 = 1 - 0.3 * 0.6 + 0.1 * 0.9
    w2 = 1 - 0.2 * 0.9 - 0.1 * 0.9
    np.testing.assert_allclose(weights_of(p, 1.0), [w0, w1, w2])
    np.testing.assert_allclose(weights_of(p, 0.5), [1 + 0.5 * (w - 1) for w in (w0, w1, w2)])
    assert float(weights_of(p, 1.0).sum()) == pytest.approx(3)
    one_for_all = torch.tensor([[0.98, 0.01, 0.01]] * 3, dtype=torch.float64)
    assert float(weights_of(one_for_all, 1.0).min()) == 0


def test_dafa_reads_its_similarities_from_the_last_epoch_of_the_warmup(model, batch):
    defense, state = DAFA(warmup=0.5), DAFA().prepare(TASK)
    streams = BatchStreams.of(0, "loss")
    found = defense.loss(model, batch, threat=THREAT, inner=INNER, streams=streams, state=state)
    q = softmax(logits_at(model, trades_attack(model, batch.x, np.full(12, 0.1), BatchStreams.of(0, "loss"))))
    sums = np.stack([q[batch.y.numpy() == k].sum(0) for k in range(K)])
    np.testing.assert_allclose(found.tally["probabilities"], sums, rtol=1e-5)
    assert defense.epoch_begin(state, progress(model, batch, 5, tally=found.tally)) == state
    new = defense.epoch_begin(state, progress(model, batch, 6, tally=found.tally))
    expected = weights_of(torch.tensor(sums / 4), 1.0)
    np.testing.assert_allclose(new["weights"], expected, rtol=1e-5)
    assert defense.epoch_begin(new, progress(model, batch, 7, tally=found.tally)) == new
    # Its loss: the weight on cross-entropy and on the margin.
    total = defense.loss(model, batch, threat=THREAT, inner=INNER, streams=streams, state=new).total
    w, p = np.array(new["weights"])[batch.y.numpy()], softmax(outputs(model, batch.x))
    q = softmax(logits_at(model, trades_attack(model, batch.x, 0.1 * w, BatchStreams.of(0, "loss"))))
    assert float(total) == pytest.approx(
        (w * -np.log(p[np.arange(12), batch.y.numpy()]) + 6 * kl(p, q)).mean(), rel=1e-5
    )


def test_cfa_with_trades_is_equations_6_to_8(model, batch):
    stood = [0.9, 0.4, 0.1]
    streams = BatchStreams.of(0, "loss")
    defense = CFA(base="trades")
    found = defense.loss(model, batch, threat=THREAT, inner=INNER, streams=streams, state={"stood": stood})
    y = batch.y.numpy()
    t = np.array(stood)[y]
    beta = (0.5 + t) * 6
    p = softmax(outputs(model, batch.x))
    here = trades_attack(model, batch.x, (0.3 + t) * 0.1, BatchStreams.of(0, "loss"))
    z = logits_at(model, here)
    clean = -np.log(p[np.arange(12), y])
    assert float(found.total) == pytest.approx(((clean + beta * kl(p, softmax(z))) / (1 + beta)).mean(), rel=1e-5)
    stands = z.argmax(1) == y
    np.testing.assert_allclose(found.tally["stood"], [stands[y == k].sum() for k in range(K)])
    new = defense.epoch_begin({"stood": None}, progress(model, batch, 2, tally=found.tally))
    np.testing.assert_allclose(new["stood"], [stands[y == k].mean() for k in range(K)])


def test_cfa_with_madry_attacks_within_the_calibrated_margin(model, batch):
    stood = [0.9, 0.0, 0.5]
    far = Inner(steps=50, step_size=0.05)
    found = (
        CFA()
        .loss(model, batch, threat=THREAT, inner=far, streams=BatchStreams.of(0, "l"), state={"stood": stood})
        .total
    )
    # A linear model's worst case within a ball of the norm L∞ has a closed form where two classes are left to decide
    # between; for three the loss lies between those of half and of one and a half times the radius.
    low, high = (
        float(
            CFA(lambda1=f)
            .loss(model, batch, threat=THREAT, inner=far, streams=BatchStreams.of(0, "l"), state={"stood": [0.0] * 3})
            .total
        )
        for f in (0.5, 1.4)
    )
    assert low < float(found) < high
    plain = CFA().loss(model, batch, threat=THREAT, inner=far, streams=BatchStreams.of(0, "l"), state={"stood": None})
    same = CFA(lambda1=1.0).loss(
        model, batch, threat=THREAT, inner=far, streams=BatchStreams.of(0, "l"), state={"stood": [0.0] * 3}
    )
    assert float(plain.total) == float(same.total)


def test_fairness_aware_averaging_takes_an_epoch_whose_worst_class_is_robust_enough(model, batch):
    worst = float(measured(progress(model, batch), objective="ce").robust_accuracy.min())
    assert CFA(threshold=worst).averages({"stood": None}, progress(model, batch))
    assert not CFA(threshold=min(worst + 0.01, 1)).averages({"stood": None}, progress(model, batch))
    assert (CFA().averaging().decay, CFA().averaging().after) == (0.85, 0.25)


@pytest.mark.parametrize(
    "defense", [FRL(), FRL(strategy="remargin"), CFA(), CFA(base="trades"), WAT(), DAFA()], ids=lambda d: repr(d)[:40]
)
def test_contract(defense):
    check(defense)


def test_a_class_with_nothing_held_out_is_refused():
    import cwbench

    with pytest.raises(CwbenchError, match="is not one example"):
        cwbench.run(defense="wat:held_out=0.001", attacks=["fgsm"])
