# SPDX-License-Identifier: Apache-2.0
"""What DNS and the web server show before a CA is asked: the verdict of each name, its sentence, and the record that mends it.

Every test that expects a record pastes exactly what was printed into the zone and runs `renew` again.
"""

import re

import pytest

from tests.lab import certs, standard
from tests.lab.dns import Unbound
from tests.lab.faultdns import SERVFAIL, SILENT, FaultDns
from tests.lab.lab import AUTH4, MAIL4, MAIL6, OTHER4, OTHER6, SECOND4
from tests.lab.web import Web

HOST = "im.example.test"
NAMES = standard.host_set(HOST)
MAIL = "mail.example.test"
NOBODY4 = "10.53.0.30"  # an address at which nobody listens
PROXY4 = "10.53.0.31"  # one from which everything is passed on to the mail host
RECORD = re.compile(r"^  (add|set):  (\S+) (\d+) IN (\S+) (\S+)(?: ;.*)?$", re.MULTILINE)


@pytest.fixture(scope="module")
def others(stage):
    """A web server of somebody else, a proxy in front of ours, and an address without anything."""
    lab = stage.lab
    for address in (NOBODY4, PROXY4):
        lab.add_address(address)
    passed_on = f"proxy_pass http://{MAIL4}; proxy_set_header Host $host;"
    lab.start(
        Web(lab, "other", addresses=(OTHER4, OTHER6), redirect=False),
        Web(lab, "proxy", addresses=(PROXY4,), challenge=passed_on),
    )


@pytest.fixture(scope="module")
def fault(stage):
    """A name server that misbehaves; what has no rule is passed on to Knot."""
    server = FaultDns(stage.lab, upstream=AUTH4)
    server.start()
    return server


class Domain:
    """The zone of the XMPP domain, for a test to change."""

    def __init__(self, stage, fault):
        self.stage, self.fault, self.zone = stage, fault, stage.zones["example.test"]

    def explicit(self) -> None:
        """A CNAME for each name instead of the wildcard."""
        self.zone.remove("*.im")
        for name in NAMES[1:]:
            self.zone.set(self.short(name), "CNAME", f"{MAIL}.")

    @staticmethod
    def short(name: str) -> str:
        return name.rstrip(".").removesuffix(".example.test")

    def point(self, name: str, *addresses: str) -> None:
        """The name has these addresses and nothing else."""
        self.zone.remove(name)
        for rtype, kind in (("A", "."), ("AAAA", ":")):
            if values := [a for a in addresses if kind in a]:
                self.zone.set(name, rtype, *values)

    def misbehave(self, name: str, reply) -> None:
        """The name becomes a zone of its own, at the server that does this."""
        self.zone.remove(name).delegate(name, standard.FAULT_SERVER)
        self.fault.rule(f"{name}.example.test", "*", reply)

    def serve(self) -> None:
        self.stage.reload_dns("example.test")

    def paste(self, output: str) -> int:
        """Does what the output says, and nothing else; how many records there were."""
        found = RECORD.findall(output)
        for name in {name for verb, name, *_ in found if verb == "set"}:
            self.zone.remove(self.short(name))
        for verb, name, _, rtype, value in found:
            if verb == "add":  # must stand beside what is there
                assert not self.zone.get(self.short(name), "CNAME")
                assert rtype != "CNAME" or all(self.short(name) != owner for owner, _ in self.zone._records)
            self.zone.set(self.short(name), rtype, value)
        self.serve()
        return len(found)


@pytest.fixture
def domain(stage, fault, others):
    domain = Domain(stage, fault)
    before, minimum = dict(domain.zone._records), domain.zone.minimum
    yield domain
    domain.zone._records, domain.zone.minimum = before, minimum
    fault.clear()
    domain.serve()


def validated(stage, mark: int) -> set[str]:
    """Names that the CA has looked at."""
    text = stage.ca.log.read_bytes()[mark:].decode(errors="replace")
    return set(re.findall(r"Attempting to validate w/ HTTP: http://([^/:]+)", text))


def findings(result) -> list[str]:
    """The lines that say what is wrong."""
    return [line for line in result.out.splitlines() if re.match(r"\S+: (waiting for|warning)", line)]


def finding(result, name: str) -> str:
    """The one about this name."""
    lines = [line for line in findings(result) if re.search(rf": {re.escape(name)}[ :]", line)]
    assert len(lines) == 1, f"{name}\n{result}"
    return lines[0]


