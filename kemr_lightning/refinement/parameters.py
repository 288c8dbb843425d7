"""The parameters of the CRF, and the kernels that they make.

With the logit ``z0`` of the initial probability and the kernels

    appearance ``K1_ij = exp(-|p_i - p_j|² / 2 sigma_alpha² - (I_i - I_j)² / 2 sigma_beta²)``
    smoothness ``K2_ij = exp(-|p_i - p_j|² / 2 sigma_gamma²)``

over the pixels' positions p and intensities I, each normalised symmetrically, ``K~ = D^-1/2 K D^-1/2`` with ``D = K 1``
and the self term included, a mean-field update is

    ``z <- z0 / temperature + w1 K~1 tanh(z / 2) + w2 K~2 tanh(z / 2)``.

Layers between the configuration and an engine pass a `CRFParams`, or the rows of its tensor, on as they are; engines
unpack them with `kernels_of`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.refinement.refinement_errors import RefinementSettingError

PARAMETER_NAMES = ("sigma_alpha", "sigma_beta", "sigma_gamma", "w1", "w2", "temperature")
"""The real-valued parameters, in the order of the columns of an ``(N, 6)`` parameter tensor."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class CRFParams:
    """Parameters of the CRF: numbers or, except for ``iterations``, scalar tensors, which then receive gradients.

    Attributes:
        sigma_alpha: Reach of the appearance kernel in pixels, > 0.
        sigma_beta: Its reach in intensity, in grey levels (0-255) of one channel, > 0.
        sigma_gamma: Reach of the smoothness kernel in pixels, > 0.
        w1: Weight of the appearance kernel, >= 0.
        w2: Weight of the smoothness kernel, >= 0.
        iterations: Mean-field updates, >= 0; 0 returns the initial probability (after the temperature).
        temperature: Divides the logit of the initial probability, > 0; above 1 the image decides more.

    Raises:
        RefinementSettingError: A value outside its range.
    """

    sigma_alpha: float | Tensor = field(default=2.0, metadata={"useful": "1 to 10 pixels"})
    sigma_beta: float | Tensor = field(default=9.0, metadata={"useful": "3 to 60 grey levels"})
    sigma_gamma: float | Tensor = field(default=3.0, metadata={"useful": "1 to 6 pixels"})
    w1: float | Tensor = field(default=3.0, metadata={"useful": "1 to 16", "zero": True})
    w2: float | Tensor = field(default=0.0, metadata={"useful": "0 to 6", "zero": True})
    iterations: int = field(default=5, metadata={"useful": "5 to 20", "zero": True, "whole": True})
    temperature: float | Tensor = field(default=1.0, metadata={"useful": "0.3 to 4"})

    def __post_init__(self) -> None:
        for parameter in fields(self):
            whole, zero = "whole" in parameter.metadata, "zero" in parameter.metadata
            value = getattr(self, parameter.name)
            if isinstance(value, Tensor) and value.ndim == 0 and not whole:
                # A tensor of truth values or complex numbers gives one of these, and is refused below.
                value = value.detach().item()
            cure = f"Useful values are {parameter.metadata['useful']}"
            wanted = (int, np.integer) if whole else (int, float, np.integer, np.floating)
            if isinstance(value, bool) or not isinstance(value, wanted):
                kind = "whole number" if whole else "number"
                raise RefinementSettingError(parameter.name, repr(value), f"is not a {kind}", cure)
            if not math.isfinite(value):
                raise RefinementSettingError(parameter.name, value, "must be finite", cure)
            if value < 0 or (value == 0 and not zero):
                bound = "must be 0 or more" if zero else "must be greater than 0"
                raise RefinementSettingError(parameter.name, value, bound, cure)

    def to_tensor(self) -> Tensor:
        """``(6,)`` float32 in the order of `PARAMETER_NAMES`, on the device of those that are tensors."""
        values = [getattr(self, name) for name in PARAMETER_NAMES]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if not tensors:
            return torch.tensor([float(value) for value in values])
        return torch.stack([torch.as_tensor(value).to(tensors[0].device, torch.float32) for value in values])

    def numbers(self) -> CRFParams:
        """The same parameters with plain numbers in place of tensors, as files store them."""
        tensors: dict[str, Any] = {name: v.item() for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    @classmethod
    def from_tensor(cls, values: Tensor, iterations: int) -> CRFParams:
        """The inverse of `to_tensor`."""
        return cls(**dict(zip(PARAMETER_NAMES, values.detach().tolist(), strict=True)), iterations=iterations)

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> CRFParams:
        """Parameters by name; those that are not given have their defaults.

        Args:
            values: Names and values of fields.

        Raises:
            RefinementSettingError: An unknown name, or a value outside its range.
        """
        known = [parameter.name for parameter in fields(cls)]
        for name, value in values.items():
            if name not in known:
                raise RefinementSettingError(name, value, "is not a parameter of the CRF", f"Use {', '.join(known)}")
        return cls(**values)


class AppearanceKernel(NamedTuple, Generic[Value]):
    """Joins pixels that are near and alike.

    Attributes:
        weight: Of its message.
        sigma: Standard deviation in pixels.
        sigma_intensity: Standard deviation in grey levels.
    """

    weight: Value
    sigma: Value
    sigma_intensity: Value


class SmoothnessKernel(NamedTuple, Generic[Value]):
    """Joins pixels that are near.

    Attributes:
        weight: Of its message.
        sigma: Standard deviation in pixels.
    """

    weight: Value
    sigma: Value


class Kernels(NamedTuple, Generic[Value]):
    """What an engine computes with.

    Attributes:
        appearance: K1.
        smoothness: K2.
        temperature: Divides the logit of the initial probability.
    """

    appearance: AppearanceKernel[Value]
    smoothness: SmoothnessKernel[Value]
    temperature: Value


def kernels_of(parameters: Iterable[Value]) -> Kernels[Value]:
    """The kernels of one or more parameter sets.

    Args:
        parameters: Six values in the order of `PARAMETER_NAMES`: the numbers of one set, or the ``(N,)`` columns of an
            ``(N, 6)`` tensor, ``table.unbind(dim=1)``.
    """
    sigma_alpha, sigma_beta, sigma_gamma, w1, w2, temperature = parameters
    return Kernels(AppearanceKernel(w1, sigma_alpha, sigma_beta), SmoothnessKernel(w2, sigma_gamma), temperature)
