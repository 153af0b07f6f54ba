# SPDX-License-Identifier: Apache-2.0
"""The newest pebble of Debian's archive that runs on this machine: unpacked, not installed."""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

from .archive import Apt, ArchiveError

SUITES = ("sid", "trixie")  # newest first


def runs(binary: Path) -> bool:
    """Whether it starts: it may need a newer libc than this machine has."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([binary, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        # 2.4 has no -version and ends with status 2 after printing its usage; the loader's failures are 126, 127 and "GLIBC".
        return done.returncode in (0, 2) and "GLIBC" not in done.stderr
    return False


def fetch(stack: contextlib.ExitStack) -> Path | None:
    """The path of its binary, there until the stack closes; None if no suite has one that runs."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certherd-pebble-")))
    directory.chmod(0o755)
    for suite in SUITES:
        try:
            Apt(directory / suite, suite).unpacked("pebble", directory / suite / "root")
        except ArchiveError as error:
            print(f"pebble of {suite}: {error}", file=sys.stderr)
            continue
        binary = directory / suite / "root/usr/bin/pebble"
        if runs(binary):
            return binary
        print(f"pebble of {suite} doesn't run here", file=sys.stderr)
    return None
