"""Checkpoints that other codes wrote: files in their formats and names, and files that mean harm."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

import cwbench
from cwbench.api import Classifier
from cwbench.backbones.digits_cnn import DigitsCNN
from cwbench.backbones.mnist_cnn import MnistCNN
from cwbench.backbones.resnet18 import ResNet18
from cwbench.backbones.torchvision_model import Torchvision
from cwbench.backbones.wide_resnet import WRN28x10
from cwbench.checkpoints.foreign_weights import fit_weights, read_weights
from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError
from cwbench.pipeline.runner import run
from cwbench.pipeline.session import Session
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec


def classifier(backbone, channels=1, size=8, classes=10, seed=0):
    torch.manual_seed(seed)
    features = backbone.build(channels=channels, size=size)
    return Classifier(features, nn.Linear(features.width, classes)).eval()


def loaded(path, backbone, part=None, **shape):
    model = classifier(backbone, seed=1, **shape)
    weights = read_weights(path, part)
    notes = fit_weights(model, weights, subject=path.name, backbone=backbone.name)
    return model, (*weights.notes, *notes)


def same(model, other, *shape):
    x = torch.rand(2, *shape)
    with torch.no_grad():
        return torch.equal(model(x), other(x))


@pytest.fixture
def model():
    return classifier(DigitsCNN())


WRAPPINGS = {
    "plain": (lambda w: w, []),
    "data parallel": (lambda w: {"module." + n: t for n, t in w.items()}, ["prefix module. taken off the names"]),
    "twice wrapped": (
        lambda w: {"state_dict": {"module.model." + n: t for n, t in w.items()}, "epoch": 3},
        ["weights are its entry state_dict", "prefix module. taken off the names", "prefix model. taken off the names"],
    ),
    "compiled": (lambda w: {"model": {"_orig_mod." + n: t for n, t in w.items()}}, ["weights are its entry model"]),
    "beside a loss": (
        lambda w: {"model." + n: t for n, t in w.items()} | {"loss.scale": torch.ones(1)},
        ["left over: loss.scale"],
    ),
    "half precision": (lambda w: {n: t.half() for n, t in w.items()}, ["float16 weights are judged as float32"]),
    "settings of an average": (
        lambda w: {"ema": {"decay": 0.99}, "params": {"lr": 0.1}, "weights": w},
        ["weights are its entry weights"],
    ),
    "averaged": (
        lambda w: {"state_dict": {n: t * 2 for n, t in w.items()}, "state_dict_ema": w},
        ["averaged weights, its entry state_dict_ema, and state_dict beside it was not used"],
    ),
    "averaged by name": (
        lambda w: {
            "state_dict": {f"model.{n}": t * 2 for n, t in w.items()}
            | {f"ema_model.module.{n}": t for n, t in w.items()}
            | {"ema_model.n_averaged": torch.tensor(7)}
        },
        ["averaged weights, the names under ema_model., and 10 others not used", "left over: n_averaged"],
    ),
}


@pytest.mark.parametrize("name", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_wrappers_do_to_names_is_recognised_and_reported(name, suffix, model, tmp_path):
    wrap, expected = WRAPPINGS[name]
    content = wrap(model.state_dict())
    path = tmp_path / f"net{suffix}"
    if suffix == ".pt":
        torch.save(content, path)
    elif any(not isinstance(value, torch.Tensor) for value in content.values()):
        pytest.skip("safetensors hold tensors alone")
    else:
        save_file(content, path)
    found, notes = loaded(path, DigitsCNN())
    tolerance = 1e-2 if name == "half precision" else 0
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(found(x), model(x), rtol=tolerance, atol=tolerance)
    assert [note for note in expected if note in notes] == expected


def test_a_part_can_be_named(model, tmp_path):
    torch.save(
        {"state_dict": model.state_dict(), "ema": {n: t * 0 for n, t in model.state_dict().items()}}, tmp_path / "x.pt"
    )
    found, notes = loaded(tmp_path / "x.pt", DigitsCNN(), part="state_dict")
    assert same(found, model, 1, 8, 8)
    assert notes == ("weights are its entry state_dict",)


def test_torchvisions_own_names(tmp_path):
    torch.manual_seed(5)
    network = torchvision_resnet18(num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    found, notes = loaded(tmp_path / "net.safetensors", Torchvision(model="resnet18"), channels=3, size=64, classes=7)
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(found(x), network((x - mean) / std))
    assert notes == ()


RENAMED = {
    "the widespread ResNet-18": (
        ResNet18(),
        (3, 32),
        {".downsample.": ".shortcut.", "features.network.": "", "head.": "linear."},
        ("features.normalize.",),
    ),
    "TRADES's wide network": (
        WRN28x10(),
        (3, 32),
        {
            **{f"features.layers.unit{g}_{u}.": f"block{g + 1}.layer.{u}." for g in range(3) for u in range(4)},
            ".norm1.": ".bn1.",
            ".norm2.": ".bn2.",
            ".shortcut.": ".convShortcut.",
            "features.layers.stem.": "conv1.",
            "features.layers.norm.": "bn1.",
            "head.": "fc.",
        },
        ("features.layers.normalize.",),
    ),
    "TRADES's network for MNIST": (
        MnistCNN(),
        (1, 28),
        {
            **{
                f"features.layers.{ours}.": f"{theirs}."
                for ours, theirs in (
                    (12, "classifier.fc1"),
                    (14, "classifier.fc2"),
                    (1, "feature_extractor.conv1"),
                    (3, "feature_extractor.conv2"),
                    (6, "feature_extractor.conv3"),
                    (8, "feature_extractor.conv4"),
                )
            },
            "head.": "classifier.fc3.",
        },
        ("features.layers.0.",),
    ),
}


@pytest.mark.parametrize("name", RENAMED)
def test_the_names_of_well_known_codes(name, tmp_path):
    backbone, (channels, size), names, constants = RENAMED[name]
    model = classifier(backbone, channels, size)
    theirs = {}
    for own, tensor in model.state_dict().items():
        if own.startswith(constants):
            continue
        renamed = own
        for ours, other in names.items():
            renamed = renamed.replace(ours, other)
        theirs[renamed] = tensor
    torch.save({"state_dict": theirs}, tmp_path / "net.pt")
    found, _ = loaded(tmp_path / "net.pt", backbone, channels=channels, size=size)
    assert same(found, model, channels, size, size)


def test_normalisation_is_given_with_the_backbone(tmp_path):
    plain = classifier(ResNet18(), 3, 32)
    torch.save(plain.state_dict(), tmp_path / "net.pt")
    backbone = ResNet18(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    torch.save({n: t for n, t in plain.state_dict().items() if "normalize" not in n}, tmp_path / "net.pt")
    found, _ = loaded(tmp_path / "net.pt", backbone, channels=3, size=32)
    x = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(found(x), plain((x - mean) / 0.2))


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("container", ["zip", "legacy", "bare pickle"])
def test_a_pickle_that_would_run_code_runs_none(container, protocol, tmp_path):
    content = {"state_dict": Payload(tmp_path / "ran")}
    path = tmp_path / "net.pt"
    if container == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(CwbenchError, match="cwbench runs nothing that a file brings along"):
        read_weights(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(content["state_dict"])).close()  # noqa: S301 - the payload is a real one
    assert (tmp_path / "ran").exists()


def bomb(path):
    """An archive as torch.save makes it, whose content is a thousand times its size."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(20_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))


