# SPDX-License-Identifier: Apache-2.0
"""Distance: two labs joined by a line on which each packet takes half of the round-trip time, and a
CA at its far end. For benchmarks.
"""

import contextlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import standard
from .base import LabError, stop_process
from .lab import Lab

SOURCE = Path(__file__).resolve().parents[1] / "bench/link.c"
NEAR4, FAR4, NEAR6, FAR6 = "10.54.0.1", "10.54.0.2", "fd00:54::1", "fd00:54::2"


@dataclass(frozen=True)
class Traffic:
    """What the line has seen since the last reset(). flights: round trips that had to wait for each
    other (bench/link.c says how it is counted; a farewell at the end of a connection may count as
    one).
    """

    connections: int
    client_hellos: int
    flights: int
    packets_out: int
    packets_in: int
    bytes_out: int
    bytes_in: int


class Link:
    """The line; a context manager. The labs see each other as NEAR4/NEAR6 and FAR4/FAR6."""

    def __init__(self, near: Lab, far: Lab, rtt_ms: float):
        self.near, self.far, self.rtt_ms = near, far, rtt_ms

    def __enter__(self) -> "Link":
        program = self.far.dir / "link"
        built = subprocess.run(
            ["cc", "-std=gnu17", "-O2", "-o", program, SOURCE], capture_output=True, text=True
        )
        if built.returncode != 0:
            raise LabError(f"{SOURCE.name} does not compile\n{built.stderr}")
        self._process = subprocess.Popen(
            [
                program,
                self.near.namespace_path,
                self.far.namespace_path,
                str(round(self.rtt_ms * 1000)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            if self._process.stdout.readline() != "ready\n":
                raise LabError(self._process.communicate()[1].strip())
            for lab, own, peer in (
                (self.near, (NEAR4, NEAR6), (FAR4, FAR6)),
                (self.far, (FAR4, FAR6), (NEAR4, NEAR6)),
            ):
                lab.run(
                    ["ip", "-batch", "-"],
                    input=(
                        f"addr add {own[0]} peer {peer[0]} dev link0\n"
                        f"addr add {own[1]} peer {peer[1]} dev link0 nodad\n"
                        "link set link0 txqueuelen 10000 up\n"
                    ),
                )
            self.reset()
        except BaseException:
            stop_process(self._process)
            raise
        return self

    def __exit__(self, *_) -> None:
        stop_process(self._process)

    def _command(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def set_rtt(self, rtt_ms: float) -> None:
        """For packets that leave from now on."""
        self.rtt_ms = rtt_ms
        self._command(f"rtt {round(rtt_ms * 1000)}")

    def reset(self) -> None:
        self._command("reset")

    def traffic(self) -> Traffic:
        self._command("stats")
        return Traffic(**json.loads(self._process.stdout.readline()))


@dataclass
class Distance:
    """near: everything a mail host has, but the CA's directory is far away. far: the CA, and name
    and web servers that show its validator the same zones and tokens without delay.
    """

    near: standard.Mailcow
    far: standard.Mailcow
    link: Link


@contextlib.contextmanager
def distant_ca(
    rtt_ms: float,
    domains: dict[str, str | None] | None = None,
    *,
    ca: dict | None = None,
    ejabberd: bool = False,
):
    """A Distance with all servers running. near.ca is the far CA, with its address in the near
    /etc/hosts and its certificate trusted there.
    """
    with Lab(hosts={"acme.test": FAR4}) as near_lab, Lab(
        hosts={"acme.test": FAR4}
    ) as far_lab, Link(near_lab, far_lab, rtt_ms) as link:
        far = standard.prepare(far_lab, domains, ca={"address": FAR4} | (ca or {}))
        near = standard.prepare(near_lab, domains, web={"web_root": far.web.web_root})
        near.ca = far.ca
        far_lab.start(far.knot, far.unbound, far.ca, far.web)
        near_lab.start(*([near.ejabberd] if ejabberd else []), near.knot, near.unbound, near.web)
        near_lab.trust("certherd-lab-acme", far.ca.ca_bundle.read_text())
        link.reset()
        yield Distance(near, far, link)
