# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions, and the end of processes."""

import contextlib
import os
import signal
import subprocess
import time

PATIENCE = 60.0  # seconds that anything may take on a busy machine before we call it broken


class LabError(Exception):
    """A server did not start, or something did not happen in time. The message says which and ends
    with the tail of its log.
    """


def wait_until(condition, what: str, timeout: float = PATIENCE, step: float = 0.02):
    """The first true value of condition(). LabError after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout:g} s")
        time.sleep(step)


def stop_process(process: subprocess.Popen, patience: float = 3) -> int:
    """Ends the process and its group: SIGTERM, then SIGKILL. It leads a group of its own, as
    everything started by popen does.
    """
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, PATIENCE)):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                leads = os.getpgid(process.pid) == process.pid
                (os.killpg if leads else os.kill)(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    return process.returncode
