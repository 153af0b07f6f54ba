# SPDX-License-Identifier: Apache-2.0
"""The lab itself: everything in it works together, and nothing is left of it. Needs root."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dns.exception
import dns.query
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import Lab, LabError, certs, keeper, link, standard  # noqa: E402
from tests.lab.ca import Pebble  # noqa: E402
from tests.lab.client import Prober, Session, XmppError, handshake, verifying  # noqa: E402
from tests.lab.dns import answers, query  # noqa: E402
from tests.lab.faultdns import REFUSED, SERVFAIL, SILENT, FaultDns, Reply, slow  # noqa: E402
from tests.lab.lab import AUTH4, FAULT4, FAULT6, MAIL4, MAIL6, OTHER4, RESOLVER4  # noqa: E402

HOST = "im.example.test"
NAMES = standard.host_set(HOST)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def mailcow():
    with Lab() as lab:
        yield standard.start(lab)


def test_names_resolve(mailcow):
    for name in NAMES:
        assert answers(mailcow.lab, name) == [MAIL4]
        assert answers(mailcow.lab, name, "AAAA") == [MAIL6]
    dig = mailcow.lab.run(["kdig", "+short", "conference.im.example.test", "A"])
    assert dig.stdout.split() == ["mail.example.test.", MAIL4]
    assert query(mailcow.lab, "10.53.0.3", "nothing.example.test").rcode() == 3
    assert query(mailcow.lab, "10.53.0.3", "example.org").rcode() == 3


def test_zone_changes(mailcow):
    zone = mailcow.add_domain("changing.test")
    assert answers(mailcow.lab, "chat.changing.test") == []
    zone.set("chat", "CNAME", "mail.example.test.")
    mailcow.reload_dns("changing.test")
    assert answers(mailcow.lab, "chat.changing.test") == [MAIL4]
    zone.remove("chat")
    mailcow.reload_dns("changing.test")
    assert answers(mailcow.lab, "chat.changing.test") == []


def test_web_serves_tokens(mailcow):
    token = mailcow.web.token_dir / "token"
    token.write_text("token.thumbprint")
    for address in (MAIL4, MAIL6):
        assert mailcow.web.get("/.well-known/acme-challenge/token", HOST, address) == (
            200,
            b"token.thumbprint",
        )
    assert mailcow.web.get("/.well-known/acme-challenge/other", HOST)[0] == 404
    assert mailcow.web.get("/", HOST)[0] == 301
    token.unlink()


def test_directory(mailcow):
    mark = mailcow.ca.mark()
    curl = ["curl", "-sS", "--cacert", mailcow.ca.ca_bundle, mailcow.ca.directory_url]
    assert b"newOrder" in mailcow.lab.run(curl).stdout.encode()
    assert [(r.method, r.path) for r in mailcow.ca.requests(mark)] == [("GET", "/dir")]
    assert mailcow.ca.orders(mark) == 0
    assert mailcow.lab.run(["curl", "-sS", mailcow.ca.directory_url], check=False).returncode == 60


def obtain(mailcow) -> str:
    """A certificate for the five names by somebody else's client, as one PEM."""
    lab, directory = mailcow.lab, mailcow.lab.dir / "acme-tiny"
    directory.mkdir()
    account, key, csr = (directory / name for name in ("account.pem", "key.pem", "csr.pem"))
    lab.run(["openssl", "genrsa", "-out", account, "2048"])
    names = ",".join(f"DNS:{name}" for name in NAMES)
    lab.run(
        [
            "openssl",
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            key,
            "-out",
            csr,
            "-subj",
            f"/CN={HOST}",
            "-addext",
            f"subjectAltName={names}",
        ]
    )
    chain = lab.run(
        [
            "acme-tiny",
            "--account-key",
            account,
            "--csr",
            csr,
            "--acme-dir",
            mailcow.web.token_dir,
            "--directory-url",
            mailcow.ca.directory_url,
        ],
        env={"SSL_CERT_FILE": mailcow.ca.ca_bundle},
    ).stdout
    return chain + key.read_text()


