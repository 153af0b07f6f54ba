# SPDX-License-Identifier: Apache-2.0
"""The main job against real servers: obtain, install, prove, and do nothing when nothing is due."""

import stat

import pytest

from tests.lab import certs, standard
from tests.lab.client import Prober, Session, handshake, verifying
from tests.lab.lab import MAIL4, MAIL6, OTHER4

HOST = "im.example.test"
NAMES = standard.host_set(HOST)


def served(stage, name=HOST, port=5222, kind="c2s"):
    return handshake(stage.lab, MAIL4, port, name, kind)


def test_from_nothing_to_proof(stage, site, schemas):
    before = served(stage).serial_number
    result = site.json("renew")
    assert result.status == 0, result
    schemas(result.json)
    host = result.host(HOST)
    assert host["outcome"] == "done" and host["issued"] and host["installed"]
    assert sorted(host["certificate"]["names"]) == sorted(NAMES)
    assert all(check["state"] in ("ok", "reported") for node in host["nodes"] for check in node["proof"])
    assert len([c for c in host["nodes"][0]["proof"] if c["port"] == "s2s"]) == 10
    context = verifying(stage.ca.roots_pem())
    for name in NAMES:
        certificate = handshake(stage.lab, MAIL6, 5269, name, "s2s", context=context)
        assert certificate.serial_number != before
        assert certs.dns_names(certificate) == sorted(NAMES)
    assert site.tokens() == []


def test_files_and_modes(stage, site):
    assert site.run("renew").status == 0

    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(site.state) == 0o711
    assert mode(site.state / "lineages") == 0o700 and mode(site.lineage()) == 0o700
    assert mode(site.pem()) == 0o640
    assert site.pem().stat().st_gid == site.live.stat().st_gid
    for key in site.state.rglob("key.pem"):
        assert mode(key) == 0o600, key
    assert sorted(p.name for p in site.lineage().iterdir() if p.is_dir()) == ["1"]
    text = site.pem().read_text()
    assert text.count("BEGIN CERTIFICATE") >= 2 and text.count("PRIVATE KEY-----") == 2
    assert text.index("BEGIN CERTIFICATE") < text.index("BEGIN PRIVATE KEY")
    assert [p.name for p in site.live.iterdir() if not p.name.endswith(".pem")] == []


def test_second_renew_asks_nobody(stage, site):
    assert site.run("renew").status == 0
    mark, written = stage.ca.mark(), site.pem().stat()
    result = site.json("renew")
    assert result.status == 0 and result.host(HOST)["outcome"] == "good"
    assert stage.ca.requests(mark) == []
    now = site.pem().stat()  # reading it is allowed, so not st_atime
    assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (written.st_ino, written.st_mtime_ns, written.st_ctime_ns)


def test_force_renews_with_another_key(stage, site):
    assert site.run("renew").status == 0
    first, first_time = certs.load(site.pem().read_text()), site.pem().stat().st_mtime
    assert site.run("renew", "--force").status == 0
    second = certs.load(site.pem().read_text())
    assert first.serial_number != second.serial_number
    assert first.public_key().public_numbers() != second.public_key().public_numbers()
    assert site.pem().stat().st_mtime >= int(first_time) + 1
    assert served(stage).serial_number == second.serial_number


def test_nobody_notices_ten_replacements(stage, site):
    assert site.run("renew").status == 0
    probes = [(5222, HOST, "c2s"), (5269, "conference." + HOST, "s2s"), (5443, "upload." + HOST, "tls")]
    with Session(stage.lab, MAIL4, HOST) as session:
        probers = [Prober(stage.lab, MAIL4, *probe) for probe in probes]
        try:
            for prober in probers:
                prober.__enter__()
                prober.progress()
            serials = set()
            for _ in range(10):
                result = site.run("renew", "--force")
                assert result.status == 0, result
                serials.add(certs.load(site.pem().read_text()).serial_number)
                session.check()
            for prober in probers:
                prober.progress()
        finally:
            for prober in probers:
                prober.stop()
        session.check()
    assert len(serials) == 10
    for prober in probers:
        assert prober.failures == []
        assert serials <= set(prober.seen)


@pytest.mark.parametrize("command", ["renew", "plan", "status", "hosts", "verify"])
def test_json_before_and_after(stage, site, schemas, command):
    before = site.json(command) if command != "renew" else None
    if before:
        schemas(before.json)
    assert site.run("renew").status == 0
    after = site.json(command)
    schemas(after.json)
    assert after.status == 0, after


def test_other_documents(site, schemas):
    for command in (("version",), ("config", "check"), ("config", "show")):
        result = site.json(*command)
        assert result.status == 0, result
        schemas(result.json)
    site.set("partial", "perhaps")
    result = site.json("config", "check")
    assert result.status == 2
    schemas(result.json)
    assert not result.json["ok"] and "partial" in result.json["problems"][0]


def test_own_responder(stage, site):
    """Without a web root certherd answers on port 80 itself: at an address where no web server is."""
    zone = stage.zones["example.test"]
    zone.set("mail.example.test.", "A", OTHER4).remove("mail.example.test.", "AAAA")
    stage.reload_dns("example.test")
    try:
        site.set("http01", {"listen": f"{OTHER4}:80"})
        result = site.json("renew")
        assert result.status == 0, result
        assert not stage.lab.port_open(OTHER4, 80)
    finally:
        zone.set("mail.example.test.", "A", MAIL4).set("mail.example.test.", "AAAA", MAIL6)
        stage.reload_dns("example.test")
