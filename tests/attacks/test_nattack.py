"""N Attack against a transcription of algorithm 1 of Li et al. 2019, one example at a time."""

import torch

from cwbench.api import Budget, ExampleStreams, Linf, frozen
from cwbench.attacks.nattack import NAttack

EPS, POPULATION, ITERATIONS, SIGMA, RATE = 0.05, 20, 15, 0.1, 0.02


def evolve(model, x, y, mean, noise_at):
    """Return the worst of the first population with a misclassified member, or the decoded mean."""

    def image(w):
        z = 0.5 * (torch.tanh(w) + 1)
        return torch.minimum(torch.maximum(z, x - EPS), x + EPS).clamp(0, 1)

    centre = torch.atanh((2 * x - 1) * (1 - 1e-6))
    for iteration in range(ITERATIONS):
        noise = noise_at(iteration)
        people = [image(centre + mean + SIGMA * noise[i]) for i in range(POPULATION)]
        rewards = []
        for z in people:
            logits = model(z[None])[0].tolist()
            rewards.append(max(v for j, v in enumerate(logits) if j != y) - logits[y])
        rewards = torch.tensor(rewards, dtype=torch.float64)
        if rewards.max() > 0:
            return people[int(rewards.argmax())]
        standard = (rewards - rewards.mean()) / (((rewards - rewards.mean()) ** 2).mean().sqrt() + 1e-7)
        step = sum(a * e for a, e in zip(standard, noise, strict=True))
        mean = mean + RATE / (POPULATION * SIGMA) * step
    return image(centre + mean)


def test_it_follows_the_algorithm(tiny, images):
    model, x = tiny.double(), images.double()
    streams, threat = ExampleStreams.of(2, torch.arange(len(x))), Linf(eps=EPS)
    attack = NAttack(population=POPULATION, iterations=ITERATIONS)
    with torch.no_grad(), frozen(model):
        y = model(x).argmax(1)
        found = attack.perturb(model, x, y, threat=threat, streams=streams, budget=Budget(16))
        starts = 0.001 * streams.child("start").normal(x)
        shape = (POPULATION, *x.shape[1:])
        for row, label in enumerate(y.tolist()):
            own = streams[torch.tensor([row])].child("population")

            def noise_at(iteration, own=own):
                return own.at(torch.tensor([iteration])).normal(torch.empty(1, *shape).double())[0]

            expected = evolve(model, x[row], label, starts[row], noise_at)
            assert torch.allclose(found[row], expected, atol=1e-9), f"example {row}"
        broken = model(found).argmax(1) != y
    assert 0 < broken.sum() < len(x)


def test_it_asks_for_no_gradient_and_no_more_than_its_queries(images):
    asked = 0

    def model(x):
        nonlocal asked
        assert not torch.is_grad_enabled()
        asked += len(x)
        return torch.stack([x.flatten(1).sum(1), torch.zeros(len(x))], 1)

    attack = NAttack(population=10, iterations=7)
    streams = ExampleStreams.of(0, torch.arange(3))
    y = torch.zeros(3, dtype=torch.int64)
    attack.perturb(model, images[:3], y, threat=Linf(eps=EPS), streams=streams, budget=Budget(4))
    assert asked == 3 * 10 * 7