def check(result, name: str) -> dict:
    return next(c for c in result.host(HOST)["checks"] if c["name"] == name)


def mended(stage, site, domain, result) -> None:
    """What was printed is pasted into the zone, and all is well."""
    assert domain.paste(result.out) > 0, result
    again = site.json("renew")
    assert again.status == 0, again
    assert sorted(again.host(HOST)["certificate"]["names"]) == sorted(NAMES)
    assert certs.dns_names(certs.load(site.pem().read_text())) == sorted(NAMES)


# Some names of five


def three_bad(domain):
    domain.explicit()
    domain.zone.remove("conference.im")
    domain.misbehave("upload.im", SERVFAIL)
    domain.point("proxy.im", OTHER4)
    domain.serve()


def test_three_names_three_sentences(stage, site, domain):
    three_bad(domain)
    mark = stage.ca.mark()
    result = site.run("renew")
    assert result.status == 4, result
    assert "conference.im.example.test has no address (NXDOMAIN at ns1.dns.test)" in result.out
    assert f"upload.im.example.test can't be resolved: SERVFAIL from the resolver {stage.lab.nameserver}" in result.out
    wrong = finding(result, "proxy.im.example.test")
    assert f"has {OTHER4}, but {MAIL} has {MAIL4} and {MAIL6}" in wrong
    assert f"at {OTHER4} port 80: expected our token, found HTTP status 404" in wrong
    assert len(findings(result)) == 3
    assert "3 names are not in the certificate yet" in result.out
    ready = {HOST, "pubsub." + HOST}
    assert stage.ca.orders(mark) == 1 and stage.ca.kinds(mark)["chalZ"] == 2 and validated(stage, mark) == ready
    assert set(certs.dns_names(certs.load(site.pem().read_text()))) == ready
    assert site.tokens() == []


def test_partial_deny(stage, site, domain):
    three_bad(domain)
    site.set("partial", "deny")
    mark, before = stage.ca.mark(), site.pem().read_text()
    result = site.run("renew")
    assert result.status == 4, result
    assert len(findings(result)) == 3 and "partial: deny" in result.out
    assert stage.ca.requests(mark) == [] and site.pem().read_text() == before


def test_nothing_without_the_host(stage, site, domain):
    """The other four are fine, but without H itself no certificate is ordered."""
    domain.zone.remove("im")
    domain.serve()
    mark = stage.ca.mark()
    result = site.run("renew")
    assert result.status == 4, result
    assert "the wildcard *.im.example.test does not cover im.example.test itself" in finding(result, HOST)
    assert f"{HOST} itself is not ready" in result.out
    assert stage.ca.requests(mark) == []
    assert RECORD.findall(result.out) == [("add", f"{HOST}.", "300", "CNAME", f"{MAIL}.")]
    mended(stage, site, domain, result)


def test_a_live_certificate_is_not_shrunk(stage, site, domain):
    assert site.run("renew").status == 0
    domain.explicit()
    domain.zone.remove("conference.im")
    domain.serve()
    mark, before = stage.ca.mark(), site.pem().read_text()
    result = site.run("renew", "--force")
    assert result.status == 4, result
    assert "the live certificate has conference.im.example.test, which is not ready, so it stays" in result.out
    assert stage.ca.requests(mark) == [] and site.pem().read_text() == before
    mended(stage, site, domain, result)
    # Without --force the same is not even looked at: nothing is due.
    assert site.run("renew").status == 0


def test_growth_when_the_name_comes_back(stage, site, domain):
    domain.explicit()
    domain.zone.remove("conference.im").remove("proxy.im")
    domain.serve()
    first = site.run("renew")
    assert first.status == 4 and "certificate issued for 3 of 5 names" in first.out, first
    mark = stage.ca.mark()
    second = site.run("renew")
    assert second.status == 4 and stage.ca.requests(mark) == [], second
    # One of two: growth at most once a day while others are missing.
    domain.zone.set("proxy.im", "CNAME", f"{MAIL}.")
    domain.serve()
    third = site.run("renew")
    assert third.status == 4 and stage.ca.requests(mark) == [], third
    assert "at most once a day" in third.out
    # All of them: at once.
    domain.zone.set("conference.im", "CNAME", f"{MAIL}.")
    domain.serve()
    fourth = site.run("renew")
    assert fourth.status == 0 and "certificate issued for 5 names" in fourth.out, fourth
    assert certs.dns_names(certs.load(site.pem().read_text())) == sorted(NAMES)


