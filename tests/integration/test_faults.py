# SPDX-License-Identifier: Apache-2.0
"""What is broken is named, with its fix and the right exit status; the old certificate stays served, and the run after the repair succeeds."""

import contextlib
import os
import pwd
import shutil
import signal
import threading
from pathlib import Path

import pytest

from tests.lab import certs, standard
from tests.lab.base import wait_until
from tests.lab.client import handshake
from tests.lab.lab import MAIL4, Lab
from tests.lab.site import Site

HOST = "im.example.test"
NAMES = standard.host_set(HOST)
OWN, CONFIG, NONE, LOCKED = 1, 2, 4, 75  # design 5
NOBODY = pwd.getpwnam("nobody")


class Issued:
    """A Site whose certificate was issued once and is served; every test gets the same one back."""

    def __init__(self, stage):
        self.stage = stage
        self.kept = stage.lab.dir / "issued"
        self.roots = None
        self.count = 0
        self.mtime = 0.0

    def make(self) -> Site:
        self.count += 1
        site = Site(self.stage, f"faults-{self.count}")
        roots = (site.dir / "roots.pem").read_text()
        if roots != self.roots:
            self._issue(site, roots)
        else:
            shutil.copytree(self.kept / "state", site.state, symlinks=True)
        self.stage.ejabberd.write_config()
        pem = self.stage.ejabberd.install(HOST, (self.kept / "live.pem").read_text())
        # ejabberd takes only what is younger than what it has read, and the test before may have taken files away.
        self.mtime = max(self.mtime + 60, pem.stat().st_mtime)
        os.utime(pem, (self.mtime, self.mtime))
        self.stage.ejabberd.reload()
        assert served(site) == on_disk(site)
        return site

    def _issue(self, site: Site, roots: str) -> None:
        result = site.run("renew")
        assert result.status == 0, result
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(site.state, self.kept / "state", symlinks=True)
        shutil.copy(site.pem(), self.kept / "live.pem")
        self.roots = roots


@pytest.fixture(scope="module")
def issued(stage):
    return Issued(stage)


@pytest.fixture
def site(issued):
    return issued.make()


def served(site: Site, name: str = HOST) -> int:
    """The serial number on the wire."""
    return handshake(site.lab, MAIL4, 5222, name).serial_number


def inside(lab: Lab, path: Path) -> Path:
    """The same path as programs in the lab see it, with what is mounted there."""
    return Path(f"/proc/{lab._keeper.pid}/root") / path.relative_to("/")


def on_disk(site: Site) -> int:
    return certs.load(inside(site.lab, site.pem()).read_text()).serial_number


def leftovers(site: Site) -> list[str]:
    """Tokens, the journal of them, and temporary files."""
    trees = (site.state, site.live, site.stage.web.token_dir)
    files = [path for tree in trees for path in inside(site.lab, tree).rglob("*")]
    return [str(path) for path in files if path.name.endswith(".tmp") or path.parent.name in ("journal", "acme-challenge")]


def fails(site: Site, status: int, *facts: str, command=("renew", "--force"), **options) -> str:
    """Runs it in its trouble: exit status, facts that the text must name, and nothing lost."""
    before = on_disk(site)
    result = site.run(*command, **options)
    print(result)
    assert result.status == status, result
    text = result.out + result.err
    for fact in facts:
        assert fact in text, f"{fact!r} is not in: {result}"
    assert on_disk(site) == before and served(site) == before
    assert site.tokens() == []
    return text


def succeeds(site: Site, *command: str, orders: int | None = None, **options) -> str:
    """The run after the repair."""
    mark = site.stage.ca.mark()
    result = site.run(*(command or ("renew", "--force")), **options)
    print(result)
    assert result.status == 0, result
    assert served(site) == on_disk(site)
    assert leftovers(site) == []
    if orders is not None:
        assert site.stage.ca.orders(mark) == orders
    return result.out + result.err


