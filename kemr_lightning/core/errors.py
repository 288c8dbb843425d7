"""Errors that a user can correct: one line that names the file or setting, and the cure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Wrong input. The message says what is wrong and what to do; the command line prints it without a traceback."""


class SettingError(UserError):
    """A setting has a wrong value.

    Code that checks a value names the setting as its own parameter (``side``). Whoever took the value from a
    configuration turns this into the name there (``predict.tile``), with `settings_under`.

    Args:
        setting: The setting's name, dotted if it is in a group.
        value: The wrong value.
        problem: What is wrong with it. It is read after ``setting=value``, as in "is not a size".
        cure: What to do instead, as a sentence without a full stop.
    """

    def __init__(self, setting: str, value: object, problem: str, cure: str) -> None:
        self.setting = setting
        self.value = value
        self.problem = problem
        self.cure = cure
        shown = "null" if value is None else value
        super().__init__(f"{setting}={shown} {problem}. {cure}")

    def under(self, group: str, **renamed: str) -> SettingError:
        """The same error, with the setting's name in a configuration.

        Args:
            group: The group that holds the setting, such as ``"predict"``; empty for the top level.
            renamed: Settings that have another name there: ``side="tile"``; an empty name stands for the group itself.
        """
        parts = (group, renamed.get(self.setting, self.setting))
        return SettingError(".".join(part for part in parts if part), self.value, self.problem, self.cure)


def cause_of(error: BaseException, kind: type[UserError] = UserError) -> UserError | None:
    """The first error of a kind among an error and its causes.

    Hydra wraps an error that a constructor raises in one of its own.

    Args:
        error: Any error.
        kind: The class to look for.

    Returns:
        The error, or None if there is none of this kind.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__
    return None


@contextmanager
def settings_under(group: str, **renamed: str) -> Iterator[None]:
    """Rename settings to what the configuration calls them, in errors that are raised inside.

    Args:
        group: As in `SettingError.under`.
        renamed: As in `SettingError.under`.

    Raises:
        SettingError: The error raised inside, with the setting's name in the configuration.
    """
    try:
        yield
    except Exception as error:
        cause = cause_of(error, SettingError)
        if not isinstance(cause, SettingError):
            raise
        raise cause.under(group, **renamed) from error
