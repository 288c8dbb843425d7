"""Checks of settings' values; a wrong one raises a `SettingError` with the setting's plain name."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

from kemr_lightning.core.errors import SettingError


def check_fraction(setting: str, value: object) -> None:
    """Require a number in [0, 1].

    Args:
        setting: Name of the setting.
        value: Its value.

    Raises:
        SettingError: The value is out of range.
    """
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise SettingError(setting, value, "is out of range", "Give a fraction, 0 to 1")


def check_not_negative(setting: str, value: object) -> None:
    """Require a number of at least 0.

    Args:
        setting: Name of the setting.
        value: Its value.

    Raises:
        SettingError: The value is negative.
    """
    if not isinstance(value, Real) or not float(value) >= 0:
        raise SettingError(setting, value, "is out of range", "Give 0 or more")


def check_factors(setting: str, value: object) -> None:
    """Require a range ``(lowest, highest)`` of factors greater than 0.

    Args:
        setting: Name of the setting.
        value: Its value.

    Raises:
        SettingError: The value is not such a range.
    """
    pair = _pair(value)
    if pair is None or not 0 < pair[0] <= pair[1]:
        raise SettingError(setting, _shown(value), "is not a range of factors", "Give [lowest, highest], above 0")


def check_size(setting: str, value: object, order: str, least: int = 1) -> None:
    """Require the two sides of an image.

    Args:
        setting: Name of the setting.
        value: Its value.
        order: How the sides are given: ``"[width, height]"`` or ``"[height, width]"``.
        least: Smallest side in pixels.

    Raises:
        SettingError: The value is not a pair of sides, or one of them is too small.
    """
    pair = _pair(value)
    if pair is None:
        raise SettingError(setting, _shown(value), "is not the size of an image", f"Give {order} in pixels")
    if min(pair) < least:
        raise SettingError(setting, _shown(value), "is too small", f"Give {order} of at least {least} pixels")


def check_count(setting: str, value: object) -> None:
    """Require a whole number of at least 0, or a range ``(lowest, highest)`` of such numbers.

    Args:
        setting: Name of the setting.
        value: Its value; a sequence counts by its first and last number.

    Raises:
        SettingError: The value is neither.
    """
    first, last = (value[0], value[-1]) if isinstance(value, Sequence) and len(value) > 0 else (value, value)
    if not isinstance(first, Integral) or not isinstance(last, Integral) or not 0 <= int(first) <= int(last):
        raise SettingError(setting, _shown(value), "is neither a number nor a range", "Give, say, 46 or [40, 46]")


def _pair(value: object) -> tuple[float, float] | None:
    """Two numbers, or None if the value is something else."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(isinstance(item, Real) for item in value):
        return None
    return value[0], value[1]


def _shown(value: object) -> object:
    """Pairs are shown with brackets, as a user writes them, whatever their type."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