@contextlib.contextmanager
def mounted(site: Site, path: Path, options: str):
    """A small file system over a directory, with a copy of what was in it, as programs in the lab see it."""
    copy = site.dir / f"{path.name}.copy"
    shutil.copytree(path, copy, symlinks=True)
    stat = path.stat()
    site.lab.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path])
    try:
        site.lab.run(["cp", "-a", f"{copy}/.", path])
        os.chown(inside(site.lab, path), stat.st_uid, stat.st_gid)
        inside(site.lab, path).chmod(stat.st_mode & 0o7777)
        for entry in copy.iterdir():
            there = inside(site.lab, path) / entry.name
            os.chown(there, (path / entry.name).stat().st_uid, (path / entry.name).stat().st_gid)
        yield inside(site.lab, path)
    finally:
        site.lab.run(["umount", "-l", path])


def struck(site: Site, directory: Path, call: str, nth: int, what: str) -> dict:
    """Options for Site.run: the nth such system call on something in the directory fails (error=…) or kills (signal=…)."""
    directory.mkdir(exist_ok=True)  # strace looks only for what is there
    calls = ("-P", directory, "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={nth}")
    # It counts by thread. --seccomp-bpf would be faster, but no signal arrives with it.
    return {"wrapper": ("strace", "-f", "-o", site.dir / "strace", *calls), "env": {"UV_THREADPOOL_SIZE": 1}}


def fill(directory: Path) -> Path:
    """Not a byte is left in it."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return filler


# Disk


def test_full_state_directory(site):
    with mounted(site, site.state, "size=400k") as state:
        filler = fill(state)
        mark = site.stage.ca.mark()
        fails(site, OWN, str(site.state), "No space left", "free some space")
        assert site.stage.ca.requests(mark) == []  # what can't be stored must not be ordered
        assert succeeds(site, "renew")  # nothing is due: nothing to write
        filler.unlink()
        succeeds(site)


def test_full_certificate_directory(site):
    with mounted(site, site.live, "size=100k") as live:
        site.stage.ejabberd.reload()
        filler = fill(live)
        mark = site.stage.ca.mark()
        fails(site, OWN, str(site.live), "No space left", "free some space")
        assert site.stage.ca.requests(mark) == []
        filler.unlink()
        succeeds(site)
    site.stage.ejabberd.reload()


def test_no_inodes_left(site):
    with mounted(site, site.state, "size=4m,nr_inodes=60") as state:
        names = []
        with contextlib.suppress(OSError):
            for number in range(100):
                names.append(state / f"filler{number}")
                names[-1].touch()
        fails(site, OWN, str(site.state), "No space left", "inodes")
        for name in names:
            name.unlink(missing_ok=True)
        succeeds(site)


@pytest.mark.parametrize("directory, call, nth", [("pending", "renameat", 3), ("lineage", "renameat", 1), ("lineage", "renameat", 3), ("live", "renameat", 2)])
def test_disk_that_fills_under_way(site, directory, call, nth):
    """It was writable when it was asked. What the CA made is not lost by it, and not ordered again."""
    path = {"pending": site.lineage() / "pending", "lineage": site.lineage(), "live": site.live}[directory]
    mark, before = site.stage.ca.mark(), on_disk(site)
    result = site.run("renew", "--force", **struck(site, path, call, nth, "error=ENOSPC"))
    print(result, (site.dir / "strace").read_text())
    assert result.status == OWN and "No space left" in result.out + result.err and "free some space" in result.out + result.err, result
    assert served(site) == on_disk(site) == before and site.tokens() == []
    stored = (site.lineage() / "2").exists()
    succeeds(site, "renew", *([HOST] if stored else ["--force"]))
    assert site.stage.ca.orders(mark) == 1 and on_disk(site) != before


def test_read_only_state_directory(site):
    site.lab.run(["mount", "--bind", site.state, site.state])
    site.lab.run(["mount", "-o", "remount,bind,ro", site.state])
    try:
        mark = site.stage.ca.mark()
        fails(site, OWN, str(site.state), "Read-only", "read-write")
        assert site.stage.ca.requests(mark) == []
        assert site.run("status").status == 0  # looking needs no writing
    finally:
        site.lab.run(["umount", site.state])
    succeeds(site)


def test_read_only_certificate_directory(site):
    site.lab.run(["mount", "--bind", site.live, site.live])
    site.lab.run(["mount", "-o", "remount,bind,ro", site.live])
    try:
        fails(site, OWN, str(site.live), "Read-only", "read-write")
    finally:
        site.lab.run(["umount", site.live])
    succeeds(site)


def test_state_directory_is_a_file(site):
    aside = site.state.rename(site.dir / "aside")
    site.state.touch()
    fails(site, OWN, str(site.state), "not a directory")
    site.state.unlink()
    aside.rename(site.state)
    succeeds(site)


# Damaged state


def account(site: Site) -> Path:
    return next((site.state / "accounts").iterdir())


def test_corrupt_state_file(site):
    state = site.lineage() / "state.json"
    for damage in ("", "{", '{"schema": "certherd/state/1", "attempts": "many"}', "\0" * 100):
        state.write_text(damage)
        result = site.run("renew")
        print(result)
        assert result.status == 0, result
        aside = sorted(site.lineage().glob("state.json.bad-*"))
        assert aside[-1].read_text() == damage
        assert str(state) in result.err and aside[-1].name in result.err and "damaged" in result.err
        aside[-1].unlink()
    assert state.exists()
    succeeds(site)


def test_state_of_a_newer_version(site):
    state = site.lineage() / "state.json"
    text = state.read_text()
    state.write_text(text.replace("certherd/state/1", "certherd/state/2"))
    fails(site, NONE, str(state), "newer")
    state.write_text(text)
    succeeds(site)


def test_corrupt_account_note(site):
    note = account(site) / "account.json"
    for damage in ("", "[]", "{}", '{"url": "https://other.test/1", "directory": "https://other.test/dir"}'):
        note.write_text(damage)
        mark = site.stage.ca.mark()
        succeeds(site, orders=1)
        assert site.stage.ca.kinds(mark)["sign-me-up"] == 1  # finds the account by its key
        assert "https://" in note.read_text()
        assert (account(site) / "account.json.bad").read_text() == damage


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "directory"])
def test_corrupt_account_key(site, damage):
    """The account's key is the account: never replaced unasked."""
    key = account(site) / "key.pem"
    aside = key.rename(site.dir / "key.pem")
    if damage == "directory":
        key.mkdir()
    else:
        key.write_text({"empty": "", "text": "no key\n", "truncated": aside.read_text()[:100]}[damage])
        key.chmod(0o600)
    mark = site.stage.ca.mark()
    fails(site, NONE, str(key), "do:")
    assert site.stage.ca.kinds(mark)["sign-me-up"] == 0
    key.rmdir() if damage == "directory" else key.unlink()
    aside.rename(key)
    succeeds(site, orders=1)


