"""The Python door: any model, any tensors, plugins as text or objects."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import cwbench
from cwbench.api import Access, Attack, Dataset
from cwbench.attacks.pgd import PGD
from cwbench.internal.errors import CwbenchError
from cwbench.report.predictions import read_predictions

X = torch.linspace(0, 1, 40).reshape(10, 4)
Y = (X.mean(1) > 0.5).long()


class Linear(nn.Module):
    """Two classes by the sign of w·x − b: the worst case of every example is known exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, x):
        score = (x - 0.5) @ self.w
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("eps", ["0.05", "0.2", "26/255", "0.4"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "cw-pgd", "tpgd"])
def test_on_a_linear_model_the_worst_case_is_exact(attack, eps):
    """An L∞ attack moves the score by eps·‖w‖₁, the box permitting, and by no more."""
    report = cwbench.evaluate(Linear(), attack, (X, Y), eps=eps)
    radius = report.threat.eps.value
    worst = torch.where(Y[:, None] == 1, (X - radius).clamp_min(0), (X + radius).clamp_max(1))
    score = (worst.double() - 0.5).sum(1)
    stands = torch.where(Y == 1, score > 0, score < 0)
    expected = torch.bincount(Y[stands], minlength=2).tolist()
    counts = report.confusion(attack)
    assert [counts[0][0], counts[1][1]] == expected
    assert report.accuracy() == 1


def test_the_l2_worst_case_of_a_linear_model_is_exact():
    """An L2 attack moves the score by eps·‖w‖₂ = 2 eps while the box is far."""
    x = torch.linspace(0.3, 0.7, 21)[:, None].expand(-1, 4).contiguous()
    y = (x.mean(1) > 0.5).long()
    report = cwbench.evaluate(Linear(), "pgd", (x, y), eps="0.13", norm="L2")
    score = 4 * (x[:, 0].double() - 0.5)
    stands = score.abs() > 2 * 0.13
    right = cwbench.evaluate(Linear(), "fgsm", (x, y), eps="0.13").confusion()
    correct = np.array([right[0][0], right[1][1]])
    expected = torch.bincount(y[stands], minlength=2).tolist()
    counts = report.confusion("pgd")
    assert [counts[0][0], counts[1][1]] == expected
    assert (np.array(expected) <= correct).all()


def test_plain_functions_and_names_and_superclasses():
    report = cwbench.evaluate(
        lambda x: torch.stack([1 - x.mean(1), x.mean(1), torch.zeros(len(x)) - 9], 1),
        [PGD(steps=3, step_size=0.01), "pgd:steps=5"],
        (X, Y),
        eps=0.05,
        classes=["dark", "bright", "absent"],
        superclasses={"seen": [0, 1], "unseen": [2]},
        subject="mean",
    )
    assert report.labels() == ["pgd:step_size=0.01,steps=3", "pgd:steps=5"]
    assert list(report.class_accuracy()) == ["dark", "bright", "absent"]
    assert report.class_accuracy()["absent"] is None
    assert report.clean.figures.superclasses["unseen"].accuracy is None
    assert report.subject == "mean"
    assert report.provenance.plugins == {"cwbench": cwbench.__version__}
    assert math.isclose(report.attacks[1].attack.fields["step_size"], 0.0125)
    assert report.predictions is None


class Mine(Attack):
    """An attack that no distribution provides."""

    name = "mine"
    reference = "this test"
    access = Access.WHITE_BOX
    depth: int = 1

    def perturb(self, model, x, y, *, threat, streams, budget):
        return threat.project(1 - x, x)


def test_an_attack_of_this_session():
    report = cwbench.evaluate(Linear(), Mine(depth=2), (X, Y), eps="0.1")
    assert report.labels() == ["mine:depth=2"]
    assert report.attacks[0].attack.distribution == "this Python session"


