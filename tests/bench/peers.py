# SPDX-License-Identifier: Apache-2.0
"""The clients, each as an experienced admin would run it: EC keys, its own way to a web root, no
waiting that it can be talked out of. All of them trust the CA by the system's trust store.
"""

import copy
import hashlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.lab import certs
from tests.lab.link import Distance
from tests.lab.site import program
from tests.lab.standard import host_set

HOOK = Path(__file__).with_name("uacme-hook.sh")


@dataclass
class Stored:
    """A certificate that a client is made to believe it has obtained."""

    host: str
    leaf: str
    issuer: str
    key: str

    @property
    def chain(self) -> str:
        return self.leaf + self.issuer


def stored(hosts: list[str]) -> list[Stored]:
    """One for each host, with its components, far from its end."""
    authority = certs.make(["certherd bench CA"], ca=True, days=3650)
    issuer = certs.cert_pem(authority[0])
    made = [(host, certs.make(host_set(host), issuer=authority, days=89)) for host in hosts]
    return [Stored(h, certs.cert_pem(c), issuer, certs.key_pem(key)) for h, (c, key) in made]


class Peer:
    """One installation of one client, in a directory of its own, that has no account yet."""

    name = ""
    runs = 3
    runs_twenty = 3  # of the long case
    far_twenty = True  # whether it is measured at the second distance too
    lineages = 1000  # for the case that nothing is due
    timeout = 900

    def __init__(self, stage: Distance, directory: Path):
        self.stage, self.dir = stage, directory
        self.dir.mkdir()
        self.url = stage.far.ca.directory_url
        self.web_root, self.token_dir = stage.near.web.web_root, stage.near.web.token_dir

    def issue(self, hosts: list[str], *, new_account: bool) -> list:
        """The command that gets one certificate for each XMPP host and its components."""
        lines = ["set -e", *(self.register() if new_account else [])]
        for host in hosts:
            lines += self.certificate(host)
        script = self.dir / "script"
        script.write_text("\n".join(lines) + "\n")
        return ["/bin/sh", script]

    def register(self) -> list[str]:
        """Lines of shell that make the account, where the client does it apart."""
        return []

    def certificate(self, host: str) -> list[str]:
        """Lines of shell for one certificate."""
        raise NotImplementedError

    def issued(self, host: str) -> Path:
        """Where the certificate is then."""
        raise NotImplementedError

    def store(self, template: str, certificates: list[Stored]) -> None:
        """Puts certificates where it keeps them, in the form of that of the host `template`, which it
        has really obtained. Clients without a store of their own have no such method.
        """
        raise NotImplementedError

    def renew(self, hosts: list[str]) -> list:
        """The command that renews what is due."""
        script = self.dir / "script"
        script.write_text("\n".join(["set -e", *map(self.renewal, hosts)]) + "\n")
        return ["/bin/sh", script]

    def renewal(self, host: str) -> str:
        """A line of shell that renews one if it is due."""
        raise NotImplementedError


def shell(*words) -> str:
    return shlex.join(map(str, words)) + " >/dev/null"


class Certherd(Peer):
    """One command for all hosts; with the checks that it makes by default, without ejabberd."""

    name = "certherd"
    runs = runs_twenty = 5
    timeout = 60
    skip: tuple[str, ...] = ()

    def configure(self, hosts: list[str]) -> Path:
        split = [host.partition(".") for host in hosts]
        config = {
            "mail_host": self.stage.near.mail_host,
            "domains": [{"domain": domain, "prefix": prefix} for prefix, _, domain in split],
            "state_dir": str(self.dir / "state"),
            "cert_dir": str(self.dir / "live"),
            "acme": {"directory": self.url, "roots": str(self.dir / "roots.pem")},
            "http01": {"token_dir": str(self.token_dir)},
        }
        if self.skip:
            config["preflight"] = {"skip": list(self.skip)}
        (self.dir / "live").mkdir(exist_ok=True)
        self.stage.far.ca.write_roots(self.dir / "roots.pem")
        path = self.dir / "certherd.yml"
        path.write_text(yaml.safe_dump(config))
        return path

    def issue(self, hosts: list[str], *, new_account: bool) -> list:
        return [program(), "renew", "--quiet", "--config", self.configure(hosts)]

    def issued(self, host: str) -> Path:
        return self.dir / f"live/{host}.pem"

    def renew(self, hosts: list[str]) -> list:
        return self.issue(hosts, new_account=False)

    def store(self, template: str, certificates: list[Stored]) -> None:
        lineages = self.dir / "state/lineages"
        manifest = json.loads((lineages / template / "1/manifest.json").read_text())
        state = (lineages / template / "state.json").read_text()
        for c in certificates:
            directory = lineages / c.host / "1"
            directory.mkdir(parents=True)
            _write(directory / "key.pem", c.key, 0o600)
            _write(directory / "chain.pem", c.chain, 0o600)
            _write(directory / "manifest.json", json.dumps(self._manifest(manifest, c)), 0o600)
            _write(lineages / c.host / "state.json", state, 0o600)
            _write(self.issued(c.host), c.chain + c.key, 0o640)

    @staticmethod
    def _manifest(template: dict, c: Stored) -> dict:
        made = copy.deepcopy(template)
        for name, text in (("key.pem", c.key), ("chain.pem", c.chain), ("joined", c.chain + c.key)):
            entry = made["files"][name]
            entry |= {"sha256": hashlib.sha256(text.encode()).hexdigest()}
            entry |= {"size": len(text)} if "size" in entry else {}
        return made | {"names": host_set(c.host)}