def truncated(path, model):
    save_file(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])


BAD = {
    "a bomb": (lambda p, m: bomb(p), "net.pt", "unpacks to"),
    "cut off": (truncated, "net.safetensors", "is not a sound safetensors file"),
    "cut off archive": (
        lambda p, m: (torch.save(m.state_dict(), p), p.write_bytes(p.read_bytes()[:-100])),
        "net.pt",
        "is not a sound checkpoint of PyTorch",
    ),
    "a web page": (lambda p, m: p.write_text("<!DOCTYPE html><html>Sign in"), "net.safetensors", "is a web page"),
    "a pointer": (lambda p, m: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "net.pt", "Git LFS"),
    "nothing": (lambda p, m: p.write_bytes(b""), "net.pt", "is not a sound checkpoint of PyTorch"),
    "noise": (lambda p, m: p.write_bytes(os.urandom(5000)), "net.safetensors", "is not a sound safetensors file"),
    "a whole model": (lambda p, m: torch.save(m, p), "net.pt", "would run .*Classifier|holds more than tensors"),
    "a list": (lambda p, m: torch.save([1], p), "net.pt", "holds a list, not weights by name"),
    "no weights": (lambda p, m: torch.save({"epoch": 3}, p), "net.pt", "holds no weights by name; its entries: epoch"),
    "missing": (lambda p, m: None, "net.pt", "there is no file"),
    "a folder": (lambda p, m: p.mkdir(), "net.pt", "there is no file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_none_gets_one_line(name, model, tmp_path):
    write, file, complaint = BAD[name]
    write(tmp_path / file, model)
    with pytest.raises(CwbenchError, match=complaint) as raised:
        read_weights(tmp_path / file)
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)  # nobody is told to switch the protection off


def test_a_head_of_another_size_is_refused(tmp_path):
    torch.save(classifier(DigitsCNN(), classes=100).state_dict(), tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match=r"the last layer of net.pt knows 100 classes, and the dataset has 10"):
        loaded(tmp_path / "net.pt", DigitsCNN())


def test_missing_and_left_over_tensors_are_listed(model, tmp_path):
    weights = {n.replace("head", "top"): t for n, t in model.state_dict().items()}
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(
        CwbenchError, match=r"lacks 2 of the .* head\.weight, head\.bias; left over are top\.weight, top"
    ):
        loaded(tmp_path / "net.pt", DigitsCNN())


def test_two_tensors_for_one_place_are_told_and_the_own_name_is_taken(model, tmp_path):
    wrapped = {"module." + name: tensor for name, tensor in model.state_dict().items()}
    torch.save(wrapped | {"head.weight": torch.ones(10, wrapped["module.head.weight"].shape[1])}, tmp_path / "net.pt")
    found, notes = loaded(tmp_path / "net.pt", DigitsCNN())
    assert bool((found.head.weight == 1).all())
    assert "left over: module.head.weight" in notes


def test_a_name_without_an_end_is_cut(model, tmp_path):
    torch.save(model.state_dict() | {"x" * 5000: torch.ones(1)}, tmp_path / "net.pt")
    _, notes = loaded(tmp_path / "net.pt", DigitsCNN())
    assert notes == ("left over: " + "x" * 100,)


def test_a_hash_in_the_name_of_a_file_is_no_entry(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "net#1.pt")
    spec = RunSpec(checkpoint=str(tmp_path / "net#1.pt"), backbone="digits-cnn", attacks="fgsm", limit=20)
    report, _ = run(spec, Session(installed(), Store(tmp_path / "store")))
    assert report.source.uri == "net#1.pt"


def test_another_network_and_infinite_weights_are_refused(model, tmp_path):
    wide = {n: torch.zeros(2, *t.shape[1:]) if n == "head.bias" else t for n, t in model.state_dict().items()}
    torch.save(wide, tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match=r"does not fit digits-cnn: head.bias is \(2,\) there and \(10,\) here"):
        loaded(tmp_path / "net.pt", DigitsCNN())
    torch.save({n: t / 0 for n, t in model.state_dict().items()}, tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match="NaN or infinite"):
        loaded(tmp_path / "net.pt", DigitsCNN())


ODD = {
    "sparse": lambda t: t.to_sparse(),
    "complex": lambda t: t.to(torch.complex64),
    "integer": lambda t: t.to(torch.int64),
}


@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_not_dense_real_numbers_are_refused(kind, model, tmp_path):
    weights = model.state_dict()
    torch.save(weights | {"head.weight": ODD[kind](weights["head.weight"])}, tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match=f"head.weight is a tensor of kind {kind}"):
        loaded(tmp_path / "net.pt", DigitsCNN())


def test_an_entry_may_lie_inside_another(model, tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"run": {"student": model.state_dict(), "step": 3}}, path)
    with pytest.raises(CwbenchError, match=r"holds no weights by name; its entries: run \(name one"):
        loaded(path, DigitsCNN())
    with pytest.raises(CwbenchError, match=r"'run' of .* holds no weights \(FILE#run.NAME, of: step, student\)"):
        loaded(path, DigitsCNN(), "run")
    found, notes = loaded(path, DigitsCNN(), "run.student")
    assert same(found, model, 1, 8, 8)
    assert "weights are its entry run.student" in notes


