"""The training loop. Every random number follows from (seed, epoch, batch), so a resumed training repeats itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cwbench.api import (
    Batch,
    BatchStreams,
    Classifier,
    Examples,
    Model,
    Progress,
    State,
    Task,
    Teacher,
    TrainingSet,
    key,
)
from cwbench.checkpoints.store import Checkpoint, Partial, Store
from cwbench.internal import progress
from cwbench.internal.distributed import ALONE, Team
from cwbench.internal.errors import CwbenchError, UsageError
from cwbench.training.average import Average, running_statistics
from cwbench.training.batches import Batches
from cwbench.training.job import Job
from cwbench.training.optimizer import make_optimizer, restore, state_of
from cwbench.training.rebuild import load_classifier, moved_to, rebuilt
from cwbench.training.selection import robust_accuracy
from cwbench.training.synchronise import average

Measure = Callable[[Classifier], Mapping[str, Any]]
"""Measures a classifier between two epochs; the result is JSON-able and goes into the record."""
LOOK = 50
"""After how many batches the losses are looked at: a look at every one would make an accelerator wait."""


Watch = Callable[["Training"], None]
"""Is shown the training after every epoch, in the team's leader."""


def fit(
    job: Job, store: Store, measure: Measure | None = None, team: Team = ALONE, watch: Watch | None = None
) -> Checkpoint:
    """Return the trained checkpoint from the store, or train it, going on where a killed training stopped.

    Raises:
        CwbenchError: the loss is not finite (the last good epoch is kept), or the store is damaged or not writable.
    """
    found = team.from_leader(lambda: store.find(job.digest))
    if found:
        return found
    partial = team.from_leader(lambda: store.find_partial(job.digest))
    training = Training.begun(job, store, team, partial)
    with progress.bar(f"training {job.defense.name}", training.last_epoch) as advance:
        advance(training.epoch)
        while training.epoch < training.last_epoch:
            training.run_epoch()
            if measure and job.every and training.epoch % job.every == 0:
                training.curves.append({"epoch": training.epoch, **measure(training.candidate())})
            team.from_leader(training.save)
            if watch and team.leads:
                watch(training)
            advance(1)
    # Everybody goes on with the leader's weights: theirs may differ by rounding.
    checkpoint = team.from_leader(training.checkpoint)
    team.from_leader(lambda: store.save(checkpoint))
    return checkpoint


@dataclass
class _Judged:
    """The weights that the checkpoint will hold, and what goes with them."""

    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    state: State = field(default_factory=dict)


