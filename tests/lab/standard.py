# SPDX-License-Identifier: Apache-2.0
"""The usual lab in one call: a small `test.` internet with a mailcow-like host, a CA, and XMPP
domains with their two CNAMEs.
"""

from dataclasses import dataclass, field

from .ca import Pebble
from .dns import Knot, Unbound, Zone
from .lab import AUTH4, AUTH6, FAULT4, FAULT6, MAIL4, MAIL6, SECOND4, SECOND6, Lab
from .web import Web
from .xmpp import COMPONENTS, Ejabberd

MAIL_HOST = "mail.example.test"
NAME_SERVER = {"ns1.dns.test.": (AUTH4, AUTH6)}
SECOND_SERVER = {
    "ns2.dns.test.": (SECOND4, SECOND6)
}  # nobody is there unless a test starts another Knot at these addresses
FAULT_SERVER = {
    "fault.dns.test.": (FAULT4, FAULT6)
}  # for FaultDns: zone.delegate("upload.im", FAULT_SERVER)


@dataclass
class Mailcow:
    """Everything that standard.start() started."""

    lab: Lab
    knot: Knot
    unbound: Unbound
    ca: Pebble
    web: Web
    ejabberd: Ejabberd
    tld: Zone
    zones: dict[str, Zone] = field(default_factory=dict)
    mail_host: str = MAIL_HOST

    def reload_dns(self, *domains: str) -> None:
        """Serves the changed zones, and lets the resolver forget what it knew."""
        for domain in domains or self.zones:
            self.zones[domain].reload()
        self.unbound.flush()

    def add_domain(self, domain: str, prefix: str | None = None) -> Zone:
        """One more mail domain, with its zone; without prefix it has no XMPP records yet."""
        zone = self.zones[domain] = xmpp_zone(domain, prefix)
        self.tld.delegate(f"{domain}.", NAME_SERVER).reload()
        self.knot.add(zone)
        self.unbound.flush()
        return zone


def xmpp_zone(domain: str, prefix: str | None = "im") -> Zone:
    """The zone of a mail domain, with the two CNAMEs that mailcow asks for."""
    zone = Zone(domain, name_servers=NAME_SERVER)
    zone.set("@", "MX", f"10 {MAIL_HOST}.")
    if prefix:
        zone.set(prefix, "CNAME", f"{MAIL_HOST}.").set(f"*.{prefix}", "CNAME", f"{MAIL_HOST}.")
    return zone


def host_set(host: str) -> list[str]:
    """The XMPP host and its components."""
    return [host, *(f"{component}.{host}" for component in COMPONENTS)]


def prepare(
    lab: Lab,
    domains: dict[str, str | None] | None = None,
    *,
    ca: dict | None = None,
    web: dict | None = None,
    ejabberd: dict | None = None,
) -> Mailcow:
    """All of it, ready for lab.start(). domains maps a mail domain to its prefix; ca, web and
    ejabberd are more arguments for these servers.
    """
    domains = {"example.test": "im"} if domains is None else domains
    zones = {domain: xmpp_zone(domain, prefix) for domain, prefix in domains.items()}
    home = MAIL_HOST.partition(".")[2]
    zones.setdefault(home, xmpp_zone(home, None)).set(f"{MAIL_HOST}.", "A", MAIL4).set(
        f"{MAIL_HOST}.", "AAAA", MAIL6
    )
    names = Zone("dns.test", name_servers=NAME_SERVER)
    for host, (ipv4, ipv6) in (SECOND_SERVER | FAULT_SERVER).items():
        names.set(host, "A", ipv4).set(host, "AAAA", ipv6)
    tld = Zone("test", name_servers=NAME_SERVER).delegate("dns.test.", NAME_SERVER)
    for domain in zones:
        tld.delegate(f"{domain}.", NAME_SERVER)
    hosts = [f"{prefix}.{domain}" for domain, prefix in domains.items() if prefix]
    return Mailcow(
        lab=lab,
        knot=Knot(lab, zones=[tld, names, *zones.values()]),
        unbound=Unbound(lab),
        ca=Pebble(lab, **(ca or {})),
        web=Web(lab, **(web or {})),
        ejabberd=Ejabberd(lab, hosts, **(ejabberd or {})),
        tld=tld,
        zones=zones,
    )


def start(lab: Lab, domains: dict[str, str | None] | None = None, **arguments) -> Mailcow:
    """prepare(), then everything at once; returns when all of it answers."""
    mailcow = prepare(lab, domains, **arguments)
    lab.start(mailcow.ejabberd, mailcow.knot, mailcow.unbound, mailcow.ca, mailcow.web)
    return mailcow
