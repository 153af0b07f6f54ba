#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""certherd at its main job, in front of the reader: a small internet of real servers in a private network namespace, three acts.

usage: demo.py [CERTHERD]   (the built program; needs root; leaves nothing behind)
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import Lab, certs, standard  # noqa: E402
from tests.lab.client import Session, handshake  # noqa: E402
from tests.lab.lab import MAIL4  # noqa: E402
from tests.lab.site import Site, program  # noqa: E402

COLOR = sys.stdout.isatty()


def say(text: str = "") -> None:
    print(text, flush=True)


def act(number: int, title: str) -> None:
    bold, off = ("\033[1m", "\033[0m") if COLOR else ("", "")
    say(f"\n{bold}== {number}. {title}{off}\n")


class Demo:
    """The stage: servers, an installation of certherd, and a way to run it visibly."""

    def __init__(self, lab: Lab):
        self.lab = lab
        # The CA as Debian ships it: it waits at random before it looks, and refuses one good nonce in twenty.
        domains = {"example.test": "im", "example2.test": "chat"}
        self.stage = standard.start(lab, domains, ca={"sleep": None, "nonce_reject": None, "authz_reuse": None})
        self.site = Site(self.stage)

    def show(self, *arguments: str) -> int:
        """Runs certherd with the reader's terminal, as an operator would."""
        say(f"$ certherd {' '.join(arguments)}")
        status = self.site.run(*arguments, stdout=sys.stdout, stderr=sys.stderr).status
        say(f"(exit status {status})\n")
        return status


def expect(fact: bool, what: str) -> None:
    say(f"  {'yes' if fact else 'NO'}: {what}")
    if not fact:
        raise SystemExit(f"demo: failed: {what}")


def served(lab: Lab, host: str):
    """What is on the wire: STARTTLS for a client."""
    return handshake(lab, MAIL4, 5222, host)


def first(demo: Demo) -> None:
    act(1, "example.test chats as im.example.test: from a self-signed certificate to a proved one")
    before = served(demo.lab, "im.example.test")
    say(f"ejabberd serves a self-signed certificate now (serial {before.serial_number:x}).\n")
    expect(demo.show("plan") == 3, "the plan finds something to do")
    mark = demo.stage.ca.mark()
    with Session(demo.lab, MAIL4, "im.example.test") as session:
        say("A chat client is logged in and stays.\n")
        expect(demo.show("renew") == 0, "one command did all of it")
        session.check()
        expect(True, "the chat client was not disturbed by the reload")
    after = served(demo.lab, "im.example.test")
    expect(demo.stage.ca.orders(mark) >= 1 and after.serial_number != before.serial_number, "another certificate is on the wire")
    expect(certs.dns_names(after) == sorted(standard.host_set("im.example.test")), "it has the five names")
    mark = demo.stage.ca.mark()
    expect(demo.show("renew") == 0 and not demo.stage.ca.requests(mark), "a second renew has nothing to do and asks the CA nothing")


def second(demo: Demo) -> None:
    act(2, "example2.test chooses the prefix chat, but forgot one of the two CNAMEs")
    zone = demo.stage.zones["example2.test"]
    zone.remove("chat")
    demo.stage.reload_dns("example2.test")
    demo.site.config["domains"].append(Site.domain("example2.test:chat"))
    mark = demo.stage.ca.mark()
    expect(demo.show("renew") == 3, "im.example.test is good, chat.example2.test is not")
    expect(not demo.stage.ca.requests(mark), "the CA was not asked: what DNS shows costs no request")


def third(demo: Demo) -> None:
    act(3, "the record that certherd printed is made")
    check = demo.site.json("plan").host("chat.example2.test")["checks"][0]
    say(f"  zone example2.test:  {check['record']}\n")
    expect(check["record"].split()[:1] == ["chat.example2.test."] and "CNAME" in check["record"], "the record is the one for the host itself")
    demo.stage.zones["example2.test"].set("chat", "CNAME", "mail.example.test.")
    demo.stage.reload_dns("example2.test")
    expect(demo.show("renew", "example2.test") == 0, "now it is issued, installed and proved")
    expect(demo.show("status") == 0, "all is well")
    expect(demo.show("verify") == 0, "and clients see it")


def main() -> int:
    if len(sys.argv) == 2:
        os.environ["CERTHERD_PROGRAM"] = sys.argv[1]
    if len(sys.argv) > 2 or not program().exists():
        print(__doc__, file=sys.stderr)
        return 2
    start = time.monotonic()
    say("Starting pebble (CA), knot and unbound (DNS), nginx (web server), ejabberd (XMPP) in a private network namespace ...")
    with Lab() as lab:
        demo = Demo(lab)
        say(f"... up after {time.monotonic() - start:.1f} s. This is the configuration of certherd:\n")
        say("".join(f"  {line}\n" for line in demo.site.write().read_text().splitlines()))
        first(demo)
        second(demo)
        third(demo)
    say(f"\nThe demo is over, after {time.monotonic() - start:.0f} s; nothing is left of it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
