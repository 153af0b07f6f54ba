#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""certherd beside other ACME clients, at a distance from the CA. Each gets an account and one
certificate with five names, then with that account twenty such, one after another as it would in a
script, behind round-trip times of 50 and 200 ms. Then it looks at many certificates of which none
is due.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import measure, peers, table  # noqa: E402
from tests.lab.link import Distance, distant_ca  # noqa: E402
from tests.lab.site import program  # noqa: E402

ONE = ["im.one.test"]
TWENTY = [f"im.d{number:02}.test" for number in range(20)]
RTTS = (50, 200)
TRIES = 3  # of one run; pebble 2.4 has a deadlock that several orders at once can meet


def say(text: str = "") -> None:
    print(text, flush=True)


def domains() -> dict[str, str]:
    return {host.partition(".")[2]: "im" for host in ONE + TWENTY}


def issue(stage: Distance, peer: peers.Peer, hosts: list[str], *, new: bool) -> measure.Cost:
    cost = measure.run(stage, peer.issue(hosts, new_account=new), timeout=peer.timeout)
    for host in hosts:
        if "BEGIN CERTIFICATE" not in peer.issued(host).read_text():
            raise measure.RunFailed(f"no certificate for {host}")
    return cost


class Bench:
    def __init__(self, stage: Distance, options):
        self.stage, self.options = stage, options
        self.installations = 0

    def install(self, kind: type[peers.Peer]) -> peers.Peer:
        self.installations += 1
        return kind(self.stage, self.stage.near.lab.dir / f"client-{self.installations}")

    def one_run(self, kind: type[peers.Peer], rtt: int, twenty: bool) -> dict[str, measure.Cost]:
        """What the cases cost, by their names."""
        peer = self.install(kind)
        self.stage.link.set_rtt(rtt)
        costs = {"one": issue(self.stage, peer, ONE, new=True)}
        if twenty:
            costs["twenty"] = issue(self.stage, peer, TWENTY, new=False)
        return costs

    def insist(self, results: table.Results, what: str, function, *arguments):
        """The function's result; after some failures None."""
        for _ in range(TRIES):
            try:
                return function(*arguments)
            except measure.RunFailed as failure:
                say(f"  {results.name}, {what}: {failure}")
                results.failures += 1
                self.stage.far.ca.restart()
        return None

    def runs_of_twenty(self, kind: type[peers.Peer], rtt: int) -> int:
        """The slow ones would take a quarter of an hour for one run."""
        slow = kind.runs_twenty < kind.runs
        if self.options.one or (slow and self.options.quick):
            return 0
        if rtt != self.options.rtts[0] and not (kind.far_twenty or self.options.full):
            return 0
        return kind.runs_twenty

    def cases(self, kind: type[peers.Peer], results: table.Results) -> None:
        runs = 1 if self.options.quick else self.options.runs or kind.runs
        for rtt in self.options.rtts:
            many = self.runs_of_twenty(kind, rtt)
            for number in range(runs):
                twenty = number < many
                costs = self.insist(results, f"{rtt} ms", self.one_run, kind, rtt, twenty)
                if costs is None:
                    return
                for case, cost in costs.items():
                    results.add((case, rtt), cost)
                    shown = f"{cost.wall:.2f} s, load {measure.load()}"
                    say(f"  {kind.name}, {case} at {rtt} ms: {shown}")

    def _nothing_due(self, kind: type[peers.Peer]) -> measure.Cost:
        peer = self.install(kind)
        issue(self.stage, peer, ONE, new=True)
        hosts = [f"im.s{number:04}.test" for number in range(kind.lineages)]
        peer.store(ONE[0], peers.stored(hosts))
        before = [peer.issued(host).read_text() for host in hosts]
        cost = measure.run(self.stage, peer.renew(hosts), timeout=peer.timeout)
        if before != [peer.issued(host).read_text() for host in hosts]:
            raise measure.RunFailed("something was renewed")
        return cost

    def nothing_due(self, kind: type[peers.Peer], results: table.Results) -> None:
        self.stage.link.set_rtt(RTTS[0])
        cost = self.insist(results, "nothing due", self._nothing_due, kind)
        if cost:
            results.add(("idle", kind.lineages), cost)
            say(f"  {kind.name}, nothing due of {kind.lineages}: {cost.wall:.2f} s")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 ms, one run, fewer clients")
    parser.add_argument("--only", action="append", metavar="CLIENT", help="may be repeated")
    parser.add_argument("--runs", type=int, help="instead of each client's own number")
    parser.add_argument("--rtt", type=int, action="append", help="instead of 50 and 200 (ms)")
    parser.add_argument("--one", action="store_true", help="only the one certificate")
    parser.add_argument("--no-idle", action="store_true", help="not the case that nothing is due")
    parser.add_argument("--full", action="store_true", help="the slow ones also far away")
    options = parser.parse_args()
    options.rtts = options.rtt or (RTTS[:1] if options.quick else RTTS)
    chosen = peers.QUICK if options.quick and not options.only else peers.PEERS
    options.peers = [p for p in chosen if not options.only or p.name in options.only]
    if not options.peers:
        parser.error(f"there are: {'; '.join(p.name for p in peers.PEERS)}")
    return options


def main() -> int:
    options = arguments()
    start = time.monotonic()
    say(f"{program()}; {measure.machine()}")
    results = []
    with distant_ca(RTTS[0], domains()) as stage:
        bench = Bench(stage, options)
        for kind in options.peers:
            results.append(table.Results(kind.name))
            bench.cases(kind, results[-1])
            if kind.lineages and not options.no_idle and not options.one:
                bench.nothing_due(kind, results[-1])
    say()
    say(table.render(results, options.rtts))
    minutes = (time.monotonic() - start) / 60
    say(f"\n{minutes:.1f} min; {measure.machine()} at the end")
    return 0 if all(r.costs for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
