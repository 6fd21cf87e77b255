"""A NATS client down at the wire: it sends exact bytes and shows what comes back, operation by operation.

Not a library to work with: it has no reconnect, and it judges nothing.
"""

import dataclasses
import json
import socket
import struct
import time

# An acknowledgement waits for a disk, which other programs may keep busy for seconds.
ANSWER_WITHIN_SECONDS = 20.0
READ_BYTES = 65_536


@dataclasses.dataclass(frozen=True)
class Operation:
    """One protocol operation of the server: its first word, the rest of the line, and what followed."""

    verb: str
    arguments: str = ""
    headers: bytes = b""
    payload: bytes = b""

    def __str__(self) -> str:
        text = f"{self.verb} {self.arguments}".rstrip()
        if self.headers or self.payload:
            text += f" | {self.headers!r} {self.payload!r}" if self.headers else f" | {self.payload!r}"
        return text


CLOSED = Operation("<closed>")


@dataclasses.dataclass(frozen=True)
class Message:
    """A delivered message, taken apart."""

    subject: str
    sid: str
    reply: str
    status: str
    headers: tuple
    payload: bytes

    @property
    def code(self) -> int:
        """The status code of a status message, 0 of another."""
        return int(self.status.split(" ", 1)[0]) if self.status else 0

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self):
        return json.loads(self.payload)


def message_of(operation: Operation) -> Message:
    words = operation.arguments.split(" ")
    sizes = 2 if operation.verb == "HMSG" else 1
    subject, sid = words[0], words[1]
    reply = words[2] if len(words) - sizes == 3 else ""
    status, headers = "", []
    if operation.headers:
        first, *lines = operation.headers.decode(errors="replace").split("\r\n")
        status = first.removeprefix("NATS/1.0").strip()
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if line]
    return Message(subject, sid, reply, status, tuple(headers), operation.payload)


