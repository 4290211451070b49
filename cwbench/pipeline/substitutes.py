"""The networks that transfer attacks use in place of the target."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cwbench.api import Examples, TrainingSet
from cwbench.datasets import splits
from cwbench.defenses.standard import Standard
from cwbench.evaluation.outcomes import Substitute
from cwbench.internal.errors import CheckpointError
from cwbench.internal.validation import validated
from cwbench.pipeline.clean_accuracy import reproduced
from cwbench.pipeline.session import Session
from cwbench.plan import EvaluationPlan, PlannedAttack, dataset_threat
from cwbench.training.fit import fit
from cwbench.training.job import Job
from cwbench.training.rebuild import load_classifier, rebuilt


@dataclass(frozen=True)
class Substitutes:
    """Finds, or trains, what the attacks of a plan ask for."""

    plan: EvaluationPlan
    test: Examples
    session: Session

    def named(self) -> dict[str | None, Substitute]:
        """Return the checkpoints that attacks name.

        Raises:
            CheckpointError: there is no such checkpoint, it is of other classes or images, or it does not reproduce the
                clean accuracy that was published with it.
        """
        return {uri: self._opened(uri) for uri in wanted_substitutes(self.plan.attacks) if uri is not None}

    def trained(self) -> dict[str | None, Substitute]:
        """Return the standard-trained network under None, trained or from the store, if an attack wants one."""
        job = self.job()
        if job is None:
            return {}
        checkpoint = fit(job, self.session.store, team=self.session.team)
        return {None: Substitute(checkpoint.digest, load_classifier(job, checkpoint))}

    def job(self) -> Job | None:
        """Return the training of the network that :meth:`trained` gives, if an attack wants one.

        It is trained by the run's recipe as the dataset has it, on the dataset's own threat, so that runs share it, and
        with the seed after the run's: with the same it might be the target itself. Tensors have nothing to train on.
        """
        plan, dataset = self.plan, self.plan.dataset
        if None not in wanted_substitutes(plan.attacks) or "train" not in dataset.sizes:
            return None
        return Job(
            dataset=dataset,
            data=TrainingSet(splits.open_split(dataset, "train", plan.root)),
            held_out=None,
            backbone=validated(plan.registry.backbone(dataset.backbone), {}, "the substitute's backbone"),
            defense=Standard(),
            recipe_name=plan.substitute_recipe,
            recipe=dataset.recipes[plan.substitute_recipe],
            threat=dataset_threat(dataset, None, None),
            inner_scale=1.0,
            seed=plan.settings.seed + 1,
            device=plan.device,
            mixed=False,
            processes=self.session.team.size,
            curves=None,
            registry=plan.registry,
        )

    def _opened(self, uri: str) -> Substitute:
        plan, team, store = self.plan, self.session.team, self.session.store
        dataset, classes = plan.dataset, len(plan.dataset.classes)
        checkpoint = team.from_leader(lambda: store.opened(uri))
        found = rebuilt(checkpoint, plan.registry, plan.device)
        channels, size = found.shape
        shape = tuple(self.test.images(torch.tensor([0])).shape[1:])
        fits = (len(found.classes), (channels, size, size)) == (classes, shape)
        named = "train" in dataset.sizes  # tensors have no names for their classes that a checkpoint could share
        if not fits or (named and dataset.classes != found.classes):
            raise CheckpointError(
                f"substitute {uri} is {found}",
                f"it must have these {classes} classes and images {'×'.join(map(str, shape))}",
            )
        if named and checkpoint.published:
            team.from_leader(
                lambda: reproduced(checkpoint, found.model, dataset, self.test, plan.device, f"substitute {uri}")
            )
        return Substitute(checkpoint.key, found.model)


def wanted_substitutes(attacks: Sequence[PlannedAttack]) -> list[str | None]:
    """Return which substitutes attacks ask for; None for a standard-trained one."""
    wanting = [planned.attack for planned in attacks if planned.attack.wants_substitute]
    return list(dict.fromkeys(attack.named_substitute() for attack in wanting))
