# SPDX-License-Identifier: Apache-2.0
"""Pebble, the CA of the tests. One configuration serves all its versions from 2.4 on, which ignores
the keys it doesn't know.
"""

import collections
import json
import re
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path

from . import certs
from .base import PATIENCE
from .lab import RESOLVER4, Lab
from .server import Server

_REQUEST = re.compile(r"^Pebble \S+ \S+ (GET|HEAD|POST|PUT|DELETE) (\S+) -> ", re.MULTILINE)


@dataclass
class Request:
    """What the log says of one request."""

    method: str
    path: str

    @property
    def kind(self) -> str:
        """The name of the resource without its id: dir, nonce-plz, sign-me-up, order-plz, my-order,
        authZ, chalZ, finalize-order, certZ.
        """
        return self.path.strip("/").split("/")[0]


class Pebble(Server):
    """A CA with a state in memory: after a restart it knows no account and has another root.

    nonce_reject and authz_reuse are in percent; None leaves pebble's own default (5 and 50). sleep
    is the longest random delay of a validation in seconds, 0 for none, None for pebble's default.
    retry_after is the Retry-After of (authorization, order) in seconds, from 2.5 on. All of it is
    in `environment` and `config`, which may be changed before a restart.
    """

    def __init__(
        self,
        lab: Lab,
        name: str = "pebble",
        *,
        binary: str = "/usr/bin/pebble",
        address: str = "127.0.0.1",
        port: int = 14000,
        management_port: int = 15000,
        names: tuple[str, ...] = ("acme.test", "localhost"),
        nonce_reject: int | None = 0,
        authz_reuse: int | None = 0,
        sleep: int | None = 0,
        strict: bool = False,
        validity: int = 90 * 86400,
        http_port: int = 80,
        tls_port: int = 443,
        dns: str = f"{RESOLVER4}:53",
        alternate_roots: int = 0,
        chain_length: int = 1,
        retry_after: tuple[int, int] = (1, 1),
        eab: dict[str, str] | None = None,
        profiles: dict[str, int] | None = None,
        blocklist: tuple[str, ...] = (),
        always_valid: bool = False,
        key_algorithm: str = "ecdsa",
    ):
        super().__init__(lab, name)
        self.binary, self.strict, self.dns = binary, strict, dns
        self.address, self.names = address, names
        self.port, self.management_port = port, management_port
        self.directory_url = f"https://{names[0]}:{port}/dir"
        self.ca_bundle = self.dir / "ca.pem"
        self.environment = {
            "PEBBLE_WFE_NONCEREJECT": nonce_reject,
            "PEBBLE_AUTHZREUSE": authz_reuse,
            "PEBBLE_WFE_AUTHZREUSE": authz_reuse,
            "PEBBLE_VA_NOSLEEP": 1 if sleep == 0 else None,
            "PEBBLE_VA_SLEEPTIME": sleep or None,
            "PEBBLE_ALTERNATE_ROOTS": alternate_roots,
            "PEBBLE_CHAIN_LENGTH": chain_length,
            "PEBBLE_VA_ALWAYS_VALID": 1 if always_valid else None,
        }
        self.config = {
            "listenAddress": f"{address}:{port}",
            "managementListenAddress": f"{address}:{management_port}",
            "certificate": str(self.dir / "cert.pem"),
            "privateKey": str(self.dir / "key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "domainBlocklist": list(blocklist),
            "externalAccountBindingRequired": eab is not None,
            "externalAccountMACKeys": eab or {},
            "certificateValidityPeriod": validity,
            "retryAfter": dict(zip(("authz", "order"), retry_after)),
            "keyAlgorithm": key_algorithm,
            "profiles": {
                n: {"description": n, "validityPeriod": s}
                for n, s in (profiles or {"default": validity}).items()
            },
        }
        authority = certs.make(["certherd lab: TLS of the test CA"], ca=True, days=3650)
        self._write_certificate(authority)

    def _write_certificate(self, authority: tuple) -> None:
        """The certificate of its HTTPS listener; nothing to do with what it issues."""
        certificate, key = certs.make(
            [*self.names, "127.0.0.1", "::1", self.address], issuer=authority, days=365
        )
        self.ca_bundle.write_text(certs.cert_pem(authority[0]))
        (self.dir / "cert.pem").write_text(
            certs.cert_pem(certificate) + certs.cert_pem(authority[0])
        )
        (self.dir / "key.pem").write_text(certs.key_pem(key))

    def configure(self) -> None:
        (self.dir / "pebble.json").write_text(json.dumps({"pebble": self.config}, indent=2))

    def command(self) -> list:
        return [
            self.binary,
            "-config",
            self.dir / "pebble.json",
            "-dnsserver",
            self.dns,
            *(["-strict"] if self.strict else []),
        ]

    def env(self) -> dict:
        return {name: value for name, value in self.environment.items() if value is not None}

    def ready(self) -> bool:
        return self.lab.port_open(self.address, self.port) and self.lab.port_open(
            self.address, self.management_port
        )

    def trust(self) -> None:
        """Makes every program inside believe in its HTTPS listener, for clients that have no option
        for that.
        """
        self.lab.trust("certherd-lab-acme", self.ca_bundle.read_text())

    def deadlocked(self) -> bool:
        """Whether pebble waits for itself: 2.4 can, when an order is made while names of another are validated or looked up,
        and then answers no newOrder any more. To find out it is ended with all its stacks in the log, and started again.
        """
        if not self.process or self.process.poll() is not None:
            return False
        mark = self.mark()
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE)
        stacks = self.log.read_bytes()[mark:].decode(errors="replace").split("\n\n")
        self.start()
        blocked = [stack for stack in stacks if "sync.(*RWMutex)" in stack and "db.(*MemoryStore)" in stack]
        return len(blocked) >= 2

    # What it knows

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_bundle))

    def get(self, path: str) -> tuple[int, bytes]:
        """A page of the ACME interface; counts as a request in the log."""
        return self.lab.http(
            self.address, self.port, "GET", path, host=self.names[0], tls=self._tls()
        )

    def manage(
        self, path: str, method: str = "GET", body: bytes | None = None
    ) -> tuple[int, bytes]:
        """A page of the management interface: /roots/0, /intermediates/0,
        /cert-status-by-serial/HEX, /set-renewal-info/ …
        """
        return self.lab.http(
            self.address,
            self.management_port,
            method,
            path,
            host=self.names[0],
            tls=self._tls(),
            body=body,
        )

    def roots_pem(self, number: int = 0) -> str:
        """What its certificates chain to; another one after each start."""
        status, body = self.manage(f"/roots/{number}")
        assert status == 200, f"/roots/{number}: {status}"
        return body.decode()

    def write_roots(self, path: Path | None = None) -> Path:
        """roots_pem() as a file, for clients and verifiers."""
        path = path or self.dir / "roots.pem"
        path.write_text(self.roots_pem())
        return path

    # What it was asked

    def requests(self, since: int = 0) -> list[Request]:
        """Every ACME request in the order of arrival, since a mark()."""
        text = self.log.read_bytes()[since:].decode(errors="replace")
        return [Request(*match.groups()) for match in _REQUEST.finditer(text)]

    def mark(self) -> int:
        """A place in the log, to ask only for what comes after it."""
        return self.log.stat().st_size

    def kinds(self, since: int = 0) -> collections.Counter:
        """How many requests of each kind; see Request.kind."""
        return collections.Counter(request.kind for request in self.requests(since))

    def orders(self, since: int = 0) -> int:
        """How many new-order requests (those refused for a bad nonce count too)."""
        return self.kinds(since)["order-plz"]
