# SPDX-License-Identifier: Apache-2.0
"""Other releases of Debian, from the mirror that this machine's own apt uses, without touching the state of that apt."""

import os
import subprocess
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class ArchiveError(Exception):
    """The archive can't be reached, or doesn't have it."""


def mirror() -> str:
    """The URI of Debian's main archive in this machine's sources."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    ).stdout
    codename = next(line.partition("=")[2].strip('"') for line in Path("/etc/os-release").read_text().splitlines() if line.startswith("VERSION_CODENAME="))
    for line in targets.splitlines():
        uri, release, component = line.split("|")
        if release in (codename, "stable", "testing", "unstable") and component == "main" and uri.startswith("http"):
            return uri
    raise ArchiveError(f"apt's sources name no http archive of Debian {codename} main")


class Apt:
    """apt for another release, with everything it keeps below a directory."""

    def __init__(self, directory: Path, suite: str):
        self.dir = directory
        for path in ("etc/sources.list.d", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "state/lists/partial", "cache/archives/partial"):
            (directory / path).mkdir(parents=True)
        (directory / "status").touch()
        (directory / "etc/sources.list.d/suite.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n")
        self.config = directory / "apt.conf"
        # A mirror may be a frozen one, whose Release files have expired; signatures are checked all the same.
        self.config.write_text(
            f'Dir::Etc "{directory}/etc";\nDir::State "{directory}/state";\nDir::State::status "{directory}/status";\n'
            f'Dir::Cache "{directory}/cache";\nAPT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Check-Valid-Until "false";\nAcquire::Retries "3";\n')
        self.run("apt-get", "-q", "update")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(command, cwd=cwd, env=os.environ | {"APT_CONFIG": str(self.config)}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise ArchiveError(f"{' '.join(command)}:\n{done.stdout}")
        return done.stdout

    def unpacked(self, package: str, into: Path) -> None:
        """The files of a package, not installed."""
        self.run("apt-get", "-q", "download", package, cwd=self.dir)
        self.run("dpkg-deb", "-x", str(next(self.dir.glob(f"{package}_*.deb"))), str(into))