# Pointing elsewhere


def test_nothing_answers_there(stage, site, domain):
    domain.explicit()
    domain.point("proxy.im", NOBODY4)
    domain.serve()
    mark = stage.ca.mark()
    result = site.run("renew")
    wrong = finding(result, "proxy.im.example.test")
    assert f"has {NOBODY4}, but {MAIL} has {MAIL4} and {MAIL6}" in wrong
    assert f"at {NOBODY4} port 80: expected our token, no answer: can't connect: Connection refused" in wrong
    assert "proxy.im.example.test" not in validated(stage, mark)
    mended(stage, site, domain, result)


def test_only_ipv6_is_wrong(stage, site, domain):
    domain.explicit()
    domain.point("proxy.im", MAIL4, OTHER6)
    domain.serve()
    mark = stage.ca.mark()
    result = site.run("renew")
    wrong = finding(result, "proxy.im.example.test")
    assert f"has {MAIL4} and {OTHER6}, but {MAIL} has {MAIL4} and {MAIL6}; at {OTHER6} port 80" in wrong
    assert "proxy.im.example.test" not in validated(stage, mark)
    mended(stage, site, domain, result)


def test_behind_nat(stage, site, domain):
    """The address differs, but what answers there is us: a warning, and it is issued."""
    domain.point("im", PROXY4)
    domain.serve()
    mark = stage.ca.mark()
    result = site.run("renew")
    assert result.status == 0, result
    warning = finding(result, HOST)
    assert warning.startswith(f"{HOST}: warning: {HOST} has {PROXY4}, but {MAIL} has {MAIL4} and {MAIL6}")
    assert "the probe token came back" in warning
    assert not RECORD.search(result.out)
    assert HOST in validated(stage, mark)
    assert certs.dns_names(certs.load(site.pem().read_text())) == sorted(NAMES)


def test_another_directory(stage, site, domain):
    """DNS is fine, but nginx serves tokens from elsewhere: no record would mend it."""
    away = site.dir / "elsewhere"
    away.mkdir(mode=0o755)
    site.set("http01.token_dir", str(away))
    mark = stage.ca.mark()
    result = site.run("renew")
    assert result.status == 4, result
    assert "waiting for the web server" in finding(result, HOST)
    assert "another web server, virtual host or directory" in result.out and not RECORD.search(result.out)
    assert stage.ca.requests(mark) == []


@pytest.fixture
def web(stage):
    """The web server, for a test to set up in another way."""
    yield stage.web
    stage.web.challenge = None
    stage.web.restart()


@pytest.mark.parametrize(
    "challenge, found",
    [
        ("return 403;", 'HTTP status 403 with the page "403 Forbidden"; the web server may not read the token\'s file'),
        ("return 200 'hello';", 'HTTP status 200 with "hello"'),
        ("return 200 '<html><title>Our site</title>';", 'the page "Our site"; that is a web page: another site answers'),
        ("return 502;", "HTTP status 502 with the page"),
        ("return 301 http://www.example.test/;", "redirect"),
    ],
)
def test_another_answer(stage, site, domain, web, challenge, found):
    domain.point("www", OTHER4)
    domain.serve()
    web.challenge = challenge
    web.restart()
    mark = stage.ca.mark()
    result = site.run("renew")
    assert result.status == 4 and stage.ca.requests(mark) == [], result
    line = finding(result, HOST)
    assert f"waiting for the web server: {HOST} at {MAIL4} port 80: expected our token, found" in line
    assert found in line and "the same holds for" in line


def test_redirect_to_nobody(stage, site, domain, web):
    """It can't be known from here whether the CA gets further, so this is a warning; it names the port that did not answer."""
    web.challenge = "return 301 https://$host$request_uri;"
    web.restart()
    plan = site.run("plan", "--probe")
    line = finding(plan, HOST)
    assert f"no answer: redirected to https://{HOST} port 443: {HOST}: can't connect: Connection refused" in line


# One thing wrong in the zone

WILDCARD = [("add", "*.im.example.test.", "CNAME")]
WILDCARD_SET = [("set", "*.im.example.test.", "CNAME")]
AT_AUTHORITY = "at ns1.dns.test"


