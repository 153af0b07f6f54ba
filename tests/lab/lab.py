# SPDX-License-Identifier: Apache-2.0
"""The lab: a private network namespace with a directory, the servers that run in it, and their
orderly end.

All standard ports are free inside, nothing leaves, and several hosts exist as several addresses of
one loopback interface. What runs inside sees its own /etc/resolv.conf, /etc/hosts,
/etc/nsswitch.conf and /etc/ssl/certs.
"""

import contextlib
import http.client
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import keeper
from .base import PATIENCE, LabError, stop_process

if TYPE_CHECKING:
    from .server import Server

AUTH4, AUTH6 = "10.53.0.2", "fd00:53::2"  # the authoritative name server
RESOLVER4, RESOLVER6 = "10.53.0.3", "fd00:53::3"  # the recursive one, in resolv.conf
FAULT4, FAULT6 = "10.53.0.4", "fd00:53::4"  # a name server that misbehaves
SECOND4, SECOND6 = "10.53.0.5", "fd00:53::5"  # a second authoritative one
MAIL4, MAIL6 = "10.53.0.10", "fd00:53::10"  # the mail host: web server and ejabberd
OTHER4, OTHER6 = "10.53.0.20", "fd00:53::20"  # somebody else's host
ADDRESSES = (
    AUTH4,
    AUTH6,
    RESOLVER4,
    RESOLVER6,
    FAULT4,
    FAULT6,
    SECOND4,
    SECOND6,
    MAIL4,
    MAIL6,
    OTHER4,
    OTHER6,
)

SHORT = (
    "/media",
    "/mnt",
    "/srv",
    "/opt",
)  # Debian has all of them; the first that we don't work in ourselves is taken
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = (
    "TERM",
    "NO_COLOR",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "LSAN_OPTIONS",
    "TSAN_OPTIONS",
    "MALLOC_PERTURB_",
)


