"""HE-LIS: hypersphere training whose temperature falls linearly."""

from typing import Annotated, final

from pydantic import Field

from cwbench.api import Number, Progress
from cwbench.defenses.hypersphere import HypersphereDefense


@final
class HELIS(HypersphereDefense):
    """The study, appendix G, linear interpolation schedule: 1/T_n = 1/T_0 + (n/N)(1/T_N − 1/T_0) at epoch n of N.

    Epochs count from 1, so 1/T_0 is that before training and 1/T_N that of the last epoch.
    """

    name = "he-lis"
    reference = "The study, appendix G: Linear Interpolation Schedule for hypersphere embedding (Pang et al. 2020)"

    first: Annotated[Number, Field(gt=0)] = 1.0
    """1/T_0."""
    last: Annotated[Number, Field(gt=0)] = 75.0
    """1/T_N."""

    def initial_inverse_temperature(self) -> float:
        return self.first

    def inverse_temperature_at(self, progress: Progress) -> float:
        return self.first + progress.epoch / progress.epochs * (self.last - self.first)
