"""What holds for every test."""

from __future__ import annotations

import signal

import hypothesis

# A shell starts background jobs with interrupts ignored, which their children inherit; tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No time limits, and the same examples in every run, as Hypothesis does by itself where CI is set.
hypothesis.settings.register_profile("lamina", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("lamina")
