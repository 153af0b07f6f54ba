# SPDX-License-Identifier: Apache-2.0
"""The CA in all its moods: bad nonces, reused authorizations, strictness, slow validations, long chains, short lifetimes, other versions."""

import copy
import datetime
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.deep.archive import Apt, ArchiveError
from tests.lab import certs, standard
from tests.lab.client import handshake, verifying
from tests.lab.lab import MAIL4

HOST = "im.example.test"
NAMES = standard.host_set(HOST)


@pytest.fixture
def ca(stage, site):
    """Restarts the CA with another behaviour: ca(sleep=3, …). It has forgotten everything then, and `site` trusts its new root."""
    pebble = stage.ca
    before = copy.deepcopy((pebble.binary, pebble.strict, pebble.environment, pebble.config))

    def restart(*, binary=None, strict=False, config=None, **environment):
        pebble.binary, pebble.strict = binary or before[0], strict
        pebble.environment = before[2] | environment
        pebble.config = before[3] | (config or {})
        pebble.restart()
        pebble.write_roots(Path(site.config["acme"]["roots"]))
        return pebble

    yield restart
    pebble.binary, pebble.strict, pebble.environment, pebble.config = before
    pebble.restart()


def live(site) -> certs.x509.Certificate:
    return certs.load(site.pem().read_text())


def issued(stage, site, *arguments, **options):
    """One renew that must do it all, seen on the wire by a client that trusts this CA."""
    result = site.json("renew", *arguments, **options)
    assert result.status == 0, result
    host = result.host(HOST)
    assert host["outcome"] == "done" and host["issued"] and host["installed"], result
    certificate = handshake(stage.lab, MAIL4, 5222, HOST, "c2s", context=verifying(stage.ca.roots_pem()))
    assert certs.dns_names(certificate) == sorted(NAMES)
    assert certificate.serial_number == live(site).serial_number
    assert site.tokens() == [] and not (site.lineage() / "pending").exists()
    return host


ONCE = {"sign-me-up": 1, "order-plz": 1, "authZ": 5, "chalZ": 5, "finalize-order": 1, "certZ": 1}


def repeated(stage, mark: int) -> int:
    """How many requests of the first order came again: after a refused nonce, for nothing else is polled by these."""
    kinds = stage.ca.kinds(mark)
    return sum(max(0, kinds[kind] - once) for kind, once in ONCE.items())


# Moods


@pytest.mark.parametrize("reuse", [0, 100])
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_half_of_all_nonces_refused(stage, site, ca, reuse, strict):
    ca(strict=strict, PEBBLE_WFE_NONCEREJECT=50, PEBBLE_AUTHZREUSE=reuse, PEBBLE_WFE_AUTHZREUSE=reuse)
    mark = stage.ca.mark()
    issued(stage, site)
    assert repeated(stage, mark) > 0
    issued(stage, site, "--force")


def test_all_authorizations_reused(stage, site, ca):
    ca(PEBBLE_AUTHZREUSE=100, PEBBLE_WFE_AUTHZREUSE=100)
    issued(stage, site)
    mark, web = stage.ca.mark(), len(stage.web.requests())
    issued(stage, site, "--force")
    kinds = stage.ca.kinds(mark)
    assert kinds["chalZ"] == 0 and kinds["order-plz"] == 1, kinds
    # What nginx saw was our own probe, not the CA.
    assert all("pebble" not in line.lower() and "letsencrypt" not in line.lower() for line in stage.web.requests()[web:])


def test_no_authorization_reused(stage, site, ca):
    ca()
    issued(stage, site)
    mark = stage.ca.mark()
    issued(stage, site, "--force")
    assert stage.ca.kinds(mark)["chalZ"] == 5


def test_strict(stage, site, ca):
    ca(strict=True)
    issued(stage, site)


def test_slow_validation(stage, site, ca):
    """Each validation begins after a random delay of up to three seconds."""
    ca(PEBBLE_VA_NOSLEEP=None, PEBBLE_VA_SLEEPTIME=3)
    mark = stage.ca.mark()
    issued(stage, site)
    assert stage.ca.orders(mark) == 1


@pytest.mark.deep
def test_as_it_comes(stage, site, ca):
    """Nothing switched off: delays of up to 15 seconds, 5 % of nonces refused, half of the authorizations reused."""
    ca(**dict.fromkeys(stage.ca.environment))
    for options in ((), ("--force",)):
        issued(stage, site, *options, timeout=180)


# Chains and keys


def test_two_intermediates(stage, site, ca):
    ca(PEBBLE_CHAIN_LENGTH=2)
    issued(stage, site)
    assert site.pem().read_text().count("BEGIN CERTIFICATE") == 3


def test_alternate_roots(stage, site, ca):
    """Links to other chains are offered; the first chain is the one that is taken."""
    ca(PEBBLE_ALTERNATE_ROOTS=2)
    issued(stage, site)