def test_loose_account_key(site):
    key = account(site) / "key.pem"
    key.chmod(0o644)
    fails(site, NONE, str(key), "0644", "chmod 0600")
    key.chmod(0o600)
    succeeds(site)


def test_loose_directories(site):
    for path, loose, right in ((site.state, 0o777, 0o711), (site.state / "accounts", 0o755, 0o700), (site.live, 0o2757, 0o2750)):
        path.chmod(loose)
        fails(site, OWN, str(path), f"{loose:04o}", "chmod")
        path.chmod(right)
    succeeds(site)


def test_corrupt_generation(site):
    """The newest generation is damaged and no longer counts: another is ordered, without a gap on the wire."""
    (site.lineage() / "1/key.pem").write_text("")
    before = served(site)
    text = succeeds(site, "renew", orders=1)
    assert "generation 1" in text and served(site) != before


def test_corrupt_live_file(site):
    """cert_dir is derived: the same certificate is put back, and nobody is asked for another."""
    before = served(site)
    for damage in ("", site.pem().read_text()[:500]):
        site.pem().write_text(damage)
        text = succeeds(site, "renew", orders=0)
        assert "damaged" in text and served(site) == before == on_disk(site)
    site.pem().unlink()
    succeeds(site, "renew", orders=0)
    assert served(site) == before


