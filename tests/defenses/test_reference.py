"""Every defense's loss and its gradient against a transcription of the equations: sums written out, in float64."""

import pytest
import torch
from torch import nn

from cwbench.api import Batch, BatchStreams, Classifier, Features, Inner, Linf, Progress
from cwbench.defenses.fast import Fast
from cwbench.defenses.he import HE
from cwbench.defenses.he_cmp import HECMP
from cwbench.defenses.he_lis import HELIS
from cwbench.defenses.hypersphere import HypersphereDefense
from cwbench.defenses.madry import Madry
from cwbench.defenses.mart import MART
from cwbench.defenses.rst import RST
from cwbench.defenses.standard import Standard
from cwbench.defenses.trades import TRADES

THREAT, INNER = Linf(eps="0.05"), Inner(steps=4, step_size=0.02)


class Normed(Features):
    """Features with batch norm, so that the number and the mode of forward passes show in the result."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 12
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 12), nn.Tanh()
        )

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(5)
        return Classifier(Normed(), nn.Linear(12, 4)).double().train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(6)
    x = torch.rand(9, 3, 6, 6, dtype=torch.float64, generator=generator)
    return Batch(x, torch.randint(4, (9,), generator=generator))


def softmax(row):
    powers = [torch.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def ce(row, y):
    return -torch.log(softmax(row)[y])


def kl(p, q):
    return sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))


def inner(model, x, start, objective):
    """The inner maximisation, on the whole batch because it is in eval mode and rows do not mix."""
    point = start
    for _ in range(INNER.steps):
        leaf = point.clone().requires_grad_()
        total = sum(objective(row, i) for i, row in enumerate(model(leaf)))
        (gradient,) = torch.autograd.grad(total, leaf)
        point = (point + INNER.step_size * gradient.sign()).clamp(x - THREAT.radius, x + THREAT.radius).clamp(0, 1)
    return point


def standard(model, batch, streams):
    z = model(batch.x)
    return sum(ce(z[i], y) for i, y in enumerate(batch.y)) / len(batch.y)


def madry(model, batch, streams):
    x, y = batch.x, batch.y
    start = (x + THREAT.radius * (2 * streams.uniform(x) - 1)).clamp(0, 1)
    model.eval()
    adversarial = inner(model, x, start, lambda row, i: ce(row, y[i]))
    model.train()
    z = model(adversarial)
    return sum(ce(z[i], label) for i, label in enumerate(y)) / len(y)


def trades(model, batch, streams):
    x, y = batch.x, batch.y
    model.eval()
    p = [softmax(row.detach()) for row in model(x)]
    adversarial = inner(model, x, x + 0.001 * streams.normal(x), lambda row, i: kl(p[i], softmax(row)))
    model.train()
    clean, robust, again = model(x), model(adversarial), model(x)
    natural = sum(ce(clean[i], label) for i, label in enumerate(y)) / len(y)
    divergence = sum(kl(softmax(a), softmax(b)) for a, b in zip(again, robust, strict=True))
    return natural + 6.0 / len(y) * divergence


def mart(model, batch, streams):
    x, y = batch.x, batch.y
    model.eval()
    adversarial = inner(model, x, x + 0.001 * streams.normal(x), lambda row, i: ce(row, y[i]))
    model.train()
    clean, robust = model(x), model(adversarial)
    total = 0
    for i, label in enumerate(y):
        p, q = softmax(clean[i]), softmax(robust[i])
        rival = max((q[j] for j in range(4) if j != label), key=torch.Tensor.item)
        boosted = ce(robust[i], label) - torch.log(1.0001 - rival + 1e-12)
        divergence = sum(a * (torch.log(a) - torch.log(b + 1e-12)) for a, b in zip(p, q, strict=True))
        total = total + boosted + 5.0 * divergence * (1.0000001 - p[label])
    return total / len(y)


def fast(model, batch, streams):
    x, y = batch.x, batch.y
    start = (x + THREAT.radius * (2 * streams.uniform(x) - 1)).clamp(0, 1).requires_grad_()
    z = model(start)  # in train mode, as in the authors' code
    (gradient,) = torch.autograd.grad(sum(ce(z[i], label) for i, label in enumerate(y)), start)
    stepped = start.detach() + 1.25 * THREAT.radius * gradient.sign()
    adversarial = stepped.clamp(x - THREAT.radius, x + THREAT.radius).clamp(0, 1)
    z = model(adversarial)
    return sum(ce(z[i], label) for i, label in enumerate(y)) / len(y)


def hypersphere(scale, margin):
    def loss(model, batch, streams):
        x, y, w = batch.x, batch.y, model.head.weight

        def logits(features):
            return [scale * (f @ row) / (f.norm() * row.norm()) for f in features for row in w]

        def rows(images):
            features = model.features(images)
            return torch.stack(logits(features)).reshape(len(images), len(w))

        model.eval()
        adversarial = inner(rows, x, x + 0.001 * streams.normal(x), lambda row, i: ce(row, y[i]))
        model.train()
        total = 0
        for row, label in zip(rows(adversarial), y, strict=True):
            less = [scale * margin if j == label else 0.0 for j in range(len(w))]
            total = total + ce([value - m for value, m in zip(row, less, strict=True)], label)
        return total / len(y)

    return loss


DEFENSES = [
    (Standard(), standard),
    (Madry(), madry),
    (TRADES(), trades),
    (MART(), mart),
    (RST(), trades),
    (Fast(), fast),
    (HE(), hypersphere(15.0, 0.0)),
    (HE(inverse_temperature=4, margin=0.2), hypersphere(4.0, 0.2)),
    (HELIS(), hypersphere(1 + 3 / 8 * 74, 0.0)),
    (HECMP(), hypersphere(2.0, 0.0)),
]


@pytest.mark.parametrize(("defense", "reference"), DEFENSES, ids=lambda value: getattr(value, "name", ""))
def test_loss_gradient_and_batch_norm_follow_the_equations(defense, reference, model, batch):
    if isinstance(defense, HypersphereDefense):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(8)
            model.head = defense.classifier(12, 4).double()
        defense.epoch_begin({}, Progress(model, epoch=3, epochs=8))
        if isinstance(defense, HECMP):
            model.head.inverse_temperature.fill_(2.0)  # which temperature it chooses is another test
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    streams = BatchStreams.of(0, "reference")

    def evaluated(compute):
        model.load_state_dict(statistics, strict=False)
        model.zero_grad()
        total = compute()
        total.backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        return total.detach(), gradients, {name: buffer.clone() for name, buffer in model.named_buffers()}

    loss, gradient, buffers = evaluated(
        lambda: defense.loss(model, batch, threat=THREAT, inner=INNER, streams=streams, state={}).total
    )
    expected, expected_gradient, expected_buffers = evaluated(lambda: reference(model, batch, streams))
    assert torch.allclose(loss, expected, rtol=1e-9)
    assert (gradient - expected_gradient).norm() / expected_gradient.norm() < 1e-9
    for name, buffer in buffers.items():
        assert torch.allclose(buffer.double(), expected_buffers[name].double()), name
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("defense", [TRADES(), MART()])
def test_probabilities_that_underflow_leave_a_finite_gradient(defense, model, batch):
    with torch.no_grad():
        model.head.weight.mul_(1e4)
    total = defense.loss(model, batch, threat=THREAT, inner=INNER, streams=BatchStreams.of(0), state={}).total
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_steps_of_the_defense_override_those_of_the_recipe(model, batch):
    calls = []
    handle = model.register_forward_pre_hook(lambda module, args: calls.append(module.training))
    Madry(steps=2).loss(model, batch, threat=THREAT, inner=INNER, streams=BatchStreams.of(0), state={})
    handle.remove()
    assert calls == [False, False, True]


def test_trades_repeats_its_clean_pass_only_where_train_mode_matters(model, batch):
    """By hand: three passes with batch norm; without it the third would be the first, and the loss is the same."""

    def passes(network):
        seen = []
        handle = network.register_forward_pre_hook(lambda module, args: seen.append(module.training))
        TRADES().loss(network, batch, threat=THREAT, inner=INNER, streams=BatchStreams.of(0), state={})
        handle.remove()
        return sum(seen)

    assert passes(model) == 3
    model.features.layers[1] = nn.Identity()
    assert passes(model) == 2
    model.features.layers[2] = nn.RReLU()  # draws its slopes in train mode, and is no dropout
    assert passes(model) == 3
    model.features.layers[2] = nn.Tanh()
    ours = TRADES().loss(model, batch, threat=THREAT, inner=INNER, streams=BatchStreams.of(1), state={}).total
    assert torch.allclose(ours, trades(model, batch, BatchStreams.of(1)), rtol=1e-9)