def test_what_was_chosen_inside_a_named_entry_is_told_and_a_named_entry_chooses(model, tmp_path):
    weights = model.state_dict()
    other = {name: 2 * tensor for name, tensor in weights.items()}
    torch.save({"run": {"state_dict": other, "state_dict_ema": weights}}, tmp_path / "net.pt")
    found, notes = loaded(tmp_path / "net.pt", DigitsCNN(), "run")
    assert same(found, model, 1, 8, 8)
    assert notes[:2] == (
        "weights are its entry run",
        "averaged weights, its entry state_dict_ema, and state_dict beside it was not used",
    )
    found, _ = loaded(tmp_path / "net.pt", DigitsCNN(), "run.state_dict")
    assert not same(found, model, 1, 8, 8)


def test_of_two_entries_the_error_names_the_one_that_was_not_used(model, tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "model": model.state_dict()}, tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match="entry state_dict, and model beside it was not used"):
        loaded(tmp_path / "net.pt", DigitsCNN())


def test_a_container_that_holds_itself_is_refused(tmp_path):
    content = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match="nests its entries deeper than 5"):
        read_weights(tmp_path / "net.pt")


def test_an_image_as_a_huge_view_of_one_number_is_refused_without_being_made(model, tmp_path):
    weights = model.state_dict() | {"head.bias": torch.zeros(1).expand(10**12)}
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(CwbenchError, match=r"does not fit digits-cnn|knows"):
        loaded(tmp_path / "net.pt", DigitsCNN())