@pytest.mark.parametrize("key_type, kind, size", [("rsa2048", rsa.RSAPublicKey, 2048), ("p384", ec.EllipticCurvePublicKey, 384)])
def test_key_types(stage, site, key_type, kind, size):
    site.set("acme.key_type", key_type)
    issued(stage, site)
    key = live(site).public_key()
    assert isinstance(key, kind) and key.key_size == size


def test_another_key_type_at_the_next_renewal(stage, site):
    issued(stage, site)
    assert live(site).public_key().key_size == 256
    site.set("acme.key_type", "rsa2048")
    mark = stage.ca.mark()
    assert site.run("renew").status == 0 and stage.ca.requests(mark) == []
    issued(stage, site, "--force")
    assert live(site).public_key().key_size == 2048


def test_a_ca_that_has_forgotten_the_account(stage, site, ca):
    ca()
    issued(stage, site)
    ca()
    issued(stage, site, "--force")


# Lifetime


def in_the_future(instant: datetime.datetime) -> tuple:
    """certherd alone lives at that instant; everybody else has the time of day."""
    return ("faketime", "-f", f"+{(instant - datetime.datetime.now(datetime.timezone.utc)).total_seconds():.1f}")


def test_renewed_when_due(stage, site, ca):
    """Certificates of one hour: renewed with half of it left, and not before."""
    ca(config={"certificateValidityPeriod": 3600, "profiles": {"default": {"description": "short", "validityPeriod": 3600}}})
    issued(stage, site)
    first = live(site)
    end = first.not_valid_after.replace(tzinfo=datetime.timezone.utc)
    lifetime = first.not_valid_after - first.not_valid_before
    assert abs(lifetime.total_seconds() - 3600) < 60
    due = end - lifetime / 2
    mark = stage.ca.mark()
    early = site.json("renew", wrapper=in_the_future(due - datetime.timedelta(seconds=60)))
    assert early.status == 0 and early.host(HOST)["outcome"] == "good", early
    assert stage.ca.requests(mark) == [] and live(site) == first
    said = datetime.datetime.fromisoformat(early.host(HOST)["next"].replace("Z", "+00:00"))
    assert abs((said - due).total_seconds()) <= 1
    plan = site.run("plan", wrapper=in_the_future(due + datetime.timedelta(seconds=1)))
    assert plan.status == 3 and "renewal is due" in plan.out, plan
    issued(stage, site, wrapper=in_the_future(due + datetime.timedelta(seconds=1)))
    assert live(site).serial_number != first.serial_number and stage.ca.orders(mark) == 1


# Other versions


def start_error(binary: Path) -> str:
    """Why it can't run here, empty if it can."""
    done = subprocess.run([binary, "-h"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    return done.stderr.strip() if "GLIBC" in done.stderr or done.returncode in (126, 127) else ""


@pytest.fixture(scope="session")
def pebbles():
    """The pebble of another release of Debian by its suite: fetched, unpacked, not installed."""
    with tempfile.TemporaryDirectory(prefix="certherd-pebbles-") as name:
        directory, found = Path(name), {}
        directory.chmod(0o755)
        newest = os.environ.get("CERTHERD_NEWEST_PEBBLE", "")

        def pebble(suite: str) -> str:
            if f"/{suite}/" in newest:
                return newest
            if suite not in found:
                try:
                    Apt(directory / suite, suite).unpacked("pebble", directory / suite / "root")
                except ArchiveError as error:
                    pytest.skip(f"pebble of {suite} can't be fetched: {error}")
                found[suite] = directory / suite / "root/usr/bin/pebble"
            if why := start_error(found[suite]):
                pytest.skip(f"pebble of {suite} does not run here: {why}")
            return str(found[suite])

        yield pebble


@pytest.mark.deep
@pytest.mark.parametrize("suite", ["trixie", "sid"])
@pytest.mark.parametrize("reuse", [0, 100])
def test_newer_versions(stage, site, ca, pebbles, suite, reuse):
    """The same configuration file, the same flow; also with half of the nonces refused, strict, and slow."""
    ca(binary=pebbles(suite), strict=True, PEBBLE_WFE_NONCEREJECT=50, PEBBLE_AUTHZREUSE=reuse, PEBBLE_WFE_AUTHZREUSE=reuse,
       PEBBLE_VA_NOSLEEP=None, PEBBLE_VA_SLEEPTIME=2, PEBBLE_CHAIN_LENGTH=2)
    assert Path(f"/proc/{stage.ca.process.pid}/exe").resolve() == Path(pebbles(suite)).resolve()
    mark = stage.ca.mark()
    issued(stage, site)
    assert repeated(stage, mark) > 0
    mark = stage.ca.mark()
    assert site.run("renew").status == 0 and stage.ca.requests(mark) == []
    issued(stage, site, "--force")
    assert (stage.ca.kinds(mark)["chalZ"] == 0) == (reuse == 100)
