# SPDX-License-Identifier: Apache-2.0
"""What people see while it runs: a live block on a terminal that is gone at the end, and plain text everywhere else."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

import pytest

from tests.lab import standard
from tests.lab.base import PATIENCE

HOST = "im.example.test"
NAMES = standard.host_set(HOST)
COLOR = re.compile(r"\033\[[0-9;]*m")
ESCAPE = re.compile(r"\033\[([0-9]*)([A-Za-z])")


class Screen:
    """As much of a terminal as our display needs: lines, cursor up and erase. What scrolls out at the top is gone for good."""

    def __init__(self, rows: int, columns: int):
        self.rows, self.columns = rows, columns
        self.scrolled: list[str] = []
        self.lines, self.row, self.column = [""], 0, 0

    def feed(self, text: str) -> None:
        while text:
            if match := ESCAPE.match(text):
                self.escape(int(match[1] or 1), match[2])
                text = text[match.end() :]
            else:
                self.put(text[0])
                text = text[1:]

    def escape(self, number: int, what: str) -> None:
        if what == "F":
            assert number <= self.row, "the cursor leaves the screen at the top"
            self.row, self.column = self.row - number, 0
        elif what == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif what == "J":
            self.lines[self.row :] = [self.lines[self.row][: self.column]]
        else:
            raise AssertionError(f"an escape sequence nobody expects: {what!r}")

    def put(self, character: str) -> None:
        assert character != "\033", "an escape sequence nobody expects"
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
            if len(self.lines) > self.rows:
                self.scrolled.append(self.lines.pop(0))
                self.row -= 1
        else:
            line = self.lines[self.row]
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    @property
    def text(self) -> str:
        return "\n".join(self.scrolled + self.lines)


class Watched:
    """A run on a terminal: everything that came, and the screen after each piece."""

    def __init__(self, site, *arguments, rows=30, columns=100, stdout=None, **environment):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen, self.raw, self.shown = Screen(rows, columns), "", []
        self.process = site.start(*arguments, env={"TERM": "xterm", "NO_COLOR": ""} | environment, stdout=stdout or slave, stderr=slave)
        os.close(slave)
        with open(master, "rb", buffering=0) as terminal:
            self._watch(terminal)
        self.status = self.process.wait(PATIENCE)

    def _watch(self, terminal) -> None:
        deadline = time.monotonic() + PATIENCE
        rest = b""
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            with contextlib.suppress(OSError):  # how Linux says that nobody has the other end any more
                if piece := terminal.read(65536):
                    rest = self._take(rest + piece)
                    continue
            return

    def _take(self, data: bytes) -> bytes:
        """Whole characters and sequences only; what remains comes with the next piece."""
        end = max(data.rfind(b"\n"), data.rfind(b"J"), data.rfind(b"K")) + 1
        text = data[:end].decode()
        self.raw += text
        self.screen.feed(COLOR.sub("", text))
        self.shown.append(self.screen.text)
        return data[end:]

    def ever(self, *parts: str) -> bool:
        """Was there a moment at which all of this stood there?"""
        return any(all(part in text for part in parts) for text in self.shown)


@pytest.fixture(scope="module")
def slow_ca(stage):
    """Each validation begins after up to three seconds."""
    stage.ca.environment |= {"PEBBLE_VA_NOSLEEP": None, "PEBBLE_VA_SLEEPTIME": 3}
    stage.ca.restart()


@pytest.fixture
def site(slow_ca, site):
    return site


def result_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_live_on_a_terminal(site):
    run = Watched(site, "renew")
    assert run.status == 0, run.raw
    rows = [f"{'' if name == HOST else '  '}{name:{28 - 2 * (name != HOST)}}  the CA is validating" for name in NAMES]
    assert run.ever(*(row.split("  the CA")[0] for row in rows), "the CA is validating"), run.raw
    assert run.ever("the CA is validating  1 s"), run.raw  # how long, as it grows
    assert COLOR.search(run.raw)
    # Of the block nothing is left; the result stands where it began.
    lines = result_lines(run.screen.text)
    assert lines[0].startswith(f"{HOST}: certificate issued for 5 names")
    assert "handshakes show it" in lines[-1] and len(lines) == 5, run.screen.text


def test_columns_stand_in_line(site):
    run = Watched(site, "renew")
    block = next(text for text in run.shown if text.count("the CA is validating") == 5)
    assert len({line.index("the CA") for line in block.splitlines() if "the CA" in line}) == 1, block


def test_no_color(site):
    run = Watched(site, "renew", NO_COLOR="1")
    assert run.status == 0 and run.ever("the CA is validating")
    assert not COLOR.search(run.raw)


def test_dumb_terminal(site):
    run = Watched(site, "renew", TERM="dumb", NO_COLOR="1")
    assert run.status == 0 and "\033" not in run.raw and not run.ever("the CA is validating")


@pytest.mark.parametrize("rows, columns", [(4, 100), (30, 40), (3, 24)])
def test_small_terminal(site, rows, columns):
    """What doesn't fit is left out or cut: a block that scrolled or wrapped could not be taken back."""
    run = Watched(site, "renew", rows=rows, columns=columns, NO_COLOR="1")
    assert run.status == 0
    block = [text for text in run.shown if "the CA" in text]
    assert block and all(len(line) < columns for line in block[0].splitlines()), run.raw
    assert result_lines(run.screen.text)[0].startswith(f"{HOST}: certificate issued for 5 names"), run.screen.text
    assert not any("the CA is" in line for line in run.screen.scrolled)


def test_failure_on_a_terminal(stage, site):
    """An error is printed below an empty line of nothing, not into the block."""
    site.set("acme.ca_bundle", None)
    run = Watched(site, "renew", NO_COLOR="1")
    assert run.status == 4
    assert "checking DNS" not in run.screen.text and f"{HOST}: failed:" in run.screen.text, run.screen.text


def test_no_escapes_without_a_terminal(site):
    result = site.run("renew")
    assert result.status == 0, result
    assert "\033" not in result.out + result.err and "validating" not in result.out + result.err


def test_only_the_result_in_a_pipe(site, tmp_path):
    """stdout is a file, stderr the terminal: the block is seen, the file has plain text."""
    path = tmp_path / "out"
    with path.open("w") as out:
        run = Watched(site, "renew", stdout=out)
    assert run.status == 0 and run.ever("the CA is validating")
    assert result_lines(run.screen.text) == [], run.screen.text
    assert "certificate issued for 5 names" in path.read_text() and "\033" not in path.read_text()


def test_quiet(site):
    run = Watched(site, "renew", "--quiet")
    assert run.status == 0 and run.raw == ""
    result = site.run("renew", "--quiet")
    assert (result.status, result.out, result.err) == (0, "", "")


def test_quiet_is_not_mute(stage, site):
    zone = stage.zones["example.test"]
    zone.remove("*.im")
    stage.reload_dns("example.test")
    try:
        result = site.run("renew", "--quiet")
    finally:
        zone.set("*.im", "CNAME", "mail.example.test.")
        stage.reload_dns("example.test")
    assert result.status == 4
    assert "add:  *.im.example.test. 300 IN CNAME mail.example.test." in result.out + result.err


def test_json_only(site, schemas, tmp_path):
    path = tmp_path / "out"
    with path.open("w") as out:
        run = Watched(site, "renew", "--json", stdout=out)
    assert run.status == 0 and run.raw == ""
    result = site.json("renew")
    schemas(result.json)
    assert result.err == ""