def test_unreadable_pending_key(site):
    """An order was begun, and its key is damaged since."""
    killed = site.run("renew", "--force", **struck(site, site.lineage() / "pending", "renameat", 3, "signal=KILL"))
    assert killed.status != 0, f"{killed} {(site.dir / 'strace').read_text()}"
    key = site.lineage() / "pending/key.pem"
    key.write_text("no key\n")
    fails(site, NONE, str(key), "remove")
    shutil.rmtree(key.parent)
    succeeds(site)


# Another process


def test_locked(site):
    holder = site.start("run")
    try:
        wait_until(lambda: (site.state / "lock").exists() and (site.state / "lock").read_text().strip(), "the lock")
        pid = (site.state / "lock").read_text().strip()
        assert int(pid) == holder.pid
        fails(site, LOCKED, f"pid {pid}", str(site.state))
        assert site.run("status").status == 0
    finally:
        holder.terminate()
        assert holder.wait(20) == 0
    succeeds(site)


# The CA


def test_ca_down(site):
    site.stage.ca.stop()
    try:
        fails(site, NONE, HOST, site.stage.ca.directory_url, "refused", "do:", "firewall")
    finally:
        site.stage.ca.start()
        (site.dir / "roots.pem").write_text((site.dir / "roots.pem").read_text() + site.stage.ca.roots_pem())
    # The CA has forgotten the account over it, and its certificates have another root.
    mark = site.stage.ca.mark()
    succeeds(site, orders=2)
    assert site.stage.ca.kinds(mark)["sign-me-up"] == 1
    assert (account(site) / "account.json.1").exists()
    succeeds(site, orders=1)


def test_ca_that_forgot_account_and_order(site):
    """An order is under way when the CA begins anew."""
    killed = site.run("renew", "--force", **struck(site, site.lineage() / "pending", "renameat", 3, "signal=KILL"))
    assert killed.status != 0, f"{killed} {(site.dir / 'strace').read_text()}"
    assert "order_url" in (site.lineage() / "pending/order.json").read_text()
    site.stage.ca.restart()
    # Its certificates have another root now, which is not in acme.roots yet.
    fails(site, NONE, "is worse", "acme.roots")
    (site.dir / "roots.pem").write_text((site.dir / "roots.pem").read_text() + site.stage.ca.roots_pem())
    succeeds(site, "renew", HOST, orders=0)


def test_ca_not_trusted(site):
    bundle = site.config["acme"]["ca_bundle"]
    site.set("acme.ca_bundle", None)
    mark = site.stage.ca.mark()
    fails(site, NONE, site.stage.ca.directory_url, "not accepted", "CA bundle", "do:")
    assert site.stage.ca.requests(mark) == []
    site.set("acme.ca_bundle", bundle)
    succeeds(site)


def test_wrong_directory_url(site):
    right = site.config["acme"]["directory"]
    site.set("acme.directory", right.replace("/dir", "/nowhere"))
    fails(site, NONE, "/nowhere", "404", "acme.directory")
    site.set("acme.directory", right)
    succeeds(site)


def test_wrong_roots(site):
    """acme.roots does not hold the root of what the CA issues, neither of the old certificate nor of the new one."""
    roots = Path(site.config["acme"]["roots"])
    right = roots.read_text()
    roots.write_text(certs.cert_pem(certs.make(["another root"], ca=True)[0]))
    result = site.run("renew", "--force")
    print(result)
    assert result.status == NONE and str(roots) in result.out and "no root" in result.out, result
    roots.write_text("no certificate\n")
    fails(site, CONFIG, str(roots), "check the CA bundle", command=("renew", HOST))
    roots.write_text(right)
    succeeds(site, "renew", HOST, orders=0)


# ejabberd


def undeployed(site: Site, *facts: str, status: int = NONE, serves: bool = True) -> None:
    """A certificate was issued, and is not deployed: the new file stays."""
    before = on_disk(site)
    result = site.run("renew", "--force")
    print(result)
    assert result.status == status, result
    for fact in ("issued, not deployed", *facts):
        assert fact in result.out, f"{fact!r} is not in: {result}"
    assert on_disk(site) != before
    if serves:
        assert served(site) == before
    assert leftovers(site) == []


