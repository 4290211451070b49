import pytest
from pydantic import ValidationError

from cwbench.api import EMA, Adam, Cosine, Inner, Mean, MultiStep, OneCycle, Recipe, Resolution, ThreeStage


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


def test_three_stages_are_linear_between_their_knots():
    schedule = recipe(schedule=ThreeStage(knots=((0, 0), (10, 1), (60, 0.1), (100, 0.01))))
    found = [schedule.learning_rate(done) for done in (0, 5, 10, 35, 60, 80, 100)]
    assert found == pytest.approx([0, 0.05, 0.1, 0.055, 0.01, 0.0055, 0.001])


def test_resolutions_begin_where_they_say():
    stages = recipe(
        batch_size=4, resolutions=(Resolution(size=8, batch_size=4), Resolution(size=16, batch_size=2, after=0.25))
    )
    assert [stages.resolution_at(done).size for done in (0, 24.9, 25, 99)] == [8, 8, 16, 16]
    assert recipe().resolution_at(50) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"held_out": 0.1, "judge_epoch": 5}, "judge_epoch and held_out both choose the epoch"),
        ({"schedule": ThreeStage(), "epochs": 10}, r"knots at \[0.*15.*\] must ascend .* 10 epochs"),
        ({"schedule": ThreeStage(knots=((1, 1), (5, 0)))}, "must ascend from 0"),
        ({"resolutions": (Resolution(size=8, batch_size=128, after=0.5),)}, "resolutions must begin after 0"),
        ({"average": EMA(), "clip_norm": 0}, "clip_norm"),
        ({"held_out": 1}, "held_out"),
        ({"average": Mean(after=0.75), "judge_epoch": 75}, "begins after epoch 75 and epoch 75 is judged"),
        ({"resolutions": (Resolution(size=8, batch_size=4),)}, r"batch_size 128 is not .*resolutions\.0\.batch_size"),
    ],
)
def test_options_that_contradict_each_other_are_refused(content, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**content)
