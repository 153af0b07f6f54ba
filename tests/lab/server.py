# SPDX-License-Identifier: Apache-2.0
"""What all servers of the lab have in common: configuration, start, readiness, end, log."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from pathlib import Path

from .base import PATIENCE, LabError, stop_process, wait_until
from .lab import Lab


class Server:
    """Something that runs in a lab. A subclass gives its command, writes its configuration, and
    says when it is ready.
    """

    user: str | None = None  # who runs it, if not root
    patience = 10.0  # how long it may take to end by itself after SIGTERM

    def __init__(self, lab: Lab, name: str):
        self.lab, self.name = lab, name
        self.dir = lab.dir / name
        self.dir.mkdir()
        self.log = self.dir / "log"
        self.process: subprocess.Popen | None = None

    def configure(self) -> None:
        """Writes what the server reads at its start. Called before each start."""

    def command(self) -> list:
        raise NotImplementedError

    def env(self) -> dict:
        return {}

    def ready(self) -> bool:
        """Whether it answers. Called again and again after the start."""
        raise NotImplementedError

    def launch(self) -> None:
        """Starts the process, without waiting for anything. The log goes on if there is one."""
        self.configure()
        with self.log.open("ab") as log:
            self.process = self.lab.popen(
                self.command(), env=self.env(), user=self.user, cwd=self.dir, stdout=log, stderr=log
            )

    def wait(self, timeout: float = PATIENCE) -> None:
        """Waits until it is ready; LabError with the tail of its log if it ends before, or is too
        slow.
        """

        def check():
            if self.process.poll() is not None:
                raise LabError(
                    f"{self.name}: ended with status {self.process.returncode}\n{self.tail()}"
                )
            return self.ready()

        try:
            wait_until(check, f"{self.name} ready", timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.tail()}") from None

    def start(self) -> None:
        """Starts it (again) and waits; for the first start of several servers, lab.start() is
        faster.
        """
        if self not in self.lab.servers:
            self.lab.servers.append(self)
        self.launch()
        self.wait()

    def stop(self) -> None:
        if self.process:
            stop_process(self.process, self.patience)
            self.process = None

    def kill(self) -> None:
        """The hard end, as after a crash."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def private_binary(self, path: str) -> str:
        """The program itself, or where AppArmor is active a copy: its profiles go by path and would
        forbid our directories.
        """
        switch = Path("/sys/module/apparmor/parameters/enabled")
        if not switch.exists() or switch.read_text().strip() != "Y":
            return path
        copy = self.dir / Path(path).name
        shutil.copy(path, copy)
        return str(copy)


@functools.cache
def debian_version(package: str) -> tuple[int, ...]:
    """The version of an installed package as numbers, (23, 1) for 23.01-1; where the same server
    needs another configuration by version.
    """
    text = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(
        int(part)
        for part in text.split("-")[0].split("+")[0].split(":")[-1].split(".")
        if part.isdigit()
    )
