"""Going on with one particular unfinished training."""

import pytest

from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError
from cwbench.training.fit import fit
from cwbench.training.resume import require_same
from tests.training.jobs import job


class Stopped(Exception):  # noqa: N818 - the test's own, no error
    pass


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with a training that was stopped after its first epoch."""
    store, keep = Store(tmp_path), Store.save_partial

    def stop(self, key, partial):
        keep(self, key, partial)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_partial", stop)
        with pytest.raises(Stopped):
            fit(job(), store)
    return store


def test_the_same_run_goes_on(store):
    (key,) = store.unfinished()
    require_same(job(), store, key[:8])
    assert fit(job(), store).digest == key


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"set": {"recipe.epochs": 3, "recipe.lr": 0.5}}, r"recipe\.lr was 0\.003 and is 0\.5"),
        ({"set": {"recipe.epochs": 4}}, r"recipe\.epochs was 3 and is 4"),
        ({"seed": 7}, r"seed was 0 and is 7"),
        ({"defense": "madry:steps=2"}, r"defense\.fields\.steps was None and is 2"),
        ({"eps": "0.2"}, r"threat\.eps was 0\.1 and is 0\.2; inner_scale was 1\.0 and is 2\.0"),
        ({"precision": "bf16"}, r"precision was fp32 and is bf16"),
    ],
)
def test_a_changed_run_is_refused_with_the_fields_that_changed(store, changed, fields):
    (key,) = store.unfinished()
    with pytest.raises(CwbenchError, match=rf"unfinished training {key[:12]} is another one: {fields} \(give the same"):
        require_same(job(**changed), store, key)


def test_an_unknown_training_is_refused_with_those_that_there_are(store):
    (key,) = store.unfinished()
    with pytest.raises(CwbenchError, match=f"no unfinished trainings begin with 'ffffffff'.*{key[:12]}"):
        require_same(job(), store, "ffffffff")
    with pytest.raises(CwbenchError, match="no unfinished trainings begin with 'f'"):
        require_same(job(), store, "f")
