import pytest
from pydantic import ValidationError

from cwbench.recipe import Adam, Cosine, Inner, MultiStep, OneCycle, Recipe


def recipe(**content):
    given = {
        "epochs": 100,
        "lr": 0.1,
        "optimizer": Adam(),
        "schedule": MultiStep(),
        "inner": (Inner(steps=1, step_size=1),),
    }
    return Recipe(**(given | content))


def test_multi_step_divides_from_the_epoch_of_the_milestone_on():
    schedule = recipe(schedule=MultiStep(milestones=(55, 75, 90)))
    rates = {done: schedule.learning_rate(done) for done in (0, 53.99, 54, 73.9, 74.0, 88, 89, 99.9)}
    assert rates == pytest.approx(
        {0: 0.1, 53.99: 0.1, 54: 0.01, 73.9: 0.01, 74.0: 0.001, 88: 0.001, 89: 0.0001, 99.9: 0.0001}
    )


def test_one_cycle_rises_to_the_peak_and_falls_to_zero():
    schedule = recipe(schedule=OneCycle(peak_at=0.4))
    assert [schedule.learning_rate(done) for done in (0, 20, 40, 70, 100)] == pytest.approx([0, 0.05, 0.1, 0.05, 0])


def test_cosine_falls_from_the_peak_to_zero():
    schedule = recipe(schedule=Cosine())
    assert [schedule.learning_rate(done) for done in (0, 50, 100)] == pytest.approx([0.1, 0.05, 0])


def test_inner_stages_begin_where_they_say():
    stages = recipe(inner=(Inner(steps=1, step_size=1), Inner(steps=3, step_size=1, after=0.03)))
    assert [stages.inner_at(done).steps for done in (0, 2.9, 3, 99)] == [1, 1, 3, 3]


def test_eps_rises_linearly_and_stays():
    warm = recipe(eps_warmup=0.02)
    assert [warm.eps_share(done) for done in (0.5, 1, 2, 50)] == [0.25, 0.5, 1, 1]
    assert warm.eps_share(0) > 0
    assert recipe().eps_share(0) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0},
        {"judge_epoch": 101},
        {"schedule": MultiStep(milestones=(101,))},
        {"inner": ()},
        {"inner": (Inner(steps=1, step_size=1, after=0.5),)},
        {"inner": (Inner(steps=1, step_size=1), Inner(steps=1, step_size=1))},
        {"extra": 1},
    ],
)
def test_recipes_that_do_not_hold_together_are_refused(content):
    with pytest.raises(ValidationError):
        recipe(**content)
