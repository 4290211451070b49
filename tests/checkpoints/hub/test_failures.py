"""A hub that fails in every way that hubs do: one clear line, exit code 2, and nothing half-written."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cwbench.checkpoints.hub.address import address
from cwbench.internal.errors import CwbenchError

from .loopback import Repo

WEIGHTS = "model.safetensors"


def refused(done, *parts):
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    return done


def whole_files(folder: Path) -> list[Path]:
    """Return the files that the cache would serve later."""
    return [path for path in folder.rglob("snapshots/*/*") if path.is_file()]


def test_a_connection_that_is_cut_goes_on_from_where_it_was(hub, command):
    """The client writes ten mebibytes at a time, so the file has to be larger for it to have begun."""
    body = os.urandom(1 << 20) * 24
    hub.repos["me/large"] = Repo()
    hub.repos["me/large"].commit({"net.safetensors": body})
    asked = []

    def misbehave(request):
        if request.command != "GET" or not request.path_only.startswith("/cdn/"):
            return False
        asked.append(request.headers.get("Range"))
        if len(asked) > 1:
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: 15 << 20])
        request.wfile.flush()
        request.close_connection = True
        return True

    hub.misbehave = misbehave
    done = command("hub", "pull", "hf://me/large/net.safetensors")
    assert done.returncode == 0, done.stderr
    assert asked[1] == f"bytes={10 << 20}-"
    assert Path(done.stdout.splitlines()[0].partition(": ")[2]).read_bytes() == body


def test_a_429_is_waited_for_as_long_as_it_says(hub, published, command):
    asked = []

    def misbehave(request):
        if request.path_only.startswith("/api/models/") and not asked:
            asked.append(request.path_only)
            request.json({"error": "too many"}, 429, Retry_After="1")
            return True
        return False

    hub.misbehave = misbehave
    done = command("hub", "pull", "hf://me/net")
    assert done.returncode == 0, done.stderr
    assert asked


def test_a_429_that_asks_for_an_hour_is_not_waited_for(hub, published, command):
    def misbehave(request):
        request.json({"error": "too many"}, 429, Retry_After="3600")
        return True

    hub.misbehave = misbehave
    refused(command("hub", "pull", "hf://me/net"), "the hub asks to wait")


def test_a_wrong_hash_is_refused_and_not_kept(hub, published, command, tmp_path):
    hub.repos["me/net"].claimed[WEIGHTS] = "0" * 64
    refused(command("hub", "pull", "hf://me/net"), "is not what the hub says it is", "0" * 64)
    assert not [path for path in whole_files(tmp_path / "hf") if path.name == WEIGHTS]
    del hub.repos["me/net"].claimed[WEIGHTS]
    assert command("hub", "pull", "hf://me/net").returncode == 0


def test_a_web_page_instead_of_weights_is_refused(hub, published, command, tmp_path):
    page = b"<!DOCTYPE html><html>" + b"Sign in to the network of this hotel. " * 1000 + b"</html>"

    def misbehave(request):
        if request.path_only.startswith("/cdn/") and request.command == "GET":
            request.send(page)
            return True
        return False

    hub.misbehave = misbehave
    done = command("hub", "pull", "hf://me/net")
    refused(done, "is not what the hub says it is", "a web page of a proxy or of a login may have come in its place")
    assert not [path for path in whole_files(tmp_path / "hf") if path.name == WEIGHTS]


def test_a_login_page_instead_of_the_hub(hub, published, command):
    def misbehave(request):
        request.send(b"<!DOCTYPE html><html>Sign in to the network of this hotel.</html>")
        return True

    hub.misbehave = misbehave
    refused(command("hub", "pull", "hf://me/net"), "the hub cannot be reached", "sends no JSON")


def test_a_connection_that_is_always_cut(hub, published, command):
    def misbehave(request):
        if not request.path_only.startswith("/cdn/") or request.command != "GET":
            return False
        request.send_response(200)
        request.send_header("Content-Length", "606096")
        request.end_headers()
        request.wfile.write(b"0" * 1000)
        request.close_connection = True
        return True

    hub.misbehave = misbehave
    refused(command("hub", "pull", "hf://me/net"), "the hub cannot be reached, and the cache does not hold")


def test_a_web_page_that_somebody_uploaded_as_weights_is_refused(hub, command):
    hub.repos["me/page"] = Repo()
    hub.repos["me/page"].commit({"net.pt": b"<!DOCTYPE html><html>download here</html>"})
    done = command("run", "--checkpoint", "hf://me/page/net.pt", "--backbone", "digits-cnn", "--attack", "fgsm")
    refused(done, "is a web page, not a checkpoint")


def test_a_server_that_only_fails(hub, command):
    def misbehave(request):
        request.send(b"out of order", 503)
        return True

    hub.misbehave = misbehave
    refused(command("hub", "pull", "hf://me/net"), "the hub cannot be reached", "503")


def test_a_repository_that_vanished_is_not_served_from_the_cache(hub, published, command):
    assert command("hub", "pull", "hf://me/net").returncode == 0
    del hub.repos["me/net"]
    done = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm")
    refused(done, "the hub has no repository me/net, or it is private")


def test_a_cached_file_that_was_damaged_is_not_served_offline(hub, published, command, tmp_path):
    assert command("hub", "pull", "hf://me/net").returncode == 0
    (path,) = [path for path in whole_files(tmp_path / "hf") if path.name == WEIGHTS]
    content = path.resolve()
    content.chmod(0o644)
    content.write_bytes(content.read_bytes()[:-4] + b"\0\0\0\0")
    done = command("run", "--checkpoint", "hf://me/net", "--attack", "fgsm", HF_HUB_OFFLINE="1")
    refused(done, "is damaged", "cwbench hub pull")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = ["cwbench", "hub", "pull", "hf://me/net"]
from cwbench.cli import main
main()
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_no_space_leaves_nothing(hub, published, command, tmp_path, monkeypatch):
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "CWBENCH_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "cannot keep hf://me/net" in done.stderr
    assert "HF_HOME" in done.stderr
    assert not [path for path in whole_files(tmp_path / "hf") if path.name == WEIGHTS]
    assert not (tmp_path / "cache" / "checkpoints").exists()


ADDRESSES = {
    "hf://me": "is no address on the Hugging Face hub",
    "hf://me/..": "is no address on the Hugging Face hub",
    "hf://../net": "is no address on the Hugging Face hub",
    "hf:///etc/passwd": "is no address on the Hugging Face hub",
    "hf://me/net@": "is no address on the Hugging Face hub",
    "hf://me/net@../x": "is no address on the Hugging Face hub|is no revision",
    "hf://me/net@..": "is no revision",
    "hf://me/net/../../x.pt": "is no name of a file in a repository",
    "hf://me/net//etc/passwd": "is no name of a file in a repository",
    "hf://me/net/%2e%2e/x.pt": "is no name of a file in a repository",
    "hf://me/net/a\\b.pt": "is no name of a file in a repository",
    "hf://me/net/folder/": "is no name of a file in a repository",
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(text):
    with pytest.raises(CwbenchError, match=ADDRESSES[text]):
        address(text)


def test_what_a_hub_does_not_have_gets_one_line(published, command, tmp_path):
    missing = {
        "hf://me/net@nobranch": "has no revision 'nobranch'",
        "hf://me/net/missing.pt": "has no file 'missing.pt'",
        "hf://you/net": "has no repository you/net",
        "hf://me/net/../x.pt": "is no name of a file in a repository",
    }
    for text, complaint in missing.items():
        refused(command("hub", "pull", text), complaint)
    assert not (tmp_path / "cache").exists()


def test_a_repository_of_others_says_which_file_to_name(hub, command):
    hub.repos["me/other"] = Repo()
    hub.repos["me/other"].commit({"weights/net.safetensors": b"x", "README.md": b"hello"})
    done = command("run", "--checkpoint", "hf://me/other", "--attack", "fgsm")
    refused(done, "hf://me/other/weights/net.safetensors --backbone NAME")
