"""Where transfer attacks get their networks from."""

import pytest
import torch

import cwbench
from cwbench.api import CheckpointError, CwbenchError, TensorExamples
from cwbench.checkpoints.store import Store
from cwbench.pipeline.session import Session
from cwbench.pipeline.substitutes import Substitutes
from cwbench.plan import plan_evaluation
from cwbench.plugins.naming import PluginSpec
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec

SHORT = {"limit": 40, "set": {"recipe.epochs": 6, "recipe.eps_warmup": 0.3}}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path))
    return Store.default()


def test_a_run_trains_a_standard_network_with_another_seed_and_keeps_it(cache):
    report = cwbench.run("standard", ["transfer"], **SHORT)
    kept = {entry.identity["seed"]: entry for entry in cache.all()}
    assert sorted(kept) == [0, 1]
    assert kept[1].identity["defense"]["name"] == "standard"
    assert kept[1].identity["recipe"]["epochs"] == 40, "a full recipe, whatever the run's was cut to"
    assert report.attack("transfer").access == "transfer"
    assert report.attack("transfer").cost.queries == 0
    again = cwbench.run("standard", ["transfer"], **SHORT)
    assert len(cache.all()) == 2
    assert again.confusion("transfer") == report.confusion("transfer")


def test_another_checkpoint_by_its_digest_or_folder(cache):
    first = cwbench.run("madry", ["pgd"], **SHORT)
    digest = first.training.checkpoint
    by_digest = cwbench.run("standard", [f"transfer:substitute={digest[:10]}"], **SHORT)
    by_folder = cwbench.run("standard", [f"transfer:substitute={cache.root / digest}"], **SHORT)
    assert by_digest.attacks[0].confusion == by_folder.attacks[0].confusion
    itself = cwbench.run("madry", [f"transfer:substitute={digest}", "pgd:early_stop=false"], **SHORT)
    transfer, pgd = (sum(row[i] for i, row in enumerate(attack.confusion)) for attack in itself.attacks)
    assert abs(transfer - pgd) <= 2, "on itself it is textbook PGD from another start"


def test_any_model_can_be_attacked_through_a_substitute(cache):
    report = cwbench.evaluate(lambda x: x.flatten(1)[:, 20:30], ["transfer"], "digits", limit=50)
    assert report.labels() == ["transfer"]
    with pytest.raises(CwbenchError, match="transfer needs a substitute"):
        cwbench.evaluate(
            lambda x: x.flatten(1)[:, :3], "transfer", (torch.rand(9, 1, 2, 2), torch.arange(9) % 3), eps=0.1
        )


def test_tensors_take_a_named_checkpoint_of_their_classes_and_shape(cache):
    digest = cwbench.run("standard", ["pgd"], **SHORT).training.checkpoint
    x, y = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 10

    def model(images):
        return images.flatten(1)[:, 20:30]

    classes = [str(digit) for digit in range(10)]
    report = cwbench.evaluate(model, f"transfer:substitute={digest}", (x, y), eps=0.1, classes=classes)
    assert report.attacks[0].substitute == digest
    with pytest.raises(CwbenchError, match=r"is for digits: 10 classes, 1×8×8 pixels"):
        cwbench.evaluate(model, f"transfer:substitute={digest}", (torch.rand(9, 1, 7, 7), y[:9]), eps=0.1)


def test_a_substitute_that_is_not_there_is_refused_before_anything_is_trained(cache):
    with pytest.raises(CwbenchError, match="no checkpoint is a folder"):
        cwbench.run("standard", ["transfer:substitute=nosuchthing"], **SHORT)
    assert not cache.root.exists()


@pytest.mark.parametrize("uri", ["nosuchplace", "0123456789", "ab"])
def test_what_is_no_checkpoint_is_refused(cache, uri):
    with pytest.raises(CwbenchError, match=f"no checkpoint is a folder or has a digest that begins with '{uri}'"):
        cache.opened(uri)


def test_a_substitute_of_other_classes_is_refused(cache):
    digest = cwbench.run("standard", ["pgd"], **SHORT).training.checkpoint
    transfer = PluginSpec(name="transfer", fields={"substitute": digest})
    on = RunSpec(defense="standard", attacks=transfer, dataset="mnist")
    plan = plan_evaluation(on, on.dataset, installed())
    test = TensorExamples(torch.rand(10, 1, 28, 28), torch.arange(10))
    with pytest.raises(CheckpointError, match="is for digits: 10 classes, 1×8×8 pixels"):
        Substitutes(plan, test, Session(installed(), cache)).named()
