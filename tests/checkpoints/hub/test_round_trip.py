"""Publishing, fetching and judging, with the real client."""

import json

import pytest
import yaml

from cwbench.checkpoints.hub.fetch import Fetched
from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError
from cwbench.pipeline.runner import run
from cwbench.pipeline.session import Session
from cwbench.plugins.registry import installed
from cwbench.report.report import read_report
from cwbench.spec import RunSpec

from .conftest import STRANGER, TOKEN


def only_report(folder):
    (path,) = folder.glob("runs/*/report.json")
    return read_report(path)


def attack(report, label):
    return report.confusion(label), report.class_accuracy(label)


def kept(home, pulled):
    """Return the checkpoint that a pull says it has kept."""
    return Store(home / "cache" / "checkpoints").opened(pulled.stdout.split("--checkpoint ")[1].strip())


def test_push_pull_and_run_give_the_identical_class_wise_result(hub, published, command, trained, tmp_path):
    pulled = command("hub", "pull", "hf://me/net")
    assert pulled.returncode == 0, pulled.stderr
    assert published in pulled.stdout
    assert kept(tmp_path, pulled).digest == trained.checkpoint.digest
    attacks = ["--attack", "fgsm", "--attack", "pgd:steps=3", "--precision", "fp32"]
    done = command("run", "--checkpoint", "hf://me/net", *attacks)
    assert done.returncode == 0, done.stderr
    found = only_report(tmp_path)
    for label in ("clean", "fgsm", "pgd:steps=3"):
        assert attack(found, label) == attack(trained.report, label)
    assert (found.source.kind, found.source.revision, found.source.clean) == ("hub", published, "reproduced")
    assert found.training == trained.report.training
    assert f"commit {published[:12]}" in done.stdout


def test_a_pulled_checkpoint_is_judged_without_a_network_by_its_digest_and_by_its_address(
    published, command, trained, tmp_path
):
    pulled = command("hub", "pull", "hf://me/net")
    for uri in (kept(tmp_path, pulled).key[:12], f"hf://me/net@{published}"):
        done = command("run", "--checkpoint", uri, "--attack", "fgsm", "--limit", "50", HF_HUB_OFFLINE="1")
        assert done.returncode == 0, done.stderr
        assert "its published clean accuracy reproduced" in done.stdout
    away = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm", HF_ENDPOINT="http://127.0.0.1:9")
    assert away.returncode == 0, away.stderr
    assert f"is taken from the cache, commit {published[:12]}" in away.stderr


def test_what_was_never_fetched_is_told_in_one_line(command):
    done = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert "cwbench hub pull hf://me/net" in done.stderr


def test_push_says_what_it_uploads_and_asks(hub, command, trained):
    arguments = ["hub", "push", trained.checkpoint.digest[:12], "me/net", "--runs", str(trained.runs)]
    done = command(*arguments, cache=trained.cache)
    assert done.returncode == 2
    for name in ("model.safetensors", "config.json", "report.json", "README.md", "predictions.safetensors"):
        assert name in done.stdout
    assert "nothing was uploaded" in done.stderr
    assert hub.repos == {}
    assert not any(method in ("POST", "PUT") for method, _ in hub.requests)


def test_everything_arrives_in_one_commit(hub, published, trained):
    (commit,) = hub.repos["me/net"].commits
    files = commit[1]
    assert set(files) == {"model.safetensors", "config.json", "report.json", "README.md", "predictions.safetensors"}
    config = json.loads(files["config.json"])
    assert (config["library_name"], config["format"]) == ("cwbench", 1)
    clean = trained.report.clean.figures.classes
    assert config["clean"]["n"] == [entry.n for entry in clean]
    assert config["clean"]["correct"] == [entry.correct for entry in clean]


def test_the_card_has_the_class_wise_table_and_the_model_index(hub, published, trained):
    text = hub.repos["me/net"].commits[-1][1]["README.md"].decode()
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "cwbench"
    (model,) = metadata["model-index"]
    metrics = {m["name"]: m["value"] for result in model["results"] for m in result["metrics"]}
    assert metrics["clean accuracy"] == pytest.approx(trained.report.accuracy(), abs=1e-6)
    assert metrics["accuracy under fgsm"] == pytest.approx(trained.report.accuracy("fgsm"), abs=1e-6)
    worst = trained.report.worst_class("fgsm")
    assert metrics[f"accuracy under fgsm of the worst class, {worst.name}"] == pytest.approx(worst.accuracy, abs=1e-6)
    for name in trained.report.dataset.classes:
        assert f"| {name} " in body


def test_a_private_repository_needs_the_token_and_the_token_is_nowhere(hub, command, trained, tmp_path):
    push = ["hub", "push", trained.checkpoint.digest, "me/secret", "--runs", str(trained.runs), "--yes", "--private"]
    done = command(*push, cache=trained.cache)
    assert done.returncode == 0, done.stderr
    assert hub.repos["me/secret"].private
    assert hub.authorizations == {f"Bearer {TOKEN}"}
    denied = command("hub", "pull", "hf://me/secret", HF_TOKEN=STRANGER)
    assert (denied.returncode, denied.stderr.count("\n")) == (2, 1)
    assert "has no repository me/secret, or it is private" in denied.stderr
    allowed = command("run", "--checkpoint", "hf://me/secret", "--attack", "fgsm", "--limit", "20")
    assert allowed.returncode == 0, allowed.stderr
    outputs = [part for run in (done, denied, allowed) for part in (run.stdout, run.stderr)]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for place in (*outputs, *(path.read_bytes().decode(errors="ignore") for path in written)):
        assert TOKEN not in place
        assert STRANGER not in place


