# SPDX-License-Identifier: Apache-2.0
"""The other side of ejabberd: one handshake, an endless loop of them, and a client session that
notices when it is cut.

All of it runs in this process; only the sockets belong to the lab.
"""

import contextlib
import hashlib
import itertools
import socket
import ssl
import threading
import time
from collections import Counter
from xml.etree import ElementTree

from cryptography import x509

from . import certs
from .base import PATIENCE, wait_until
from .lab import Lab

_STREAM = (
    "<stream:stream xmlns='{xmlns}' xmlns:stream='http://etherx.jabber.org/streams'"
    " version='1.0' to='{to}'>"
)
_PING = "<iq type='get' id='p{number}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
_TLS, _SASL = "{urn:ietf:params:xml:ns:xmpp-tls}", "{urn:ietf:params:xml:ns:xmpp-sasl}"
_FEATURES, _ERROR = (
    "{http://etherx.jabber.org/streams}features",
    "{http://etherx.jabber.org/streams}error",
)


class XmppError(Exception):
    """The server said no, or nothing."""


class Stream:
    """An XMPP stream: sends text, receives stanzas one by one."""

    def __init__(self, sock: socket.socket, to: str, xmlns: str):
        self.sock, self.to, self.xmlns = sock, to, xmlns
        self.open()

    def open(self) -> None:
        """A stream header, and with it a new parser."""
        self._parser = ElementTree.XMLPullParser(["start", "end"])
        self._depth = 0
        self.send(_STREAM.format(xmlns=self.xmlns, to=self.to))

    def send(self, text: str) -> None:
        self.sock.sendall(text.encode())

    def receive(self) -> ElementTree.Element:
        """The next stanza; XmppError when the server ends the stream, or says an error in it."""
        while True:
            for event, element in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if event == "end" and self._depth == 1:
                    if element.tag == _ERROR:
                        raise XmppError(f"stream error {element[0].tag.rpartition('}')[2]}")
                    return element
                if event == "end" and self._depth == 0:
                    raise XmppError("stream closed")
            data = self.sock.recv(65536)
            if not data:
                raise XmppError("connection closed")
            self._parser.feed(data)

    def expect(self, tag: str) -> ElementTree.Element:
        element = self.receive()
        if element.tag != tag:
            raise XmppError(f"expected {tag}, got {element.tag}")
        return element

    def starttls(self, context: ssl.SSLContext, sni: str | None) -> None:
        if self.expect(_FEATURES).find(f"{_TLS}starttls") is None:
            raise XmppError("no STARTTLS offered")
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.expect(f"{_TLS}proceed")
        self.sock = context.wrap_socket(self.sock, server_hostname=sni)


def trusting() -> ssl.SSLContext:
    """TLS that accepts every certificate: what is served is looked at afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def verifying(roots_pem: str) -> ssl.SSLContext:
    """TLS as a real client does it: chain to these roots, and the name."""
    return ssl.create_default_context(cadata=roots_pem)


def handshake(
    lab: Lab,
    address: str,
    port: int,
    name: str,
    mode: str = "c2s",
    *,
    sni: bool = True,
    context: ssl.SSLContext | None = None,
    timeout: float = PATIENCE,
) -> x509.Certificate:
    """The certificate that is served for name. mode: c2s or s2s (STARTTLS), tls (TLS at once)."""
    context = context or trusting()
    sock = lab.connect(address, port, timeout)
    try:
        if mode == "tls":
            sock = context.wrap_socket(sock, server_hostname=name if sni else None)
        else:
            stream = Stream(sock, name, "jabber:client" if mode == "c2s" else "jabber:server")
            stream.starttls(context, name if sni else None)
            sock = stream.sock
        return certs.load(sock.getpeercert(True))
    finally:
        sock.close()


class Prober:
    """Handshakes without a pause, in a thread, until stop(): what clients see while a certificate
    is replaced. A context manager.
    """

    def __init__(self, lab: Lab, address: str, port: int, name: str, mode: str = "c2s", **options):
        self.handshakes = 0
        self.failures: list[str] = []
        self.seen: Counter = Counter()  # serial number of the certificate: how often
        self._arguments = (lab, address, port, name, mode)
        self._options = options
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                certificate = handshake(*self._arguments, **self._options)
                self.seen[certificate.serial_number] += 1
                self.handshakes += 1
            except (OSError, XmppError) as error:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(PATIENCE)

    def progress(self, more: int = 5) -> None:
        """Waits until it has made some more handshakes."""
        goal = self.handshakes + len(self.failures) + more
        wait_until(lambda: self.handshakes + len(self.failures) >= goal, "handshakes")


class Session:
    """A logged-in client (SASL ANONYMOUS) that pings the server now and then. A context manager;
    closed is None as long as it stays up.
    """

    def __init__(
        self,
        lab: Lab,
        address: str,
        host: str,
        *,
        port: int = 5222,
        context: ssl.SSLContext | None = None,
        interval: float = 0.1,
    ):
        self.closed: str | None = None  # why the session is over
        self.pongs = 0
        self._interval, self._end = interval, threading.Event()
        self._ids = itertools.count(1)
        self._stream = stream = Stream(lab.connect(address, port), host, "jabber:client")
        try:
            stream.starttls(context or trusting(), host)
            self.certificate = certs.load(stream.sock.getpeercert(True))
            self.fingerprint = hashlib.sha256(stream.sock.getpeercert(True)).hexdigest()
            self._log_in()
        except BaseException:
            stream.sock.close()
            raise
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _log_in(self) -> None:
        stream = self._stream
        stream.open()
        stream.expect(_FEATURES)
        stream.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>")
        stream.expect(f"{_SASL}success")
        stream.open()
        stream.expect(_FEATURES)
        stream.send(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
        )
        answer = stream.expect("{jabber:client}iq")
        self.jid = answer.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")
        if answer.get("type") != "result" or not self.jid:
            raise XmppError("no resource bound")

    def _live(self) -> None:
        """One thread for both directions: a TLS connection must not be used by two at a time."""
        due = time.monotonic()
        try:
            while not self._end.is_set():
                if time.monotonic() >= due:
                    due = time.monotonic() + self._interval
                    self._stream.sock.settimeout(PATIENCE)
                    self._stream.send(_PING.format(number=next(self._ids), to=self._stream.to))
                    self._stream.sock.settimeout(self._interval)
                with contextlib.suppress(TimeoutError):
                    stanza = self._stream.receive()
                    self.pongs += (
                        stanza.tag == "{jabber:client}iq" and stanza.get("type") == "result"
                    )
        except (OSError, XmppError, ElementTree.ParseError) as error:
            self.closed = str(error) or type(error).__name__

    def check(self, pongs: int = 2) -> None:
        """Waits for more answers to pings; XmppError if the session is over."""
        goal = self.pongs + pongs
        wait_until(lambda: self.closed or self.pongs >= goal, "pong")
        if self.closed:
            raise XmppError(f"session of {self.jid} is over: {self.closed}")

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._end.set()
        self._thread.join(PATIENCE)
        self._stream.sock.close()
