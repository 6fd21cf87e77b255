"""The other end of a route, scripted: it speaks the protocol between servers, as exactly as a test wants it to.

Not a server: it knows nothing but what it is told to say.
"""

import contextlib
import json
import socket
import time

from broker import wait_until
from wire import ANSWER_WITHIN_SECONDS, CLOSED, Operation, Wire

# What differs from server to server, or from run to run.
VARYING = {"server_id", "git_commit", "go", "nonce", "port", "ip", "xkey", "host", "connect_urls", "ws_connect_urls", "name"}
# Only Weir's servers tell each other this; nats-server passes over it.
OWN = {"weir"}


def masked(fields: dict) -> dict:
    """The fields of INFO or CONNECT with what varies as its kind."""
    return {key: f"<{type(value).__name__}>" if key in VARYING else value for key, value in fields.items() if key not in OWN}


class RoutePeer(Wire):
    """A connection to a route port, or accepted from a server that dials."""

    def __init__(self, port: int = 0, accepted: socket.socket | None = None, server_id: str = "NPEER", name: str = "peer"):
        self.server_id, self.name = server_id, name
        if accepted is None:
            wait_until(lambda: self._dial(port), f"a server listens for routes at {port}")
        else:
            self.socket, self._buffer, self.ended, self._earlier = accepted, b"", False, []
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _dial(self, port: int) -> bool:
        # nats-server says that it is ready before it listens for routes.
        try:
            super().__init__(port)
        except ConnectionRefusedError:
            return False
        return True

    def read(self, within: float = ANSWER_WITHIN_SECONDS) -> Operation:
        deadline = time.monotonic() + within
        verb, arguments = self._read_words(deadline)
        if verb not in ("RMSG", "HMSG", "LMSG"):
            return CLOSED if self.ended else Operation(verb, arguments)
        words = arguments.split(" ")
        block = self._read_exact(int(words[-1]) + 2, deadline)[:-2]
        header_size = int(words[-2]) if verb != "RMSG" else 0
        return Operation(verb, arguments, block[:header_size], block[header_size:])

    def info_of(self, **fields) -> dict:
        return {"server_id": self.server_id, "server_name": self.name, "version": "2.15.1", "proto": 1, "go": "go", "host": "127.0.0.1",
                "port": 1, "headers": True, "max_payload": 1048576, "cluster": "C", "lnoc": True, "lnocu": True, "ln": True,
                "compression": "off", "route_pool_size": 3} | fields

    def connect(self, **fields):
        self.send("CONNECT " + json.dumps({"echo": True, "verbose": False, "pedantic": False, "tls_required": False, "headers": True,
                                           "name": self.server_id, "cluster": "C", "lnoc": True, "ln": True} | fields))

    def say_info(self, **fields):
        self.send("INFO " + json.dumps(self.info_of(**fields)))

    def join(self, **fields) -> "RoutePeer":
        """Introduces itself and waits until that is settled."""
        self.connect()
        self.say_info(**fields)
        self.settle()
        return self

    def settle(self, account: str = "$G") -> list[str]:
        """What the server said of an account up to now."""
        self.send("PING")
        said = []
        while True:
            operation = self.read()
            if operation.verb == "PING":
                self.send("PONG")
            elif operation.verb == "PONG" or operation == CLOSED:
                return said + ([str(operation)] if operation == CLOSED else [])
            elif f" {account} " in f" {operation.arguments} ":
                said.append(str(operation))

    def heard(self, within: float = ANSWER_WITHIN_SECONDS) -> Operation:
        """The next operation that is no PING."""
        deadline = time.monotonic() + within
        while True:
            operation = self.read(max(0.01, deadline - time.monotonic()))
            if operation.verb == "PING":
                self.send("PONG")
            elif operation.verb != "PONG":
                return operation

    def next_info(self) -> dict:
        """The next INFO; what else comes is passed over."""
        while (operation := self.heard()).verb != "INFO":
            assert operation != CLOSED, "the connection ended without another INFO"
        return json.loads(operation.arguments)

    def to_the_end(self, within: float = ANSWER_WITHIN_SECONDS) -> list[str]:
        """All that is said up to the close, but for interest, PING and INFO."""
        return [str(operation) for operation in self.until(lambda _: False, within)
                if operation.verb not in ("PING", "PONG", "INFO", "RS+", "RS-")]


@contextlib.contextmanager
def listener():
    """A socket for servers to dial; gives (port, accept)."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        listening.settimeout(ANSWER_WITHIN_SECONDS)
        yield listening.getsockname()[1], lambda **fields: RoutePeer(accepted=listening.accept()[0], **fields)


def route_count(broker) -> int:
    return len(broker.get_json("/routez").get("routes") or [])


def wait_for_routes(broker, count: int):
    wait_until(lambda: route_count(broker) == count, f"{broker.name} has {count} routes")