def nothing_at_all(domain):
    domain.zone.remove("im").remove("*.im")


def wildcard_missing(domain):
    domain.zone.remove("*.im")


def ent(domain):
    domain.zone.set("_service.conference.im", "TXT", '"a record below"')


def text_beside(domain):
    domain.zone.set("conference.im", "TXT", '"a record of its own"')


def loop(domain):
    domain.zone.set("conference.im", "CNAME", "round.im").set("round.im", "CNAME", "conference.im")


def loop_of_one(domain):
    domain.zone.set("im", "CNAME", "im")


def wrong_target(domain):
    domain.zone.set("*.im", "CNAME", "www").set("www", "A", OTHER4)


def dead_target(domain):
    domain.zone.set("im", "CNAME", "nowhere")


def foreign_target(domain):
    domain.zone.set("*.im", "CNAME", "elsewhere.test.")


@pytest.mark.parametrize(
    "change, name, cause, where, records",
    [
        (nothing_at_all, HOST, "has no address", AT_AUTHORITY, [("add", f"{HOST}.", "CNAME"), *WILDCARD]),
        (wildcard_missing, NAMES[1], "has no address", AT_AUTHORITY, WILDCARD),
        (ent, NAMES[1], "because of records below it, so the wildcard", AT_AUTHORITY, [("add", f"{NAMES[1]}.", "CNAME")]),
        (text_beside, NAMES[1], "because of its other records", AT_AUTHORITY, [("add", f"{NAMES[1]}.", t) for t in ("A", "AAAA")]),
        (loop, NAMES[1], "CNAMEs lead in a loop", "-> round.im.example.test ->", [("set", f"{NAMES[1]}.", "CNAME")]),
        (loop_of_one, HOST, "CNAMEs lead in a loop", "-> itself", [("set", f"{HOST}.", "CNAME")]),
        (wrong_target, NAMES[1], f"has {OTHER4}, but {MAIL} has", f"at {OTHER4} port 80", WILDCARD_SET),
        (dead_target, HOST, "leads to nowhere.example.test, which has no address", AT_AUTHORITY, [("set", f"{HOST}.", "CNAME")]),
        (foreign_target, NAMES[1], "leads to elsewhere.test, which has no address", "from the resolver", WILDCARD_SET),
    ],
)
def test_the_record_that_mends_it(stage, site, domain, schemas, change, name, cause, where, records):
    change(domain)
    domain.serve()
    site.set("partial", "deny")
    mark = stage.ca.mark()
    plan = site.json("plan", "--probe")
    assert plan.status == 3, plan
    schemas(plan.json)
    result = site.run("renew")
    assert result.status == 4 and stage.ca.requests(mark) == [], result
    line = finding(result, name)
    assert cause in line and where in line, result
    printed = RECORD.findall(result.out)
    assert [(verb, owner, rtype) for verb, owner, _, rtype, _ in printed] == records, result
    in_json = [c["record"] for c in plan.host(HOST)["checks"] if c["record"]]
    lines = {text for record in in_json for text in record.splitlines()}
    assert {f"{owner} {ttl} IN {rtype} {value}" for _, owner, ttl, rtype, value in printed} == lines
    assert check(plan, name)["sentence"] in line
    mended(stage, site, domain, result)


def test_no_record_for_what_a_record_does_not_mend(stage, site, domain):
    domain.zone.remove(f"{MAIL}.")
    domain.serve()
    result = site.run("renew")
    assert result.status == 4, result
    (line,) = findings(result)
    assert f"leads to {MAIL}, which has no address (NXDOMAIN at ns1.dns.test); that is mail_host" in line
    assert "the same holds for conference, proxy, pubsub, upload" in line
    assert not RECORD.search(result.out)


def test_silent_server(stage, site, domain):
    domain.explicit()
    domain.misbehave("pubsub.im", SILENT)
    domain.serve()
    mark = stage.ca.mark()
    result = site.run("renew")
    line = finding(result, "pubsub.im.example.test")
    assert f"no answer from the resolver {stage.lab.nameserver}, which answers for {MAIL}" in line or "SERVFAIL from the resolver" in line
    assert "pubsub.im.example.test" not in validated(stage, mark)
    assert "certificate issued for 4 of 5 names" in result.out


