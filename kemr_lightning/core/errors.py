"""Errors that a user can mend: one line that names the file or setting and the cure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Wrong input. The message says what is wrong and what to do; `run.py` prints it without a traceback."""


class SettingError(UserError):
    """A setting has a wrong value.

    Rooms name a setting as their own callers do (``side``). Whoever took the value from a configuration adds where it
    stands there (``predict.tile``), see `settings_under`.

    Args:
        setting: The setting's name, dotted if it lies in a group.
        value: The wrong value.
        problem: What is wrong with it, to be read after ``setting=value``: "is no size".
        cure: What to do instead, a sentence without its full stop.
    """

    def __init__(self, setting: str, value: object, problem: str, cure: str) -> None:
        self.setting = setting
        self.value = value
        self.problem = problem
        self.cure = cure
        shown = "null" if value is None else value
        super().__init__(f"{setting}={shown} {problem}. {cure}")

    def under(self, group: str, **renamed: str) -> SettingError:
        """The same error for a setting of a configuration.

        Args:
            group: Where the setting stands, such as ``"predict"``; empty for the top level.
            renamed: The configuration's name of a setting, where it differs: ``side="tile"``.
        """
        name = renamed.get(self.setting, self.setting)
        return SettingError(f"{group}.{name}" if group else name, self.value, self.problem, self.cure)


def cause_of(error: BaseException, kind: type[UserError] = UserError) -> UserError | None:
    """The first error of a kind among an error and its causes.

    Hydra wraps what a constructor raises in an error of its own.

    Args:
        error: Any error.
        kind: The class to look for.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__
    return None


@contextmanager
def settings_under(group: str, **renamed: str) -> Iterator[None]:
    """Name settings as the configuration does, in errors that come from inside.

    Args:
        group: As in `SettingError.under`.
        renamed: As in `SettingError.under`.

    Raises:
        SettingError: What was raised inside, under its name in the configuration.
    """
    try:
        yield
    except Exception as error:
        cause = cause_of(error, SettingError)
        if not isinstance(cause, SettingError):
            raise
        raise cause.under(group, **renamed) from error
