# SPDX-License-Identifier: Apache-2.0
"""A name server that does as it is told: refuses, keeps silent, lies, is slow, wants TCP. By
question, so that the rest can be normal.

    fault = FaultDns(lab, upstream=AUTH4)                         # passes on what has no rule
    fault.rule("upload.im.example.test", "*", Reply(rcode="SERVFAIL"))
    fault.rule("im.example.test", "A", SILENT, Reply(records=["@ 60 IN A 10.53.0.10"]))  # then

Put it in the way of a resolver by a delegation: zone.delegate("upload.im", standard.FAULT_SERVER).
It runs in threads of this process; only its sockets belong to the lab.
"""

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset

from .base import PATIENCE
from .lab import FAULT4, FAULT6, Lab


@dataclass(frozen=True)
class Question:
    """What was asked, and how."""

    name: str
    rtype: str
    tcp: bool
    client: str


@dataclass
class Reply:
    """One way to answer. Without anything: NOERROR, authoritative, empty."""

    rcode: str = "NOERROR"
    records: list[str] = field(
        default_factory=list
    )  # "name ttl IN type value"; a name of "@" stands for the name that was asked
    authority: list[str] = field(default_factory=list)
    additional: list[str] = field(default_factory=list)
    authoritative: bool = True  # False for a lame server
    drop: bool = False  # no answer at all; over TCP the connection is closed
    delay: float = 0  # seconds before the answer
    truncate: bool = False  # over UDP only TC, over TCP the whole
    wrong_id: bool = False
    wrong_question: bool = False
    raw: bytes | None = None  # these bytes instead of a message, after the two bytes of the id
    edit: Callable[[dns.message.Message], None] | None = None  # the last word on the message

    def wire(self, query: dns.message.Message, tcp: bool) -> bytes:
        if self.raw is not None:
            return struct.pack("!H", query.id) + self.raw
        message = dns.message.make_response(query, recursion_available=False, our_payload=1232)
        message.set_rcode(dns.rcode.from_text(self.rcode))
        if self.authoritative:
            message.flags |= dns.flags.AA
        if self.truncate and not tcp:
            message.flags |= dns.flags.TC
        else:
            asked = query.question[0].name.to_text()
            for section, lines in (
                (message.answer, self.records),
                (message.authority, self.authority),
                (message.additional, self.additional),
            ):
                section.extend(_rrset(line, asked) for line in lines)
        if self.wrong_id:
            message.id ^= 1
        if self.wrong_question:
            message.question[0].name = dns.name.from_text("elsewhere.test.")
        if self.edit:
            self.edit(message)
        return message.to_wire(max_size=65535)


def _rrset(line: str, asked: str) -> dns.rrset.RRset:
    name, ttl, rclass, rtype, value = line.split(None, 4)
    return dns.rrset.from_text(asked if name == "@" else name, int(ttl), rclass, rtype, value)


SILENT = Reply(drop=True)
SERVFAIL = Reply(rcode="SERVFAIL", authoritative=False)
REFUSED = Reply(rcode="REFUSED", authoritative=False)


