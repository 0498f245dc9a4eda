"""Process 1 of a container: adopt orphans, and leave the work to a child."""

from __future__ import annotations

import os
import signal
import sys

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def become_reaper() -> None:
    """Fork when we are process 1: the child returns and works, the parent reaps and never returns."""
    if os.getpid() != 1:
        return
    child = os.fork()
    if child == 0:
        return
    for number in _FORWARDED:
        signal.signal(number, lambda received, _: os.kill(child, received))
    sys.exit(_reap_until(child))


def _reap_until(child: int) -> int:
    """Collect whatever ends, until the child does; return its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
