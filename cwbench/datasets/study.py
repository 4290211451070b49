"""What the study's datasets of colour photographs have in common (section 3)."""

from cwbench.recipe import SGD, CropFlip, Inner, MultiStep, OneCycle, Recipe

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
