"""Names to classes, with origins and did-you-mean."""

from dataclasses import dataclass, replace
from functools import cache
from typing import cast

from cwbench.api import Attack, Backbone, Dataset, Defense, Plugin
from cwbench.internal.errors import UsageError, did_you_mean
from cwbench.plugins.discovery import KINDS, Discovery, Failure, Offer, Origin, discover_installed

SESSION = Origin("session", "this Python session", "0")


@dataclass(frozen=True)
class Registry:
    """Every usable plugin by kind and name."""

    discovery: Discovery

    def offers(self, kind: str) -> list[Offer]:
        """Return what there is of a kind, by name."""
        return sorted((offer for offer in self.discovery.offers if offer.kind == kind), key=lambda o: o.cls.name)

    def find(self, kind: str, name: str) -> Offer:
        """Return the offer of that name.

        Raises:
            UsageError: there is none; the message has the closest names and every plugin that failed to load.
        """
        known = {offer.cls.name: offer for offer in self.offers(kind)}
        if name in known:
            return known[name]
        broken = "".join(f"; {failure}" for failure in self.discovery.failures)
        raise UsageError(f"no {kind} is named {name!r}", did_you_mean(name, known) + broken)

    def attack(self, name: str) -> type[Attack]:
        return cast("type[Attack]", self.find("attack", name).cls)

    def defense(self, name: str) -> type[Defense]:
        return cast("type[Defense]", self.find("defense", name).cls)

    def dataset(self, name: str) -> type[Dataset]:
        return cast("type[Dataset]", self.find("dataset", name).cls)

    def backbone(self, name: str) -> type[Backbone]:
        return cast("type[Backbone]", self.find("backbone", name).cls)

    def origin(self, plugin: Plugin) -> Origin:
        """Return where the class of a plugin comes from."""
        matches = [offer.origin for offer in self.discovery.offers if offer.cls is type(plugin)]
        return matches[0] if matches else SESSION

    def including(self, *plugins: Plugin) -> "Registry":
        """Return this registry with the classes of objects that were made in this Python session."""
        known = {offer.cls for offer in self.discovery.offers}
        added = [Offer(_kind(plugin), type(plugin), SESSION) for plugin in plugins if type(plugin) not in known]
        taken = {(offer.kind, offer.cls.name): offer for offer in self.discovery.offers}
        for offer in dict.fromkeys(added):
            rival = taken.setdefault((offer.kind, offer.cls.name), offer)
            if rival is not offer:
                raise UsageError(
                    f"{offer.kind} {offer.cls.__name__} repeats the name {offer.cls.name!r}",
                    f"it is taken by {rival.origin.distribution}; choose another",
                )
        return Registry(replace(self.discovery, offers=[*self.discovery.offers, *dict.fromkeys(added)]))

    @property
    def failures(self) -> list[Failure]:
        return self.discovery.failures


@cache
def installed() -> Registry:
    """Return the registry of what is installed; plugins are imported once per process."""
    return Registry(discover_installed())


def _kind(plugin: Plugin) -> str:
    return next(kind for kind, base in KINDS.items() if isinstance(plugin, base))
