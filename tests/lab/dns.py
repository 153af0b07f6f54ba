# SPDX-License-Identifier: Apache-2.0
"""Real name servers: zones as Python objects, Knot to serve them, Unbound to resolve them. For
servers that lie there is faultdns.py.
"""

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from .base import wait_until
from .lab import AUTH4, AUTH6, RESOLVER4, RESOLVER6, Lab
from .server import Server


def query(
    lab: Lab,
    server: str,
    name: str,
    rtype: str = "A",
    *,
    tcp: bool = False,
    timeout: float = 5,
    port: int = 53,
) -> dns.message.Message:
    """One question to one server, asked inside the lab."""
    message = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
    with lab.inside():
        return (dns.query.tcp if tcp else dns.query.udp)(message, server, timeout, port)


def answers(lab: Lab, name: str, rtype: str = "A", server: str = RESOLVER4) -> list[str]:
    """The records of this type at the end of the CNAME chain, as sorted text; empty for NXDOMAIN,
    NODATA and SERVFAIL.
    """
    wanted = dns.rdatatype.from_text(rtype)
    return sorted(
        str(record)
        for rrset in query(lab, server, name, rtype).answer
        if rrset.rdtype == wanted
        for record in rrset
    )


class Zone:
    """Records of one zone. Names and values are written as in a zone file: relative to the zone
    unless they end in a dot, "@" for its apex.

    name_servers maps the NS names to their addresses; addresses of names outside the zone are left
    out of it. options are lines for Knot's zone section, such as {"dnssec-signing": "on"}. A change
    is served after reload().
    """

    def __init__(
        self,
        name: str,
        *,
        name_servers: dict[str, tuple[str, ...]] | None = None,
        ttl: int = 60,
        minimum: int = 1,
        options: dict | None = None,
    ):
        self.name = name.rstrip(".")
        self.ttl, self.minimum, self.serial = ttl, minimum, 1
        self.options = options or {}
        self.servers: list["Knot"] = []
        self._records: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}
        self.name_servers = name_servers or {f"ns1.{self.name}.": (AUTH4, AUTH6)}
        self.delegate("@", self.name_servers)

    def set(self, name: str, rtype: str, *values: str, ttl: int | None = None) -> "Zone":
        """These values and no others; returns the zone, so that calls can be chained."""
        self._records[name, rtype.upper()] = (self.ttl if ttl is None else ttl, values)
        return self

    def remove(self, name: str, rtype: str | None = None) -> "Zone":
        """All records of a name, or those of one type."""
        self._records = {
            key: value
            for key, value in self._records.items()
            if key[0] != name or rtype not in (None, key[1])
        }
        return self

    def get(self, name: str, rtype: str) -> tuple[str, ...]:
        return self._records.get((name, rtype), (0, ()))[1]

    def delegate(self, name: str, name_servers: dict[str, tuple[str, ...]]) -> "Zone":
        """NS records, and the addresses of those name servers that lie in this zone."""
        self.set(name, "NS", *name_servers)
        for host, addresses in name_servers.items():
            if host.endswith(f".{self.name}."):
                for rtype, kind in (("A", "."), ("AAAA", ":")):
                    if values := [a for a in addresses if kind in a]:
                        self.set(host, rtype, *values)
        return self

    def text(self) -> str:
        """The zone file."""
        first = next(iter(self.name_servers))
        lines = [
            f"$ORIGIN {self.name}.",
            f"@ {self.ttl} IN SOA {first} hostmaster {self.serial} 60 60 3600 {self.minimum}",
        ]
        for (name, rtype), (ttl, values) in self._records.items():
            lines += [f"{name} {ttl} IN {rtype} {value}" for value in values]
        return "\n".join(lines) + "\n"

    def reload(self) -> None:
        """Serves the present state, on every server that has this zone; returns when they do."""
        self.serial += 1
        for server in self.servers:
            server.publish(self)


