"""One entry to the checks of all kinds of plugin."""

from pathlib import Path

from cwbench.api import Attack, Backbone, Dataset, Defense, Plugin
from cwbench.plugins.contract.attack import check_attack
from cwbench.plugins.contract.backbone import check_backbone
from cwbench.plugins.contract.contract import broken
from cwbench.plugins.contract.dataset import check_dataset
from cwbench.plugins.contract.defense import check_defense
from cwbench.plugins.discovery import KINDS, flaws


def check(plugin: Plugin, *, root: Path | None = None, load: bool = True) -> None:
    """Check that a plugin keeps the rules of ``cwbench.api``.

    Args:
        plugin: an attack, a defense, a dataset or a backbone.
        root: for a dataset, the folder with the data.
        load: for a dataset, whether to load the test split; otherwise only what the class says is checked.

    Raises:
        ContractError: names the plugin and the rule that it breaks.
    """
    kind = next(kind for kind, base in KINDS.items() if isinstance(plugin, base))
    for flaw in flaws(kind, type(plugin)):
        broken(plugin, flaw)
    if type(plugin).model_validate(plugin.model_dump(mode="json")) != plugin:
        broken(plugin, "its fields do not survive the way through JSON")
    if isinstance(plugin, Attack):
        check_attack(plugin)
    elif isinstance(plugin, Defense):
        check_defense(plugin)
    elif isinstance(plugin, Dataset):
        check_dataset(plugin, root=root, load=load)
    elif isinstance(plugin, Backbone):
        check_backbone(plugin)
