"""The ranges in which the CRF's parameters are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.refinement.dense_crf import PARAMETER_NAMES, CRFParams

SEARCHABLE = (*PARAMETER_NAMES, "iterations")


@dataclass(frozen=True)
class Range:
    """The values that a parameter may take.

    Attributes:
        low: Minimum value.
        high: Maximum value.
        log: Whether orders of magnitude are searched evenly.
        step: If given, only ``low`` plus multiples of it.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


def read_ranges(search: Mapping[str, Any], params: CRFParams) -> dict[str, Range]:
    """The ranges that a configuration gives.

    Args:
        search: Parameter name -> ``low``, ``high`` and perhaps ``log`` or ``step``; None leaves a parameter out.
        params: Values of the parameters that are not searched.

    Returns:
        Parameter name -> range.

    Raises:
        SettingError: A parameter is unknown, its range is wrong, or there is no range at all (``"search"``).
    """
    ranges = {name: _read_range(name, values, params) for name, values in search.items() if values is not None}
    if not ranges:
        raise SettingError("search", dict(search), "has no range", "Give that of at least one parameter")
    return ranges


def _read_range(name: str, values: Any, params: CRFParams) -> Range:
    if name not in SEARCHABLE:
        raise SettingError(name, values, "is not a parameter of the CRF", f"Use {', '.join(SEARCHABLE)}")
    try:
        found = Range(**values)
        for value in (found.low, found.high):
            with_values(params, {name: as_kind(name, float(value))})
    except UserError as error:
        reason = str(error).rstrip(".")
        raise SettingError(name, values, f"is not a range: {reason}", "Choose other ends") from error
    except (TypeError, ValueError) as error:
        cure = "It needs the numbers low and high, and may have log or step"
        raise SettingError(name, values, "is not a range", cure) from error
    if found.low >= found.high or (found.log and (found.low <= 0 or found.step is not None)):
        raise SettingError(name, values, "is not a range", "Give low < high; with log, low > 0 and no step")
    return found


def with_values(params: CRFParams, values: Mapping[str, float | int]) -> CRFParams:
    """Parameters with some of them replaced.

    Args:
        params: All parameters.
        values: Name -> new value.

    Raises:
        UserError: A value is out of range.
    """
    return CRFParams(**{**asdict(params), **values})


def as_kind(name: str, value: float) -> float | int:
    """A parameter's value as a whole number if the parameter takes nothing else."""
    return round(value) if name == "iterations" else value
