# SPDX-License-Identifier: Apache-2.0
"""kill -9 and SIGTERM at every step of `renew`: before each request to the CA, each of its answers, and each change of a file.

A run that nobody disturbs is recorded by strace; each call that it makes on one of our directories or on a connection is a point to
strike at. The next `renew` has to complete, with the same order where one exists.
"""

import json
import re
import shutil
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.lab import certs, standard
from tests.lab.client import handshake
from tests.lab.lab import MAIL4
from tests.lab.site import Site

HOST = "im.example.test"
NAMES = standard.host_set(HOST)
CHANGES = ("mkdirat", "renameat", "renameat2", "unlinkat", "fsync")
TRAFFIC = ("sendto", "recvfrom")
PEERS = {14000: "CA", 5280: "API"}
ONE_THREAD = {"UV_THREADPOOL_SIZE": 1}  # strace counts calls by thread
ENDS_WITHIN = 5.0  # seconds after SIGTERM


@dataclass(frozen=True)
class Point:
    """The nth such call on something in a directory (relative to that of the lab), or of the whole run."""

    call: str
    directory: str
    nth: int
    label: str

    def strike(self, site: Site, what: str) -> tuple:
        """A wrapper for Site.run; what: signal=… or error=…. --seccomp-bpf would be faster, but no signal arrives with it."""
        path = ("-P", site.lab.dir / self.directory) if self.directory else ()
        return ("strace", "-f", "-ttt", "-o", site.dir / "strace", *path, "-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.nth}")

    def __str__(self) -> str:
        return f"{self.call} {self.nth} {self.label}"


class Range:
    """Where it happens: fresh installations one after another in one lab, and the points of their first `renew`."""

    def __init__(self, stage):
        self.stage, self.count, self.mtime = stage, 0, 0.0
        self.self_signed = certs.combined_pem(NAMES)
        self._points: list[Point] = []

    def site(self) -> Site:
        """Always at the same place, so that the points fit."""
        self.count += 1
        shutil.rmtree(self.stage.lab.dir / "site", ignore_errors=True)
        site = Site(self.stage, "site")
        pem = site.pem()
        self.mtime = max(pem.stat().st_mtime + 1, self.mtime)
        self.stage.ejabberd.install(HOST, self.self_signed)
        return site

    @property
    def points(self) -> list[Point]:
        if not self._points:
            self._points = self._record()
        return self._points

    def _record(self) -> list[Point]:
        site = self.site()
        log = site.dir / "strace"
        calls = ",".join(CHANGES + TRAFFIC)
        result = site.run("renew", wrapper=("strace", "-f", "-yy", "-o", log, "-e", f"trace={calls}"), env=ONE_THREAD)
        assert result.status == 0, result
        return list(_points(log.read_text(), str(site.lab.dir)))


def _points(log: str, lab: str):
    counts: dict = {}
    calls = re.compile(r"^(\d+) +(\w+)\((?:AT_FDCWD<[^>]*>|\d+<(.*?)>)(?=[,)])(?:, \"([^\"]*)\"(?:, \d+<[^>]*>, \"([^\"]*)\")?)?", re.MULTILINE)
    for thread, call, target, first, second in calls.findall(log):
        if call in TRAFFIC:
            nth = counts[thread, call] = counts.get((thread, call), 0) + 1
            if peer := re.search(r"->\S+?:(\d+)\]", target or ""):
                if (port := int(peer[1])) in PEERS:
                    yield Point(call, "", nth, PEERS[port])
        elif target and target.startswith(lab):
            # A file that is synced has a name made up at random; the next call gives it its own.
            if call == "fsync" and target.endswith(".tmp"):
                continue
            relative = target[len(lab) + 1 :]
            name = re.sub(r"[\w-]{43}", "TOKEN", re.sub(r"\.[0-9a-f]{16}\.", ".", second or first or ""))
            # -P takes the directory, not the name in it.
            nth = counts[target, call] = counts.get((target, call), 0) + 1
            yield Point(call, relative, nth, f"{relative.rpartition('/')[2]}/{name}")