def test_ejabberd_down(site):
    site.stage.ejabberd.stop()
    try:
        undeployed(site, site.stage.ejabberd.api_http, "ejabberd runs", serves=False)
    finally:
        site.stage.ejabberd.start()
    succeeds(site, "renew", HOST, orders=0)


def test_broken_ejabberd_yml(site):
    good = site.stage.ejabberd.config_file.read_text()
    site.stage.ejabberd.write_config(good + "\nmodules:\n  - : [\n")
    undeployed(site, "ejabberd.yml is broken", "line", "correct ejabberd.yml")
    mark = site.stage.ca.mark()
    result = site.run("renew", HOST)
    print(result)
    assert result.status == NONE and site.stage.ca.requests(mark) == []
    site.stage.ejabberd.write_config(good)
    succeeds(site, "renew", HOST, orders=0)


def test_no_permission_to_reload(site):
    config = site.stage.ejabberd.config()
    config["api_permissions"]["certherd"]["what"] = ["registered_vhosts"]
    site.stage.ejabberd.options = {"api_permissions": config["api_permissions"]}
    try:
        site.stage.ejabberd.write_config()
        site.stage.ejabberd.reload()
        undeployed(site, "403", "api_permissions", "reload_config")
    finally:
        site.stage.ejabberd.options = {}
        site.stage.ejabberd.write_config()
        # Nobody may tell it to reload by the API now.
        site.stage.ejabberd.restart()
    succeeds(site, "renew", HOST, orders=0)


def test_component_that_ejabberd_does_not_serve(site):
    config = site.stage.ejabberd.config()
    del config["modules"]["mod_proxy65"]
    site.stage.ejabberd.options = {"modules": config["modules"]}
    try:
        site.stage.ejabberd.write_config()
        site.stage.ejabberd.reload()
        result = site.run("renew", "--force")
        print(result)
        assert result.status == NONE, result
        assert f"proxy.{HOST}" in result.out and "issued, not deployed" in result.out
        assert served(site) == on_disk(site)  # a missing component is no reason to take the file back
    finally:
        site.stage.ejabberd.options = {}
        site.stage.ejabberd.write_config()
        site.stage.ejabberd.reload()
    succeeds(site, "renew", HOST, orders=0)


def test_roll_back(site):
    """ejabberd is told to take RSA only: with the new certificate, which is not, clients could no longer connect."""
    rsa = {"ciphers": "ECDHE-RSA-AES128-GCM-SHA256", "protocol_options": ["no_tlsv1_3"]}
    config = site.stage.ejabberd.config()
    for listener in config["listen"]:
        if listener["module"] in ("ejabberd_c2s", "ejabberd_s2s_in") or listener.get("tls"):
            listener.update(rsa)
    site.stage.ejabberd.options = {"listen": config["listen"]}
    site.set("acme.key_type", "rsa2048")
    try:
        site.stage.ejabberd.write_config()
        assert site.run("renew", "--force").status == 0
        before = served(site)
        site.set("acme.key_type", "p256")
        fails(site, NONE, "worked before", "old file was put back")
        assert served(site) == before
        site.set("acme.key_type", "rsa2048")
        succeeds(site)
    finally:
        site.stage.ejabberd.options = {}
        site.stage.ejabberd.write_config()
        site.stage.ejabberd.reload()


def test_certificate_directory_without_its_group(site):
    """Without setgid, or of another group, a new file would be one that ejabberd can't read."""
    site.live.chmod(0o750)
    fails(site, NONE, str(site.live), "could lose its certificate", "chmod 2750")
    site.live.chmod(0o2750)
    succeeds(site, "renew", HOST, orders=0)


# Web server and tokens