@dataclass
class Training:
    """A training between two epochs."""

    job: Job
    store: Store
    team: Team
    batches: Batches
    model: Classifier
    optimizer: torch.optim.Optimizer
    average: Average
    state: State
    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    curves: list[Mapping[str, Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    """Robust accuracy on the held-out part after each epoch, where there is one."""
    judged: _Judged = field(default_factory=_Judged)
    tally: dict[str, Tensor] = field(default_factory=dict)
    """What the defense counted in the last epoch."""

    @classmethod
    def begun(cls, job: Job, store: Store, team: Team, partial: Partial | None) -> "Training":
        """Return the training at its beginning, or where it was left."""
        model = moved_to(job.fresh_classifier(), job.device)
        labels = partial.tensors.get("pseudo_labels") if partial else None
        if labels is None and job.data.unlabelled is not None:
            own = _pseudo_labels(job, job.data.unlabelled, lambda uri: _teacher(job, store, team, uri))
            labels = team.from_leader(lambda: own)
        pool = job.data.unlabelled
        data = TrainingSet(job.data.labelled.to(job.device), pool if pool is None else pool.to(job.device))
        training = cls(
            job,
            store,
            team,
            Batches(data, labels, job.recipe, job.device, team),
            model,
            make_optimizer(job.recipe, model),
            Average(job.recipe.average or job.defense.averaging(), job.recipe.epochs),
            {} if partial else job.defense.prepare(_task(job)),
        )
        if partial:
            training._restore(partial)
        return training

    def _restore(self, partial: Partial) -> None:
        tensors, content = partial.tensors, partial.content
        self.model.load_state_dict(_below("model.", tensors))
        restore(self.optimizer, _below("optimizer.", tensors))
        on_device = {name: tensor.to(self.job.device) for name, tensor in _below("average.", tensors).items()}
        self.average.tensors, self.average.taken = on_device, content["averaged"]
        self.tally = dict(_below("tally.", tensors))
        self.judged = _Judged(content["judged_epoch"], _below("judged.", tensors), content["judged_state"])
        self.state, self.epoch = content["state"], content["epoch"]
        self.losses, self.curves, self.scores = content["losses"], content["curves"], content["scores"]

    def save(self) -> None:
        """Keep where the training stands."""
        labels = self.batches.pseudo_labels
        tensors = {
            **_above("model.", self.model.state_dict()),
            **_above("optimizer.", state_of(self.optimizer)),
            **_above("average.", self.average.tensors),
            **_above("judged.", self.judged.weights),
            **_above("tally.", self.tally),
            **({} if labels is None else {"pseudo_labels": labels}),
        }
        content = {
            "epoch": self.epoch,
            "state": self.state,
            "losses": self.losses,
            "curves": self.curves,
            "scores": self.scores,
            "averaged": self.average.taken,
            "judged_epoch": self.judged.epoch,
            "judged_state": self.judged.state,
        }
        self.store.save_partial(self.job.digest, Partial(self.job.identity, tensors, content))

    def checkpoint(self) -> Checkpoint:
        record = {
            "recipe_name": self.job.recipe_name,
            "data": self.job.data_used,
            "losses": self.losses,
            "curves": self.curves,
            "scores": self.scores,
            "state": self.judged.state,
            "judged_epoch": self.judged.epoch,
        }
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.judged.weights.items()}
        return Checkpoint(self.job.identity, weights, record)

    @property
    def last_epoch(self) -> int:
        """The epoch to stop after: what follows the judged epoch matters to the curves alone."""
        recipe = self.job.recipe
        return recipe.epochs if self.job.every or not recipe.judge_epoch else recipe.judge_epoch

    def candidate(self) -> Classifier:
        """Return the classifier that would be judged now: the averaged one where weights are averaged."""
        if not self.average.taken:
            return self.model
        averaged = moved_to(self.job.fresh_classifier(), self.job.device)
        averaged.load_state_dict(self.average.weights(self.model))
        return averaged

    def run_epoch(self) -> None:
        """Train one epoch.

        Raises:
            CwbenchError: the loss of a batch is not finite.
        """
        job = self.job
        self.state = job.defense.epoch_begin(self.state, self._progress(self.epoch + 1))
        streams = BatchStreams.of(job.seed, "epoch", self.epoch)
        count = self.batches.count(self.epoch)
        losses = torch.zeros(count, device=job.device)
        self.tally = {}
        self.model.train()
        with ExitStack() as stack:
            # A network with dropout draws from the global generator: it is seeded here and put back afterwards.
            devices = [job.device] if job.device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            _seed_modules(key(job.seed, "epoch", self.epoch, "modules", self.team.rank) >> 1, job.device)
            stack.enter_context(_mixed(self.model, job))
            for number, (batch, weight) in enumerate(self.batches.of_epoch(self.epoch, streams)):
                own = streams.child("batch", number)
                own = own.child("process", self.team.rank) if self.team.size > 1 else own
                losses[number] = self._step(batch, self.epoch + number / count, own, weight)
                if (number + 1) % LOOK == 0:
                    self._refuse_bad(losses)
        self._refuse_bad(losses)
        self._refuse_bad_weights()
        statistics = running_statistics(self.model)
        average(statistics.values(), self.team)
        average((self.average.tensors[name] for name in statistics if name in self.average.tensors), self.team)
        average(self.tally.values(), self.team)
        self.tally = {name: tensor.cpu() * self.team.size for name, tensor in self.tally.items()}
        self.epoch += 1
        self.losses.append(float(losses.mean()))
        if self.average.wants(self.epoch) and job.defense.averages(self.state, self._progress(self.epoch)):
            self.average.after_epoch(self.model)
        self._judge()

    def _progress(self, epoch: int) -> Progress:
        job = self.job
        return Progress(
            self.model,
            epoch,
            job.recipe.epochs,
            held_out=job.data.held_out,
            threat=job.threat,
            attack=job.selection_attack,
            tally=self.tally,
            streams=BatchStreams.of(job.seed, "between epochs"),
        )

    def _step(self, batch: Batch, done: float, streams: BatchStreams, weight: float) -> Tensor:
        """Take one step of the optimiser after ``done`` epochs and return the loss, detached."""
        job, recipe = self.job, self.job.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate(done)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=job.mixed):
            found = job.defense.loss(
                self.model,
                Batch(batch.x.contiguous(memory_format=torch.channels_last), batch.y),
                threat=job.threat.scaled(recipe.eps_share(done)),
                inner=job.inner_at(done),
                streams=streams,
                state=self.state,
            )
        self.optimizer.zero_grad(set_to_none=True)
        found.total.backward()
        if found.before_step:
            found.before_step()
        average((p.grad for p in self.model.parameters() if p.grad is not None), self.team, weight)
        if recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        self.optimizer.step()
        self.average.after_step(self.model)
        for name, counted in (found.tally or {}).items():
            own = counted.detach().float()
            self.tally[name] = self.tally[name] + own if name in self.tally else own
        mean = found.total.detach().float().clone()
        average([mean], self.team, weight)
        return mean

    def _judge(self) -> None:
        """Keep the weights of this epoch if they are the ones to judge, or the best so far."""
        job, recipe, held_out = self.job, self.job.recipe, self.job.held_out
        if held_out is None:
            chosen = self.epoch == (recipe.judge_epoch or recipe.epochs)
        else:
            candidate = self.candidate()
            score = self.team.from_leader(
                lambda: robust_accuracy(
                    candidate,
                    held_out,
                    threat=job.threat,
                    attack=job.selection_attack,
                    seed=job.seed,
                    device=job.device,
                )
            )
            chosen = score > max(self.scores, default=-1.0)
            self.scores.append(score)
        if chosen:
            self.judged = _Judged(self.epoch, dict(self.average.weights(self.model)), self.state)

    def _refuse_bad(self, losses: Tensor) -> None:
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise self._diverged(f"loss of {self.job.defense.name} became {float(losses[bad[0]]):g}", int(bad[0]) + 1)

    def _refuse_bad_weights(self) -> None:
        # A finite loss can still have a gradient that is not; after the last batch no loss would show it.
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._diverged(f"weights of {self.job.defense.name} became infinite or NaN", None)

    def _diverged(self, what: str, batch: int | None) -> CwbenchError:
        place = f"epoch {self.epoch + 1}" + (f", batch {batch}" if batch else "")
        kept = f"epoch {self.epoch} is kept as {self.job.digest[:12]}; " if self.epoch else ""
        return CwbenchError(
            f"the {what} in {place}",
            f"{kept}try a lower learning rate, --set recipe.lr=..., or --set recipe.clip_norm=1",
        )