class Lab:
    """A context manager. `dir` is its directory (0755), removed at the end unless keep=True or
    CERTHERD_LAB_KEEP=1.
    """

    _count = 0

    def __init__(
        self,
        *,
        addresses=ADDRESSES,
        nameserver: str = RESOLVER4,
        hosts: dict[str, str] | None = None,
        keep: bool | None = None,
    ):
        self.addresses = tuple(addresses)
        self.nameserver = nameserver
        self.hosts = {"acme.test": "127.0.0.1"} if hosts is None else hosts
        self.keep = bool(os.environ.get("CERTHERD_LAB_KEEP")) if keep is None else keep
        self.servers: list[Server] = []
        self._processes: list[subprocess.Popen] = []
        self._cleanups = contextlib.ExitStack()

    # Begin and end

    def __enter__(self) -> "Lab":
        if os.geteuid() != 0:
            raise LabError("the lab needs root (network namespaces)")
        Lab._count += 1
        self.dir = Path(tempfile.mkdtemp(prefix=f"certherd-{os.getpid()}-{Lab._count}-"))
        self.dir.chmod(0o755)
        in_use = (self.dir, Path.cwd(), Path(__file__).resolve())
        self._short = next(
            p
            for p in map(Path, SHORT)
            if p.is_dir() and not any(u.is_relative_to(p) for u in in_use)
        )
        try:
            self._files()
            self._keeper = subprocess.Popen(
                [
                    "/usr/bin/python3",
                    "-I",
                    keeper.__file__,
                    str(self.dir),
                    str(self._short),
                    "keep" if self.keep else "remove",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            if self._keeper.stdout.readline() != b"ready\n":
                raise LabError(
                    "no namespace: "
                    + self._keeper.communicate()[1].decode().strip().rpartition("\n")[2]
                )
            self._namespace = os.open(self.namespace_path, os.O_RDONLY | os.O_CLOEXEC)
            commands = "link set lo up\n" + "".join(
                f"addr add {a} dev lo{' nodad' * (':' in a)}\n" for a in self.addresses
            )
            self.run(["ip", "-batch", "-"], input=commands)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Exception) and self.servers and not isinstance(error, LabError):
            with contextlib.suppress(Exception):
                print(self.logs(), file=sys.stderr)
        self.close()

    def close(self) -> None:
        """Stops everything in reverse order of its start. May be called twice; goes on to the end
        if something fails on the way.
        """
        with contextlib.ExitStack() as stack:  # last in, first out
            stack.callback(self._end)
            stack.callback(self._cleanups.close)
            for process in self._processes:
                stack.callback(stop_process, process)
            for server in self.servers:
                stack.callback(server.stop)
        self.servers.clear()
        self._processes.clear()

    def _end(self) -> None:
        if namespace := self.__dict__.pop("_namespace", None):
            os.close(namespace)
        if process := self.__dict__.pop("_keeper", None):
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    stream.close()
            process.wait()
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def on_close(self, function, *arguments) -> None:
        """Calls the function when the lab closes, after the servers have ended."""
        self._cleanups.callback(function, *arguments)

    def _files(self) -> None:
        etc = self.dir / "etc"
        shutil.copytree("/etc/ssl/certs", etc / "ssl/certs", symlinks=True)
        (etc / "resolv.conf").write_text(f"nameserver {self.nameserver}\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        for path in (self.dir / "tmp", self.dir / "home"):
            path.mkdir()
        (self.dir / "tmp").chmod(0o1777)
        self._write_hosts()

    def _write_hosts(self) -> None:
        lines = [
            "127.0.0.1 localhost",
            "::1 localhost",
            *(f"{address} {name}" for name, address in self.hosts.items()),
        ]
        (self.dir / "etc/hosts").write_text(
            "\n".join(lines) + "\n"
        )  # in place: a bind mount keeps to its inode

    def short(self, path: Path) -> str:
        """The same file as seen inside by a shorter path, for unix sockets (107 bytes; some servers
        make longer ones of what they get).
        """
        return str(self._short / path.relative_to(self.dir))

    def add_host(self, name: str, address: str) -> None:
        """A line in /etc/hosts as seen inside."""
        self.hosts[name] = address
        self._write_hosts()

    def add_address(self, address: str) -> None:
        """One more host: an address on the loopback interface."""
        self.run(
            ["ip", "addr", "add", address, "dev", "lo", *(["nodad"] if ":" in address else [])]
        )
        self.addresses += (address,)

    def trust(self, name: str, pem: str) -> None:
        """Adds a CA certificate to the trust store as seen inside."""
        certs = self.dir / "etc/ssl/certs"
        (certs / f"{name}.pem").write_text(pem)
        with (certs / "ca-certificates.crt").open("a") as bundle:
            bundle.write(pem)
        digest = self.run(
            ["openssl", "x509", "-noout", "-hash", "-in", certs / f"{name}.pem"]
        ).stdout.strip()
        number = next(n for n in range(100) if not (certs / f"{digest}.{n}").is_symlink())
        (certs / f"{digest}.{number}").symlink_to(f"{name}.pem")

    # Programs inside

    def command(self, command, *, user: str | None = None, cwd: Path | str = "/") -> list[str]:
        """The command line that runs a command inside. Each part of it execs the next, so the pid
        stays the one that was started.
        """
        enter = ["nsenter", "-t", str(self._keeper.pid), "-n", "-m", "-r", f"--wdns={cwd}", "--"]
        if user:
            account = pwd.getpwnam(user)
            enter += [
                "setpriv",
                f"--reuid={account.pw_uid}",
                f"--regid={account.pw_gid}",
                "--init-groups",
                "--",
            ]
        # A shell ignores these two for what it starts in the background, and that is inherited.
        enter += ["env", "--default-signal=INT,QUIT", "--"]
        return enter + [str(part) for part in command]

    def environment(self, env: dict | None = None) -> dict[str, str]:
        """A small clean environment, without the proxies and locale of whoever runs the tests."""
        base = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        base |= {
            "PATH": SYSTEM_PATH,
            "HOME": str(self.dir / "home"),
            "TMPDIR": str(self.dir / "tmp"),
            "LANG": "C.UTF-8",
        }
        return base | {name: str(value) for name, value in (env or {}).items()}

    def popen(self, command, *, env=None, user=None, cwd=None, **options) -> subprocess.Popen:
        """Starts a program inside, in a session of its own; it is stopped at the latest when the
        lab closes.
        """
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True} | options
        process = subprocess.Popen(
            self.command(command, user=user, cwd=cwd or self.dir),
            env=self.environment(env),
            **options,
        )
        self._processes = [p for p in self._processes if p.returncode is None] + [process]
        return process

    def run(
        self,
        command,
        *,
        env=None,
        user=None,
        cwd=None,
        check=True,
        timeout=PATIENCE,
        input=None,
        **options,
    ) -> subprocess.CompletedProcess:
        """Runs a program inside to its end; output as text. LabError with its output if it fails
        (unless check=False) or takes too long.
        """
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.popen(command, env=env, user=user, cwd=cwd, stdin=stdin, **options)
        try:
            out, err = process.communicate(input, timeout)
        except BaseException as error:
            stop_process(process, patience=2)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"{command[0]}: not done within {timeout:g} s") from error
            raise
        if check and process.returncode != 0:
            shown = " ".join(map(str, command))
            raise LabError(f"{shown}: exit status {process.returncode}\n{out or ''}{err or ''}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def namespace_path(self) -> str:
        """The network namespace as a path, for programs that enter it by themselves."""
        return f"/proc/{self._keeper.pid}/ns/net"

    def processes(self) -> list[int]:
        """The pids of everything that lives inside, but for the keeper."""
        return [
            pid
            for pid in keeper.processes(os.fstat(self._namespace).st_ino)
            if pid != self._keeper.pid
        ]

    # Sockets inside, from Python

    @contextlib.contextmanager
    def inside(self):
        """Sockets that the calling thread makes in this block belong to the namespace, and stay
        there. Other threads are not concerned.
        """
        with open("/proc/thread-self/ns/net", "rb") as home:
            keeper.setns(self._namespace, keeper.CLONE_NEWNET)
            try:
                yield
            finally:
                keeper.setns(home.fileno(), keeper.CLONE_NEWNET)

    def connect(self, address: str, port: int, timeout: float = PATIENCE) -> socket.socket:
        """A TCP connection inside. Address, not name: names would be looked up outside."""
        with self.inside():
            return socket.create_connection((address, port), timeout)

    def port_open(self, address: str, port: int) -> bool:
        try:
            self.connect(address, port, 1).close()
        except OSError:
            return False
        return True

    def http(
        self,
        address: str,
        port: int,
        method: str,
        path: str,
        *,
        host=None,
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        headers: dict | None = None,
        unix: Path | None = None,
    ) -> tuple[int, bytes]:
        """One HTTP/1.1 request inside, over TCP, TLS or a unix socket: status and body."""
        connection = http.client.HTTPConnection(host or address, port, timeout=PATIENCE)
        if unix:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(str(unix))
        else:
            connection.sock = self.connect(address, port)
        if tls:
            connection.sock = tls.wrap_socket(connection.sock, server_hostname=host or address)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    # Servers

    def start(self, *servers: "Server") -> None:
        """Starts all of them at once, then waits until each of them is ready."""
        for server in servers:
            self.servers.append(server)
            server.launch()
        for server in servers:
            server.wait()

    def logs(self, lines: int = 30) -> str:
        """The last lines of every server's log."""
        return "\n".join(f"--- {server.name} ---\n{server.tail(lines)}" for server in self.servers)
