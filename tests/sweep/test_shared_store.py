"""A checkpoint store that machines share, in memory and in a folder."""

import pytest
import torch

from cwbench.checkpoints.store import WEIGHTS, Checkpoint, Store
from cwbench.internal.errors import CwbenchError
from cwbench.sweep.outcome import Failed
from cwbench.sweep.results import Results
from cwbench.sweep.shared_store import Shared
from cwbench.sweep.storage import Place

CHECKPOINT = Checkpoint({"defense": "madry", "seed": 3}, {"w": torch.arange(6.0).reshape(2, 3)}, {"losses": [0.5]})


@pytest.fixture(params=["file", "memory"])
def address(request, tmp_path):
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}/shared"


def test_what_one_machine_publishes_another_fetches(address, tmp_path):
    mine, theirs = Store(tmp_path / "mine"), Store(tmp_path / "theirs")
    mine.save(CHECKPOINT)
    assert not Shared(Place(address)).fetch(CHECKPOINT.digest, theirs)
    Shared(Place(address)).publish(CHECKPOINT.digest, mine)
    Shared(Place(address)).publish(CHECKPOINT.digest, mine)
    assert Shared(Place(address)).fetch(CHECKPOINT.digest, theirs)
    assert torch.equal(theirs.find(CHECKPOINT.digest).weights["w"], CHECKPOINT.weights["w"])


def test_weights_that_were_changed_on_the_way_are_refused(address, tmp_path):
    mine, theirs = Store(tmp_path / "mine"), Store(tmp_path / "theirs")
    mine.save(CHECKPOINT)
    shared = Shared(Place(address))
    shared.publish(CHECKPOINT.digest, mine)
    shared.place.write(f"{CHECKPOINT.digest}/{WEIGHTS}", b"something else")
    shared.fetch(CHECKPOINT.digest, theirs)
    with pytest.raises(CwbenchError, match="its weights have sha256"):
        theirs.find(CHECKPOINT.digest)


def test_a_failure_is_kept_until_the_cell_is_finished(address, tmp_path):
    results = Results(Place(address))
    results.place.require_writable()
    assert (results.report("cell"), results.failure("cell")) == (None, None)
    results.put_failure("cell", Failed("no data", bug=True, trace="where"))
    assert results.failure("cell") == Failed("no data", bug=True, trace="where")
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.json").write_text("{}")
    (run / "predictions.safetensors").write_bytes(b"x")
    results.put("cell", run)
    assert results.failure("cell") is None
    assert results.predictions("cell", "predictions.safetensors") == b"x"
    with pytest.raises(CwbenchError, match="is not a cwbench report"):
        results.report("cell")
    results.place.write("cell/failure.json", b'{"reason": "half')
    assert "is damaged" in results.failure("cell").reason