class Wire:
    """One connection. Reads INFO on opening; greets with CONNECT only where `connect` is given."""

    def __init__(self, port: int, connect: dict | None = None, host: str = "127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout=ANSWER_WITHIN_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.ended = False
        first = self.read()
        assert first.verb == "INFO", f"the server began with {first}"
        self.info = json.loads(first.arguments)
        self._inbox_count = 0
        self._sids = 100
        self._earlier: list[Message] = []
        if connect is not None:
            self.send("CONNECT " + json.dumps({"verbose": False, "pedantic": False, "lang": "wire", "version": "1"} | connect))

    def send(self, *lines: str):
        """Sends lines, each ended by CR LF."""
        self.send_raw("".join(line + "\r\n" for line in lines).encode())

    def send_raw(self, data: bytes):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the server said before it closed is still to be read

    def read(self, within: float = ANSWER_WITHIN_SECONDS) -> Operation:
        """The server's next operation, CLOSED at its end."""
        deadline = time.monotonic() + within
        verb, arguments = self._read_words(deadline)
        if verb == "MSG":
            payload = self._read_exact(int(arguments.split(" ")[-1]) + 2, deadline)[:-2]
            return Operation(verb, arguments, b"", payload)
        if verb == "HMSG":
            header_size, total = (int(word) for word in arguments.split(" ")[-2:])
            block = self._read_exact(total + 2, deadline)[:-2]
            return Operation(verb, arguments, block[:header_size], block[header_size:])
        return CLOSED if self.ended else Operation(verb, arguments)

    def read_message(self, within: float = ANSWER_WITHIN_SECONDS) -> Message:
        """The next message; anything else but INFO and PING is a failure."""
        if self._earlier:
            return self._earlier.pop(0)
        deadline = time.monotonic() + within
        while True:
            operation = self.read(max(0.01, deadline - time.monotonic()))
            if operation.verb in ("MSG", "HMSG"):
                return message_of(operation)
            if operation.verb == "PING":
                self.send("PONG")
            elif operation.verb not in ("INFO", "PONG", "+OK"):
                raise AssertionError(f"expected a message, got {operation}")

    def until_pong(self, within: float = ANSWER_WITHIN_SECONDS) -> list[Operation]:
        """Sends PING; all operations up to its PONG, or up to the end of the connection."""
        self.send("PING")
        return self.until(lambda operation: operation.verb == "PONG", within)

    def until_closed(self, within: float = ANSWER_WITHIN_SECONDS) -> list[Operation]:
        return self.until(lambda operation: False, within)

    def until(self, last, within: float = ANSWER_WITHIN_SECONDS) -> list[Operation]:
        deadline = time.monotonic() + within
        seen: list[Operation] = []
        while True:
            operation = self.read(max(0.01, deadline - time.monotonic()))
            seen.append(operation)
            if operation == CLOSED or last(operation):
                return seen

    def sync(self) -> list[Message]:
        """A PING and its PONG; the messages that came before it."""
        kept, self._earlier = self._earlier, []
        return kept + [message_of(operation) for operation in self.until_pong() if operation.verb in ("MSG", "HMSG")]

    def subscribe(self, subject: str, queue: str = "") -> str:
        self._sids += 1
        self.send(f"SUB {subject} {queue + ' ' if queue else ''}{self._sids}")
        return str(self._sids)

    def unsubscribe(self, sid: str):
        self.send(f"UNSUB {sid}")

    def publish(self, subject: str, payload: bytes | str = b"", reply: str = "", headers=()):
        if isinstance(payload, str):
            payload = payload.encode()
        reply = reply + " " if reply else ""
        pairs = headers.items() if isinstance(headers, dict) else headers
        if pairs:
            block = ("NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in pairs) + "\r\n").encode()
            line = f"HPUB {subject} {reply}{len(block)} {len(block) + len(payload)}\r\n"
            self.send_raw(line.encode() + block + payload + b"\r\n")
        else:
            self.send_raw(f"PUB {subject} {reply}{len(payload)}\r\n".encode() + payload + b"\r\n")

    def inbox(self) -> str:
        self._inbox_count += 1
        return f"_INBOX.wire.{self.socket.getsockname()[1]}.{self._inbox_count}"

    def request(self, subject: str, payload: bytes | str = b"", headers=(), within: float = ANSWER_WITHIN_SECONDS) -> Message:
        """One request, one answer. What else arrives meanwhile is kept for `read_message`."""
        inbox = self.inbox()
        sid = self.subscribe(inbox)
        self.publish(subject, payload, inbox, headers)
        kept, self._earlier = self._earlier, []
        try:
            while (answer := self.read_message(within)).sid != sid:
                kept.append(answer)
        finally:
            self._earlier = kept
        self.unsubscribe(sid)
        return answer

    def close(self):
        self.socket.close()

    def send_as_much_as_fits(self, data: bytes):
        """Again and again, until the buffers of both kernels are full: for a server that does not read."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.send(data)
        except BlockingIOError:
            pass

    def reset(self):
        """Closes so that the other side gets no end but an error: a close that lingers for no time is a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _fill(self, deadline: float) -> bool:
        self.socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self.socket.recv(READ_BYTES)
        except ConnectionResetError:
            return False
        except TimeoutError:
            raise AssertionError(f"the server said nothing more in time; unread: {self._buffer[:200]!r}") from None
        self._buffer += data
        return bool(data)

    def _read_line(self, deadline: float) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._fill(deadline):
                return None
        line, self._buffer = self._buffer[:end], self._buffer[end + 2:]
        return line

    def _read_words(self, deadline: float) -> tuple[str, str]:
        """The verb of the next line and the rest of it; at the end none, and that is noted."""
        line = self._read_line(deadline)
        self.ended = line is None
        verb, _, arguments = (line or b"").decode(errors="replace").partition(" ")
        return verb, arguments

    def _read_exact(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            if not self._fill(deadline):
                raise AssertionError("the connection ended inside a message")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data