class FaultDns:
    """Has the life of a lab.Server: lab.start(fault). `questions` is everything that was asked, in
    order.
    """

    def __init__(
        self,
        lab: Lab,
        name: str = "faultdns",
        *,
        addresses: tuple[str, ...] = (FAULT4, FAULT6),
        port: int = 53,
        upstream: str | None = None,
        otherwise: Reply = REFUSED,
    ):
        self.lab, self.name, self.addresses, self.port = lab, name, addresses, port
        self.upstream, self.otherwise = upstream, otherwise
        self.questions: list[Question] = []
        self._rules: dict[tuple[str, str], list[Reply]] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()
        self._sockets = contextlib.ExitStack()

    # Rules

    def rule(self, name: str, rtype: str, *replies: Reply) -> None:
        """For this name and type these answers, one after another; the last one stays. "*" stands
        for all types; "*.name" for all below name.
        """
        with self._lock:
            self._rules[name.rstrip(".").lower(), rtype.upper()] = list(replies)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def asked(self, name: str, rtype: str = "*") -> int:
        """How often this was asked."""
        return sum(
            q.name == name.rstrip(".").lower() and rtype in ("*", q.rtype)
            for q in list(self.questions)
        )

    def _reply(self, question: Question) -> Reply | None:
        """The rule that fits best: the name itself before a parent's wildcard, the type itself
        before all types. None: pass it on.
        """
        labels = question.name.split(".")
        names = [question.name, *("*." + ".".join(labels[n:]) for n in range(1, len(labels))), "*"]
        with self._lock:
            self.questions.append(question)
            for name in names:
                for rtype in (question.rtype, "*"):
                    if replies := self._rules.get((name, rtype)):
                        return replies.pop(0) if len(replies) > 1 else replies[0]
        return None if self.upstream else self.otherwise

    # Life

    def launch(self) -> None:
        """Sockets are ours when this returns, so it is ready at once."""
        self._end.clear()
        selector = self._sockets.enter_context(selectors.DefaultSelector())
        with self.lab.inside():
            for address in self.addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    sock = self._sockets.enter_context(socket.socket(family, kind))
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind((address, self.port))
                    if kind == socket.SOCK_STREAM:
                        sock.listen()
                    selector.register(
                        sock,
                        selectors.EVENT_READ,
                        self._datagram if kind == socket.SOCK_DGRAM else self._connection,
                    )
        self._spawn(self._serve, selector)

    def start(self) -> None:
        if self not in self.lab.servers:
            self.lab.servers.append(self)
        self.launch()

    def wait(self, timeout: float = PATIENCE) -> None:
        """It is ready after launch()."""

    def stop(self) -> None:
        self._end.set()
        for sock in list(self._connections):  # a resolver keeps them open for a while
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._threads.clear()
        self._sockets.close()

    def tail(self, lines: int = 30) -> str:
        return "\n".join(
            f"{q.name} {q.rtype} {'TCP' if q.tcp else 'UDP'} from {q.client}"
            for q in self.questions[-lines:]
        )

    def _spawn(self, function, *arguments) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _serve(self, selector: selectors.BaseSelector) -> None:
        while not self._end.is_set():
            for key, _ in selector.select(0.05):
                key.data(key.fileobj)

    # Questions

    def _datagram(self, sock: socket.socket) -> None:
        data, client = sock.recvfrom(65535)
        self._spawn(self._answer, data, client[0], False, lambda wire: sock.sendto(wire, client))

    def _connection(self, listener: socket.socket) -> None:
        sock, client = listener.accept()
        self._connections.add(sock)
        self._spawn(self._stream, sock, client[0])

    def _stream(self, sock: socket.socket, client: str) -> None:
        with sock, contextlib.suppress(OSError, struct.error):
            sock.settimeout(5)
            while not self._end.is_set():
                (length,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
                data = sock.recv(length, socket.MSG_WAITALL)
                if not self._answer(
                    data,
                    client,
                    True,
                    lambda wire: sock.sendall(struct.pack("!H", len(wire)) + wire),
                ):
                    break
        self._connections.discard(sock)

    def _answer(self, data: bytes, client: str, tcp: bool, send: Callable[[bytes], object]) -> bool:
        """Whether an answer was sent."""
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return False
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        reply = self._reply(
            Question(name, dns.rdatatype.to_text(query.question[0].rdtype), tcp, client)
        )
        if reply is None:
            wire = self._pass_on(query, tcp)
        elif reply.drop:
            wire = None
        else:
            wire = reply.wire(query, tcp)
        if wire is None or (reply and reply.delay and self._end.wait(reply.delay)):
            return False
        with contextlib.suppress(OSError):  # the client has gone, or we are being stopped
            send(wire)
        return True

    def _pass_on(self, query: dns.message.Message, tcp: bool) -> bytes | None:
        try:
            with self.lab.inside():
                return (dns.query.tcp if tcp else dns.query.udp)(query, self.upstream, 5).to_wire(
                    max_size=65535
                )
        except (OSError, dns.exception.DNSException):
            return None


def slow(reply: Reply, seconds: float) -> Reply:
    """The same, later."""
    return replace(reply, delay=seconds)
