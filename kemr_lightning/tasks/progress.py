"""Progress of a task: bars in a terminal, elsewhere a log line at intervals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0
"""Shortest time between two log lines where the output is not a terminal."""

NAME_LENGTH = 30
"""Maximum number of characters of an item's name beside the bar; its end says more than its beginning."""


def track(items: Sequence[T], description: str, name: Callable[[T], str] | None = None) -> Iterator[T]:
    """Yield items and show how many of them are done.

    A terminal shows one bar with the count, the time elapsed and the time remaining. Elsewhere "N of M images" is
    logged, at most every `SECONDS_BETWEEN_LINES` seconds.

    Args:
        items: Images, or what stands for them.
        description: Text beside the bar.
        name: Name of an item, shown in place of the description while the item is being worked on.
    """
    clock = _LineClock()
    with _bars(transient=False) as bars:
        bar = bars.add_task(description, total=len(items))
        for done, item in enumerate(items, start=1):
            if name is not None:
                bars.update(bar, description=name(item)[-NAME_LENGTH:])
            yield item
            bars.advance(bar)
            if bars.disable and clock.due():
                logger.info("%d of %d images", done, len(items))


class Stages:
    """Progress of work in several stages: a bar for each in a terminal, elsewhere log lines with the stage's name.

    A context manager. The bars disappear at its end.
    """

    def __init__(self) -> None:
        self._bars = _bars(transient=True)
        self._bar_of: dict[str, TaskID] = {}
        self._clock = _LineClock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def tell(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is.

        Args:
            stage: Its name. A new name begins a new bar.
            done: Finished steps.
            total: All steps of the stage.
        """
        if stage not in self._bar_of:
            self._bar_of[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._bar_of[stage], completed=done, total=total)
        if self._bars.disable and self._clock.due():
            logger.info("%s: %d of %d", stage, done, total)

    def track(self, items: Sequence[T], stage: str) -> Iterator[T]:
        """Yield items and show how many of them are done, as one stage.

        Args:
            items: The steps of the stage.
            stage: Its name.
        """
        self.tell(stage, 0, len(items))
        for done, item in enumerate(items, start=1):
            yield item
            self.tell(stage, done, len(items))


class _LineClock:
    """Decides when the next log line is due."""

    def __init__(self) -> None:
        self._last = monotonic()

    def due(self) -> bool:
        """Whether enough time has passed since the last line; if so, the line counts as written now."""
        now = monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return False
        self._last = now
        return True


def _bars(transient: bool) -> Progress:
    """Bars with count and times on the global console, disabled where that is not a terminal."""
    console = get_console()
    return Progress(
        TextColumn("{task.description}", markup=False),  # a file name may have square brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )
