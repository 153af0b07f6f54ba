# SPDX-License-Identifier: Apache-2.0
"""certherd in a lab: its configuration as data, and ways to run it."""

import copy
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from .lab import MAIL4
from .standard import Mailcow

ROOT = Path(__file__).resolve().parents[2]


def program() -> Path:
    """The program under test: CERTHERD_PROGRAM, else what `dev build` made."""
    return Path(os.environ.get("CERTHERD_PROGRAM", ROOT / "build/agent/certherd")).resolve()


@dataclass
class Result:
    """How one run ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)

    def host(self, name: str) -> dict:
        """What the JSON says about one host."""
        return next(h for h in self.json["hosts"] if h["host"] == name)

    def __str__(self) -> str:
        return f"exit status {self.status}\n--- stdout ---\n{self.out}--- stderr ---\n{self.err}"


class Site:
    """One installation: state directory, configuration file, and the servers it works with.

    `config` is the file as data: change it and the next run sees it. The web root and cert_dir are those of the lab's nginx and ejabberd.
    """

    def __init__(self, stage: Mailcow, name: str = "certherd", *, domains: tuple[str, ...] = ("example.test:im",)):
        self.stage, self.lab = stage, stage.lab
        self.dir = stage.lab.dir / name
        self.dir.mkdir()
        self.state = self.dir / "state"
        self.live = stage.ejabberd.cert_dir
        self.config = {
            "mail_host": stage.mail_host,
            "domains": [self.domain(text) for text in domains],
            "state_dir": str(self.state),
            "cert_dir": str(self.live),
            "acme": {
                "directory": stage.ca.directory_url,
                "ca_bundle": str(stage.ca.ca_bundle),
                "roots": str(stage.ca.write_roots(self.dir / "roots.pem")),
            },
            "http01": {"token_dir": str(stage.web.token_dir)},
            "ejabberd": {"api": stage.ejabberd.api_http, "probe": {"host": MAIL4}},
        }

    @staticmethod
    def domain(text: str) -> dict:
        name, _, prefix = text.rpartition(":")
        return {"domain": name, "prefix": prefix}

    def set(self, path: str, value) -> None:
        """One value of the configuration by its dotted path; None takes it out."""
        *parents, last = path.split(".")
        node = self.config
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = copy.deepcopy(value)

    @property
    def config_file(self) -> Path:
        return self.dir / "certherd.yml"

    def write(self) -> Path:
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return self.config_file

    def command(self, *arguments) -> list:
        return [program(), *arguments, "--config", self.write()]

    def run(self, *arguments, wrapper: tuple = (), **options) -> Result:
        """Runs a command to its end. wrapper: a program that runs it (strace …)."""
        done = self.lab.run([*wrapper, *self.command(*arguments)], check=False, **options)
        return Result(done.returncode, done.stdout or "", done.stderr or "")

    def json(self, *arguments, **options) -> Result:
        return self.run(*arguments, "--json", **options)

    def start(self, *arguments, **options) -> subprocess.Popen:
        """Starts it and returns."""
        return self.lab.popen(self.command(*arguments), **options)

    # What is on disk

    def pem(self, host: str = "im.example.test") -> Path:
        return self.live / f"{host}.pem"

    def lineage(self, host: str = "im.example.test") -> Path:
        return self.state / "lineages" / host

    def tokens(self) -> list[str]:
        """Files in the challenge directory."""
        return sorted(path.name for path in self.stage.web.token_dir.iterdir())