@pytest.mark.parametrize("token", ["", STRANGER])
def test_a_push_without_the_right_token_publishes_nothing(hub, command, trained, token):
    push = ["hub", "push", trained.checkpoint.digest, "me/net", "--runs", str(trained.runs), "--yes"]
    done = command(*push, cache=trained.cache, HF_TOKEN=token)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the hub does not let you create me/net" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert hub.repos == {}


def test_without_a_report_the_push_says_how_to_get_one(command, trained, tmp_path):
    done = command("hub", "push", trained.checkpoint.digest, "me/net", "--yes", cache=trained.cache)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"cwbench run --checkpoint {trained.checkpoint.digest[:12]}" in done.stderr


USES = {
    "judged": ["--checkpoint", "hf://me/net", "--attack", "fgsm"],
    "a substitute": [
        "--defense",
        "standard",
        "--attack",
        "transfer:substitute=hf://me/net",
        "--set",
        "recipe.epochs=1",
    ],
    "a teacher": ["--defense", "rst:teacher=hf://me/net", "--attack", "fgsm", "--set", "recipe.epochs=1"],
}


@pytest.mark.parametrize("use", USES)
def test_a_checkpoint_that_does_not_reproduce_its_clean_accuracy_is_refused(use, hub, published, command, tmp_path):
    repo = hub.repos["me/net"]
    config = json.loads(repo.commits[-1][1]["config.json"])
    config["clean"]["correct"][3] -= 5
    if use != "judged":
        sound = command("run", *USES[use], "--limit", "20", "--out", "before")
        assert sound.returncode == 0, sound.stderr
    repo.commit({"config.json": json.dumps(config).encode()})
    done = command("run", *USES[use], "--limit", "20", "--seed", "1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not reproduce the clean accuracy that was published with it: class 3" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_clean_accuracy_on_other_data_of_the_same_name_is_refused(hub, published, command, tmp_path):
    repo = hub.repos["me/net"]
    config = json.loads(repo.commits[-1][1]["config.json"])
    config["clean"]["dataset"] = "0" * 64
    repo.commit({"config.json": json.dumps(config).encode()})
    done = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was published with a clean accuracy on another test split of digits than the one here" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_weights_that_are_not_those_of_the_description_are_refused(hub, published, command):
    repo = hub.repos["me/net"]
    weights = bytearray(repo.commits[-1][1]["model.safetensors"])
    weights[-1] ^= 1
    repo.commit({"model.safetensors": bytes(weights)})
    done = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "its weights have sha256" in done.stderr


def test_a_revision_is_a_commit_for_ever(hub, published, command, tmp_path):
    repo = hub.repos["me/net"]
    repo.commit({"config.json": b"{}"})
    done = command("run", "--checkpoint", f"hf://me/net@{published}", "--attack", "fgsm", "--limit", "20")
    assert done.returncode == 0, done.stderr
    assert only_report(tmp_path).source.revision == published
    newest = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm")
    assert newest.returncode == 2
    assert "cannot be used" in newest.stderr


def test_a_report_of_a_pulled_checkpoint_is_verified(published, command, tmp_path):
    done = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/*/report.json")
    for named in ([], ["--checkpoint", "hf://me/net"]):
        found = command("verify", str(path), *named)
        assert found.returncode == 0, found.stderr
        assert "reproduced" in found.stdout


FORGED = {
    "no clean accuracy": (lambda c: c.pop("clean"), "is missing"),
    "of other classes": (lambda c: c["clean"].update(n=[1], correct=[1]), "of another number of classes"),
    "clean is a list": (lambda c: c.update(clean=[1, 2]), "cannot be used"),
    "another format": (lambda c: c.update(format=99), "update cwbench"),
    "no identity": (lambda c: c.pop("identity"), "is missing"),
    "identity is text": (lambda c: c.update(identity="x"), "cannot be used"),
    "huge images": (lambda c: c["identity"]["dataset"].update(shape=[3, 10**12]), "dataset.shape"),
    "no defense": (lambda c: c["identity"].pop("defense"), "defense"),
    "unknown defense": (lambda c: c["identity"]["defense"].update(name="nobodys"), "no defense is named 'nobodys'"),
    "unknown dataset": (lambda c: c["identity"]["dataset"].update(name="nobodys"), "no dataset is named 'nobodys'"),
    "another record": (lambda c: c["record"].update(losses=[]), "its record was changed"),
    "others' library": (lambda c: c.update(library_name="timm"), "cwbench did not write its config.json"),
}


def test_a_forged_description_gets_one_line(hub, published, trained, monkeypatch, tmp_path):
    """In this process, by the file that would have been fetched: only its content is at stake."""
    good, spec = hub.repos["me/net"].commits[-1][1], RunSpec(checkpoint="hf://me/net", attacks="fgsm")
    for name, (forge, complaint) in FORGED.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        config = json.loads(good["config.json"])
        forge(config)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(good["model.safetensors"])
        files = {file: folder / file for file in ("config.json", "model.safetensors")}
        monkeypatch.setattr("cwbench.checkpoints.store.holds", lambda at: list(good))
        fetched = Fetched("0" * 40, files, online=True)
        monkeypatch.setattr("cwbench.checkpoints.store.fetch", lambda at, wanted, fetched=fetched: fetched)
        with pytest.raises(CwbenchError, match=complaint) as raised:
            run(spec, Session(installed(), Store(tmp_path)))
        assert "\n" not in str(raised.value), name
