"""The order of tasks, without any process: an executor that does what it is given at once."""

import pytest

from cwbench.sweep.outcome import Done, Failed, attempted
from cwbench.sweep.schedule import Task, do_all


class AtOnce:
    """Does each task when it is asked what is finished, the last one first."""

    def __init__(self, slots=2):
        self.slots, self.given, self.order, self.most, self.cancelled = slots, [], [], 0, False

    def submit(self, task):
        self.given.append(task)
        self.most = max(self.most, len(self.given))

    def finished(self, timeout):
        if not self.given:
            return {}
        task = self.given.pop()
        self.order.append(task.key)
        return {task.key: task.work()}

    def cancel(self):
        self.cancelled = True


def task(key, *after, outcome=None):
    return Task(key, key, lambda: outcome or Done(1.0), after)


def test_needs_come_first_and_no_more_than_the_slots_are_handed_over():
    executor = AtOnce()
    tasks = [task("judge a", "train a"), task("judge b", "train a", "train b"), task("train a"), task("train b")]
    outcomes = do_all([*tasks, task("judge c")], executor)
    assert set(outcomes) == {"judge a", "judge b", "judge c", "train a", "train b"}
    assert all(isinstance(outcome, Done) for outcome in outcomes.values())
    for key, need in (("judge a", "train a"), ("judge b", "train a"), ("judge b", "train b")):
        assert executor.order.index(need) < executor.order.index(key)
    assert executor.order.index("judge c") > executor.order.index("train b")  # others wait for that, nobody for this
    assert executor.most == 2


def test_a_need_that_is_no_task_is_there_already():
    assert list(do_all([task("judge", "train")], AtOnce())) == ["judge"]


def test_a_failure_takes_what_needs_it_along_and_nothing_else():
    executor = AtOnce()
    tasks = [
        task("train a", outcome=Failed("no data", bug=False)),
        task("judge a", "train a"),
        task("study a", "judge a"),
        task("judge b"),
    ]
    outcomes = do_all(tasks, executor)
    assert isinstance(outcomes["judge b"], Done)
    assert outcomes["judge a"].reason == "its training failed: no data"
    assert "no data" in outcomes["study a"].reason
    assert set(executor.order) == {"train a", "judge b"}


def test_whoever_is_interrupted_ends_what_runs():
    executor = AtOnce()

    def interrupted(schedule):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do_all([task("a")], executor, interrupted)
    assert executor.cancelled


def test_an_error_of_a_plugin_is_an_outcome_and_a_ctrl_c_is_none():
    outcome = attempted(lambda: 1 / 0)
    assert (outcome.bug, outcome.reason) == (True, "ZeroDivisionError: division by zero")
    assert "attempted" in outcome.trace

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempted(stopped)
