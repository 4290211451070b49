"""Choosing an epoch by robust accuracy on a part of the training set that was not trained on."""

import torch
import torch.nn.functional as F

from cwbench.api import BatchStreams, Classifier, Examples, Inner, Threat, ascend, evaluating, frozen

BATCH = 256


def robust_accuracy(
    model: Classifier, examples: Examples, *, threat: Threat, attack: Inner, seed: int, device: torch.device
) -> float:
    """Return the share of examples that are right when clean and under PGD (Madry et al. 2018) with a random start.

    The start is the same at each epoch, so that epochs are compared and not their luck.
    """
    standing = 0
    with evaluating(model), frozen(model):
        for number, rows in enumerate(torch.arange(len(examples)).split(BATCH)):
            x = examples.images(rows.to(examples.labels.device)).to(device)
            y = examples.labels[rows.to(examples.labels.device)].to(device)
            streams = BatchStreams.of(seed, "held out", number)
            adversarial = ascend(
                model,
                lambda logits, active, y=y: F.cross_entropy(logits, y[active], reduction="none"),  # type: ignore[misc]
                x,
                start=threat.random_start(x, streams=streams),
                threat=threat,
                steps=attack.steps,
                step_size=attack.step_size,
            )
            with torch.no_grad():
                right = (model(x).argmax(1) == y) & (model(adversarial).argmax(1) == y)
            standing += int(right.sum())
    return standing / len(examples)
