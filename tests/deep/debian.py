# SPDX-License-Identifier: Apache-2.0
"""Builds the tree and runs its unit tests in a fresh Debian of another release, in a chroot below a temporary directory. Needs root.

    debian.py [SUITE]        default: trixie

Only what is under version control, or would be, goes in. Everything is unmounted and removed at the end.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from deep import archive  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# Reaches the Debian inside with names and addresses only; nothing of the outer machine is in it.
TAKEN_ALONG = ("/etc/resolv.conf", "/etc/hosts")
MOUNTS = (("proc", "proc", []), ("sysfs", "sys", ["-o", "ro"]), ("tmpfs", "dev/shm", []), ("tmpfs", "tmp", []))
STEPS = (
    ("packages", "./dev install-deps build"),
    ("build", "./dev build"),
    ("unit tests", "meson test -C build --no-rebuild --print-errorlogs --no-suite checks"),
)


def run(*command, **more) -> None:
    subprocess.run(list(map(str, command)), check=True, stdin=subprocess.DEVNULL, **more)


def copy_tree(target: Path) -> None:
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True).stdout
    present = b"\0".join(name for name in listed.split(b"\0") if name and (ROOT / os.fsdecode(name)).is_file())
    target.mkdir(parents=True)
    pack = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, check=True, input=present, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", target], check=True, input=pack)


def apt_inside(root: Path) -> None:
    """The mirror and, if there is one, the proxy of the outer apt."""
    proxies = subprocess.run(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire::http::Proxy", "Acquire::https::Proxy"], capture_output=True, text=True)
    (root / "etc/apt/apt.conf.d/90outer").write_text(proxies.stdout)
    for path in TAKEN_ALONG:
        (root / path.lstrip("/")).write_bytes(Path(path).read_bytes())


@contextlib.contextmanager
def mounted(root: Path):
    with contextlib.ExitStack() as stack:
        for kind, place, options in MOUNTS:
            (root / place).mkdir(exist_ok=True)
            run("mount", "-t", kind, *options, kind, root / place)
            stack.callback(subprocess.run, ["umount", "-l", root / place])
        yield


def main() -> int:
    suite = sys.argv[1] if len(sys.argv) > 1 else "trixie"
    if os.geteuid() != 0:
        print("needs root (debootstrap)")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix=f"certherd-{suite}-") as name:
        root = Path(name) / "root"
        print(f"--- debootstrap {suite}", flush=True)
        run("debootstrap", "--variant=minbase", f"--keyring={archive.KEYRING}", suite, root, archive.mirror())
        apt_inside(root)
        copy_tree(root / "src")
        with mounted(root):
            for what, command in STEPS:
                print(f"--- {what}", flush=True)
                done = subprocess.run(
                    ["chroot", root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "sh", "-c", f"cd /src && {command}"],
                    stdin=subprocess.DEVNULL)
                if done.returncode != 0:
                    print(f"{what}: status {done.returncode}")
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
