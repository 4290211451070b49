"""Findings that look at networks: against computations written out here."""

import numpy as np
import pytest
import torch
from torch import nn

from cwbench.api import ExampleStreams, Inner, TensorExamples, make_threat
from cwbench.checkpoints.store import Checkpoint
from cwbench.datasets.cifar10 import CIFAR10
from cwbench.datasets.digits import Digits
from cwbench.datasets.without_class import FEWEST, Without, moved_up, without
from cwbench.internal.errors import CwbenchError
from cwbench.plan import make_plan
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec
from cwbench.study.findings.homing import Removal, homing, removals
from cwbench.study.findings.output_path import output_path
from cwbench.study.findings.probability_variance import probability_variance
from cwbench.study.findings.weight_norm import weight_norm
from cwbench.training.job import Job

CPU = torch.device("cpu")


def test_the_variance_is_that_of_the_k_probabilities_averaged_over_each_class(tiny, images):
    labels = torch.arange(20) % 4
    found = probability_variance(
        "made", ["a", "b", "c", "d"], {"x": [tiny]}, TensorExamples(images, labels), {"x": [0.1, 0.2, 0.3, 0.4]}, CPU
    )
    expected = []
    for c in range(4):
        rows = [torch.softmax(tiny(images[i : i + 1]).detach().double()[0], 0) for i in range(20) if labels[i] == c]
        expected.append(np.mean([float(((p - p.mean()) ** 2).mean()) for p in rows]))
    assert found.variance["x"] == pytest.approx(expected)
    assert max(expected) <= (4 - 1) / 4**2


def test_the_mean_of_seeds_and_a_class_without_examples(tiny, images):
    labels = torch.arange(20) % 3
    one, two = (
        probability_variance(
            "made", list("abcd"), {"x": models}, TensorExamples(images, labels), {"x": [0.1, 0.2, 0.3, None]}, CPU
        )
        for models in ([tiny], [tiny, tiny])
    )
    assert one.variance == two.variance
    assert one.variance["x"][3] is None
    assert one.figure().axes


def test_the_output_path_is_the_attack_written_out(tiny, images):
    threat, steps = make_threat("Linf", "0.1"), Inner(steps=6, step_size=0.03)
    found = output_path(
        "made",
        list("abcd"),
        (7, images[7], 2),
        [("net", tiny, 4.0)],
        threat=threat,
        steps=steps,
        seed=3,
        iterations=(1, 5, 9),
    )
    assert found.iterations == [1, 5]
    x = images[7:8]
    iterate = threat.random_start(x, streams=ExampleStreams.of(3, torch.tensor([7])).child("output path"))
    rows = []
    for _ in range(6):
        leaf = iterate.clone().requires_grad_()
        loss = -torch.log_softmax(4.0 * tiny(leaf), 1)[0, 2]
        (gradient,) = torch.autograd.grad(loss, leaf)
        iterate = (x + (iterate + 0.03 * gradient.sign() - x).clamp(-0.1, 0.1)).clamp(0, 1)
        rows.append(torch.softmax(4.0 * tiny(iterate).double(), 1)[0].tolist())
    (path,) = found.paths
    assert path.probabilities[0] == pytest.approx(rows[0], abs=1e-6)
    assert path.probabilities[1] == pytest.approx(rows[4], abs=1e-6)
    assert path.predicted == ["abcd"[int(np.argmax(rows[i]))] for i in (0, 4)]
    with pytest.raises(CwbenchError, match="lies behind"):
        output_path(
            "made",
            list("abcd"),
            (7, images[7], 2),
            [("net", tiny, 1.0)],
            threat=threat,
            steps=steps,
            seed=3,
            iterations=(7,),
        )


def checkpoint(weight, **more):
    return Checkpoint({"seed": 1}, {"head.weight": weight, **more}, {})


def test_weight_norms_are_correlated_with_robustness(made):
    counts = [[10, 0, 0, 0], [2, 8, 0, 0], [0, 4, 6, 0], [0, 0, 6, 4]]
    report = made({"clean": counts, "pgd": counts})
    weight = torch.tensor([[3.0, 4.0], [0.0, 4.0], [3.0, 0.0], [2.0, 0.0]])
    found = weight_norm([([report], [checkpoint(weight)], "pgd"), ([report], [checkpoint(weight)], "clean")])
    first = found.trainings[0]
    assert first.norm == [5.0, 4.0, 3.0, 2.0]
    assert first.accuracy == [1.0, 0.8, 0.6, 0.4]
    assert first.pearson.value == pytest.approx(1)
    assert np.array(first.normalised()) == pytest.approx(np.array([[1.0] * 2, [0.8] * 2, [0.6] * 2, [0.4] * 2]))
    assert len(found.figure().axes) == 2


def test_normalised_weights_have_no_norms_to_speak_of(made):
    report = made({"clean": [[1, 0], [0, 1]], "pgd": [[1, 0], [0, 1]]})
    hypersphere = checkpoint(torch.ones(2, 3), **{"head.inverse_temperature": torch.tensor(5.0)})
    with pytest.raises(CwbenchError, match="on the hypersphere"):
        weight_norm([([report], [hypersphere], "pgd")])


