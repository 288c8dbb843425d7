"""Errors of refinement, as Python callers and the command line see them."""

from __future__ import annotations

import pytest

from kemr_lightning.core.errors import SettingError, UserError, settings_under
from kemr_lightning.refinement import CRFParams, RefinementError
from kemr_lightning.refinement.refinement_errors import RefinementSettingError


def test_callers_may_look_for_any_of_the_kinds() -> None:
    for kind in (RefinementError, UserError, ValueError, SettingError):
        with pytest.raises(kind, match=r"^w1=-1 must be 0 or more\. Useful values are 1 to 16$"):
            CRFParams(w1=-1)
    assert not issubclass(RefinementError, SettingError)


def test_a_configuration_names_its_key() -> None:
    wanted = r"^refine\.edge=0\.7 is too much\. Use less$"
    with pytest.raises(SettingError, match=wanted), settings_under("refine", outside="edge"):
        raise RefinementSettingError("outside", 0.7, "is too much", "Use less")
