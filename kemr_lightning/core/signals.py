"""What Ctrl-C and SIGTERM do: the first ends the work in order, a second one the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)

_ending: list[int] = []
"""The process in which the first signal has come, if it has."""

Handler = Callable[[int, Any], Any] | int | None


def exit_code(number: int) -> int:
    """The exit code of a process that a signal has ended, as a shell reports it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


def handle(handler: Callable[[int, Any], Any]) -> dict[int, Handler]:
    """Let a function handle the signals that ask for an end. Only the main thread can do that; elsewhere, nothing.

    Args:
        handler: Called with the number of the signal.

    Returns:
        What handled each signal before, for `restore`.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in ENDING}


def restore(before: dict[int, Handler]) -> None:
    """Undo `handle`."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def end_at_once_next_time() -> None:
    """Let the next such signal end this process without another word, whatever it is doing."""
    _ending.append(os.getpid())
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """While the body runs, Ctrl-C and SIGTERM raise `SystemExit` with their exit code; a second one ends at once.

    Raises:
        SystemExit: A signal has come. What is unfinished is cleared away on its way.
    """

    def end(number: int, frame: Any) -> None:  # noqa: ARG001
        if os.getpid() in _ending:  # this handler was put back while the first signal's end was under way
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        end_at_once_next_time()
        sys.exit(exit_code(number))

    before = handle(end)
    _ending.clear()
    try:
        yield
    finally:
        restore(before)


def leave_signals_to_the_main_process(worker: int) -> None:  # noqa: ARG001
    """Start a loader's worker process: Ctrl-C reaches it too, but whether to stop is decided by its main process.

    Args:
        worker: Its number.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
