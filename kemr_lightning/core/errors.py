"""Errors that a user can mend: one line that names the file or option and the cure."""


class UserError(Exception):
    """Wrong input. The message names what is wrong and what to do; `run.py` prints it without a traceback."""
