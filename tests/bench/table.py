# SPDX-License-Identifier: Apache-2.0
"""The results as text."""

from dataclasses import dataclass, field

from .measure import Cost, median

# What a program needs that does only the protocol, with as many nonces as it can use (seconds at 50
# and 200 ms): RFC 8555 is 12 round trips deep with a new account, 11 with an existing one.
FLOOR = {("one", 50): 0.64, ("one", 200): 2.47, ("twenty", 50): 0.84, ("twenty", 200): 2.57}
TITLES = {
    "one": "one certificate with five names, new account",
    "twenty": "twenty certificates with five names each, existing account",
}


@dataclass
class Results:
    """All runs of one client."""

    name: str
    costs: dict[tuple[str, int], list[Cost]] = field(default_factory=dict)
    failures: int = 0

    def add(self, case: str, rtt: int, cost: Cost) -> None:
        self.costs.setdefault((case, rtt), []).append(cost)

    def median(self, case: str, rtt: int) -> Cost | None:
        costs = self.costs.get((case, rtt))
        return median(costs) if costs else None


def _columns(case: str, results: Results, rtts) -> list[str]:
    costs = [results.median(case, rtt) for rtt in rtts]
    if not all(costs):
        return [results.name] + ["-"] * (len(rtts) * 2 + 7)
    walls = [f"{cost.wall:.2f}" for cost in costs]
    ratios = [
        f"{cost.wall / FLOOR[case, rtt]:.2f}" if (case, rtt) in FLOOR else "-"
        for cost, rtt in zip(costs, rtts)
    ]
    trips = "-"
    if len(costs) > 1:
        trips = f"{(costs[-1].wall - costs[0].wall) * 1000 / (rtts[-1] - rtts[0]):.1f}"
    last = costs[0]
    return [
        results.name,
        *walls,
        *ratios,
        trips,
        *(f"{number:.0f}" for number in (last.flights, last.requests, last.connections, last.client_hellos)),
        f"{last.cpu:.2f}",
        f"{last.memory:.1f}",
        "/".join(str(len(results.costs[case, rtt])) for rtt in rtts),
    ]


def _floor(case: str, rtts) -> list[str]:
    walls = [FLOOR.get((case, rtt)) for rtt in rtts]
    shown = [f"{wall:.2f}" if wall else "-" for wall in walls]
    known = len(rtts) > 1 and all(walls)
    trips = f"{(walls[-1] - walls[0]) * 1000 / (rtts[-1] - rtts[0]):.1f}" if known else "-"
    return ["(floor)", *shown, *["1.00" if wall else "-" for wall in walls], trips] + [""] * 7


def align(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    )


def render(all_results: list[Results], rtts) -> str:
    head = ["", *(f"s@{rtt}" for rtt in rtts), *(f"/floor@{rtt}" for rtt in rtts), "RTTs"]
    head += ["flights", "requests", "TCP", "TLS", "CPU s", "MiB", "n"]
    parts = []
    for case, title in TITLES.items():
        shown = [r for r in all_results if any(key[0] == case for key in r.costs)]
        if shown:
            rows = [head, _floor(case, rtts), *(_columns(case, r, rtts) for r in shown)]
            parts.append(f"{title}\n{align(rows)}")
    return "\n\n".join(parts)
