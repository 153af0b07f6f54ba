# SPDX-License-Identifier: Apache-2.0
"""nginx as mailcow has it: a web root with the tokens of http-01 on port 80, everything else sent
on to https.
"""

import shutil
from pathlib import Path

from .lab import MAIL4, MAIL6, Lab
from .server import Server

_CONFIG = """\
daemon off;
user www-data;
worker_processes 1;
pid {dir}/pid;
error_log {dir}/log info;
events {{ }}
http {{
    access_log {dir}/access.log combined;
    client_body_temp_path {dir}/tmp/body;
    proxy_temp_path {dir}/tmp/proxy;
    fastcgi_temp_path {dir}/tmp/fastcgi;
    uwsgi_temp_path {dir}/tmp/uwsgi;
    scgi_temp_path {dir}/tmp/scgi;
    server_tokens off;
    server {{
{listen}
        location ^~ /.well-known/acme-challenge/ {{
            default_type text/plain;
            {challenge}
        }}
        location / {{ {elsewhere} }}
{extra}
    }}
}}
"""


class Web(Server):
    """token_dir is the challenge directory itself (mailcow's /var/www/acme), web_root the document
    root above it.

    challenge and extra are nginx directives: what to do with the challenge path instead of serving
    files, and more of the server block.
    """

    def __init__(
        self,
        lab: Lab,
        name: str = "nginx",
        *,
        addresses: tuple[str, ...] = (MAIL4, MAIL6),
        port: int = 80,
        redirect: bool = True,
        web_root: Path | None = None,
        challenge: str | None = None,
        extra: str = "",
    ):
        super().__init__(lab, name)
        self.addresses, self.port, self.redirect, self.challenge, self.extra = (
            addresses,
            port,
            redirect,
            challenge,
            extra,
        )
        self.web_root = web_root or self.dir / "www"
        self.token_dir = self.web_root / ".well-known/acme-challenge"
        self.token_dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "tmp").mkdir()
        shutil.chown(self.dir / "tmp", "www-data")

    def configure(self) -> None:
        shown = [f"[{address}]" if ":" in address else address for address in self.addresses]
        text = _CONFIG.format(
            dir=self.dir,
            listen="\n".join(f"        listen {address}:{self.port};" for address in shown),
            challenge=self.challenge or f"root {self.web_root};",
            elsewhere="return 301 https://$host$request_uri;" if self.redirect else "return 404;",
            extra=self.extra,
        )
        (self.dir / "nginx.conf").write_text(text)

    def command(self) -> list:
        return [
            "/usr/sbin/nginx",
            "-e",
            self.dir / "log",
            "-p",
            self.dir,
            "-c",
            self.dir / "nginx.conf",
        ]

    def ready(self) -> bool:
        return all(self.lab.port_open(address, self.port) for address in self.addresses)

    def get(self, path: str, host: str, address: str | None = None) -> tuple[int, bytes]:
        """A page from it, as seen at one of its addresses."""
        return self.lab.http(address or self.addresses[0], self.port, "GET", path, host=host)

    def requests(self) -> list[str]:
        """Its access log, by line."""
        path: Path = self.dir / "access.log"
        return path.read_text().splitlines() if path.exists() else []
