"""Signals of the command-line tests."""

import signal

import pytest


@pytest.fixture(autouse=True)
def heeded_signals():
    """Signals act as in a terminal, although nohup and a shell's background ignore them."""
    heeded = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in heeded}
    for number, handler in heeded.items():
        if before[number] is signal.SIG_IGN:
            signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
