#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""certherd beside other ACME clients, at a distance from the CA.

Each client first gets an account and one certificate with five names, then with that account twenty
such, behind a round-trip time of 50 and of 200 ms. The CA is pebble without its random delays and
refusals; name servers and web server stand near, and near the CA's validator too.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import measure, peers, table  # noqa: E402
from tests.lab.link import Distance, distant_ca  # noqa: E402
from tests.lab.site import program  # noqa: E402

ONE = ["im.one.test"]
TWENTY = [f"im.d{number:02}.test" for number in range(20)]
RTTS = (50, 200)


def domains() -> dict[str, str]:
    return {host.partition(".")[2]: "im" for host in ONE + TWENTY}


def say(text: str = "") -> None:
    print(text, flush=True)


def one_run(stage: Distance, peer: peers.Peer, rtt: int, twenty: bool) -> dict[str, measure.Cost]:
    """What the cases cost, by their names."""
    costs = {}
    stage.link.set_rtt(rtt)
    for case, hosts in (("one", ONE), ("twenty", TWENTY)):
        if case == "twenty" and not twenty:
            break
        command = peer.issue(hosts, new_account=case == "one")
        costs[case] = measure.run(stage, command, timeout=peer.timeout)
        for host in hosts:
            if "BEGIN CERTIFICATE" not in peer.issued(host).read_text():
                raise measure.RunFailed(f"no certificate for {host}")
    return costs


def measure_peer(stage: Distance, kind: type[peers.Peer], options) -> table.Results:
    results = table.Results(kind.name)
    for rtt in options.rtts:
        for number in range(options.runs or kind.runs):
            directory = stage.near.lab.dir / f"{kind.__name__}-{rtt}-{number}"
            try:
                costs = one_run(stage, kind(stage, directory), rtt, options.twenty)
            except measure.RunFailed as failure:
                say(f"{kind.name} at {rtt} ms: {failure}")
                results.failures += 1
                stage.far.ca.restart()  # should it hang
                continue
            for case, cost in costs.items():
                results.add(case, rtt, cost)
                say(f"  {kind.name}, {case} at {rtt} ms: {cost.wall:.2f} s (load {measure.load()})")
    return results


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 ms, one run, certherd and uacme")
    parser.add_argument("--only", action="append", metavar="PEER", help="certherd, uacme, ...")
    parser.add_argument("--runs", type=int, help="instead of each peer's own number")
    parser.add_argument("--one", action="store_true", help="not the twenty certificates")
    parser.add_argument("--rtt", type=int, action="append", help="instead of 50 and 200 ms")
    options = parser.parse_args()
    options.rtts = options.rtt or (RTTS[:1] if options.quick else RTTS)
    options.runs = options.runs or (1 if options.quick else None)
    options.twenty = not options.one
    chosen = peers.QUICK if options.quick else peers.PEERS
    options.peers = [
        p for p in (peers.PEERS if options.only else chosen) if not options.only or p.name in options.only
    ]
    if not options.peers:
        parser.error(f"there are {', '.join(p.name for p in peers.PEERS)}")
    return options


def main() -> int:
    options = arguments()
    say(f"{program()}; load average at the beginning: {measure.load()}")
    with distant_ca(RTTS[0], domains()) as stage:
        results = [measure_peer(stage, kind, options) for kind in options.peers]
    say()
    say(table.render(results, options.rtts))
    say(f"load average at the end: {measure.load()}")
    return 0 if not any(r.failures for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