def test_stale_cache(stage, site, domain):
    """The resolver has kept a "no"; the record is there. The CA has caches of its own."""
    lab = stage.lab
    slow = Unbound(lab, "slow", addresses=(SECOND4,), extra="    cache-max-negative-ttl: 300\n")
    lab.start(slow)
    site.set("dns.resolver", SECOND4)
    domain.explicit()
    domain.zone.minimum = 300
    domain.zone.remove("conference.im")
    domain.serve()
    first = site.run("renew")
    assert "conference.im.example.test has no address" in first.out, first
    domain.zone.set("conference.im", "CNAME", f"{MAIL}.")
    domain.serve()
    second = site.run("renew")
    slow.stop()
    assert second.status == 0, second
    line = finding(second, "conference.im.example.test")
    assert "has an address at ns1.dns.test, but the resolver 10.53.0.5 still says NXDOMAIN" in line
    assert not RECORD.search(second.out)
    assert certs.dns_names(certs.load(site.pem().read_text())) == sorted(NAMES)


# Switches


def test_skip_dns(stage, site, domain):
    """The CA is asked although we would know better, and says why not."""
    domain.zone.remove("*.im")
    domain.serve()
    site.set("preflight.skip", ["dns", "address", "http"])
    mark = stage.ca.mark()
    try:
        result = site.run("renew")
    finally:
        stage.ca.restart()  # pebble 2.4 may hang after validations that failed side by side
    assert result.status == 4, result
    assert stage.ca.orders(mark) == 1
    assert "the CA could not validate 4 of 5 names:" in result.out
    for name in NAMES[1:]:
        assert result.out.count(f"    {name}: ") == 1, result


def test_skip_address(stage, site, domain):
    domain.point("im", PROXY4)
    domain.serve()
    site.set("preflight.skip", ["address"])
    result = site.run("renew")
    assert result.status == 0 and findings(result) == [], result


def test_skip_http(stage, site, domain):
    """Without the probe a different address is only worth a warning."""
    site.set("preflight.skip", ["http"])
    domain.point("im", PROXY4)
    domain.serve()
    seen = len(stage.web.requests())
    result = site.run("renew")
    assert result.status == 0, result
    assert "warning" in finding(result, HOST)
    assert all("certherd" not in line for line in stage.web.requests()[seen:])


def test_without_mail_host(stage, site, domain):
    """Any address will do then, the probe decides."""
    site.set("mail_host", None)
    domain.point("im", PROXY4)
    domain.serve()
    result = site.run("renew")
    assert result.status == 0 and findings(result) == [], result
    domain.zone.remove("*.im")
    domain.serve()
    result = site.run("renew", "--force")
    assert result.status == 4, result
    (line,) = findings(result)
    assert "set mail_host" in line and not RECORD.search(result.out)


# plan


def tree(*paths) -> dict:
    """Every file with its content and time, but the lock. A probe token comes and goes, so the time of directories does not count."""
    found = [p for path in paths for p in sorted(path.rglob("*")) if p.name != "lock"]
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) if p.is_file() else None for p in found}


@pytest.mark.parametrize("options", [(), ("--probe",)])
def test_plan_only_reads(stage, site, domain, options):
    assert site.run("renew").status == 0
    three_bad(domain)
    before, tokens, mark = tree(site.state, site.live), site.tokens(), stage.ca.mark()
    plan = site.json("plan", *options)
    assert plan.status == 3, plan
    assert tree(site.state, site.live) == before and site.tokens() == tokens
    assert [r for r in stage.ca.requests(mark) if r.method != "GET"] == []
    verdicts = {c["name"]: c["verdict"] for c in plan.host(HOST)["checks"]}
    assert verdicts[NAMES[1]] == verdicts["upload." + HOST] == "blocked"
    assert verdicts[HOST] == verdicts["pubsub." + HOST] == "ready"
    assert verdicts["proxy." + HOST] == ("blocked" if options else "warning")
    if options:
        renewed = site.json("renew", "--force")
        assert {c["name"]: (c["verdict"], c["sentence"], c["record"]) for c in renewed.host(HOST)["checks"]} == {
            c["name"]: (c["verdict"], c["sentence"], c["record"]) for c in plan.host(HOST)["checks"]
        }


def test_plan_without_any_state(stage, site):
    mark = stage.ca.mark()
    plan = site.run("plan")
    assert plan.status == 3 and "order one certificate for 5 of 5 names" in plan.out, plan
    assert not site.state.exists() and stage.ca.requests(mark) == []