@contextmanager
def _mixed(model: Classifier, job: Job) -> Iterator[None]:
    """Give losses float32 logits although layers compute in bfloat16: a softmax needs more than eight bits."""
    if not job.mixed:
        yield
        return
    hook = model.register_forward_hook(lambda module, args, logits: logits.float())
    try:
        yield
    finally:
        hook.remove()


def _task(job: Job) -> Task:
    unlabelled = job.data.unlabelled
    return Task(job.dataset.classes, len(job.data.labelled), job.recipe.epochs, len(unlabelled) if unlabelled else 0)


def _teacher(job: Job, store: Store, team: Team, uri: str | None) -> Model:
    """Return the network that labels unlabelled images: a stored one, or a standard one of the same run."""
    if uri is not None:
        found = rebuilt(team.from_leader(lambda: store.opened(uri)), job.registry, job.device)
        if (found.classes, found.shape) != (job.dataset.classes, job.dataset.shape):
            raise UsageError(f"teacher {uri} is {found}", f"it must know the classes and images of {job.dataset.name}")
        return found.model
    standard = job.standard()
    return load_classifier(standard, fit(standard, store, team=team))


def _pseudo_labels(job: Job, unlabelled: Examples, teacher: Teacher) -> Tensor:
    """Ask the defense for labels, and refuse any that are none."""
    labels = job.defense.pseudo_labels(unlabelled, teacher=teacher, device=job.device)
    k, n = len(job.dataset.classes), len(unlabelled)
    if labels.shape != (n,) or labels.dtype != torch.int64 or not ((labels >= 0) & (labels < k)).all():
        raise CwbenchError(
            f"{job.defense.name} returned pseudo-labels {labels.dtype} of shape {tuple(labels.shape)}",
            f"they must be {n} classes from 0 to {k - 1}, int64",
        )
    return labels


def _seed_modules(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _above(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
