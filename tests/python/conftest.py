"""What holds for every test."""

from __future__ import annotations

import signal

# A shell starts background jobs with interrupts ignored, which their children inherit; tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