def test_a_run_judges_the_file_and_says_so(model, tmp_path):
    torch.save({"state_dict": {"module." + n: t for n, t in model.state_dict().items()}}, tmp_path / "net.pt")
    spec = RunSpec(checkpoint=str(tmp_path / "net.pt"), backbone="digits-cnn", attacks="fgsm", limit=30)
    report, path = run(spec, Session(installed(), Store.default(), out=tmp_path / "runs"))
    assert (report.training, report.defense) == (None, None)
    assert (report.subject, report.backbone.name) == ("net.pt", "digits-cnn")
    assert (report.source.kind, report.source.uri) == ("file", "net.pt")  # no folder of this machine
    assert report.source.notes == ["weights are its entry state_dict", "prefix module. taken off the names"]
    assert path.is_file()


def test_the_python_door_judges_checkpoints_too(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "net.pt")
    found = cwbench.run(checkpoint=str(tmp_path / "net.pt"), backbone="digits-cnn", attacks="fgsm", limit=30)
    assert (found.subject, found.dataset.name) == ("net.pt", "digits")
    trained = cwbench.run("standard", "fgsm", "digits", limit=30, set={"recipe.epochs": 1})
    again = cwbench.run(checkpoint=trained.training.checkpoint, attacks="fgsm", limit=30)
    assert again.confusion("fgsm") == trained.confusion("fgsm")
    with pytest.raises(CwbenchError, match="neither a defense nor a checkpoint"):
        cwbench.run(attacks="fgsm")


BAD_RUNS = {
    "does not say which network it is for": {"checkpoint": "NET"},
    "says itself which network it is for": {"checkpoint": "0123456789ab", "backbone": "digits-cnn"},
    "no checkpoint is a folder or has a digest": {"checkpoint": "0123456789ab"},
    "needs images of at least 16×16": {"checkpoint": "NET", "backbone": "mnist-cnn"},
    "no backbone is named 'digit-cnn'": {"checkpoint": "NET", "backbone": "digit-cnn"},
    "nothing opens nowhere:// checkpoints": {"checkpoint": "nowhere://x"},
}


@pytest.mark.parametrize("complaint", BAD_RUNS)
def test_a_run_that_cannot_be_gets_one_line_and_writes_nothing(complaint, model, tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    torch.save(model.state_dict(), tmp_path / "net.pt")
    options = {k: str(tmp_path / "net.pt") if v == "NET" else v for k, v in BAD_RUNS[complaint].items()}
    with pytest.raises(CwbenchError, match=complaint):
        run(RunSpec(attacks="fgsm", **options), Session(installed(), Store.default(), out=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
