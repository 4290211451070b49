"""A killed evaluation goes on where it was, to the report that it would have written."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from cwbench.api import TensorExamples, make_threat
from cwbench.attacks.cw import CW
from cwbench.attacks.pgd import PGD
from cwbench.evaluation.attack_run import POOL
from cwbench.evaluation.harness import evaluate
from cwbench.evaluation.journal import Journal
from cwbench.evaluation.outcomes import Tools
from cwbench.plan import PlannedAttack
from cwbench.spec import EvaluationSettings
from tests import command_line

RUN = ["run", "--defense", "standard", "--attack", "pgd", "--attack", "square:queries=400", "--limit", "300"]
RUN += ["--set", "recipe.epochs=6", "--set", "recipe.eps_warmup=0.3", "--batch-size", "8", "--json"]


def timeless(text):
    content = json.loads(text)
    content.pop("digest")
    content["provenance"].pop("created")
    for attack in content["attacks"]:
        attack["cost"].pop("seconds")
    return content


def test_a_killed_process_goes_on_to_the_identical_report(tmp_path):
    environment = os.environ | {"CWBENCH_CACHE": str(tmp_path / "killed"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cwbench", *RUN]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, **quiet)
    chunks = tmp_path / "killed" / "evaluations"
    deadline = time.monotonic() + 120
    while len(list(chunks.glob("*/*-0*"))) < 12:  # pgd has ten chunks: square is under way
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(chunks.glob("*/*-0*"))) >= 12
    resumed = command_line.run(*RUN, cwd=tmp_path, environment=environment)
    assert resumed.returncode == 0, resumed.stderr
    assert not list(chunks.iterdir()), "what is in the report need not be kept"
    elsewhere = environment | {"CWBENCH_CACHE": str(tmp_path / "whole")}
    whole = command_line.run(*RUN, cwd=tmp_path, environment=elsewhere)
    assert whole.returncode == 0, whole.stderr
    assert timeless(resumed.stdout) == timeless(whole.stdout)


@pytest.fixture
def journaled(tiny, images, tmp_path):
    """Evaluate with a journal, and count the images that go through the model."""
    labels = tiny(images).argmax(1)
    journal = Journal(tmp_path / "journal")
    attacks = [PGD(steps=5, step_size=0.01), CW(iterations=10, searches=2)]

    def run(attacks=attacks, precision="fp32"):
        passed = 0

        def model(x):
            nonlocal passed
            passed += len(x)
            return tiny(x)

        outcomes = evaluate(
            model,
            TensorExamples(images, labels),
            [PlannedAttack(attack.name, attack) for attack in attacks],
            ids=torch.arange(20),
            classes=4,
            threat=make_threat("Linf", "0.03"),
            settings=EvaluationSettings(device="cpu", batch_size=2, precision=precision),
            tools=Tools(look_for_masking=False, journal=journal),
        )
        return outcomes, passed

    return run, journal


def same(first, second):
    for a, b in zip(first.attacks, second.attacks, strict=True):
        assert a.predictions.tolist() == b.predictions.tolist()
        assert a.cost == b.cost
        assert (a.distances is None) == (b.distances is None)
        assert a.distances is None or a.distances.tolist() == b.distances.tolist()


def test_what_is_finished_is_not_done_again(journaled):
    run, journal = journaled
    whole, passed = run()
    again, repeated = run()
    same(whole, again)
    assert repeated == 20 < passed, "the clean pass alone"
    assert len(list(journal.folder.glob("*-0*"))) == 2 * -(-20 // (2 * POOL))


def test_a_damaged_or_missing_chunk_is_done_again(journaled):
    run, journal = journaled
    whole, passed = run()
    first, second, *_ = sorted(journal.folder.glob("*-0*"))
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    again, repeated = run()
    assert [one.predictions.tolist() for one in again.attacks] == [one.predictions.tolist() for one in whole.attacks]
    assert 20 < repeated < passed


def test_the_precision_is_decided_once(journaled):
    run, journal = journaled
    journal.decide("precision", "bf16")
    outcomes, _ = run(precision="auto")
    assert outcomes.precision == "bf16"


def test_a_journal_that_cannot_be_written_stops_nothing(journaled):
    run, journal = journaled
    journal.folder.parent.mkdir(exist_ok=True)
    journal.folder.write_text("a file where the folder should be")
    whole, passed = run()
    again, repeated = run()
    assert passed == repeated
    assert [one.predictions.tolist() for one in again.attacks] == [one.predictions.tolist() for one in whole.attacks]


def test_a_batch_that_memory_halved_stays_halved(journaled, tiny):
    run, journal = journaled
    whole, _ = run()
    journal.decide("batch_size", "1")
    again, _ = run()
    assert (whole.batch_size, again.batch_size) == (2, 1)
    same(whole, again)