@contextlib.contextmanager
def as_nobody(site: Site):
    """State and certificates belong to a user who is not root."""
    owner = site.live.stat()
    for path in (site.state, *site.state.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(site.live, NOBODY.pw_uid, owner.st_gid)
    site.live.chmod(0o2750)
    os.chown(site.pem(), NOBODY.pw_uid, owner.st_gid)
    try:
        yield
    finally:
        os.chown(site.live, owner.st_uid, owner.st_gid)
        site.live.chmod(0o2750)


def test_as_another_user(site):
    tokens = site.stage.web.token_dir
    with as_nobody(site):
        mark = site.stage.ca.mark()
        fails(site, NONE, str(tokens), f"uid {NOBODY.pw_uid}", "chgrp", user="nobody")
        assert site.stage.ca.requests(mark) == []
        os.chown(tokens, NOBODY.pw_uid, NOBODY.pw_gid)
        try:
            succeeds(site, user="nobody")
            assert site.pem().stat().st_uid == NOBODY.pw_uid
            key = account(site) / "key.pem"
            key.chmod(0)
            fails(site, NONE, str(key), "Permission denied", user="nobody")
            key.chmod(0o600)
            site.pem().chmod(0)
            site.pem().chmod(0o640)
            os.chown(site.live, 0, -1)
            fails(site, OWN, str(site.live), "Permission denied", user="nobody")
            os.chown(site.state, 0, -1)
            fails(site, OWN, str(site.state), "belongs to user 0", "chown", user="nobody")
        finally:
            os.chown(tokens, 0, 0)


def test_token_directory_missing(site):
    tokens = site.stage.web.token_dir
    tokens.rmdir()
    try:
        result = site.run("renew", "--force")
        print(result)
        assert result.status == NONE and str(tokens) in result.out and "mkdir -p" in result.out, result
    finally:
        tokens.mkdir()
    succeeds(site)


def test_web_server_down(site):
    site.stage.web.stop()
    try:
        fails(site, NONE, HOST, f"{MAIL4}", "port 80", "refused")
    finally:
        site.stage.web.start()
    succeeds(site)


def test_web_server_with_another_root(site):
    """The probe finds it before the CA is asked."""
    elsewhere = site.dir / "elsewhere"
    elsewhere.mkdir()
    right = site.config["http01"]["token_dir"]
    site.set("http01.token_dir", str(elsewhere))
    mark = site.stage.ca.mark()
    fails(site, NONE, HOST, "404", "directory answers there")
    assert site.stage.ca.requests(mark) == [] and list(elsewhere.iterdir()) == []
    site.set("http01.token_dir", right)
    succeeds(site)


@contextlib.contextmanager
def another_client(tokens: Path, may_remove):
    """Somebody who removes each token as soon as it appears, once, if may_remove(names seen before) says so."""
    stop, seen = threading.Event(), []

    def work():
        while not stop.wait(0.001):
            for path in tokens.iterdir():
                if not path.name.startswith(".") and path.name not in seen and may_remove(seen):
                    path.unlink()
                    seen.append(path.name)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def test_tokens_removed_before_the_answer(site):
    """As mailcow's own client does, which empties the challenge directory: they are written again before the CA is told."""
    tokens = site.stage.web.token_dir
    site.set("preflight.skip", ["http"])
    # One file after the other, slowly; all but the last are lost by the time the last is written.
    slow = struck(site, tokens, "renameat", 1, "delay_exit=200000")
    slow["wrapper"] = tuple(str(part).replace("when=1", "when=1+") for part in slow["wrapper"])
    with another_client(tokens, lambda seen: len(seen) < len(NAMES) - 1) as seen:
        succeeds(site, orders=1, **slow)
    assert len(seen) == len(NAMES) - 1


def test_tokens_removed_after_the_answer(site):
    """The CA was told and looks later: they are written again meanwhile."""
    tokens, web = site.stage.web.token_dir, site.stage.web
    site.set("preflight.skip", ["http"])
    mark = site.stage.ca.mark()
    os.killpg(web.process.pid, signal.SIGSTOP)  # validators wait for its answer
    try:
        certherd = site.start("renew", "--force")
        wait_until(lambda: site.stage.ca.kinds(mark)["chalZ"] == len(NAMES), "the answers")
        lost = [path for path in tokens.iterdir() if not path.name.startswith(".")]
        for path in lost:
            path.unlink()
        assert len(lost) == len(NAMES)
        wait_until(lambda: all(path.exists() for path in lost), "the tokens again")
    finally:
        os.killpg(web.process.pid, signal.SIGCONT)
    assert certherd.wait(60) == 0
    assert served(site) == on_disk(site) and leftovers(site) == []
