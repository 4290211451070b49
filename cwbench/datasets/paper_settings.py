"""What the study's datasets of colour photographs have in common (section 3)."""

from cwbench.api import SGD, Cosine, CropFlip, Inner, MultiStep, OneCycle, Recipe

EPS = "0.031"
"""Not 8/255, which is 0.03137: the study and the codes of TRADES and MART round it."""
ATTACK = Inner(steps=20, step_size=0.007)
SUITE = ("fgsm", "pgd", "cw-pgd", "tpgd", "transfer", "square", "autoattack")


def recipes(*, lr: float, augment: CropFlip) -> dict[str, Recipe]:
    """Return the study's recipe, and a quick one of 15 epochs of single steps as in Wong et al. 2020."""
    return {
        "paper": Recipe(
            epochs=100,
            lr=lr,
            optimizer=SGD(weight_decay=2e-4),
            schedule=MultiStep(milestones=(75, 90)),
            inner=(Inner(steps=10, step_size=0.007),),
            judge_epoch=75,
            augment=augment,
        ),
        "quick": Recipe(
            epochs=15,
            lr=2 * lr,
            optimizer=SGD(weight_decay=5e-4),
            schedule=OneCycle(),
            inner=(Inner(steps=1, step_size=1.25 * 0.031), Inner(steps=2, step_size=0.02, after=0.5)),
            augment=augment,
        ),
    }


_INNER = (Inner(steps=10, step_size=0.007),)
RELEASED = {
    "trades": Recipe(
        epochs=76,
        lr=0.1,
        optimizer=SGD(weight_decay=2e-4),
        schedule=MultiStep(milestones=(75,)),
        inner=_INNER,
        augment=CropFlip(),
    ),
    "mart": Recipe(
        epochs=120,
        lr=0.01,
        optimizer=SGD(weight_decay=3.5e-3),
        schedule=MultiStep(milestones=(75, 90, 100)),
        inner=_INNER,
        augment=CropFlip(),
    ),
    "mart-wrn": Recipe(
        epochs=90,
        lr=0.1,
        optimizer=SGD(weight_decay=7e-4),
        schedule=MultiStep(milestones=(75, 90)),
        inner=_INNER,
        augment=CropFlip(),
    ),
    "rst": Recipe(
        epochs=200,
        batch_size=256,
        lr=0.1,
        optimizer=SGD(weight_decay=5e-4, nesterov=True),
        schedule=Cosine(),
        inner=_INNER,
        augment=CropFlip(),
    ),
}
"""The recipes behind the models that the authors of TRADES, MART and RST released, which section 3.3 judges.

TRADES is for ``wrn-34-10``, MART for ``resnet18``, ``mart-wrn`` with ``mart:beta=6`` for ``wrn-34-10``, RST for
``wrn-28-10``. Each stops at its last epoch.
"""
