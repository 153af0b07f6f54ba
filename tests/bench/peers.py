# SPDX-License-Identifier: Apache-2.0
"""The clients, each as an experienced admin would run it: EC keys, its own way to a web root, no
waiting that it can be talked out of. All of them trust the CA by the system's trust store.
"""

import shlex
from pathlib import Path

import yaml

from tests.lab.link import Distance
from tests.lab.site import program
from tests.lab.standard import host_set

HOOK = Path(__file__).with_name("uacme-hook.sh")


class Peer:
    """One installation of one client, in a directory of its own, that has no account yet."""

    name = ""
    runs = 3  # as many are needed for a median
    timeout = 600

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


def shell(*words) -> str:
    return shlex.join(map(str, words)) + " >/dev/null"


class Certherd(Peer):
    """One command for all hosts; with the checks that it makes by default, without ejabberd."""

    name = "certherd"
    runs = 5
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


class CertherdUnchecked(Certherd):
    """The same without its look at DNS and the probe of each name, which the others don't make."""

    name = "certherd, no checks"
    skip = ("dns", "address", "http")


class Uacme(Peer):
    name = "uacme"

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


class Certbot(Peer):
    name = "certbot"
    runs = 2

    def certificate(self, host: str) -> list[str]:
        names = [word for name in host_set(host) for word in ("-d", name)]
        places = [f"--{kind}-dir={self.dir / kind}" for kind in ("config", "work", "logs")]
        return [
            shell(
                *("certbot", "certonly", "-n", "--agree-tos", "--register-unsafely-without-email"),
                *("--server", self.url, *places, "--webroot", "-w", self.web_root, *names),
            )
        ]

    def issued(self, host: str) -> Path:
        return self.dir / f"config/live/{host}/fullchain.pem"


class Lego(Peer):
    name = "lego"

    def certificate(self, host: str) -> list[str]:
        names = [word for name in host_set(host) for word in ("-d", name)]
        return [
            shell(
                *("lego", "--server", self.url, "--email", "admin@example.test", "--accept-tos"),
                *("--path", self.dir, "--key-type", "ec256"),
                *("--http", "--http.webroot", self.web_root, *names, "run"),
            )
        ]

    def issued(self, host: str) -> Path:
        return self.dir / f"certificates/{host}.crt"


class AcmeTiny(Peer):
    """It wants its keys and requests made for it, so openssl makes them within the run."""

    name = "acme-tiny"
    runs = 2

    def register(self) -> list[str]:
        return [shell(*"openssl ecparam -genkey -noout -name prime256v1 -out".split(), self._key())]

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
QUICK = (Certherd, CertherdUnchecked, Uacme)
