# SPDX-License-Identifier: Apache-2.0
"""One run of one client, and what it cost: time from our clock, connections and packets from the
line, requests from the CA's log, CPU seconds and memory from the kernel.
"""

import os
import resource
import statistics
import time
from dataclasses import dataclass, fields
from pathlib import Path

from tests.lab.base import LabError
from tests.lab.link import Distance


@dataclass
class Cost:
    """Of one run, or of several as medians."""

    wall: float
    requests: float
    connections: float
    client_hellos: float
    flights: float
    cpu: float
    memory: float  # MiB, of the largest process


class RunFailed(Exception):
    """The client ended with an error, or did not end."""


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(getattr(c, f.name) for c in costs) for f in fields(Cost)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_memory(report: Path) -> float:
    """What time(1) wrote. It starts the client with a small memory image; as a child of this
    program the client would inherit the peak of Python.
    """
    return int(report.read_text().split()[-1]) / 1024


def run(stage: Distance, command: list, *, timeout: float, good: tuple[int, ...] = (0,)) -> Cost:
    """Runs a command near, with everything counted from its start to its end."""
    lab, ca = stage.near.lab, stage.far.ca
    report = lab.dir / "time"
    mark = ca.mark()
    stage.link.reset()
    cpu, start = _cpu(), time.monotonic()
    try:
        done = lab.run(
            ["/usr/bin/time", "-q", "-f", "%M", "-o", report, *command],
            check=False,
            timeout=timeout,
        )
    except LabError as error:
        raise RunFailed(str(error)) from None
    wall, cpu = time.monotonic() - start, _cpu() - cpu
    if done.returncode not in good:
        raise RunFailed(f"exit status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    traffic = stage.link.traffic()
    return Cost(
        wall=wall,
        requests=len(ca.requests(mark)),
        connections=traffic.connections,
        client_hellos=traffic.client_hellos,
        flights=traffic.flights,
        cpu=cpu,
        memory=_peak_memory(report),
    )


def load() -> str:
    """How busy the machine is."""
    return f"{os.getloadavg()[0]:.2f}"