@pytest.fixture(scope="module")
def area(stage):
    return Range(stage)


def is_pair(text: str) -> bool:
    """Leaf and key in one file, as ejabberd reads it."""
    begin = text.index("-----BEGIN PRIVATE KEY")
    key = load_pem_private_key(text[begin:].encode(), None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return certs.load(text).public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def order_is_known(site: Site) -> bool:
    """The order's address, or what came of it, is on disk."""
    order = site.lineage() / "pending/order.json"
    return (site.lineage() / "1").exists() or (order.exists() and json.loads(order.read_text())["order_url"] is not None)


def leftovers(site: Site) -> list[str]:
    trees = (site.state, site.live, site.stage.web.token_dir)
    files = [path for tree in trees for path in tree.rglob("*")]
    return [str(path) for path in files if path.name.endswith(".tmp") or path.parent.name in ("journal", "acme-challenge", "pending")]


def strike(area: Range, point: Point, what: str, command: str = "renew"):
    """Runs into the point: the site, how it ended, orders that the CA has seen, and whether the order is known."""
    site = area.site()
    mark = site.stage.ca.mark()
    result = site.run(command, wrapper=point.strike(site, what), env=ONE_THREAD)
    pems = list(site.live.glob("*.pem"))
    assert [path.name for path in pems] == [f"{HOST}.pem"] and is_pair(pems[0].read_text()), f"{point}: no valid pair"
    return site, mark, result, site.stage.ca.orders(mark), order_is_known(site)


def resume(site: Site, point: Point, mark: int, orders: int) -> None:
    """The next `renew`."""
    result = site.run("renew")
    assert result.status == 0, f"{point}: {result}"
    assert site.stage.ca.orders(mark) <= orders, f"{point}: another order"
    assert leftovers(site) == [], f"{point}: left over"
    served = handshake(site.lab, MAIL4, 5222, HOST)
    assert served == certs.load(site.pem().read_text()), f"{point}: another certificate is served"
    assert certs.dns_names(served) == sorted(NAMES)
    assert sorted(path.name for path in site.lineage().iterdir() if path.is_dir()) == ["1"], f"{point}: generations"


def kill_at(area: Range, point: Point) -> bool:
    """Whether the point was met (a race more or less, and a run may have fewer calls than the recorded one)."""
    site, mark, result, orders, known = strike(area, point, "signal=KILL")
    # The one window: the CA was asked for the order, and its answer not stored.
    resume(site, point, mark, 1 if known or orders == 0 else 2)
    return result.status != 0


def terminate_at(area: Range, point: Point, command: str = "renew") -> bool:
    site, mark, result, orders, known = strike(area, point, "signal=TERM", command)
    log = (site.dir / "strace").read_text()
    sent = re.search(r"^\d+ +([\d.]+) --- SIGTERM", log, re.MULTILINE)
    if sent:
        ended = re.findall(r"^\d+ +([\d.]+) \+\+\+ exited", log, re.MULTILINE)
        assert ended and float(ended[-1]) - float(sent[1]) < ENDS_WITHIN, f"{point}: took too long: {log[-500:]}"
        assert site.tokens() == [], f"{point}: tokens are left at the end"
    if command == "run":
        assert result.status == 0, f"{point}: {result}"
    else:
        assert result.status == 0 or "stopped" in result.err, f"{point}: {result}"
    resume(site, point, mark, 1)
    return sent is not None


def fails_at(area: Range, point: Point) -> bool:
    """The disk is broken or full at this moment: never a silent failure, never a lost order."""
    site, mark, result, orders, known = strike(area, point, "error=EIO")
    met = "(INJECTED)" in (site.dir / "strace").read_text()
    assert result.status in (0, 1, 3, 4), f"{point}: {result}"
    assert result.status == 0 or "Input/output error" in result.out + result.err, f"{point}: {result}"
    # What could not be stored of an order may cost another one.
    resume(site, point, mark, 1 if known or orders == 0 else 2)
    return met


def chosen(points: list[Point], per_label: int) -> list[Point]:
    """Of each sort the first, the last, and some between."""
    sorts: dict = {}
    for point in points:
        sorts.setdefault((point.call, point.label), []).append(point)
    result = []
    for (_, label), alike in sorts.items():
        n = min(len(alike), 6 * per_label if label == "CA" else per_label)
        result += [alike[round(i * (len(alike) - 1) / max(1, n - 1))] for i in range(n)]
    return result


# What the short run strikes at: call, label, which of these (in parts of all).
SHORT = (
    ("renameat2", "acme.test_14000_dir/key.pem", 0),  # the account's key
    ("renameat", "acme.test_14000_dir/account.json", 0),
    ("renameat", "pending/order.json", 0),  # before newOrder
    ("renameat", "pending/order.json", 1),  # after newOrder: the window
    ("renameat", "acme-challenge/TOKEN", 0),  # of the probe
    ("renameat", "acme-challenge/TOKEN", 1),  # of the order
    ("unlinkat", "acme-challenge/TOKEN", 1),
    ("renameat2", "pending/key.pem", 0),
    ("sendto", "CA", 0.7),
    ("recvfrom", "CA", 1),
    ("renameat", "pending/manifest.json", 0),
    ("renameat", "im.example.test/1", 0),  # the generation
    ("renameat", "certs/im.example.test.pem", 0),
    ("sendto", "API", 0),
)


def short(points: list[Point]) -> list[Point]:
    result = []
    for call, label, part in SHORT:
        alike = [point for point in points if (point.call, point.label) == (call, label)]
        assert alike, f"{call} {label}: not among {sorted({f'{p.call} {p.label}' for p in points})}"
        result.append(alike[round(part * (len(alike) - 1))])
    return result


def sweep(points: list[Point], strike_at) -> None:
    failures, met = [], 0
    for point in points:
        try:
            met += strike_at(point)
        except AssertionError as error:
            failures.append(str(error).partition("\nassert")[0])
    print(f"{met} of {len(points)} points met")
    assert not failures, "\n".join(failures)
    assert met >= len(points) * 0.8


def test_killed(area):
    sweep(short(area.points), lambda point: kill_at(area, point))


def test_terminated(area):
    sweep(short(area.points), lambda point: terminate_at(area, point))


def test_agent_terminated(area):
    """The agent goes the same way; it has to end well wherever it is."""
    sweep(short(area.points)[3:12:4], lambda point: terminate_at(area, point, "run"))


@pytest.mark.parametrize("during", ["probe", "order"])
def test_killed_in_a_forced_renewal(area, during):
    """Nothing is due afterwards: what it left goes all the same, and the order that was begun is gone on with."""
    site = area.site()
    assert site.run("renew").status == 0
    before, mark = site.pem().read_text(), site.stage.ca.mark()
    tokens = [point for point in area.points if (point.call, point.label) == ("renameat", "acme-challenge/TOKEN")]
    point = tokens[4] if during == "probe" else tokens[-1]
    assert site.run("renew", "--force", wrapper=point.strike(site, "signal=KILL"), env=ONE_THREAD).status != 0
    assert site.tokens() != []
    result = site.run("renew")
    assert result.status == 0, result
    assert leftovers(site) == []
    assert site.stage.ca.orders(mark) == (1 if during == "order" else 0)
    assert (site.pem().read_text() != before) == (during == "order")


@pytest.mark.deep
def test_killed_anywhere(area):
    sweep(chosen(area.points, 4), lambda point: kill_at(area, point))


@pytest.mark.deep
def test_terminated_anywhere(area):
    sweep(chosen(area.points, 3), lambda point: terminate_at(area, point))


@pytest.mark.deep
def test_broken_disk_anywhere(area):
    sweep([point for point in chosen(area.points, 2) if point.directory], lambda point: fails_at(area, point))