def test_a_session_plugin_cannot_take_a_builtins_name():
    class PGD(Attack):
        name = "pgd"
        reference = "an impostor"
        access = Access.WHITE_BOX

        def perturb(self, model, x, y, *, threat, streams, budget):
            return x

    with pytest.raises(CwbenchError, match="repeats the name 'pgd'"):
        cwbench.evaluate(Linear(), PGD(), (X, Y), eps="0.1")


def test_a_model_that_works_in_place_cannot_change_the_callers_images():
    def inverted(x):
        return Linear()(x.mul_(1))

    x = X.clone()
    report = cwbench.evaluate(lambda images: Linear()(images.clone().mul_(0.5).add_(0.25)), "fgsm", (x, Y), eps="0.1")
    assert torch.equal(x, X)
    with torch.no_grad():
        in_place = cwbench.evaluate(inverted, Mine(), (x, Y), eps="0.1")
    assert torch.equal(x, X)
    assert in_place.accuracy() == report.accuracy() == 1


def test_nan_gradients_are_refused_and_do_not_pass_for_robustness():
    """The logits are those of the linear model; the gradient of √0 is infinite, and 0 · ∞ is NaN."""

    def masked(x):
        return Linear()(x + (x * 0).sqrt())

    for attack in ("fgsm", "pgd", "cw-pgd", "tpgd"):
        with pytest.raises(CwbenchError, match="the model's gradient is not finite for 10 of 10 images"):
            cwbench.evaluate(masked, attack, (X, Y), eps="0.1")


def test_the_callers_autocast_does_not_round_the_verdict():
    model = nn.Linear(4, 2)
    plain = cwbench.evaluate(model, "pgd", (X, Y), eps="0.1", subject="same")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = cwbench.evaluate(model, "pgd", (X, Y), eps="0.1", subject="same")
    assert timeless(cast) == timeless(plain)


def test_an_attack_on_a_sum_is_watched_too():
    class Delta(Mine):
        name = "delta"

        def perturb(self, model, x, y, *, threat, streams, budget):
            delta = torch.zeros_like(x, requires_grad=True)
            torch.autograd.grad(model(x + delta).sum(), delta)
            return x

    cwbench.evaluate(Linear(), Delta(), (X, Y), eps="0.1")
    with pytest.raises(CwbenchError, match="gradient is not finite"):
        cwbench.evaluate(lambda x: Linear()(x + (x * 0).sqrt()), Delta(), (X, Y), eps="0.1")


