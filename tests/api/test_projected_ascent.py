import torch
from hypothesis import given
from hypothesis import strategies as st

from cwbench.api import Exit, Linf, ascend


def linear(x):
    """Two logits whose difference grows with every pixel; in float64 nothing depends on the batch."""
    total = x.flatten(1).sum(1)
    return torch.stack([total, -total], 1)


def test_a_linear_objective_is_climbed_to_the_corner_of_the_ball():
    x = torch.full((3, 4), 0.5, dtype=torch.float64)
    found = ascend(
        linear, lambda logits, rows: logits[:, 0], x, start=x, threat=Linf(eps="0.1"), steps=5, step_size=0.03
    )
    assert torch.allclose(found, torch.full_like(x, 0.6))


def test_the_step_is_steps_times_step_size_inside_the_ball():
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    found = ascend(linear, lambda z, rows: z[:, 1], x, start=x, threat=Linf(eps="0.5"), steps=3, step_size=0.1)
    assert torch.allclose(found, torch.full_like(x, 0.2))


@given(slots=st.integers(1, 9), seed=st.integers(0, 100))
def test_slots_change_nothing_and_are_never_exceeded(slots, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(7, 5, dtype=torch.float64, generator=generator)
    weights = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    goals = torch.arange(7) % 3
    sizes = []

    def model(batch):
        sizes.append(len(batch))
        return torch.sin(3 * batch) @ weights

    def climb(limit):
        return ascend(
            model,
            lambda logits, rows: logits.gather(1, goals[rows, None]).squeeze(1),
            x,
            start=x,
            threat=Linf(eps="0.2"),
            steps=4,
            step_size=0.07,
            slots=limit,
            exit_rule=Exit(lambda logits, rows: logits.argmax(1) == goals[rows]),
        )

    whole = climb(None)
    sizes.clear()
    assert torch.equal(climb(slots), whole)
    assert max(sizes) <= slots


def test_an_example_that_leaves_is_returned_as_it_was_when_it_left():
    x = torch.full((2, 1), 0.5, dtype=torch.float64)
    seen = []

    def leaves(logits, rows):
        seen.append(rows.tolist())
        return (logits[:, 0] > 0.65) & (rows == 0)

    found = ascend(
        linear,
        lambda logits, rows: logits[:, 0],
        x,
        start=x,
        threat=Linf(eps="0.5"),
        steps=4,
        step_size=0.1,
        exit_rule=Exit(leaves),
    )
    assert torch.allclose(found, torch.tensor([[0.7], [0.9]], dtype=torch.float64))
    assert seen == [[0, 1], [0, 1], [0, 1], [1]]


def test_the_batch_stays_full_while_examples_wait():
    x = torch.full((10, 1), 0.5, dtype=torch.float64)
    sizes, finished = [], []

    def model(batch):
        sizes.append(len(batch))
        return linear(batch)

    ascend(
        model,
        lambda logits, rows: logits[:, 0],
        x,
        start=x,
        threat=Linf(eps="0.5"),
        steps=6,
        step_size=0.01,
        slots=4,
        exit_rule=Exit(lambda logits, rows: rows % 2 == 0),  # every other example leaves at once
        tick=finished.append,
    )
    assert sum(finished) == 10
    assert sum(sizes) == 5 * 1 + 5 * 6  # not one pass more than the examples' own
    assert sizes[0] == 4
    assert all(size == 4 for size in sizes[: len(sizes) - 7])