def test_a_dataset_without_a_class_is_the_same_without_it():
    whole = Digits()
    part = without(whole, 3, None)
    assert part.classes == tuple("012456789")
    x, y = (whole.load("train", None).x, whole.load("train", None).labels)
    left = part.load("train", None)
    assert part.sizes["train"] == len(left) == int((y != 3).sum())
    assert torch.equal(left.images(torch.arange(len(left))), x[y != 3])
    assert left.labels.tolist() == [c if c < 3 else c - 1 for c in y[y != 3].tolist()]
    assert torch.equal(moved_up(torch.tensor([0, 2, 4, 9]), 3), torch.tensor([0, 2, 3, 8]))
    assert (part.eps, part.attack, part.recipes) == (whole.eps, whole.attack, whole.recipes)


def test_its_training_is_its_own_and_is_told_apart(tmp_path):
    plan = make_plan(RunSpec(defense="madry"), installed())
    digests = set()
    for removed in (3, 4):
        dataset = without(plan.dataset, removed, None)
        from dataclasses import replace

        job = Job.of(replace(plan, dataset=dataset, registry=plan.registry.including(dataset)))
        assert len(job.identity["dataset"]["classes"]) == 9
        digests.add(job.digest)
    assert len(digests | {Job.of(plan).digest}) == 3


def test_fewer_than_three_classes_left_are_refused():
    class Three(Digits.__bases__[0]):
        name, reference, classes, shape = "three", "nobody", ("a", "b", "c"), (1, 8)
        sizes = {"train": 1, "test": 1}
        eps, attack, backbone, recipes = Digits.eps, Digits.attack, Digits.backbone, Digits.recipes

        def load(self, split, root):
            raise AssertionError("not read")

    with pytest.raises(CwbenchError, match=f"needs {FEWEST} or more to be left"):
        without(Three(), 0, None)
    with pytest.raises(CwbenchError, match="has no class 10"):
        without(Digits(), 10, None)


def test_controls_are_other_classes_and_among_those_that_are_trained_anyway():
    found = removals(10, [2, 5, 7], 0)
    assert [removal.index for removal in found] == [2, 5, 7]
    assert all(removal.control in {2, 5, 7} - {removal.index} for removal in found)
    (alone,) = removals(10, [4], 1)
    assert alone.control in set(range(10)) - {4}
    assert removals(10, [2, 5, 7], 0) == found


class Fixed(nn.Module):
    """Predicts by the first pixel: its tenths are the class, whatever an attack of a thousandth does."""

    def __init__(self, wrong=()):
        super().__init__()
        self.wrong = wrong

    def forward(self, x):
        classes = (x.flatten(1)[:, 0] * 10).round().long()
        logits = -((torch.arange(10.0) - 10 * x.flatten(1)[:, :1]) ** 2)
        for true, predicted in self.wrong:
            logits = torch.where((classes == true)[:, None], logits + 1e3 * (torch.arange(10) == predicted), logits)
        return logits


class Without3(nn.Module):
    """The same for nine classes, without the fourth; ``lost`` classes of it are taken for the first."""

    def __init__(self, lost=()):
        super().__init__()
        self.lost = lost

    def forward(self, x):
        ten = Fixed()(x)
        nine = ten[:, [c for c in range(10) if c != 3]]
        for c in self.lost:
            mine = (x.flatten(1)[:, 0] * 10).round().long() == c
            nine = torch.where(mine[:, None], nine + 1e3 * (torch.arange(9) == 0), nine)
        return nine


def test_homing_counts_examples_that_become_robust_without_their_confound_class():
    labels = torch.tensor([5, 5, 8, 8, 3, 1, 6])
    x = (labels / 10)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    predicted = torch.tensor([3, 3, 3, 8, 3, 3, 2])  # four examples of other classes are taken for 3
    test = TensorExamples(x, labels)
    plan = make_plan(RunSpec(defense="madry", attacks="pgd:steps=1", eps="0.001"), installed())
    columns = {"ids": np.arange(7), "labels": labels.numpy(), "under pgd:steps=1": predicted.numpy()}
    networks = {3: Without3(lost=[1]), 8: _without(8)}
    found = homing(plan, plan.attacks[0], test, columns, "madry", [Removal(3, 8)], networks)
    (entry,) = found.removed
    assert (entry.removed, entry.misclassified, entry.homing) == ("3", 4, 3)  # 1 is lost by the new network, too
    assert (entry.control, entry.control_misclassified) == ("8", 3)  # the two of class 5, and 1: 8 has no label there
    assert entry.control_robust == 1
    assert found.p_value == 0.5  # robust without 3 alone: the two of class 5; without 8 alone: the one of class 1
    assert found.figure().axes
    with pytest.raises(CwbenchError, match="there is no network without class 4"):
        homing(plan, plan.attacks[0], test, columns, "madry", [Removal(3, 4)], networks)


def _without(removed):
    """A network of nine classes that takes class 5 for another one."""

    class Nine(nn.Module):
        def forward(self, x):
            ten = Fixed(wrong=[(5, 0)])(x)
            return ten[:, [c for c in range(10) if c != removed]]

    return Nine()


def test_superclasses_and_threat_of_the_whole_are_kept_where_there_are_some():
    part = Without(base=CIFAR10(), whole={}, removed=2, left={"train": 1, "test": 1})
    assert (part.norm, part.backbone) == ("Linf", CIFAR10.backbone)
    assert len(part.classes) == 9