@pytest.mark.parametrize(
    "act",
    [
        lambda m, x: x + 1,
        lambda m, x: x * torch.nan,
        lambda m, x: x[:1],
        lambda m, x: x.to("meta"),
        lambda m, x: (m.train(), x)[1],
        lambda m, x: (next(iter(m.parameters())).detach().add_(1), x)[1],
        lambda m, x: x + 0 * torch.rand(1),
    ],
    ids=["ball", "nan", "shape", "device", "mode", "weights", "random state"],
)
def test_a_misbehaving_attack_is_named_and_nothing_is_written(act, tmp_path):
    class Hostile(Mine):
        name = "hostile"

        def perturb(self, model, x, y, *, threat, streams, budget):
            return act(model, x)

    with torch.random.fork_rng(), pytest.raises(CwbenchError, match="attack hostile"):
        cwbench.evaluate(Linear(), ["fgsm", Hostile()], (X, Y), eps="0.1", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_images_are_taken_as_they_are():
    report = cwbench.evaluate(Linear(), "fgsm", (X.bfloat16(), Y), eps="0.1")
    assert report.dataset.n_available == 10


def test_inference_mode_is_refused():
    with torch.inference_mode():
        made = Linear()
    with pytest.raises(CwbenchError, match="inference_mode"):
        cwbench.evaluate(made, "pgd", (X, Y), eps="0.1")
    with torch.inference_mode(), pytest.raises(CwbenchError, match="inference_mode"):
        cwbench.evaluate(Linear(), "pgd", (X, Y), eps="0.1")


@pytest.mark.parametrize("attack", ["pgd:early_stop=false", "fgsm"])
def test_l2_attacks_on_large_images_stay_inside_the_ball(attack):
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(3 * 224 * 224, 2, generator=torch.Generator().manual_seed(1))
    y = (x.flatten(1) @ weights).argmax(1)
    for eps in (1, 20):
        cwbench.evaluate(lambda images: images.flatten(1) @ weights, attack, (x, y), eps=eps, norm="L2")


def test_two_session_plugins_of_one_name_are_refused():
    twin = type("Twin", (Mine,), {"__module__": __name__})
    with pytest.raises(CwbenchError, match="Twin repeats the name 'mine'"):
        cwbench.evaluate(Linear(), [Mine(), twin(depth=2)], (X, Y), eps="0.1")


@pytest.mark.parametrize("name", ["labels", "ids"])
def test_an_attack_may_be_called_like_a_column(name, tmp_path):
    attack = type("Named", (Mine,), {"name": name, "__module__": __name__})()
    report = cwbench.evaluate(Linear(), attack, (X, Y), eps="0.1", out=tmp_path)
    (path,) = tmp_path.glob("*/report.json")
    assert read_predictions(report, path.parent)[f"under {name}"].shape == (10,)


def test_the_model_is_left_as_it_was():
    model = Linear().train()
    before = model.w.clone()
    cwbench.evaluate(model, "pgd", (X, Y), eps="0.1")
    assert model.training
    assert model.w.requires_grad
    assert model.w.grad is None
    assert torch.equal(model.w, before)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"eps": None}, "tensors have no default eps"),
        ({"dataset": (X, Y[:3])}, "10 images and 3 labels"),
        ({"dataset": (X[:0], Y[:0])}, "0 images and 0 labels"),
        ({"dataset": (X * 255, Y)}, "has pixels from"),
        ({"dataset": ((X * 255).int(), Y)}, "images are torch.int32"),
        ({"dataset": (X, Y + 1)}, "has label 2"),
        ({"classes": ["one"]}, "has label 1"),
        ({"superclasses": {"a": [2]}}, "indices from 0 to 1"),
        ({"limit": 0}, "limit: .* greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"attacks": "pdg"}, "did you mean"),
        ({"attacks": "pgd:steps="}, "is not field=value"),
        ({"norm": "L1"}, "norm: "),
        ({"norm": 2}, "norm: "),
        ({"device": None}, "device: "),
        ({"data": 5}, "data: "),
        ({"out": 5}, "out: "),
        ({"attacks": 5}, "attacks are 5"),
        ({"attacks": PGD}, r"PGD is a class \(give an object: PGD\(\)\)"),
        ({"attacks": ["pgd", "pgd:restarts=1"]}, "'pgd' and 'pgd:restarts=1' are the same"),
        ({"model": Linear}, "is not a model"),
        ({"model": nn.Linear(3, 2)}, r"the model failed on an image of shape \(4,\)"),
        ({"model": nn.Linear(3, 2), "classes": ["a", "b"]}, r"the model failed on images of shape \(10, 4\)"),
        ({"model": lambda x: Linear()(x).bfloat16()}, "returned torch.bfloat16"),
        ({"dataset": (X.to_sparse(), Y)}, "must be two tensors"),
        ({"dataset": (X.to("meta"), Y)}, "must be two tensors"),
        ({"dataset": (X[0], Y[:4])}, "must be two tensors"),
        ({"subject": "a\ud800"}, "the evaluation: "),
        ({"device": "gpu"}, "cannot be used"),
        ({"dataset": "digits", "classes": ["a"]}, "for tensors"),
        ({"dataset": "digits", "norm": "L2", "eps": None}, "no default eps for L2"),
        ({"model": lambda x: x[0]}, r"instead of logits \(N, K\)"),
        ({"model": None}, "None is not a model"),
        ({"model": "mart"}, "'mart' is not a model"),
        ({"model": Linear().half()}, r"weights are torch.float16.*model.float\(\)"),
        ({"model": Linear().double()}, "weights are torch.float64"),
        ({"model": lambda x: Linear()(x).detach()}, "have no gradient with respect to the image"),
        ({"model": lambda x: torch.zeros(len(x), 2) + (torch.arange(2) == 1)}, "have no gradient"),
        ({"model": lambda x: (Linear()(x) * 100).long()}, r"returned torch.int64 \(10, 2\)"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"seed": -1}, "seed: "),
        ({"seed": "a"}, "seed: "),
        ({"limit": 2.5}, "limit: "),
        ({"classes": ["a", "a"]}, "classes names one twice"),
        ({"superclasses": {"s": [0, 0]}}, "s names one twice"),
        ({"superclasses": [[0, 1]]}, "superclasses: "),
        ({"dataset": (X.numpy(), Y.numpy())}, "must be two tensors"),
        ({"dataset": (X, Y, Y)}, "must be two tensors"),
        ({"dataset": (X, torch.tensor(1))}, "must be two tensors"),
        ({"out": "/dev/null/runs"}, "cannot write into /dev/null/runs"),
    ],
)
def test_bad_arguments_get_one_line(arguments, complaint):
    given = {"model": Linear(), "attacks": "pgd", "dataset": (X, Y), "eps": "0.1"} | arguments
    with pytest.raises((cwbench.UsageError, cwbench.DataError), match=complaint) as caught:
        cwbench.evaluate(**given)
    assert "\n" not in str(caught.value)