def test_issue_and_reload(mailcow):
    """A peer obtains the certificate, ejabberd takes it over under load, and nobody notices."""
    ejabberd, lab = mailcow.ejabberd, mailcow.lab
    before = handshake(lab, MAIL4, 5222, HOST)
    assert before.issuer == before.subject
    assert ejabberd.vhosts() == [HOST]
    mark = mailcow.ca.mark()
    pem = obtain(mailcow)
    assert mailcow.ca.orders(mark) == 1
    assert certs.dns_names(certs.load(pem)) == sorted(NAMES)
    probes = [
        (5222, HOST, "c2s"),
        (5269, "conference." + HOST, "s2s"),
        (5443, "upload." + HOST, "tls"),
    ]
    with Session(lab, MAIL4, HOST) as session:
        probers = [Prober(lab, MAIL4, *probe) for probe in probes]
        try:
            for prober in probers:
                prober.__enter__()
                prober.progress()
            ejabberd.install(HOST, pem)
            assert ejabberd.api("reload_config", unix=True) == (200, "0")
            for prober in probers:
                prober.progress()
        finally:
            for prober in probers:
                prober.stop()
        session.check()
    serial = certs.load(pem).serial_number
    for prober in probers:
        assert prober.failures == []
        assert set(prober.seen) == {before.serial_number, serial}
    context = verifying(mailcow.ca.roots_pem())
    for name in NAMES:
        assert handshake(lab, MAIL6, 5269, name, "s2s", context=context).serial_number == serial
        assert handshake(lab, MAIL6, 5443, name, "tls", context=context).serial_number == serial


def test_broken_configuration(mailcow):
    ejabberd = mailcow.ejabberd
    ejabberd.write_config("foo: bar\n")
    assert ejabberd.api("reload_config")[0] == 400
    ejabberd.write_config()
    ejabberd.reload()
    with pytest.raises(XmppError, match="host-unknown"):
        handshake(mailcow.lab, MAIL4, 5222, "nobody.example.test")


def test_session_notices_the_end(mailcow):
    with Session(mailcow.lab, MAIL4, HOST) as session:
        session.check()
        mailcow.ejabberd.restart()
        with pytest.raises(XmppError):
            session.check()


def members(process: int) -> list[str]:
    """Every process that shares a mount or network namespace with this one."""
    wanted = {os.readlink(f"/proc/{process}/ns/{kind}") for kind in ("net", "mnt")}
    return [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if wanted & {_link(pid, "net"), _link(pid, "mnt")}
    ]


def _link(pid: str, kind: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def test_nothing_is_left():
    """Not after an error, nor of processes that run away. A namespace without members is gone:
    nothing else holds it.
    """
    mounts = Path("/proc/self/mounts").read_text()
    with pytest.raises(ZeroDivisionError), Lab() as lab:
        standard.start(lab)
        lab.popen(["sh", "-c", "trap '' TERM; setsid sleep 1000 & exec sleep 1001"])
        pids = members(lab._keeper.pid)
        assert len(pids) > 8
        1 / 0
    assert not lab.dir.exists()
    assert [pid for pid in pids if _link(pid, "net")] == []
    assert Path("/proc/self/mounts").read_text() == mounts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(number):
    """The owner of the lab is ended from outside, with servers running."""
    program = (
        "import os, signal, time\nfrom tests.lab import Lab, standard\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # if ignored here
        "with Lab() as lab:\n standard.start(lab)\n"
        " print(os.fstat(lab._namespace).st_ino, flush=True)\n time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        ["/usr/bin/python3", "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        inode = int(owner.stdout.readline())
        assert len(keeper.processes(inode)) > 5
        owner.send_signal(number)
        owner.wait(60)
    finally:
        owner.kill()
        owner.communicate()
    deadline = time.monotonic() + 30
    while keeper.processes(inode) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert keeper.processes(inode) == []
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"certherd-{owner.pid}-*"))


def test_server_that_does_not_start():
    """The error names the server and shows its log."""
    with Lab() as lab:
        mailcow = standard.prepare(lab)
        mailcow.ejabberd.options = {"no_such_option": 1}
        with pytest.raises(LabError, match="(?s)ejabberd: ended.*no_such_option"):
            lab.start(mailcow.ejabberd)