class Knot(Server):
    """An authoritative server for some zones."""

    def __init__(
        self,
        lab: Lab,
        name: str = "knot",
        *,
        zones: tuple[Zone, ...] | list[Zone] = (),
        addresses: tuple[str, ...] = (AUTH4, AUTH6),
        extra: str = "",
    ):
        super().__init__(lab, name)
        self.addresses, self.extra = addresses, extra
        self.zones: list[Zone] = []
        (self.dir / "zones").mkdir()
        for zone in zones:
            self._take(zone)

    def _take(self, zone: Zone) -> None:
        self.zones.append(zone)
        zone.servers.append(self)

    def _write(self, zone: Zone) -> None:
        (self.dir / "zones" / f"{zone.name}.zone").write_text(zone.text())

    def configure(self) -> None:
        for zone in self.zones:
            self._write(zone)
        listen = ", ".join(f"{address}@53" for address in self.addresses)
        zones = "".join(
            f"  - domain: {z.name}\n" + "".join(f"    {k}: {v}\n" for k, v in z.options.items())
            for z in self.zones
        )
        (self.dir / "knot.conf").write_text(
            f"""\
server:
    rundir: {self.dir}
    listen: [ {listen} ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
control:
    listen: {self.dir}/control.sock
log:
  - target: stderr
    any: info
database:
    storage: {self.dir}/db
{self.extra}
template:
  - id: default
    storage: {self.dir}/zones
    file: "%s.zone"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
    semantic-checks: off
zone:
{zones}"""
        )

    def command(self) -> list:
        return ["/usr/sbin/knotd", "-c", self.dir / "knot.conf"]

    def _serial(self, zone: Zone, address: str) -> int | None:
        try:
            reply = query(self.lab, address, zone.name, "SOA", timeout=1)
        except (OSError, dns.exception.DNSException):
            return None
        return reply.answer[0][0].serial if reply.answer else None

    def _serves(self, zone: Zone) -> bool:
        """DNSSEC signing counts the serial up by itself, so a later one is fine."""
        return all((self._serial(zone, address) or 0) >= zone.serial for address in self.addresses)

    def ready(self) -> bool:
        return all(self._serves(zone) for zone in self.zones)

    def control(self, *command: str) -> str:
        """knotc."""
        return self.lab.run(["/usr/sbin/knotc", "-s", self.dir / "control.sock", *command]).stdout

    def publish(self, zone: Zone) -> None:
        """See Zone.reload()."""
        if self.process:
            self._write(zone)
            self.control("zone-reload", zone.name)
            wait_until(
                lambda: self._serves(zone), f"{self.name}: serial {zone.serial} of {zone.name}"
            )

    def add(self, zone: Zone) -> None:
        """One more zone, while running."""
        self._take(zone)
        self.configure()
        self.control("reload")
        wait_until(lambda: self._serves(zone), f"{self.name}: {zone.name}")


class Unbound(Server):
    """A recursive server that knows of nothing but `test.`, whose zone it asks from `authority`.
    Everything else is NXDOMAIN at once.

    It keeps positive answers for cache_ttl seconds and negative ones for one; flush() forgets all.
    """

    def __init__(
        self,
        lab: Lab,
        name: str = "unbound",
        *,
        addresses: tuple[str, ...] = (RESOLVER4, RESOLVER6),
        authority: tuple[str, ...] = (AUTH4, AUTH6),
        cache_ttl: int = 60,
        extra: str = "",
    ):
        super().__init__(lab, name)
        self.addresses, self.authority, self.cache_ttl, self.extra = (
            addresses,
            authority,
            cache_ttl,
            extra,
        )

    def configure(self) -> None:
        listen = "".join(f"    interface: {address}\n" for address in self.addresses)
        stubs = "".join(f"    stub-addr: {address}\n" for address in self.authority)
        (self.dir / "unbound.conf").write_text(
            f"""\
server:
    directory: "{self.dir}"
    chroot: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    verbosity: 1
    num-threads: 1
{listen}\
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    do-not-query-localhost: no
    local-zone: "." static
    local-zone: "test." transparent
    domain-insecure: "test"
    cache-max-ttl: {self.cache_ttl}
    cache-max-negative-ttl: 1
    infra-host-ttl: 1
{self.extra}
remote-control:
    control-enable: yes
    control-interface: "{self.dir}/control.sock"
    control-use-cert: no
stub-zone:
    name: "test."
{stubs}"""
        )

    def command(self) -> list:
        return [self.private_binary("/usr/sbin/unbound"), "-d", "-c", self.dir / "unbound.conf"]

    def ready(self) -> bool:
        try:
            for address in self.addresses:
                query(self.lab, address, "localhost", timeout=1)
        except (OSError, dns.exception.DNSException):
            return False
        return True

    def control(self, *command: str) -> str:
        """unbound-control."""
        return self.lab.run(
            ["/usr/sbin/unbound-control", "-c", self.dir / "unbound.conf", *command]
        ).stdout

    def flush(self) -> None:
        """Forgets every answer, and which servers were slow or silent."""
        self.control("flush_zone", ".")
        self.control("flush_infra", "all")
