# SPDX-License-Identifier: Apache-2.0
"""The results as text."""

from dataclasses import dataclass, field

from .measure import Cost, median

# What a program needs that does only the protocol, with as many nonces as it can use: seconds at 50
# and 200 ms. RFC 8555 is 12 round trips deep with a new account, 11 with an existing one.
FLOOR = {("one", 50): 0.64, ("one", 200): 2.47, ("twenty", 50): 0.84, ("twenty", 200): 2.57}
TITLES = {
    "one": "One certificate with five names, new account",
    "twenty": "Twenty certificates with five names each, existing account",
}
LEGEND = """\
Medians of n runs; "best" is the fastest of them. RTTs: sequential round trips, from the difference
of the two distances. flights: the longest chain of causes on the line. MiB: the largest process.
requests, TCP, TLS and CPU are those of the first distance. floor: a program that does nothing but
the protocol and has all the nonces it can use."""


@dataclass
class Results:
    """All runs of one client."""

    name: str
    costs: dict[tuple[str, int], list[Cost]] = field(default_factory=dict)
    failures: int = 0

    def add(self, key: tuple[str, int], cost: Cost) -> None:
        self.costs.setdefault(key, []).append(cost)


def _trips(walls: list[float], rtts) -> str:
    if len(walls) < 2 or not all(walls):
        return "-"
    return f"{(walls[-1] - walls[0]) * 1000 / (rtts[-1] - rtts[0]):.1f}"


def _seconds(wall: float | None) -> str:
    return f"{wall:.2f}" if wall else "-"


def _distance(case: str, rtt: int, costs: list[Cost] | None) -> list[str]:
    if not costs:
        return ["-", "-", "-"]
    wall, floor = median(costs).wall, FLOOR.get((case, rtt))
    return [_seconds(wall), _seconds(min(c.wall for c in costs)), _seconds(floor and wall / floor)]


def _row(case: str, results: Results, rtts) -> list[str]:
    found = [results.costs.get((case, rtt)) for rtt in rtts]
    row = [results.name]
    for rtt, costs in zip(rtts, found):
        row += _distance(case, rtt, costs)
    row.append(_trips([median(costs).wall if costs else 0 for costs in found], rtts))
    if not found[0]:
        return row + ["-"] * 7
    c = median(found[0])
    row += [f"{count:.0f}" for count in (c.flights, c.requests, c.connections, c.client_hellos)]
    return row + [f"{c.cpu:.2f}", f"{c.memory:.1f}", "/".join(str(len(x or ())) for x in found)]


def _floor(case: str, rtts) -> list[str]:
    walls = [FLOOR.get((case, rtt)) for rtt in rtts]
    row = ["floor"]
    for wall in walls:
        row += [_seconds(wall), "", "1.00" if wall else "-"]
    return row + [_trips(walls, rtts)] + [""] * 7


def _align(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        first, *others = zip(row, widths)
        cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _idle(all_results: list[Results]) -> str:
    rows = [["", "certificates", "s", "ms each", "requests", "CPU s", "MiB"]]
    for results in all_results:
        for (case, lineages), costs in results.costs.items():
            if case == "idle":
                c = median(costs)
                each = f"{c.wall * 1000 / lineages:.2f}"
                row = [results.name, str(lineages), f"{c.wall:.2f}", each]
                rows.append(row + [f"{c.requests:.0f}", f"{c.cpu:.2f}", f"{c.memory:.1f}"])
    return f"Nothing due\n{_align(rows)}" if len(rows) > 1 else ""


def render(all_results: list[Results], rtts) -> str:
    head = [""]
    for rtt in rtts:
        head += [f"s@{rtt}", "best", "/floor"]
    head += ["RTTs", "flights", "requests", "TCP", "TLS", "CPU s", "MiB", "n"]
    parts = []
    for case, title in TITLES.items():
        shown = [r for r in all_results if any(key[0] == case for key in r.costs)]
        if shown:
            rows = [head, _floor(case, rtts), *(_row(case, r, rtts) for r in shown)]
            parts.append(f"{title}\n{_align(rows)}")
    parts += [part for part in (_idle(all_results), LEGEND) if part]
    for results in all_results:
        if results.failures:
            parts.append(f"{results.name}: {results.failures} runs failed and were made again")
    return "\n\n".join(parts)
