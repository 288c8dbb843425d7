"""Ctrl-C and SIGTERM end a process with their codes: the first in order, the second at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from kemr_lightning.core import signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="other signals")

WORK = """
import time
from kemr_lightning.core.signals import ended_in_order
with ended_in_order():
    try:
        print("begun", flush=True)
        time.sleep(600)
    finally:
        print("cleared away", flush=True)
        time.sleep(600 if {stubborn} else 0)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stubborn", [False, True])
def test_the_first_in_order_the_second_at_once(number: int, code: int, stubborn: bool) -> None:
    words = [sys.executable, "-c", WORK.format(stubborn=stubborn)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stdout.readline() == "cleared away\n"
        if stubborn:
            process.send_signal(number)
        assert process.wait(60) == (-number if stubborn else code)


def test_what_handled_them_before_does_so_again() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with pytest.raises(SystemExit) as caught, signals.ended_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == signals.exit_code(signal.SIGTERM) == 143
    assert [signal.getsignal(number) for number in signals.ENDING] == before
