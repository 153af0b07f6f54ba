# SPDX-License-Identifier: Apache-2.0
"""Holds a lab's namespaces, and cleans up after it whatever happens.

A process of its own, started by lab.py: it makes a network and a mount namespace, binds the lab's
private copies of some files of /etc over the real ones (seen only inside), says "ready", and then
waits for the end of its standard input. That end comes when the lab is closed, and also when the
process that made the lab dies in any way. It then kills whatever still lives in the network
namespace and removes the lab's directory. Nothing has a name outside (no /run/netns, no
/etc/netns), so nothing can be left there.

    keeper.py DIRECTORY SHORT keep|remove

SHORT is an empty directory of the system where the lab's directory is seen as well, inside: unix
sockets must have short paths.
"""

import ctypes
import os
import shutil
import signal
import sys
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def setns(fd: int, kind: int) -> None:
    """Moves the calling thread (and only that) into the namespace behind fd. os.setns() exists only
    from Python 3.12 on.
    """
    _check(libc.setns(fd, kind), "setns")


def processes(namespace: int) -> list[int]:
    """Every process, except the caller, whose network namespace has this inode number."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if os.stat(f"/proc/{entry}/ns/net").st_ino == namespace:
                found.append(int(entry))
        except OSError:
            pass  # it has just ended, or is a zombie
    return found


def sweep(namespace: int, patience: float = 20) -> None:
    """Kills what lives in the namespace until there is nothing: it may fork while we look."""
    deadline = time.monotonic() + patience
    while (pids := processes(namespace)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def _make_private() -> None:
    """Keeps our mounts to ourselves. Seen from a chroot "/" may be no mount, so this is done at the
    real root, which setns leads to.
    """
    home = os.open("/", os.O_RDONLY)
    with open("/proc/self/ns/mnt", "rb") as own:
        setns(own.fileno(), CLONE_NEWNS)
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")
    os.fchdir(home)
    os.chroot(".")
    os.close(home)


def _enter(directory: Path, short: Path) -> None:
    _check(libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare (root is needed)")
    _make_private()
    private = directory / "etc"
    sources = [*(path for path in private.iterdir() if path.is_file()), private / "ssl/certs"]
    targets = {Path("/etc", source.relative_to(private)).resolve(): source for source in sources}
    for target, source in (targets | {short: directory}).items():
        if not target.exists():
            raise OSError(f"{target} does not exist here, so the lab can't bind its own over it")
        _check(
            libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None),
            f"bind {target}",
        )


def main() -> None:
    directory, short, keep = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "keep"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(
            number, signal.SIG_IGN
        )  # they are meant for the lab's owner; we see how it ends by our standard input
    try:
        _enter(directory, short)
        print("ready", flush=True)
        sys.stdin.buffer.read()
        sweep(os.stat("/proc/self/ns/net").st_ino)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
