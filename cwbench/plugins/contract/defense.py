"""The contract of defenses."""

import json
from dataclasses import replace

import torch
from torch import Tensor

from cwbench.api import (
    Batch,
    BatchStreams,
    Classifier,
    Defense,
    Inner,
    Loss,
    Progress,
    Task,
    TensorExamples,
    make_threat,
    modules,
)
from cwbench.plugins.contract.contract import CLASSES, broken, problem, untouched

INNER = Inner(steps=2, step_size=4 / 255)


def check_defense(defense: Defense) -> None:
    """Check classifier, loss and gradients, modes, what must be left alone, and the state."""
    given = problem()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(21)
        model = Classifier(given.features, defense.classifier(given.features.width, CLASSES))
    logits = model.eval()(given.x)
    if tuple(logits.shape) != (len(given.x), CLASSES):
        broken(defense, f"classifier({given.features.width}, {CLASSES}) must return logits (N, {CLASSES})")
    state = defense.prepare(Task(tuple("abcde"), len(given.x), epochs=2))
    _check_json(defense, state)
    model.train()
    held_out = TensorExamples(given.x, given.y)
    begin = Progress(model, 1, 2, held_out, make_threat("Linf", "8/255"), INNER, streams=BatchStreams.of(0, "begin"))
    state = defense.epoch_begin(state, begin)
    _check_json(defense, state)
    first = _loss(defense, model, given.x, given.y, state)
    if not isinstance(first, Loss) or first.total.dim() or not first.total.isfinite():
        broken(defense, "loss must return a Loss whose total is one finite number")
    first.total.backward()
    if first.before_step:
        first.before_step()
    if any(parameter.grad is None for parameter in model.parameters()):
        broken(defense, "a weight gets no gradient from the loss")
    model.zero_grad(set_to_none=True)
    # Train mode moves the statistics of batch norm, which is what it is for: only the rest must stay.
    for module in modules(model):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
            module.num_batches_tracked = None
    model.train()
    with untouched(defense, model=model, x=given.x, y=given.y):
        second = _taken_back(_loss(defense, model, given.x, given.y, state))
    again = _taken_back(_loss(defense, model, given.x, given.y, state))
    if not torch.equal(second.total, again.total):
        broken(defense, "the same call gave another loss; draw every random number from streams")
    tally = {name: counted.detach().float() for name, counted in (first.tally or {}).items()}
    state = defense.epoch_begin(state, replace(begin, epoch=2, tally=tally))
    _check_json(defense, state)
    if not isinstance(defense.averages(state, replace(begin, epoch=2, tally=tally)), bool):
        broken(defense, "averages must return True or False")


def _taken_back(loss: Loss) -> Loss:
    """Return a loss after what would come before the optimiser's step: weights are back where they were."""
    if loss.before_step:
        loss.before_step()
    return loss


def _loss(defense: Defense, model: Classifier, x: Tensor, y: Tensor, state: object) -> Loss:
    return defense.loss(
        model,
        Batch(x, y),
        threat=make_threat("Linf", "8/255"),
        inner=INNER,
        streams=BatchStreams.of(0, "check"),
        state=state,  # type: ignore[arg-type]
    )


def _check_json(defense: Defense, state: object) -> None:
    try:
        same = json.loads(json.dumps(state, allow_nan=False)) == state
    except (TypeError, ValueError):
        same = False
    if not same:
        broken(defense, "its state must survive the way through JSON, so that a killed training can go on")
