"""The harness: what it owns, what it refuses, and that nothing depends on how the examples are batched."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from cwbench.api import Access, Attack, Examples, Linf, TensorExamples, make_threat
from cwbench.attacks.apgd_ce import APGDCE
from cwbench.attacks.apgd_t import APGDT
from cwbench.attacks.autoattack import AutoAttack
from cwbench.attacks.cw import CW
from cwbench.attacks.cw_pgd import CWPGD
from cwbench.attacks.fab_t import FABT
from cwbench.attacks.nattack import NAttack
from cwbench.attacks.pgd import PGD
from cwbench.attacks.square import Square
from cwbench.attacks.tpgd import TemperaturePGD
from cwbench.attacks.transfer import Transfer
from cwbench.evaluation.attack_run import POOL
from cwbench.evaluation.harness import evaluate
from cwbench.evaluation.outcomes import Substitute, Tools
from cwbench.internal.errors import CwbenchError
from cwbench.plan import PlannedAttack
from cwbench.spec import EvaluationSettings

LABELS = torch.arange(20) % 4
EVERY = [
    PGD(steps=8, step_size=0.01, restarts=2),
    TemperaturePGD(steps=8, step_size=0.01),
    CWPGD(steps=8, step_size=0.01),
    APGDCE(steps=12, restarts=2),
    APGDT(steps=8),
    FABT(steps=8),
    Square(queries=60),
    AutoAttack(steps=6, queries=40),
    NAttack(population=6, iterations=6),
    CW(iterations=30, searches=3),
]


class Custom(Attack):
    """Does whatever a test tells it to."""

    name = "custom"
    reference = "this test"
    access = Access.WHITE_BOX
    act: object = None

    def perturb(self, model, x, y, *, threat, streams, budget):
        return self.act(model, x, y, threat)


def judged(model, images, act=None, *, labels=None, attack=None, batch_size=8, eps="0.05", norm="Linf", **how):
    settings = {name: how.pop(name) for name in set(how) & set(EvaluationSettings.model_fields)}
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
        settings=EvaluationSettings(**{"precision": "fp32", "device": "cpu", "batch_size": batch_size} | settings),
        tools=Tools(**how),
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
    judged(model, inner, lambda m, x, y, t: x + 0.05 + 5e-7, labels=labels, batch_size=20, look_for_masking=False)
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
            settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=4),
        )

    whole, part = on(torch.arange(20)), on(torch.arange(5, 10))
    assert part.attacks[0].predictions.tolist() == whole.attacks[0].predictions[5:10].tolist()
    assert part.ids.tolist() == [5, 6, 7, 8, 9]


def test_a_model_spread_over_devices_is_refused(tiny, images):
    tiny.layers[0].to("meta")
    with pytest.raises(CwbenchError, match="several devices: cpu, meta"):
        judged(tiny, images, labels=LABELS, act=lambda m, x, y, t: x)


class Hungry(nn.Module):
    """Runs out of memory when a batch is larger than it can take."""

    def __init__(self, model, most):
        super().__init__()
        self.model, self.most, self.sizes = model, most, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.model(x)


@pytest.mark.parametrize("pooled", [True, False])
def test_when_memory_runs_out_the_batch_is_halved_and_nothing_else_changes(tiny, images, pooled):
    tiny.double()

    def precise(x):
        return tiny(x.double())

    attack = PGD(steps=8, step_size=0.02)
    if not pooled:
        attack = Custom(act=lambda m, x, y, t: torch.cat([t.project(x + 0.05, x)[m(x).argmax(1) >= 0]]))
    plain = judged(precise, images, attack=attack, batch_size=16, look_for_masking=False)
    hungry = Hungry(precise, 5)
    spared = judged(
        hungry, images, attack=attack, batch_size=16, look_for_masking=False, labels=tiny(images.double()).argmax(1)
    )
    assert spared.batch_size == 4
    assert (plain.attacks[0].predictions == spared.attacks[0].predictions).all()
    first, second = (run.attacks[0].cost for run in (plain, spared))
    assert (first.forward, first.backward, first.queries) == (second.forward, second.backward, second.queries)


def test_when_one_image_is_too_much_it_says_so(tiny, images):
    with pytest.raises(CwbenchError, match="memory ran out with one image at a time: CUDA out of memory"):
        judged(Hungry(tiny, 0), images, labels=LABELS)


def test_another_runtime_error_is_not_taken_for_memory(images):
    def model(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(CwbenchError, match=r"failed on images .*: shapes do not match"):
        judged(model, images, labels=LABELS)


class Streaming(Examples):
    """Images that are made when they are asked for."""

    def __init__(self, n):
        self.labels = torch.zeros(n, dtype=torch.int64)
        self.most = 0

    def images(self, rows):
        self.most = max(self.most, len(rows))
        return (rows[:, None, None, None] % 7 / 7).expand(-1, 1, 4, 4).clone()


def test_memory_does_not_grow_with_the_number_of_examples():
    def model(x):
        return torch.stack([1 + 0 * x[:, 0, 0, 0], x[:, 0, 0, 0]], 1)

    for n in (100, 3000):
        examples = Streaming(n)
        evaluate(
            model,
            examples,
            [
                PlannedAttack("custom", Custom(act=lambda m, x, y, t: x)),
                PlannedAttack("pgd", PGD(steps=1, step_size=1)),
            ],
            ids=torch.arange(n),
            classes=2,
            threat=make_threat("Linf", "0.01"),
            settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=16),
        )
        assert examples.most <= POOL * 16


def test_a_cascade_attacks_only_what_still_stands(tiny, images):
    def run(cascade):
        labels = tiny(images).argmax(1)
        attacks = [PGD(steps=2, step_size=0.02), PGD(steps=20, step_size=0.01)]
        return evaluate(
            tiny,
            TensorExamples(images, labels),
            [PlannedAttack(f"pgd:steps={attack.steps}", attack) for attack in attacks],
            ids=torch.arange(20),
            classes=4,
            threat=make_threat("Linf", "0.03"),
            settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=8, cascade=cascade),
        )

    whole, cascade = run(cascade=False), run(cascade=True)
    first, second = cascade.attacks
    assert (first.predictions == whole.attacks[0].predictions).all()
    left = int((first.predictions == whole.labels).sum())
    assert 0 < left < 20
    assert second.cost.examples == left
    broken = (first.predictions != whole.labels) | (whole.attacks[1].predictions != whole.labels)
    assert ((second.predictions != whole.labels) == broken).all()
    assert second.cost.forward < whole.attacks[1].cost.forward


class Minimal(Custom):
    minimal = True


def test_an_attack_for_the_smallest_perturbation_is_measured_not_bounded(tiny, images):
    """Candidates at a known distance: what lies within eps counts at eps, the rest only in the distances."""
    shift = torch.linspace(0, 0.2, 20)[:, None, None, None]

    def act(model, x, y, threat):
        return (x + shift[: len(x)] * (0.5 - x).sign()).clamp(0, 1)

    outcome = judged(tiny, images, attack=Minimal(act=act), batch_size=20, eps="0.1")
    attack = outcome.attacks[0]
    with torch.no_grad():
        broken = tiny(images + shift * (0.5 - images).sign()).argmax(1).numpy() != outcome.labels
    assert 0 < broken.sum() < 20
    assert np.isinf(attack.distances[~broken]).all()
    assert attack.distances[broken] == pytest.approx(shift.flatten().numpy()[broken], abs=1e-6)
    near = broken & (attack.distances <= 0.1)
    assert ((attack.predictions != outcome.labels) == near).all()
    with pytest.raises(CwbenchError, match=r"custom left the box \[0, 1\]"):
        judged(tiny, images, attack=Minimal(act=lambda m, x, y, t: x - 2), eps="0.1")


@pytest.mark.parametrize(
    "act",
    [
        lambda m, x, y, t: t.project(x + 0.01 * torch.rand_like(x), x),
        lambda m, x, y, t: (np.random.rand(), x)[1],
        lambda m, x, y, t: (random.random(), x)[1],
    ],
)
def test_an_attack_that_draws_from_the_global_random_state_is_refused(tiny, images, act):
    with torch.random.fork_rng(), pytest.raises(CwbenchError, match="custom changed the global random state"):
        judged(tiny, images, act)


def test_a_stochastic_model_is_not_blamed_on_the_attack(tiny, images):
    def noisy(x):
        return tiny(x) + 0.3 * torch.randn(len(x), 4)

    with torch.random.fork_rng():
        outcomes = judged(noisy, images, lambda m, x, y, t: (m(x), x)[1])
    assert outcomes.signs.changed_when_repeated > 0


def test_attacks_that_need_a_gradient_say_so_and_the_others_run(tiny, images):
    def hard(x):
        with torch.no_grad():
            return tiny(x)

    with pytest.raises(CwbenchError, match="no gradient with respect to the image") as caught:
        judged(hard, images, attack=PGD(steps=2, step_size=0.1))
    assert "white-box attacks need one, and transfer, square and nattack do not" in caught.value.hint
    outcomes = judged(hard, images, attack=Square(queries=50))
    assert outcomes.signs.gradients is None
    assert outcomes.attacks[0].cost.backward == 0


def test_one_class_cannot_be_attacked(images):
    with pytest.raises(CwbenchError, match="there is one class, and nothing to mistake it for"):
        evaluate(
            lambda x: x.flatten(1)[:, :1],
            TensorExamples(images, torch.zeros(20, dtype=torch.int64)),
            [PlannedAttack("pgd", PGD(steps=1, step_size=1))],
            ids=torch.arange(20),
            classes=1,
            threat=make_threat("Linf", "0.1"),
            settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=8),
        )


def test_a_transfer_attack_without_a_substitute_says_what_to_do(tiny, images):
    with pytest.raises(CwbenchError, match="transfer needs a substitute") as caught:
        judged(tiny, images, attack=Transfer(steps=1, step_size=1))
    assert "transfer:substitute=DIGEST" in caught.value.hint


def test_queries_are_the_images_that_the_model_itself_was_asked_about(tiny, images):
    substitute = type(tiny)().eval()
    outcomes = judged(
        tiny,
        images,
        attack=Transfer(steps=5, step_size=0.01),
        substitutes={None: Substitute("0" * 64, substitute)},
        look_for_masking=False,
    )
    cost = outcomes.attacks[0].cost
    assert (cost.forward, cost.backward, cost.queries) == (100, 100, 0)
    cost = judged(tiny, images, attack=Square(queries=7), eps="0.001", look_for_masking=False).attacks[0].cost
    assert cost.queries == 7 * 20
    assert cost.backward == 0


def test_what_a_rough_search_claims_is_confirmed_in_full_precision(tiny, images):
    """In bfloat16 some iterates look broken that are not: their examples go on, and none is lost."""
    rough = judged(tiny, images, attack=PGD(steps=20, step_size=0.004), eps="0.03", precision="bf16")
    exact = judged(tiny, images, attack=PGD(steps=20, step_size=0.004), eps="0.03", precision="fp32")
    assert rough.precision == "bf16"
    right = [(run.attacks[0].predictions == run.labels).sum() for run in (rough, exact)]
    assert 0 < right[1] < 20
    assert abs(int(right[0]) - int(right[1])) <= 1
    last = judged(
        tiny, images, attack=PGD(steps=20, step_size=0.004, early_stop=False), eps="0.03", precision="bf16"
    ).attacks[0]
    assert (rough.attacks[0].predictions == rough.labels).sum() <= (last.predictions == rough.labels).sum()


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_neither_batch_size_nor_order_changes_a_verdict(tiny, images, attack):
    tiny.double()

    def precise(x):
        return tiny(x.double())

    precise_labels = tiny(images.double()).argmax(1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))

    def on(ids, batch_size):
        found = evaluate(
            precise,
            TensorExamples(images, precise_labels),
            [PlannedAttack(attack.name, attack)],
            ids=ids,
            classes=4,
            threat=make_threat("Linf", "0.04"),
            settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=batch_size),
            tools=Tools(look_for_masking=False),
        ).attacks[0]
        cost = found.cost
        return found.predictions[ids.argsort().numpy()].tolist(), (cost.forward, cost.backward, cost.queries)

    first = on(torch.arange(20), 256)
    assert first == on(torch.arange(20), 1) == on(torch.arange(20), 7) == on(order, 5)
    assert 0 < sum(p != y for p, y in zip(first[0], precise_labels.tolist(), strict=True)) < 20


def test_a_model_that_leaves_torch_has_no_gradient(tiny, images):
    def through_numpy(x):
        return tiny(torch.from_numpy(x.numpy()))

    with pytest.raises(CwbenchError, match="no gradient with respect to the image: Can't call numpy"):
        judged(through_numpy, images, attack=PGD(steps=2, step_size=0.1), labels=LABELS)
    assert judged(through_numpy, images, attack=Square(queries=20), labels=LABELS).signs.gradients is None


def test_logits_that_do_not_depend_on_the_image_have_no_gradient(tiny, images):
    """The gradient that there is leads to weights that nobody froze."""
    layer = nn.Linear(108, 4)

    def detached(x):
        return layer(x.detach().flatten(1))

    with pytest.raises(CwbenchError, match="no gradient with respect to the image: the logits do not depend on it"):
        judged(detached, images, attack=PGD(steps=2, step_size=0.1))


def test_a_model_that_works_in_place_is_judged_like_one_that_does_not(tiny, images):
    def in_place(x):
        return tiny(x.mul_(1.0))

    attack = PGD(steps=5, step_size=0.01)
    first, second = (judged(model, images, attack=attack) for model in (tiny, in_place))
    assert first.attacks[0].predictions.tolist() == second.attacks[0].predictions.tolist()
    assert second.signs.gradients is not None


def test_the_smallest_perturbation_of_a_noisy_model_is_above_zero(tiny, images):
    def noisy(x):
        return tiny(x) + 2 * torch.randn(len(x), 4)

    with torch.random.fork_rng():
        found = judged(noisy, images, Minimal(act=lambda m, x, y, t: x).act, attack=Minimal(act=lambda m, x, y, t: x))
    (attack,) = found.attacks
    right = found.clean == found.labels
    assert (attack.distances[right] > 0).all()
    assert np.isfinite(attack.distances[right]).any(), "some verdicts differ without any change"
    assert (attack.distances[~right] == 0).all()


@pytest.mark.parametrize("limit", [5, 16])
def test_preparing_and_probing_keep_to_the_batch_that_memory_allows(images, limit):
    """Only passes with a gradient are too large: no warning may come of that."""

    class Tight(nn.Module):
        def forward(self, x):
            if x.requires_grad and len(x) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return 9 * x.flatten(1)[:, :4]

    outcomes = judged(Tight(), images, attack=PGD(steps=3, step_size=0.02), batch_size=16, precision="auto")
    assert outcomes.signs.gradients is not None
    assert outcomes.batch_size == (4 if limit == 5 else 16)


def test_the_callers_matmul_precision_neither_rounds_a_verdict_nor_is_lost(tiny, images):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        seen = []
        judged(tiny, images, lambda m, x, y, t: (seen.append(torch.get_float32_matmul_precision()), x)[1])
        assert set(seen) == {"highest"}
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_attack_that_changes_the_substitute_is_refused(tiny, images):
    class Vandal(Custom):
        wants_substitute = True

        def perturb(self, model, x, y, *, threat, streams, budget):
            next(budget.substitute.parameters()).detach().add_(1)
            return x

    with pytest.raises(CwbenchError, match="changed the model's weights"):
        judged(tiny, images, attack=Vandal(), substitutes={None: Substitute("0" * 64, type(tiny)())})


def test_a_candidate_that_was_confirmed_is_not_judged_again(tiny, images):
    """Every broken example is passed once by the judge, every other one once at the end."""
    judged_images = 0

    def model(x):
        nonlocal judged_images
        judged_images += 0 if x.requires_grad else len(x)
        return tiny(x)

    labels = tiny(images).argmax(1)
    outcomes = judged(model, images, attack=PGD(steps=5, step_size=0.02), labels=labels, look_for_masking=False)
    assert 0 < (outcomes.attacks[0].predictions != outcomes.labels).sum() < 20
    assert judged_images == 20 + 20, "the clean pass and the verdict"
