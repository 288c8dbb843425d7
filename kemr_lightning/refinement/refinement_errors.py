"""Errors of refinement. Both are `UserError` and `ValueError`, whichever the caller looks for."""

from __future__ import annotations

from kemr_lightning.core.errors import SettingError, UserError


class RefinementError(UserError, ValueError):
    """Input that the CRF cannot work on; the message names the parameter, option or instance."""


class RefinementSettingError(SettingError, RefinementError):
    """A parameter of the CRF, or an option of a refiner, has a wrong value."""