def test_faulty_name_server():
    """Every kind of misbehaviour, alone and behind a real resolver."""
    with Lab() as lab:
        mailcow = standard.prepare(lab)
        fault = FaultDns(lab, upstream=AUTH4)
        zone = mailcow.zones["example.test"]
        for name in ("broken", "silent", "lame", "slow", "big"):
            zone.delegate(f"{name}.im", standard.FAULT_SERVER)
        host = {
            name: f"{name}.im.example.test" for name in ("broken", "silent", "lame", "slow", "big")
        }
        address = Reply(records=["@ 60 IN A 10.53.0.20"])
        fault.rule(host["broken"], "*", SERVFAIL)
        fault.rule(host["silent"], "*", SILENT)
        fault.rule(host["lame"], "*", REFUSED)
        fault.rule(host["slow"], "A", slow(address, 0.3))
        fault.rule(host["big"], "A", replace(address, truncate=True))
        fault.rule(
            "*.liar.test",
            "A",
            replace(address, wrong_id=True),
            replace(address, wrong_question=True),
            replace(address, raw=b"junk"),
            address,
        )
        lab.start(mailcow.knot, mailcow.unbound, fault)
        for name in ("broken", "lame"):
            assert query(lab, RESOLVER4, host[name], timeout=30).rcode() == 2
        assert fault.asked(host["broken"], "A") >= 1
        assert answers(lab, host["slow"]) == [OTHER4]
        assert answers(lab, host["big"]) == [OTHER4]
        assert [q.tcp for q in fault.questions if q.name == host["big"] and q.rtype == "A"] == [
            False,
            True,
        ]
        assert answers(lab, "im.example.test", server=FAULT6) == [MAIL4]
        with pytest.raises(dns.exception.Timeout):
            query(lab, FAULT4, host["silent"], timeout=0.2)
        with pytest.raises(EOFError):
            query(lab, FAULT4, host["silent"], tcp=True, timeout=1)
        for error in (dns.query.BadResponse, dns.query.BadResponse, dns.exception.DNSException):
            with pytest.raises(error):
                query(lab, FAULT4, "a.liar.test", timeout=1)
        assert answers(lab, "b.liar.test", server=FAULT4) == [OTHER4]


def test_distance():
    """One page over TLS 1.3 costs three round trips, and the line counts them."""
    with link.distant_ca(100) as distance:
        for version in ("--http1.1", "--http2"):
            distance.link.reset()
            curl = [
                "curl",
                "-sS",
                version,
                "-o",
                "/dev/null",
                "-w",
                "%{time_total}",
                distance.near.ca.directory_url,
            ]
            seconds = float(distance.near.lab.run(curl).stdout)
            traffic = distance.link.traffic()
            assert (traffic.connections, traffic.client_hellos) == (1, 1)
            assert 3 <= traffic.flights <= 4
            assert 0.300 <= seconds < 0.400
        token = distance.near.web.token_dir / "token"
        token.write_text("x")
        for place in (distance.near, distance.far):
            assert place.web.get("/.well-known/acme-challenge/token", HOST) == (200, b"x")
            assert answers(place.lab, HOST) == [MAIL4]


def test_other_pebble_settings():
    """Strict mode, bad nonces and profiles start with every version; a restart forgets."""
    with Lab() as lab:
        ca = Pebble(
            lab,
            strict=True,
            nonce_reject=50,
            authz_reuse=100,
            sleep=None,
            validity=3600,
            eab={"kid": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
            profiles={"shortlived": 518400},
            chain_length=2,
            alternate_roots=1,
        )
        lab.start(ca)
        assert b'"externalAccountRequired": true' in ca.get("/dir")[1]
        roots = ca.roots_pem(0), ca.roots_pem(1)
        assert len(set(roots)) == 2
        ca.restart()
        assert ca.roots_pem() not in roots
        ca.kill()
        assert not lab.port_open("127.0.0.1", ca.port)
