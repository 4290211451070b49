"""The training loop. Every random number follows from (seed, epoch, batch), so a resumed training repeats itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cwbench import progress
from cwbench.api import Batch, Examples, Progress, State, Task, TensorExamples
from cwbench.checkpoints import Checkpoint, Partial, Store
from cwbench.errors import CwbenchError
from cwbench.model import Classifier
from cwbench.randomness import BatchStreams, key
from cwbench.training.job import Job
from cwbench.training.optimizer import make_optimizer, restore, state_of

Probe = Callable[[Classifier], Mapping[str, Any]]
"""Measures a classifier between two epochs; the result is JSON-able and goes into the record."""


def fit(job: Job, store: Store, probe: Probe | None = None) -> Checkpoint:
    """Return the trained checkpoint from the store, or train it, going on where a killed training stopped.

    Raises:
        CwbenchError: the loss is not finite (the last good epoch is kept), or the store is damaged or not writable.
    """
    found = store.find(job.digest)
    if found:
        return found
    training = _Training.resumed(job, store) or _Training.fresh(job)
    with progress.bar(f"training {job.defense.name}", training.last_epoch) as advance:
        advance(training.epoch)
        while training.epoch < training.last_epoch:
            training.run_epoch()
            if probe and job.every and training.epoch % job.every == 0:
                training.curves.append({"epoch": training.epoch, **probe(training.model)})
            store.save_partial(job.digest, training.partial())
            advance(1)
    checkpoint = training.checkpoint()
    store.save(checkpoint)
    return checkpoint


def load_classifier(job: Job, checkpoint: Checkpoint) -> Classifier:
    """Return the classifier of a checkpoint on the job's device, in eval mode.

    Raises:
        CwbenchError: the weights do not fit the network.
    """
    model = job.fresh_classifier()
    try:
        model.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CwbenchError(f"checkpoint {checkpoint.digest[:12]} does not fit {job.backbone.name}: {first}") from None
    return _placed(model, job.device).eval()


@dataclass
class _Training:
    """A training between two epochs."""

    job: Job
    examples: Examples
    """The training split, on the device where it fits."""
    model: Classifier
    optimizer: torch.optim.Optimizer
    state: State
    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    curves: list[Mapping[str, Any]] = field(default_factory=list)
    judged: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the epoch that is judged, once it is over."""

    @classmethod
    def fresh(cls, job: Job) -> "_Training":
        model = _placed(job.fresh_classifier(), job.device)
        task = Task(job.dataset.classes, len(job.examples), job.recipe.epochs)
        return cls(
            job,
            _resident(job.examples, job.device),
            model,
            make_optimizer(job.recipe, model),
            job.defense.prepare(task),
        )

    @classmethod
    def resumed(cls, job: Job, store: Store) -> "_Training | None":
        partial = store.find_partial(job.digest)
        if partial is None:
            return None
        training = cls.fresh(job)
        training.model.load_state_dict(_below("model.", partial.tensors))
        restore(training.optimizer, _below("optimizer.", partial.tensors))
        training.judged = _below("judged.", partial.tensors)
        training.state = partial.content["state"]
        training.epoch = partial.content["epoch"]
        training.losses = partial.content["losses"]
        training.curves = partial.content["curves"]
        return training

    def partial(self) -> Partial:
        tensors = {
            **_above("model.", self.model.state_dict()),
            **_above("optimizer.", state_of(self.optimizer)),
            **_above("judged.", self.judged),
        }
        content = {"epoch": self.epoch, "state": self.state, "losses": self.losses, "curves": self.curves}
        return Partial(tensors, content)

    def checkpoint(self) -> Checkpoint:
        record = {
            "losses": self.losses,
            "curves": self.curves,
            "state": self.state,
            "judged_epoch": self.job.recipe.judge_epoch or self.job.recipe.epochs,
        }
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.judged.items()}
        return Checkpoint(self.job.identity, weights, record)

    @property
    def last_epoch(self) -> int:
        """The epoch to stop after: what follows the judged epoch matters to the curves alone."""
        recipe = self.job.recipe
        return recipe.epochs if self.job.every or not recipe.judge_epoch else recipe.judge_epoch

    def run_epoch(self) -> None:
        """Train one epoch.

        Raises:
            CwbenchError: the loss of a batch is not finite.
        """
        job, recipe = self.job, self.job.recipe
        streams = BatchStreams.of(job.seed, "epoch", self.epoch)
        batches = streams.child("order").permutation(len(self.examples)).split(recipe.batch_size)
        losses = torch.zeros(len(batches), device=job.device)
        self.model.train()
        # A network with dropout draws from the global generator: it is seeded here and put back afterwards.
        with torch.random.fork_rng(devices=[job.device] if job.device.type == "cuda" else []):
            _seed_modules(key(job.seed, "epoch", self.epoch, "modules") >> 1, job.device)
            for number, rows in enumerate(batches):
                done = self.epoch + number / len(batches)
                losses[number] = self._step(self._batch(rows), done, streams.child("batch", number))
        self._refuse_bad(losses)
        self.epoch += 1
        self.losses.append(float(losses.mean()))
        self.state = job.defense.epoch_end(self.state, Progress(self.model, self.epoch, recipe.epochs))
        if self.epoch == (recipe.judge_epoch or recipe.epochs):
            self.judged = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _batch(self, rows: Tensor) -> Batch:
        rows = rows.to(self.examples.labels.device)
        return Batch(self.examples.images(rows).to(self.job.device), self.examples.labels[rows].to(self.job.device))

    def _step(self, batch: Batch, done: float, streams: BatchStreams) -> Tensor:
        """Take one step of the optimiser after ``done`` epochs and return the loss, detached."""
        job = self.job
        for group in self.optimizer.param_groups:
            group["lr"] = job.recipe.learning_rate(done)
        threat = job.threat.scaled(job.recipe.eps_share(done))
        loss = job.defense.loss(
            self.model, batch, threat=threat, inner=job.inner_at(done), streams=streams, state=self.state
        ).total
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _refuse_bad(self, losses: Tensor) -> None:
        # Looked at once an epoch: a look at every batch would make an accelerator wait.
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise CwbenchError(
                f"the loss of {self.job.defense.name} became {float(losses[bad[0]]):g} "
                f"in epoch {self.epoch + 1}, batch {int(bad[0]) + 1}",
                "try a lower learning rate: --set recipe.lr=...",
            )


def _seed_modules(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _placed(model: Classifier, device: torch.device) -> Classifier:
    # Convolutions run faster with channels last: 1.3 times on a CPU (benchmarks/throughput.py).
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _resident(examples: Examples, device: torch.device) -> Examples:
    """Return small sets on the device, where a batch is an index away."""
    if isinstance(examples, TensorExamples):
        return TensorExamples(examples.x.to(device), examples.labels.to(device))
    return examples


def _above(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
