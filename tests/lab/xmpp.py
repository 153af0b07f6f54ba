# SPDX-License-Identifier: Apache-2.0
"""A real ejabberd with configuration, spool and logs of its own, on the standard ports, as the
ejabberd user.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

import yaml

from . import certs
from .base import wait_until
from .lab import MAIL4, MAIL6, Lab
from .server import Server, debian_version

COMPONENTS = ("conference", "proxy", "pubsub", "upload")
C2S, C2S_TLS, S2S, S2S_TLS, HTTPS, PROXY65, API, DISTRIBUTION = (
    5222,
    5223,
    5269,
    5270,
    5443,
    7777,
    5280,
    5210,
)


class _Plain(yaml.SafeDumper):
    """Without anchors, which ejabberd doesn't read."""

    def ignore_aliases(self, data) -> bool:
        return True


class Ejabberd(Server):
    """It reads <cert_dir>/*.pem; the directory is 2750 with group ejabberd, and has a self-signed
    certificate per host before the first start.

    The API may only reload_config and registered_vhosts, and is there twice: `api_unix` (from 24.02
    on mode 0660, before that only root and ejabberd can connect) and `api_http` on the loopback.
    Anybody may log in by SASL ANONYMOUS.

    A trap of the unix socket, seen with 24.12: it appears only five seconds after the start (a
    sleep in ejabberd's listener), and after each connection the listener crashes and takes five
    seconds again, while the call itself is answered. unix_api=False leaves it out.
    """

    user = "ejabberd"
    patience = 10.0

    def __init__(
        self,
        lab: Lab,
        hosts: list[str] | tuple[str, ...],
        name: str = "ejabberd",
        *,
        addresses: tuple[str, ...] = (MAIL4, MAIL6),
        cert_dir: Path | None = None,
        start_certificates: bool = True,
        unix_api: bool = True,
        options: dict | None = None,
    ):
        super().__init__(lab, name)
        self.hosts, self.addresses = list(hosts), addresses
        self.unix_api, self.options = unix_api, options or {}
        self.api_socket = self.dir / "run/api.sock"
        self.api_unix = f"unix:{lab.short(self.api_socket)}"
        self.api_http = f"http://127.0.0.1:{API}/api"
        for path in ("etc", "spool", "logs", "run", "upload"):
            (self.dir / path).mkdir()
            shutil.chown(self.dir / path, self.user, self.user)
        self.cert_dir = cert_dir or self.dir / "certs"
        self.cert_dir.mkdir(exist_ok=True)
        shutil.chown(self.cert_dir, group=self.user)
        self.cert_dir.chmod(0o2750)
        if start_certificates:
            for host in self.hosts:
                self.install(host, certs.combined_pem([host, *(f"{c}.{host}" for c in COMPONENTS)]))

    # Configuration

    def config(self) -> dict:
        """ejabberd.yml as data; `options` of the constructor replace top-level keys."""

        def listeners(port: int, module: str, **more) -> list[dict]:
            return [
                {"port": port, "ip": address, "module": module} | more for address in self.addresses
            ]

        api = {
            "module": "ejabberd_http",
            "tag": "certherd",
            "request_handlers": {"/api": "mod_http_api"},
        }
        modern = {"unix_socket": {"mode": "0660"}} if debian_version("ejabberd") >= (24, 2) else {}
        return {
            "loglevel": "info",
            "log_rotate_count": 0,
            "hosts": self.hosts,
            "certfiles": [f"{self.cert_dir}/*.pem"],
            "acme": {"auto": False},
            "auth_method": ["anonymous"],
            "anonymous_protocol": "sasl_anon",
            "allow_multiple_connections": True,
            "listen": [
                *listeners(C2S, "ejabberd_c2s", starttls=True, starttls_required=True),
                *listeners(C2S_TLS, "ejabberd_c2s", tls=True),
                *listeners(S2S, "ejabberd_s2s_in"),
                *listeners(S2S_TLS, "ejabberd_s2s_in", tls=True),
                *listeners(
                    HTTPS,
                    "ejabberd_http",
                    tls=True,
                    request_handlers={"/upload": "mod_http_upload"},
                ),
                {"port": API, "ip": "127.0.0.1"} | api,
                *([{"port": self.api_unix} | api | modern] if self.unix_api else []),
            ],
            "s2s_use_starttls": "optional",
            "api_permissions": {
                "console commands": {"from": ["ejabberd_ctl"], "who": "all", "what": "*"},
                "certherd": {
                    "from": [{"tag": "certherd"}],
                    "who": "all",
                    "what": ["reload_config", "registered_vhosts"],
                },
            },
            "modules": {
                "mod_disco": {},
                "mod_http_api": {},
                "mod_muc": {},
                "mod_ping": {},
                "mod_pubsub": {},
                "mod_s2s_dialback": {},
                "mod_http_upload": {"docroot": str(self.dir / "upload")},
                "mod_proxy65": {"port": PROXY65, "ip": self.addresses[0]},
            },
        } | self.options

    @property
    def config_file(self) -> Path:
        return self.dir / "etc/ejabberd.yml"

    def write_config(self, text: str | None = None) -> None:
        """Writes ejabberd.yml, or any other text in its place, as a broken one for tests. Read at
        the next reload.
        """
        self.config_file.write_text(
            text if text is not None else yaml.dump(self.config(), Dumper=_Plain, sort_keys=False)
        )

    def configure(self) -> None:
        self.write_config()
        (self.dir / "etc/inetrc").write_text(
            '{lookup,["file","native"]}.\n{host,{127,0,0,1},["localhost"]}.\n'
        )
        self.api_socket.unlink(missing_ok=True)

    def env(self) -> dict:
        return {
            "HOME": self.dir / "spool",
            "EJABBERD_CONFIG_PATH": self.config_file,
            "EJABBERD_LOG_PATH": self.dir / "logs/ejabberd.log",
            "ERL_INETRC": self.dir / "etc/inetrc",
            "ERL_CRASH_DUMP": "/dev/null",
            "ERL_MAX_PORTS": 8192,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_LIBS": os.pathsep.join(
                str(path)
                for path in Path("/usr/lib").glob("*-linux-gnu")
                if list(path.glob("ejabberd-*"))
            ),
        }

    def command(self) -> list:
        """What ejabberdctl would run, without its detours over /etc, su and epmd: the distribution
        has a fixed port on the loopback.
        """
        options = (
            "-sname ejabberd@localhost -setcookie lab -noinput +K true +P 250000 "
            "+sbwt none +sbwtdcpu none +sbwtdio none "
            f"-start_epmd false -erl_epmd_port {DISTRIBUTION} "
            "-kernel inet_dist_use_interface {127,0,0,1} -ejabberd log_rotate_count 0 -s ejabberd"
        )
        spool = f'"{self.lab.short(self.dir)}/spool"'
        return ["/usr/bin/erl", "-mnesia", "dir", spool, *options.split()]

    def ready(self) -> bool:
        """The listeners are opened one after another, so all have to be asked; then a host has to
        be served.
        """
        ports = (C2S, C2S_TLS, S2S, S2S_TLS, HTTPS)
        if self.unix_api and not self.api_socket.exists():
            return False
        return (
            all(self.lab.port_open(a, p) for a in self.addresses for p in ports) and self._answers()
        )

    def _answers(self) -> bool:
        try:
            return self.api("registered_vhosts")[0] == 200
        except OSError:
            return False

    # What an administrator does

    def install(self, host: str, pem: str) -> Path:
        """Puts <cert_dir>/<host>.pem in place as it has to be done: renamed into place, with an
        mtime later than the old file's.
        """
        path = self.cert_dir / f"{host}.pem"
        fresh = self.cert_dir / f"{host}.pem.tmp"
        before = path.stat().st_mtime if path.exists() else 0
        fresh.write_text(pem)
        fresh.chmod(0o640)
        shutil.chown(fresh, group=self.user)
        after = max(fresh.stat().st_mtime, int(before) + 1)
        os.utime(fresh, (after, after))
        fresh.replace(path)
        return path

    def api(self, command: str, *, unix: bool = False) -> tuple[int, str]:
        """One call of the API: status and body. By the unix socket it waits until that is there
        (see the trap above).
        """

        def call() -> tuple[int, bytes]:
            return self.lab.http(
                "127.0.0.1",
                API,
                "POST",
                f"/api/{command}",
                body=b"{}",
                headers={"Content-Type": "application/json"},
                unix=self.api_socket if unix else None,
            )

        def call_when_there() -> tuple[int, bytes] | None:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return call()

        status, body = wait_until(call_when_there, str(self.api_socket)) if unix else call()
        return status, body.decode()

    def reload(self) -> None:
        answer = self.api("reload_config")
        assert answer == (200, "0"), f"reload_config: {answer}"

    def vhosts(self) -> list[str]:
        return json.loads(self.api("registered_vhosts")[1])

    def set_hosts(self, hosts: list[str]) -> None:
        """Other virtual hosts, while running; certificates are not touched."""
        self.hosts = list(hosts)
        self.write_config()
        self.reload()
        wait_until(lambda: sorted(self.vhosts()) == sorted(hosts), "the virtual hosts")
