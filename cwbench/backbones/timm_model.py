"""Any classifier of timm, where it is installed."""

from typing import ClassVar, final

from cwbench.api import Backbone, Features, UsageError, did_you_mean
from cwbench.backbones.normalize import Normalize
from cwbench.backbones.torchvision_model import wrapped
from cwbench.backbones.wrapped import IMAGENET_MEAN, IMAGENET_STD


@final
class Timm(Backbone):
    """``timm:NAME``: the classifier of that name with fresh weights, without its last layer.

    Colour images are normalised with ImageNet's mean and std, grey ones with the mean of each.
    """

    name = "timm"
    reference = "Wightman 2019, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models"
    main_field: ClassVar[str | None] = "model"
    libraries: ClassVar[tuple[str, ...]] = ("timm",)

    model: str
    """One of ``timm.list_models()``, such as ``resnetv2_50``."""

    def build(self, *, channels: int, size: int) -> Features:
        try:
            import timm  # noqa: PLC0415 - optional
        except ImportError:
            raise UsageError("backbone timm needs the package timm", "pip install timm") from None
        if not timm.is_model(self.model):
            raise UsageError(f"timm has no model {self.model!r}", did_you_mean(self.model, timm.list_models()))
        try:
            network = timm.create_model(self.model, pretrained=False, num_classes=0, in_chans=channels)
        except Exception as error:  # noqa: BLE001 - a network refuses its arguments in any way it likes
            raise UsageError(f"timm's {self.model} cannot be built: {error}", "choose another backbone") from None
        mean, std = (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
        normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else Normalize(mean, std)
        last = str(timm.get_pretrained_cfg_value(self.model, "classifier") or "fc")
        return wrapped(normalize, network, f"timm's {self.model}", channels=channels, size=size, last=last)
