"""A network of RobustBench's zoo, loaded by RobustBench from a small file of its own format, and judged."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cwbench_robustbench
import pytest
import torch
from cwbench_robustbench import cwbench_open_checkpoint

from cwbench import CwbenchError
from cwbench.checkpoints.store import Store
from cwbench.datasets.cifar10 import CIFAR10
from cwbench.datasets.digits import Digits
from cwbench.pipeline.runner import run
from cwbench.pipeline.session import Session
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec

NAME = "Rade2021Helper_R18_ddpm"
URI = f"robustbench://cifar10/Linf/{NAME}"
PUBLISHED = {"eps": "8/255", "clean_acc": "86.86", "autoattack_acc": "57.09", "dataset": "cifar10"}
"""A part of what RobustBench publishes of this model."""


class _Figures(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(PUBLISHED).encode()
        self.send_response(200 if self.path == f"/cifar10/Linf/{NAME}.json" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), _Figures)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    monkeypatch.setenv("CWBENCH_ROBUSTBENCH_FIGURES", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Put a file where RobustBench looks for one before it downloads: fresh weights of the real network."""
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CWBENCH_ROBUSTBENCH_FIGURES", "http://127.0.0.1:9")
    torch.manual_seed(0)
    cwbench_robustbench.parsed(URI)
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    model = model_dicts[BenchmarkDataset.cifar_10][ThreatModel.Linf][NAME]["model"]()
    path = tmp_path / "cache" / "robustbench" / "cifar10" / "Linf" / f"{NAME}.pt"
    path.parent.mkdir(parents=True)
    torch.save({"module." + name: tensor for name, tensor in model.state_dict().items()}, path)
    return model.eval(), path


def test_it_is_the_network_that_robustbench_has(zoo, mirror):
    model, _ = zoo
    found = cwbench_open_checkpoint(URI, CIFAR10())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found.model(x), model(x))
    assert [(entry.name, entry.value) for entry in found.external] == [
        ("clean accuracy", pytest.approx(0.8686)),
        ("AutoAttack robust accuracy", pytest.approx(0.5709)),
    ]
    assert "eps 8/255" in found.external[0].source


def test_figures_are_fetched_once_and_then_read_offline(zoo, mirror, monkeypatch):
    cwbench_open_checkpoint(URI, CIFAR10())
    monkeypatch.setenv("CWBENCH_ROBUSTBENCH_FIGURES", "http://127.0.0.1:9")
    assert len(cwbench_open_checkpoint(URI, CIFAR10()).external) == 2


def test_without_the_figures_the_model_is_judged_all_the_same(zoo):
    found = cwbench_open_checkpoint(URI, CIFAR10())
    assert found.external == ()
    assert "figures could not be read" in found.notes[-1]


def test_a_run_judges_it_and_shows_the_figures_as_external(zoo, mirror, tmp_path, cifar10):
    spec = RunSpec(checkpoint=URI, dataset="cifar10", attacks="fgsm", limit=10, data=cifar10)
    report, path = run(spec, Session(installed(), Store.default(), out=tmp_path / "runs"))
    assert (report.training, report.defense) == (None, None)
    assert report.source.kind == "plugin"
    assert report.source.uri == URI
    assert [entry.value for entry in report.source.external] == [pytest.approx(0.8686), pytest.approx(0.5709)]
    assert path.is_file()


@pytest.fixture
def cifar10(tmp_path, monkeypatch) -> Path:
    """CIFAR-10's files in their own format, with noise for images: as many as there are, as cwbench insists."""
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    import pickle

    import numpy as np

    root = tmp_path / "data" / "cifar-10-batches-py"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        images = rng.integers(0, 256, (10_000, 3072), dtype=np.uint8)
        content = {"data": images, "labels": (np.arange(10_000) % 10).tolist()}
        (root / name).write_bytes(pickle.dumps(content))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return tmp_path / "data"


BAD = {
    "robustbench://cifar10/Linf": "is no model of RobustBench",
    "robustbench://mnist/Linf/X": "is no model of RobustBench",
    "robustbench://cifar10/corruptions/X": "is no model of RobustBench",
    "robustbench://cifar10/Linf/../../../etc/passwd": "is no model of RobustBench",
    "robustbench://cifar10/Linf/Rade2021Helper_R18": "has no Linf model 'Rade2021Helper_R18'",
}


@pytest.mark.parametrize("uri", BAD)
def test_a_bad_address_gets_one_line(uri, zoo):
    with pytest.raises(CwbenchError, match=BAD[uri]):
        cwbench_open_checkpoint(uri, CIFAR10())


def test_another_dataset_is_refused_before_anything_is_loaded(zoo):
    with pytest.raises(CwbenchError, match="is a model of cifar10, and the run judges on digits"):
        cwbench_open_checkpoint(URI, Digits())


def test_other_schemes_are_left_to_others():
    assert cwbench_open_checkpoint("wandb://x", Digits()) is None


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_file_that_would_run_code_runs_none(zoo, tmp_path):
    _, path = zoo
    torch.save({"state_dict": Payload(tmp_path / "ran")}, path)
    with pytest.raises(CwbenchError, match="could not be loaded"):
        cwbench_open_checkpoint(URI, CIFAR10())
    assert not (tmp_path / "ran").exists()


def test_without_a_network_it_says_where_to_put_the_file(zoo, monkeypatch):
    _, path = zoo
    path.unlink()

    def unreachable(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("robustbench.utils.download_gdrive_new", unreachable)
    with pytest.raises(CwbenchError, match=r"no route to host.*put its file at"):
        cwbench_robustbench.cwbench_open_checkpoint(URI, CIFAR10())
