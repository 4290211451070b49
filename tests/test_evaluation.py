"""The harness: what it owns, what it refuses, and that nothing depends on how the examples are batched."""

import pytest
import torch
from torch import nn

from cwbench.api import Access, Attack, TensorExamples
from cwbench.attacks.pgd import PGD
from cwbench.errors import CwbenchError
from cwbench.evaluation import Settings, evaluate
from cwbench.plan import PlannedAttack
from cwbench.threat import Linf, make_threat

LABELS = torch.arange(20) % 4


class Custom(Attack):
    """Does whatever a test tells it to."""

    name = "custom"
    reference = "this test"
    access = Access.WHITE_BOX
    act: object = None

    def perturb(self, model, x, y, *, threat, streams, budget):
        return self.act(model, x, y, threat)


def judged(model, images, act=None, *, labels=None, attack=None, batch_size=8, eps="0.05", norm="Linf", **settings):
    with torch.no_grad():
        truth = model(images).argmax(1) if labels is None else labels
    attack = attack or Custom(act=act or (lambda model, x, y, threat: x))
    return evaluate(
        model,
        TensorExamples(images, truth),
        [PlannedAttack(attack.name, attack)],
        ids=torch.arange(len(images)),
        classes=4,
        threat=make_threat(norm, eps),
        settings=Settings(seed=0, device=torch.device("cpu"), batch_size=batch_size, **settings),
    )


def test_only_correctly_classified_examples_are_attacked(tiny, images):
    seen = []
    outcomes = judged(tiny, images, lambda m, x, y, t: seen.append((x, y)) or x, labels=LABELS)
    right = outcomes.clean == LABELS.numpy()
    assert 0 < right.sum() < 20
    assert torch.equal(torch.cat([x for x, _ in seen]), images[right])
    assert torch.equal(torch.cat([y for _, y in seen]), LABELS[right])
    assert (outcomes.attacks[0].predictions == outcomes.clean).all()
    assert outcomes.attacks[0].cost.examples == right.sum()


def test_a_model_that_is_always_wrong_is_never_attacked(tiny, images):
    wrong = (tiny(images).argmax(1) + 1) % 4
    outcomes = judged(tiny, images, lambda m, x, y, t: 1 / 0, labels=wrong)
    assert outcomes.attacks[0].cost.examples == 0


def test_the_verdict_is_the_harnesss_own(tiny, images):
    """An attack that claims nothing and returns a broken example is believed only by the forward pass."""
    outcomes = judged(tiny, images, lambda m, x, y, t: t.project(1 - x, x), eps="1")
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(outcomes.attacks[0].predictions), tiny(1 - images).argmax(1))


def test_passes_are_counted(tiny, images):
    def act(model, x, y, threat):
        leaf = x.clone().requires_grad_()
        model(leaf).sum().backward()
        model(x)
        return x

    cost = judged(tiny, images, act).attacks[0].cost
    assert (cost.forward, cost.backward) == (40, 20)


def test_modes_gradients_and_device_are_restored_module_by_module(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(64, 4))
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    modes = []

    def act(inner, x, y, threat):
        modes.append([module.training for module in model] + [p.requires_grad for p in model.parameters()])
        return x

    labels = torch.zeros(20, dtype=torch.int64)
    statistics = model[1].running_mean.clone()
    for _ in range(3):
        judged(model, images, act, labels=labels)
    assert not any(value for mode in modes for value in mode)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert torch.equal(model[1].running_mean, statistics)


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda m: m.train(), "modes"),
        (lambda m: next(m.model.children()).train(), "modes"),
        (lambda m: [p.requires_grad_(True) for p in m.parameters()], "requires_grad"),
        (lambda m: [p.detach().add_(1) for p in m.parameters()], "weights"),
    ],
)
def test_an_attack_that_changes_the_model_is_refused_and_modes_come_back(tiny, images, act, complaint):
    with pytest.raises(CwbenchError, match=f"attack custom changed the model's {complaint}"):
        judged(tiny, images, lambda m, x, y, t: (act(m), x)[1])
    assert not any(module.training for module in tiny.modules())
    assert all(parameter.requires_grad for parameter in tiny.parameters())


def test_candidates_are_judged_inside_the_ball(images):
    """What lies outside by rounding is put back, and the model judges it there."""
    seen = []

    def model(x):
        seen.append(x)
        return x.flatten(1)[:, :4]

    inner = images * 0.5
    labels = inner.flatten(1)[:, :4].argmax(1)
    judged(model, inner, lambda m, x, y, t: x + 0.05 + 5e-7, labels=labels, batch_size=20, probing=False)
    assert torch.equal(seen[-1], Linf(eps="0.05").project(inner + 0.05 + 5e-7, inner))
    assert not torch.equal(seen[-1], inner + 0.05 + 5e-7)