class CertherdUnchecked(Certherd):
    """The same without its look at DNS and the probe of each name, which the others don't make."""

    name = "certherd, no checks"
    lineages = 0
    skip = ("dns", "address", "http")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


class Uacme(Peer):
    name = "uacme"
    runs_twenty = 1
    far_twenty = False

    def _uacme(self, *words) -> str:
        return shell("uacme", "-c", self.dir, "-a", self.url, "-t", "EC", *words)

    def register(self) -> list[str]:
        return [self._uacme("-y", "new")]

    def certificate(self, host: str) -> list[str]:
        return [
            f"TOKEN_DIR={shlex.quote(str(self.token_dir))} "
            + self._uacme("-h", HOOK, "issue", *host_set(host))
        ]

    def issued(self, host: str) -> Path:
        return self.dir / f"{host}/cert.pem"

    def store(self, template: str, certificates: list[Stored]) -> None:
        for c in certificates:
            _write(self.issued(c.host), c.chain)
            _write(self.dir / f"private/{c.host}/key.pem", c.key, 0o600)

    def renewal(self, host: str) -> str:
        # Exit status 1: it is not due.
        return f"{self.certificate(host)[0]} && exit 9 || [ $? -eq 1 ]"


class Certbot(Peer):
    name = "certbot"
    runs_twenty = 1
    far_twenty = False

    def _places(self) -> list[str]:
        return [f"--{kind}-dir={self.dir / kind}" for kind in ("config", "work", "logs")]

    def certificate(self, host: str) -> list[str]:
        names = [word for name in host_set(host) for word in ("-d", name)]
        return [
            shell(
                *("certbot", "certonly", "-n", "--agree-tos", "--register-unsafely-without-email"),
                *("--server", self.url, *self._places(), "--webroot", "-w", self.web_root, *names),
            )
        ]

    def issued(self, host: str) -> Path:
        return self.dir / f"config/live/{host}/fullchain.pem"

    def store(self, template: str, certificates: list[Stored]) -> None:
        config = self.dir / "config"
        renewal = (config / f"renewal/{template}.conf").read_text()
        for c in certificates:
            _write(config / f"renewal/{c.host}.conf", renewal.replace(template, c.host))
            texts = {"cert": c.leaf, "chain": c.issuer, "fullchain": c.chain, "privkey": c.key}
            (config / f"live/{c.host}").mkdir()
            for name, text in texts.items():
                _write(config / f"archive/{c.host}/{name}1.pem", text, 0o600)
                target = f"../../archive/{c.host}/{name}1.pem"
                os.symlink(target, config / f"live/{c.host}/{name}.pem")

    def renew(self, hosts: list[str]) -> list:
        return ["certbot", "renew", "-n", "--no-random-sleep-on-renew", *self._places()]


class Lego(Peer):
    name = "lego"

    runs_twenty = 1
    lineages = 100

    def _lego(self, host: str, command: str) -> list[str]:
        names = [word for name in host_set(host) for word in ("-d", name)]
        return [
            shell(
                *("lego", "--server", self.url, "--email", "admin@example.test", "--accept-tos"),
                *("--path", self.dir, "--key-type", "ec256"),
                *("--http", "--http.webroot", self.web_root, *names, command),
            )
        ]

    def certificate(self, host: str) -> list[str]:
        return self._lego(host, "run")

    def renewal(self, host: str) -> str:
        return self._lego(host, "renew")[0]

    def issued(self, host: str) -> Path:
        return self.dir / f"certificates/{host}.crt"

    def store(self, template: str, certificates: list[Stored]) -> None:
        note = (self.dir / f"certificates/{template}.json").read_text()
        for c in certificates:
            path = self.issued(c.host)
            for suffix, text in ((".crt", c.chain), (".issuer.crt", c.issuer), (".key", c.key)):
                _write(path.with_name(c.host + suffix), text, 0o600)
            _write(path.with_name(c.host + ".json"), note.replace(template, c.host), 0o600)


class AcmeTiny(Peer):
    """It wants its keys and requests made for it, so openssl makes them within the run. Its account
    key can be RSA only.
    """

    name = "acme-tiny"
    runs_twenty = 1
    far_twenty = False
    lineages = 0

    def register(self) -> list[str]:
        return [shell("openssl", "genrsa", "-out", self._key(), "2048")]

    def _key(self, host: str = "account") -> Path:
        return self.dir / f"{host}.key"

    def certificate(self, host: str) -> list[str]:
        request = self.dir / f"{host}.csr"
        alt_names = ",".join(f"DNS:{name}" for name in host_set(host))
        return [
            shell(
                *"openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(),
                *("-subj", "/", "-addext", f"subjectAltName={alt_names}"),
                *("-keyout", self._key(host), "-out", request),
            ),
            shell(
                *("acme-tiny", "--quiet", "--directory-url", self.url),
                *("--account-key", self._key(), "--csr", request, "--acme-dir", self.token_dir),
            ).replace(">/dev/null", f">{shlex.quote(str(self.issued(host)))}"),
        ]

    def issued(self, host: str) -> Path:
        return self.dir / f"{host}.crt"


PEERS: tuple[type[Peer], ...] = (Certherd, CertherdUnchecked, Lego, Uacme, Certbot, AcmeTiny)
QUICK = (Certherd, CertherdUnchecked, Lego, Uacme)
