"""CW against a transcription from its docstring, one example at a time, in float64 with PyTorch's own Adam."""

import math

import torch

from cwbench.api import Budget, ExampleStreams, Linf, frozen
from cwbench.attacks.cw import CW

ITERATIONS, SEARCHES = 60, 4


def nearest(model, x, y):
    """Return the nearest misclassified image that the searches find, or the image itself."""
    answer, distance, tau = x, math.inf, 1.0
    c, low, high = 0.01, 0.0, math.inf
    for _ in range(SEARCHES):
        w = torch.atanh((2 * x - 1) * (1 - 1e-6)).requires_grad_()
        adam = torch.optim.Adam([w], lr=5e-3)
        success, last = False, math.inf
        for iteration in range(1, ITERATIONS + 1):
            image = (torch.tanh(w) + 1) / 2
            z = model(image[None])[0]
            others = max(z[j] for j in range(len(z)) if j != y)
            over = ((image - x).abs() - tau).clamp_min(0).sum()
            loss = over + c * (z[y] - others).clamp_min(0)
            adam.zero_grad()
            loss.backward()
            away = (image - x).abs().max().item()
            if int(z.argmax()) != y:
                success = True
                if away < distance:
                    answer, distance = image.detach(), away
                if away <= tau:
                    tau, last = 0.9 * away, math.inf
            adam.step()
            loss = loss.item()
            if iteration % (ITERATIONS // 10) == 0:
                if loss > 0.9999 * last:
                    break
                last = loss
        if success:
            high = c
        else:
            low = c
        c = (low + high) / 2 if math.isfinite(high) else 10 * c
    return answer


def test_it_follows_the_algorithm(tiny, images):
    model, x = tiny.double(), images.double()
    with frozen(model):
        y = model(x).argmax(1)
        found = CW(iterations=ITERATIONS, searches=SEARCHES, learning_rate=5e-3).perturb(
            model,
            x,
            y,
            threat=Linf(eps=0.05),
            streams=ExampleStreams.of(0, torch.arange(len(x))),
            budget=Budget(6),
        )
        for row, label in enumerate(y.tolist()):
            expected = nearest(model, x[row], label)
            assert torch.allclose(found[row], expected, atol=1e-7), f"example {row}"
        broken = model(found).argmax(1) != y
    assert broken.sum() > 0
    assert (found[broken] - x[broken]).abs().flatten(1).amax(1).unique().numel() > 1