def test_an_error_inside_an_attack_restores_them_too(tiny, images):
    tiny.train()
    with pytest.raises(ZeroDivisionError):
        judged(tiny, images, lambda m, x, y, t: 1 / 0)
    assert tiny.training
    assert all(parameter.requires_grad for parameter in tiny.parameters())


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda m, x, y, t: x + 0.06 * (torch.arange(len(x)) == 3)[:, None, None, None], "example 3 by 0.0"),
        (lambda m, x, y, t: x - 2 * x, r"left the Linf ball of eps 0.05 or the box \[0, 1\]: example"),
        (lambda m, x, y, t: x[:3], "custom returned .* instead of float images"),
        (lambda m, x, y, t: x.mean(1), "custom returned"),
        (lambda m, x, y, t: (255 * x).to(torch.uint8), "custom returned"),
        (lambda m, x, y, t: None, "custom returned NoneType"),
        (lambda m, x, y, t: x.to("meta"), "on meta instead of cpu"),
        (lambda m, x, y, t: x.index_fill(0, torch.tensor([5]), torch.nan), "NaN or infinity for example 5"),
    ],
)
def test_what_an_attack_must_not_return_is_refused(tiny, images, act, complaint):
    with pytest.raises(CwbenchError, match=complaint):
        judged(tiny, images, act, batch_size=20)


def test_rounding_is_clipped_and_nothing_more(tiny, images):
    judged(tiny, images, lambda m, x, y, t: (x + 0.05 + 5e-7).clamp(0, 1))
    with pytest.raises(CwbenchError, match="counts as rounding"):
        judged(tiny, images, lambda m, x, y, t: (x + 0.05 + 5e-6).clamp(0, 1))


def test_an_attack_cannot_change_the_images_it_is_judged_on(tiny, images):
    before = images.clone()
    with pytest.raises(CwbenchError, match="left the Linf ball"):
        judged(tiny, images, lambda m, x, y, t: x.zero_())
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (lambda x: torch.zeros(len(x), 5), r"returned torch.float32 \(8, 5\) for 8 images instead of logits \(8, 4\)"),
        (lambda x: torch.zeros(4), "instead of logits"),
        (lambda x: [0] * len(x), "returned list"),
        (lambda x: torch.zeros(len(x), 4).index_fill(0, torch.tensor([2]), torch.nan), "not finite for example 2"),
        (lambda x: torch.full((len(x), 4), torch.inf), "not finite for example 0"),
    ],
)
def test_models_that_return_no_logits_are_refused(images, output, complaint):
    with pytest.raises(CwbenchError, match=complaint):
        judged(output, images, labels=LABELS)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_batch_size_changes_no_verdict_in_exact_arithmetic(tiny, images, norm):
    """In float64 a network's rounding hardly depends on its batch, so that verdicts must agree entirely."""

    def precise(x):
        return tiny(x.double())

    tiny.double()
    eps = "0.05" if norm == "Linf" else "0.4"
    attack = PGD(steps=8, step_size=0.02 if norm == "Linf" else 0.15, restarts=2)
    runs = [judged(precise, images, attack=attack, batch_size=size, eps=eps, norm=norm) for size in (1, 7, 256)]
    verdicts = [run.attacks[0].predictions.tolist() for run in runs]
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert 0 < (runs[0].attacks[0].predictions != runs[0].labels).sum() < 20
    costs = {(run.attacks[0].cost.forward, run.attacks[0].cost.backward) for run in runs}
    assert len(costs) == 1


def test_some_examples_keep_their_own_random_numbers(tiny, images):
    """Judging rows 5 … 9 alone gives them the verdicts that they have among all."""
    labels = tiny(images).argmax(1)
    attack = PlannedAttack("pgd", PGD(steps=3, step_size=0.02))

    def on(ids):
        return evaluate(
            tiny,
            TensorExamples(images, labels),
            [attack],
            ids=ids,
            classes=4,
            threat=make_threat("Linf", "0.03"),
            settings=Settings(seed=0, device=torch.device("cpu"), batch_size=4),
        )

    whole, part = on(torch.arange(20)), on(torch.arange(5, 10))
    assert part.attacks[0].predictions.tolist() == whole.attacks[0].predictions[5:10].tolist()
    assert part.ids.tolist() == [5, 6, 7, 8, 9]


def test_a_model_spread_over_devices_is_refused(tiny, images):
    tiny.layers[0].to("meta")
    with pytest.raises(CwbenchError, match="several devices: cpu, meta"):
        judged(tiny, images, labels=LABELS, act=lambda m, x, y, t: x)
