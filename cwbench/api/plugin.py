"""What every plugin is: a frozen pydantic model with a name and a citation."""

from abc import ABC
from typing import ClassVar, final

from cwbench.internal.validation import Closed


class Plugin(Closed, ABC):
    """A named thing with hyperparameters."""

    name: ClassVar[str]
    """What users type: lower-case letters, digits, hyphens."""
    reference: ClassVar[str]
    """The citation of what this implements."""
    main_field: ClassVar[str | None] = None
    """The field that may be given without its name: ``torchvision:resnet34`` is ``torchvision:model=resnet34``."""

    @final
    @classmethod
    def defined_in(cls) -> list[str]:
        """Return the modules of the class and of its bases that are plugins: where the digest of its code begins."""
        return list(dict.fromkeys(base.__module__ for base in cls.__mro__ if issubclass(base, Plugin)))
