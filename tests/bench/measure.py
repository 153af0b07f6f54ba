# SPDX-License-Identifier: Apache-2.0
"""One run of one client, and what it cost: time, CPU seconds and memory by stopwatch.c, connections
and packets from the line, requests from the CA's log.
"""

import os
import statistics
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from tests.lab.base import LabError
from tests.lab.link import Distance

SOURCE = Path(__file__).with_name("stopwatch.c")


@dataclass
class Cost:
    """Of one run, or of several as medians."""

    wall: float
    cpu: float
    memory: float  # MiB, of the largest process
    requests: float
    connections: float
    client_hellos: float
    flights: float


class RunFailed(Exception):
    """The client ended with an error, or did not end."""


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(getattr(c, f.name) for c in costs) for f in fields(Cost)))


def _stopwatch(directory: Path) -> Path:
    program = directory / "stopwatch"
    if not program.exists():
        subprocess.run(["cc", "-std=gnu17", "-O2", "-o", program, SOURCE], check=True)
    return program


def run(stage: Distance, command: list, *, timeout: float) -> Cost:
    """Runs a command near, with everything counted from its start to its end."""
    lab, ca = stage.near.lab, stage.far.ca
    report, stopwatch = lab.dir / "stopwatch.report", _stopwatch(lab.dir)
    mark = ca.mark()
    stage.link.reset()
    try:
        done = lab.run([stopwatch, report, *command], check=False, timeout=timeout)
    except LabError as error:
        raise RunFailed(str(error)) from None
    if done.returncode != 0:
        raise RunFailed(f"exit status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    traffic = stage.link.traffic()
    _, wall, cpu, memory = report.read_text().split()
    return Cost(
        wall=float(wall),
        cpu=float(cpu),
        memory=int(memory) / 1024,
        requests=len(ca.requests(mark)),
        connections=traffic.connections,
        client_hellos=traffic.client_hellos,
        flights=traffic.flights,
    )


def load() -> str:
    """How busy the machine is."""
    return f"{os.getloadavg()[0]:.2f}"


def machine() -> str:
    with open("/proc/cpuinfo", encoding="ascii") as info:
        model = next((x.partition(":")[2].strip() for x in info if x.startswith("model name")), "?")
    return f"{os.cpu_count()} CPUs ({model}), load average {load()}"
