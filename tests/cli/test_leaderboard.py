"""``cwbench leaderboard`` as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from benchmarks.generated import drawn, write
from cwbench.cli import main
from cwbench.report.report import read_report


@pytest.fixture
def leaderboard(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cwbench", "leaderboard", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def path(request, tmp_path):
    template = read_report(request.config.rootpath / "tests" / "report" / "written" / "v1-digits-madry-suite.json")
    return write(*drawn(template, 1), tmp_path / "run")


def test_from_a_report_to_a_page(leaderboard, path, tmp_path):
    code, printed, errors = leaderboard("submit", path)
    assert (code, errors) == (0, "")
    assert printed.startswith("leaderboard/entries/digits/Linf-0.1/")
    assert leaderboard("check")[1] == "sound: 1 entry, 0 of them verified\n"
    assert leaderboard("build")[1] == "1 entry in 1 table: leaderboard/site/index.html\n"
    assert "which was up to date" in leaderboard("build")[1]
    assert "defense-00001" in (tmp_path / "leaderboard" / "LEADERBOARD.md").read_text()
    code, _, errors = leaderboard("submit", path)
    assert (code, errors.count("\n"), "is a duplicate" in errors) == (2, 1, True)


def test_each_problem_is_a_line_and_the_last_one_counts_them(leaderboard, path, tmp_path):
    leaderboard("submit", path)
    folder = tmp_path / "leaderboard" / "entries" / "digits" / "Linf-0.1"
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text("{}")
    code, printed, errors = leaderboard("check")
    assert (code, printed) == (2, "")
    lines = errors.splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines[:2]] == [
        "entries/digits/Linf-0.1/a.json",
        "entries/digits/Linf-0.1/b.json",
    ]
    assert lines[2] == "cwbench: 2 of 3 files may not stand on the board (mend or remove them)"
    assert leaderboard("build")[0] == 2
    assert not (tmp_path / "leaderboard" / "LEADERBOARD.md").exists()


@pytest.mark.parametrize("command", ["check", "build", "serve"])
def test_without_a_board(leaderboard, command):
    code, _, errors = leaderboard(command)
    assert (code, errors) == (
        2,
        "cwbench: there is no board at leaderboard: it has no folder entries (name one with --board DIR)\n",
    )


def test_serving_what_is_not_built_or_cannot_be_served(leaderboard, path):
    leaderboard("submit", path)
    assert "is not built yet" in leaderboard("serve")[2]
    leaderboard("build")
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be served" in leaderboard("serve", "--port", taken.getsockname()[1])[2]


def test_serving_until_interrupted(leaderboard, path, tmp_path):
    leaderboard("submit", path)
    leaderboard("build")
    command = [sys.executable, "-m", "cwbench", "leaderboard", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = process.stdout.readline().split()[0]
    with urlopen(url) as answer:  # noqa: S310 - our own server
        assert b"defense-00001" in answer.read()
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in errors) == (0, False)


def test_suites_are_printed_as_a_board_has_them(leaderboard):
    _, printed, _ = leaderboard("suites", "digits")
    assert json.loads(printed)["digits"]["Linf"]["standard"][0] == "fgsm"
    assert leaderboard("suites", "flowers")[0] == 2
