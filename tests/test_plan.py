import pytest
import torch

from cwbench.datasets.digits import Digits
from cwbench.internal.errors import CwbenchError
from cwbench.plan import changed_recipe, choose_device, data_root, make_plan
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec


def planned(**content):
    return make_plan(RunSpec.model_validate({"defense": "mart"} | content), installed())


def test_attacks_take_steps_and_step_size_from_the_dataset():
    (attack,) = planned(attacks="pgd", dataset="mnist").attacks
    assert (attack.attack.steps, attack.attack.step_size) == (40, 0.01)
    (attack,) = planned(attacks="pgd:steps=100", dataset="mnist").attacks
    assert (attack.attack.steps, attack.attack.step_size) == (100, 0.01)
    assert attack.label == "pgd:steps=100"


def test_step_sizes_scale_with_eps_and_are_exact_at_the_datasets_own():
    (attack,) = planned(attacks="pgd", dataset="mnist", eps="0.15").attacks
    assert attack.attack.step_size == pytest.approx(0.005)
    assert planned(dataset="mnist", eps="0.15").inner_scale == pytest.approx(0.5)
    assert planned(dataset="mnist", eps="0.3").inner_scale == 1


def test_without_attacks_the_standard_suite_runs():
    assert [attack.label for attack in planned().attacks] == list(Digits.suite)


def test_another_norm_needs_an_eps_and_takes_the_customary_step():
    with pytest.raises(CwbenchError, match="no default eps for L2"):
        planned(norm="L2")
    (attack,) = planned(norm="L2", eps="0.5", attacks="pgd").attacks
    assert attack.attack.step_size == pytest.approx(2.5 * 0.5 / 20)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"defense": "marts"}, "no defense is named 'marts'.*did you mean mart"),
        ({"attacks": "pdg"}, "no attack is named 'pdg'.*did you mean"),
        ({"dataset": "mnits"}, "did you mean mnist"),
        ({"backbone": "resnet"}, "no backbone is named"),
        ({"attacks": "pgd:step=5"}, "attack pgd has no field 'step'.*did you mean steps"),
        ({"attacks": "pgd:steps=0"}, "attack pgd: steps"),
        ({"attacks": "pgd:steps=2.5"}, "attack pgd: steps"),
        ({"attacks": "pgd:step_size=nan"}, "attack pgd: step_size"),
        ({"attacks": "pgd:step_size=-0.1"}, "attack pgd: step_size"),
        ({"attacks": "tpgd:inverse_temperature=inf"}, "attack tpgd: inverse_temperature"),
        ({"attacks": ["pgd", "pgd"]}, "'pgd' is given 2 times"),
        ({"defense": "trades:beta=-1"}, "defense trades: beta"),
        ({"recipe": "paperr"}, "no recipe 'paperr'.*did you mean paper"),
        ({"eps": "2"}, "above 1"),
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
        ({"set": {"epochs": 2}}, "recipe.epochs=2"),
        ({"set": {"recipe.epoch": 2}}, "did you mean epochs"),
        ({"set": {"recipe.optimizer.momentun": 0}}, "recipe has no"),
        ({"set": {"recipe.nothing.epochs": 2}}, "recipe has no"),
        ({"set": {"recipe.inner.7.steps": 2}}, "recipe has no"),
        ({"set": {"recipe.epochs.more": 2}}, "recipe has no"),
        (
            {"set": {"recipe.optimizer.kind": "sgd", "recipe.epochs": 2}, "every": 3},
            "--every 3 exceeds the recipe's 2 epochs",
        ),
        ({"set": {"recipe.schedule.kind": "cosine"}}, "schedule may have to be set as a whole"),
        ({"set": {"recipe.epochs": 0}}, "the recipe: epochs"),
        ({"set": {"recipe.lr": "nan"}}, "the recipe: lr"),
        ({"set": {"recipe.epochs": 60}, "dataset": "mnist", "recipe": "paper"}, "judge_epoch 75 is past"),
        ({"set": {"recipe.epochs": 80}, "dataset": "mnist", "recipe": "paper"}, r"milestones \[90\] are past"),
    ],
)
def test_what_cannot_be_run_is_named_in_one_line(content, complaint):
    with pytest.raises(CwbenchError, match=complaint) as caught:
        planned(**content)
    assert "\n" not in str(caught.value)


def test_a_changed_recipe_is_marked_and_leaves_the_original():
    plan = planned(set={"recipe.epochs": 2, "recipe.schedule.peak_at": 0.5})
    assert (plan.recipe_name, plan.recipe_changed, plan.recipe_label) == ("quick", True, "quick*")
    assert (plan.recipe.epochs, plan.recipe.schedule.peak_at) == (2, 0.5)
    assert planned().recipe.epochs != 2
    assert changed_recipe(plan.recipe, {}) == plan.recipe
    stages = changed_recipe(plan.recipe, {"recipe.inner.0.steps": 9}).inner
    assert (stages[0].steps, len(stages)) == (9, 1)


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in {"cpu", "cuda"}


def test_data_root_prefers_the_argument_to_the_environment(tmp_path, monkeypatch):
    assert data_root(None) is None
    monkeypatch.setenv("CWBENCH_DATA", str(tmp_path))
    assert data_root(None) == tmp_path
    (tmp_path / "other").mkdir()
    assert data_root(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(CwbenchError, match="does not exist"):
        data_root(tmp_path / "nowhere")
