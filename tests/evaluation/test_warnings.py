"""Each warning on a model made to deserve it, and none on an honest one."""

import numpy as np
import pytest
import torch
from torch import nn

import cwbench
from cwbench.attacks.pgd import PGD
from cwbench.attacks.square import Square
from cwbench.evaluation.gradient_masking import GradientSigns, Signs
from cwbench.evaluation.outcomes import AttackOutcome, Cost, Outcomes
from cwbench.evaluation.warnings import warnings_of

N = 60
X = torch.rand(N, 3, 6, 6, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def honest(tiny):
    """The small network with examples that it is not too sure of."""
    with torch.no_grad():
        return tiny, tiny(X).argmax(1)


def named(report):
    return {warning.name: warning for warning in report.warnings}


def evaluated(model, labels, attacks=("pgd",), eps="0.05", **options):
    return cwbench.evaluate(model, list(attacks), (X, labels), eps=eps, classes=list("abcd"), **options)


def test_an_honest_model_gets_no_warning(honest):
    report = evaluated(*honest, ["pgd", "tpgd", "square:queries=200", "pgd:restarts=3"])
    assert report.warnings == []


def test_a_stochastic_model(honest):
    model, labels = honest
    with torch.random.fork_rng():
        found = named(evaluated(lambda x: model(x) + 0.05 * torch.randn(len(x), 4), labels))
    assert found["non-deterministic-logits"].figures == {"examples": 48, "changed": 48}


def test_a_model_that_looks_at_its_batch(honest):
    model, labels = honest
    found = named(evaluated(lambda x: model(x) - model(x).mean(0), labels, batch_size=30))
    assert found["batch-dependent-logits"].figures["changed"] > 0
    assert "statistics of its batch" in found["batch-dependent-logits"].message


def test_a_model_without_gradient_under_a_black_box_attack(honest):
    model, labels = honest

    def hard(x):
        with torch.no_grad():
            return model(x)

    assert "no-gradient" in named(evaluated(hard, labels, ["square:queries=20"]))


def test_a_saturated_model(honest):
    """Logits a thousand times too large: softmax is exactly 1, and cross-entropy has no gradient."""
    model, labels = honest
    found = named(evaluated(lambda x: 1000 * model(x), labels, ["pgd", "square:queries=300"]))
    assert found["vanishing-gradients"].figures["zero"] > 10
    assert "temperature-changes-the-result" in found
    assert found["black-box-beats-white-box"].figures["broken_by_black_box_alone"] > 5
    assert "loss-does-not-rise" in found


def test_a_model_that_rounds_its_images(honest):
    """The gradient of the rounding is faked by that of a sine that leads nowhere."""
    model, labels = honest

    class Faked(nn.Module):
        def forward(self, x):
            misleading = 1e-3 * torch.sin(9e4 * x)
            return model(x.detach() + misleading - misleading.detach())

    found = named(evaluated(Faked(), labels, ["pgd", "square:queries=300"]))
    assert "black-box-beats-white-box" in found
    assert "loss-does-not-rise" in found


def outcomes(*pairs, signs=None, cascade=False):
    """Outcomes of attacks that leave so many of 100 examples standing."""
    labels = np.zeros(100, dtype=np.int64)
    attacks = tuple(
        AttackOutcome(str(attack), attack, (np.arange(100) >= stands).astype(np.int64), None, Cost(100, 0, 0, 0, 0.0))
        for attack, stands in pairs
    )
    return Outcomes(labels, labels, labels, attacks, cascade, "fp32", 0, 8, signs)


def test_more_effort_must_not_be_weaker():
    less, more = PGD(steps=10, step_size=0.01), PGD(steps=20, step_size=0.01)
    (warning,) = warnings_of(outcomes((less, 50), (more, 52)))
    assert warning.name == "more-steps-are-weaker"
    assert warning.figures == {"examples": 100, "less": 50, "more": 52}
    assert warnings_of(outcomes((less, 52), (more, 50))) == []
    assert warnings_of(outcomes((less, 50), (PGD(steps=20, step_size=0.02), 52))) == [], "two things differ"
    (warning,) = warnings_of(outcomes((PGD(steps=5), 50), (PGD(steps=5, restarts=9), 51)))
    assert warning.name == "more-restarts-are-weaker"


def test_a_black_box_attack_that_breaks_others_than_the_white_box_ones():
    assert warnings_of(outcomes((PGD(steps=5), 50), (Square(), 48))) == [], "two examples are noise"
    (warning,) = warnings_of(outcomes((PGD(steps=5), 50), (Square(), 40)))
    assert warning.figures["broken_by_black_box_alone"] == 10
    assert warnings_of(outcomes((PGD(steps=5), 50), (Square(), 40), cascade=True)) == []


@pytest.mark.parametrize(
    ("robust_at", "meaning"),
    [
        ({0.1: 10, 1.0: 20, 10.0: 21}, "a saturated softmax"),
        ({0.1: 22, 1.0: 20, 10.0: 14}, "hides the strongest rival"),
    ],
)
def test_the_temperature_says_which_way(robust_at, meaning):
    gradients = GradientSigns(0, 0, 0, robust=20, robust_longer=20, robust_at=robust_at)
    (warning,) = warnings_of(outcomes(signs=Signs(48, 0, 16, 0, gradients)))
    assert warning.name == "temperature-changes-the-result"
    assert meaning in warning.message


def test_longer_ascent_that_ends_lower():
    gradients = GradientSigns(0, 0, 0, robust=20, robust_longer=30, robust_at={0.1: 20, 1.0: 20, 10.0: 20})
    (warning,) = warnings_of(outcomes(signs=Signs(48, 0, 16, 0, gradients)))
    assert warning.name == "more-steps-are-weaker"
    assert warning.figures == {"examples": 48, "robust_after_10": 20, "robust_after_40": 30}


def test_warnings_are_shown_and_written(honest, tmp_path):
    from cwbench.report.tables import report_table

    model, labels = honest
    report = evaluated(lambda x: 1000 * model(x), labels, out=tmp_path)
    (path,) = tmp_path.glob("*/report.json")
    assert cwbench.read_report(path).warnings == report.warnings
    assert "warning: vanishing-gradients: the gradient of cross-entropy is zero" in report_table(report)