def test_a_limit_is_told_with_what_there_was():
    report = cwbench.evaluate(Linear(), "fgsm", (X, Y), eps="0.1", limit=4)
    assert (report.dataset.limit, report.dataset.n_available, report.dataset.n_per_class) == (4, 10, [2, 2])


def test_a_model_on_a_named_dataset_and_a_written_report(tmp_path):
    def brightness(x):
        return torch.cat([x.flatten(1)[:, :9], x.flatten(1).mean(1, keepdim=True)], 1)

    report = cwbench.evaluate(brightness, "fgsm", "digits", limit=30, out=tmp_path)
    (path,) = tmp_path.glob("*/report.json")
    assert cwbench.read_report(path) == report
    assert report.dataset.name == "digits"
    assert report.defense is None


def test_no_attack_means_the_standard_suite():
    images = X[:8].reshape(-1, 1, 2, 2)
    report = cwbench.evaluate(lambda x: Linear()(x.flatten(1)), (), (images, Y[:8]), eps="0.1")
    assert report.labels() == list(Dataset.suite)
    report = cwbench.evaluate(lambda x: Linear()(x.flatten(1)), (), (images, Y[:8]), eps="0.1", norm="L2")
    assert report.labels() == list(Dataset.suite)


def test_vectors_have_a_suite_of_their_own_and_image_attacks_say_so_at_once():
    report = cwbench.evaluate(Linear(), (), (X, Y), eps="0.1")
    assert report.labels() == ["fgsm", "pgd", "cw-pgd", "tpgd", "apgd-ce", "apgd-t", "fab-t"]
    asked = []

    def model(x):
        asked.append(len(x))
        return Linear()(x)

    with pytest.raises(CwbenchError, match=r"attack square needs images \(N, C, H, W\), not examples of shape \(4,\)"):
        cwbench.evaluate(model, ["pgd", "square"], (X, Y), eps="0.1")
    assert sum(asked) == 1, "one image, to see how many classes there are"


def test_a_run_repeats_itself_apart_from_times(report_file):
    options = {"limit": 40, "set": {"recipe.epochs": 6, "recipe.eps_warmup": 0.3}, "precision": "fp32"}
    first, second = (cwbench.run("madry", ["pgd"], **options) for _ in range(2))
    assert timeless(first) == timeless(second)
    assert timeless(first)["attacks"][0] == timeless(cwbench.read_report(report_file))["attacks"][0]


def timeless(report):
    content = report.model_dump(mode="json")
    content.pop("digest")
    content["provenance"].pop("created")
    for attack in content["attacks"]:
        attack["cost"].pop("seconds")
    return content


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = cwbench.evalute
