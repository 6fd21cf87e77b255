"""WebSocket: upgrades and their refusals, frames, compression and the end, as nats-server does."""

import base64
import json
import os
import re
import socket
import ssl
import struct
import zlib

import pytest

import nsc
from broker import STANDALONE, wait_until
from certificates import Authority
from conftest import WebPair

WITHIN_SECONDS = 5.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@pytest.fixture
def pair(make_pair):
    def start(block: str, top: str = "") -> WebPair:
        return make_pair(STANDALONE + f"debug: true\n{top}\nwebsocket {{ listen: \"127.0.0.1:WEBSOCKET\", {block} }}\n", WebPair)

    return start


class Web:
    """One connection to the WebSocket port, down at the frames."""

    def __init__(self, broker, context=None):
        self.socket = socket.create_connection(("127.0.0.1", broker.websocket), timeout=WITHIN_SECONDS)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.deflated = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def request(self, headers=None, method="GET", path="/", without=(), version="1.1") -> str:
        """Sends a request; the answer's head (and its body, when it has a length), without the date."""
        lines = [f"{method} {path} HTTP/{version}"]
        lines += [f"{name}: {value}" for name, value in (UPGRADE | (headers or {})).items() if name not in without]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self.answer()

    def answer(self) -> str:
        while b"\r\n\r\n" not in self.buffer:
            if not self._fill():
                return self.buffer.decode() + "<end>"
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        text = head.decode()
        self.deflated = "permessage-deflate" in text
        length = re.search(r"Content-Length: (\d+)", text)
        if length:
            body = self._exact(int(length[1])).decode()
            text += "\n" + body
        return re.sub(r"Date: [^\r]*", "Date: <date>", text)

    def frame(self, payload: bytes, opcode=BINARY, final=True, compressed=False, masked=True, first=None, length=None):
        """Sends one frame; `first` and `length` overrule its first byte and the length it claims."""
        mask = os.urandom(4)
        head = bytes([first if first is not None else (opcode | (0x80 if final else 0) | (0x40 if compressed else 0))])
        size, bit = len(payload) if length is None else length, 0x80 if masked else 0
        if size <= 125:
            head += bytes([bit | size])
        elif size < 65536:
            head += bytes([bit | 126]) + struct.pack(">H", size)
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", size)
        if masked:
            head += mask
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        try:
            self.socket.sendall(head + payload)
        except ConnectionError:
            pass  # what the server said before it closed is still to be read

    def read_frame(self):
        """(first byte, payload), or None at the end."""
        try:
            head = self._exact(2)
            size = head[1] & 0x7F
            assert not head[1] & 0x80, "a server does not mask"
            if size == 126:
                size = struct.unpack(">H", self._exact(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._exact(8))[0]
            return head[0], self._exact(size)
        except EOFError:
            return None

    def until(self, wanted: bytes) -> list:
        """The protocol's lines up to the one that begins with `wanted`; control frames and the end among them."""
        seen, text = [], b""
        message, is_deflated = b"", False
        while True:
            frame = self.read_frame()
            if frame is None:
                return seen + lines_of(text)[0] + ["<end>"]
            first, payload = frame
            opcode = first & 0x0F
            if opcode >= CLOSE:
                seen += lines_of(text)[0] + [(opcode, payload)]
                text = b""
                continue
            if opcode:
                message, is_deflated = b"", bool(first & 0x40)
            message += payload
            if first & 0x80:
                text += inflated(message) if is_deflated else message
                if any(line.startswith(wanted) for line in text.split(b"\r\n")[:-1]):
                    return seen + lines_of(text)[0]

    def connect(self, headers=None, verbose="false") -> dict:
        """Upgrades, reads INFO, says CONNECT."""
        answer = self.request(headers)
        assert answer.startswith("HTTP/1.1 101"), answer
        first, payload = self.read_frame()
        assert first == 0x80 | BINARY or first == 0xC0 | BINARY, first
        if first & 0x40:
            payload = inflated(payload)
        assert payload.startswith(b"INFO "), payload
        self.frame(b'CONNECT {"verbose":%s,"pedantic":false,"headers":true}\r\n' % verbose.encode())
        return json.loads(payload[5:])

    def _fill(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.buffer += data
        return bool(data)

    def _exact(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self._fill():
                raise EOFError
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


def inflated(message: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(message + b"\0\0\xff\xff")


def without_close(seen: list) -> list:
    """Weir says why it closes after an error; nats-server drops that (docs/deviations/transport-security.md)."""
    return [one for one in seen if not (isinstance(one, tuple) and one[0] == CLOSE and seen[-1] == "<end>")]


def lines_of(text: bytes):
    lines = text.split(b"\r\n")
    return [line for line in lines[:-1] if not line.startswith((b"INFO", b"PING"))], lines[-1]


def log_of(broker, *wanted: str) -> list[str]:
    lines = []
    for line in broker.log_since_start().splitlines():
        if any(text in line for text in wanted):
            line = re.sub(r"^\[\d+\] \S+ \S+ ", "", line)
            line = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", re.sub(r"wid:\d+", "wid:N", line))
            lines.append(line)
    return lines


REQUESTS = {
    "a good request": {},
    "another method": {"method": "POST"},
    "no upgrade": {"without": ("Upgrade",)},
    "another upgrade": {"headers": {"Upgrade": "h2c"}},
    "an upgrade in a list": {"headers": {"Upgrade": "h2c, WebSocket"}},
    "no connection": {"without": ("Connection",)},
    "a connection in a list": {"headers": {"Connection": "keep-alive, upgrade"}},
    "another connection": {"headers": {"Connection": "keep-alive"}},
    "no key": {"without": ("Sec-WebSocket-Key",)},
    "a short key": {"headers": {"Sec-WebSocket-Key": base64.b64encode(b"x" * 15).decode()}},
    "a key that is none": {"headers": {"Sec-WebSocket-Key": "!" * 24}},
    "no version": {"without": ("Sec-WebSocket-Version",)},
    "another version": {"headers": {"Sec-WebSocket-Version": "12"}},
    "no host": {"without": ("Host",)},
    "any path": {"path": "/some/where?a=b"},
    "the path of mqtt": {"path": "/mqtt"},
    "compression offered": {"headers": DEFLATE},
    "no masking asked for": {"headers": {"Nats-No-Masking": "true"}},
    "an origin": {"headers": {"Origin": "http://anywhere.test"}},
    "a protocol": {"headers": {"Sec-WebSocket-Protocol": "nats"}},
    "HTTP of old": {"version": "1.0"},
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("compression", ["false", "true"])
def test_requests_are_answered_alike(shared, name, compression):
    def conversation(broker):
        with Web(broker) as web:
            return web.request(**REQUESTS[name])

    shared(f"no_tls: true, compression: {compression}").same(conversation)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Pairs that are started once for each block."""
    pairs = {}

    def get(block: str) -> WebPair:
        if block not in pairs:
            config = STANDALONE + f"websocket {{ listen: \"127.0.0.1:WEBSOCKET\", {block} }}\n"
            pairs[block] = WebPair(tmp_path_factory.mktemp("pair"), config).start()
        return pairs[block]

    yield get
    for one in pairs.values():
        one.stop()


def test_what_is_no_http_is_answered_alike(shared):
    both = shared("no_tls: true, compression: false")
    for sent in (b"CONNECT {}\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /\r\n\r\n"):
        def conversation(broker):
            with Web(broker) as web:
                web.socket.sendall(sent)
                return web.answer()

        both.same(conversation)


def test_a_refused_request_may_be_followed_by_a_good_one(shared):
    def conversation(broker):
        with Web(broker) as web:
            return [web.request({"Sec-WebSocket-Version": "12"}), web.request()]

    shared("no_tls: true, compression: false").same(conversation)


ORIGINS = ("http://127.0.0.1", "http://127.0.0.1:80", "https://127.0.0.1", "http://one.test", "https://two.test:8443",
           "http://two.test:8443", "null", "", "HTTP://ONE.test", "http://one.test:80/path")


@pytest.mark.parametrize("rule", ["same_origin: true", 'allowed_origins: ["http://one.test", "https://two.test:8443"]',
                                  'same_origin: true, allowed_origins: ["http://127.0.0.1"]'])
def test_origins_are_judged_alike(shared, rule):
    both = shared(f"no_tls: true, {rule}")
    for origin in ORIGINS:
        for name in ("Origin", "Sec-WebSocket-Origin"):
            def conversation(broker):
                with Web(broker) as web:
                    return origin, web.request({name: origin})

            both.same(conversation)


def test_refusals_are_told_in_the_log(pair):
    both = pair("no_tls: true, same_origin: true")

    def conversation(broker):
        for arguments in ({"method": "POST"}, {"without": ("Upgrade",)}, {"headers": {"Origin": "http://x.test"}}):
            with Web(broker) as web:
                web.request(**arguments)
        wait_until(lambda: len(log_of(broker, "handshake error")) == 3, "three lines")
        return log_of(broker, "handshake error", "DO NOT USE")

    both.same(conversation)


def test_headers_of_the_configuration_are_sent(pair):
    both = pair('no_tls: true, headers: { "X-One": "1", "X-Two": "two" }')

    def conversation(broker):
        with Web(broker) as web:
            return sorted(web.request().split("\r\n"))

    both.same(conversation)


FRAMES = {
    "a ping of the protocol": lambda web: web.frame(b"PING\r\n"),
    "text as well as binary": lambda web: web.frame(b"PING\r\n", opcode=TEXT),
    "an operation in two messages": lambda web: (web.frame(b"PI"), web.frame(b"NG\r\n")),
    "a message in fragments": lambda web: (web.frame(b"PI", final=False), web.frame(b"NG", opcode=0, final=False),
                                           web.frame(b"\r\n", opcode=0)),
    "a control frame between fragments": lambda web: (web.frame(b"PI", final=False), web.frame(b"hello", opcode=PING),
                                                      web.frame(b"NG\r\n", opcode=0)),
    "an empty frame": lambda web: (web.frame(b""), web.frame(b"PING\r\n")),
    "a pong": lambda web: (web.frame(b"x", opcode=PONG), web.frame(b"PING\r\n")),
    "an orderly close": lambda web: web.frame(struct.pack(">H", 1000) + b"bye", opcode=CLOSE),
    "a close without a word": lambda web: web.frame(b"", opcode=CLOSE),
    "a close of one byte": lambda web: web.frame(b"x", opcode=CLOSE),
    "a close with a status that is none": lambda web: web.frame(struct.pack(">H", 1005), opcode=CLOSE),
    "a close with bytes that are no text": lambda web: web.frame(struct.pack(">H", 1000) + b"\xff", opcode=CLOSE),
    "a frame that is not masked": lambda web: web.frame(b"PING\r\n", masked=False),
    "reserved bits": lambda web: web.frame(b"PING\r\n", first=0xA2),
    "an unknown opcode": lambda web: web.frame(b"PING\r\n", first=0x83),
    "an unknown control opcode": lambda web: web.frame(b"", first=0x8B),
    "compression that was not agreed on": lambda web: web.frame(b"PING\r\n", compressed=True),
    "a continuation of nothing": lambda web: web.frame(b"PING\r\n", opcode=0),
    "a message within a message": lambda web: (web.frame(b"PI", final=False), web.frame(b"NG\r\n")),
    "a long control frame": lambda web: web.frame(b"x" * 126, opcode=PING),
    "a control frame in fragments": lambda web: web.frame(b"x", opcode=PING, final=False),
    "an impossible length": lambda web: web.frame(b"x", length=1 << 63),
    "garbage of the protocol": lambda web: web.frame(b"FOO\r\n"),
    "a message too large": lambda web: web.frame(b"PUB foo 2000000\r\n"),
}


# nats-server closes at once here, so that its error arrives or not.
ENDS_AT_ONCE = ("garbage of the protocol",)
CLOSED_IN_ORDER = ("an orderly close", "a close without a word", "a close with bytes that are no text")


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_answered_alike(shared, name):
    def conversation(broker):
        with Web(broker) as web:
            web.connect()
            FRAMES[name](web)
            seen = web.until(b"PONG")
            if name in ENDS_AT_ONCE:
                return seen[-1]
            return seen if name in CLOSED_IN_ORDER else without_close(seen)

    shared("no_tls: true, compression: false").same(conversation)


def test_broken_frames_are_told_in_the_log(pair):
    both = pair("no_tls: true")

    def conversation(broker):
        with Web(broker) as web:
            web.connect()
            web.frame(b"PING\r\n", masked=False)
            web.until(b"PONG")
        wait_until(lambda: any("wid:" in line for line in log_of(broker, "connection closed")), "it is closed")

        def listed():
            closed = broker.get_json("/connz?state=closed")["connections"]
            return [(one["reason"], one["kind"], one["type"]) for one in closed if one["type"] == "websocket"]

        closed = wait_until(listed, "it is listed as closed")
        told = log_of(broker, "read error", "connection closed", "connection created")
        return [line for line in told if "wid:" in line], closed

    both.same(conversation)


def test_info_speaks_of_the_websocket_port(shared):
    def conversation(broker):
        with Web(broker) as web:
            info = web.connect()
        return info["host"], info["port"] == broker.websocket, info["client_ip"], sorted(info.keys() - {"xkey"})

    shared("no_tls: true, compression: false").same(conversation)


@pytest.mark.parametrize("agent", ["", "Mozilla/5.0 Chrome/1 Safari/2", "Mozilla/5.0 Version/1 Safari/2"])
@pytest.mark.parametrize("deflate", [False, True])
def test_messages_pass_whole_to_every_kind_of_client(shared, agent, deflate):
    headers = (DEFLATE if deflate else {}) | ({"User-Agent": agent} if agent else {})

    def conversation(broker):
        with Web(broker) as web:
            web.connect(headers)
            web.frame(b"SUB foo 1\r\n")
            seen = []
            for size in (1, 60, 100, 5_000, 70_000, 1_000_000):
                payload = bytes(65 + at * at % 26 for at in range(size))
                web.frame(b"PUB foo %d\r\n%s\r\n" % (size, payload))
                seen.append([line == payload or line for line in web.until(payload)])
            return seen

    shared("no_tls: true, compression: true").same(conversation)


def deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4]


COMPRESSED = {
    "one frame": lambda web: web.frame(deflated(b"PING\r\n"), compressed=True),
    "fragments": lambda web: (web.frame(deflated(b"PING\r\n")[:3], compressed=True, final=False),
                              web.frame(deflated(b"PING\r\n")[3:], opcode=0)),
    "many operations": lambda web: web.frame(deflated(b"SUB a 1\r\n" + b"PUB a 100\r\n%s\r\n" % (b"x" * 100) * 500 + b"PING\r\n"),
                                             compressed=True),
    "more than allowed": lambda web: web.frame(deflated(b"PUB a 1000\r\n%s\r\n" % (b"x" * 1000) * 3000), compressed=True),
    "what is not deflated": lambda web: web.frame(b"\xff" * 40, compressed=True),
    "a continuation marked as compressed": lambda web: (web.frame(deflated(b"PI"), compressed=True, final=False),
                                                        web.frame(b"NG\r\n", opcode=0, compressed=True)),
    "a compressed ping": lambda web: web.frame(b"x", opcode=PING, compressed=True),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_messages_are_taken_alike(shared, name):
    def conversation(broker):
        with Web(broker) as web:
            web.connect(DEFLATE)
            COMPRESSED[name](web)
            return without_close(web.until(b"PONG"))

    shared("no_tls: true, compression: true").same(conversation)


def test_the_port_speaks_tls_where_that_is_configured(pair, tmp_path):
    authority = Authority(tmp_path / "authority")
    server = authority.issue("server")
    both = pair(f"tls {{ {server.lines()} }}")
    context = ssl.create_default_context(cafile=str(authority.certificate))

    def conversation(broker):
        with Web(broker, context) as web:
            info = web.connect()
            web.frame(b"PING\r\n")
            seen = [info.get("tls_required"), info.get("tls_available"), web.until(b"PONG")]
            connection = broker.get_json("/connz")["connections"][0]
            seen += [connection.get(name) for name in ("type", "tls_version", "tls_cipher_suite")]
        return seen + [line.split("ADDRESS")[0] for line in log_of(broker, "websocket clients")]

    both.same(conversation)


def test_the_address_of_a_proxys_client_is_shown_in_the_log(pair):
    both = pair("no_tls: true")

    def conversation(broker):
        with Web(broker) as web:
            info = web.connect({"X-Forwarded-For": "192.0.2.7"})
        wait_until(lambda: log_of(broker, "wid:", "connection closed")[-1].endswith("Client Closed"), "it is closed")
        lines = log_of(broker, "connection created", "connection closed: Client")
        return info["client_ip"], [line for line in lines if "wid" in line]

    both.same(conversation)


def test_credentials_are_asked_for_where_the_block_has_some(pair):
    both = pair('no_tls: true, authorization { username: web, password: pass }')

    def conversation(broker):
        seen = []
        for connect in (b'"user":"web","pass":"pass"', b'"user":"web","pass":"wrong"'):
            with Web(broker) as web:
                web.request()
                info = json.loads(web.read_frame()[1][5:])
                web.frame(b'CONNECT {"verbose":false,%s}\r\nPING\r\n' % connect)
                seen += [info.get("auth_required"), web.until(b"PONG")]
        return seen

    both.same(conversation)


def test_credentials_may_come_in_cookies(pair):
    both = pair("no_tls: true, user_cookie: u, pass_cookie: p", "authorization { users: [{ user: a, password: b }] }")

    def conversation(broker):
        seen = []
        for cookie in ("u=a; p=b", "u=a; p=wrong", "x=y"):
            with Web(broker) as web:
                web.request({"Cookie": cookie})
                web.read_frame()
                web.frame(b'CONNECT {"verbose":false}\r\nPING\r\n')
                seen.append(web.until(b"PONG"))
        return seen

    both.same(conversation)


def test_a_token_may_come_in_a_cookie(pair):
    """One of CONNECT counts before the cookie's."""
    both = pair("no_tls: true, token_cookie: t", "authorization { token: secret }")

    def conversation(broker):
        seen = []
        for cookie, connect in (("t=secret", b""), ("t=wrong", b""), ("x=secret", b""), ("t=", b""), ("t=secret", b',"auth_token":"wrong"'),
                                ("t=wrong", b',"auth_token":"secret"')):
            with Web(broker) as web:
                web.request({"Cookie": cookie})
                web.read_frame()
                web.frame(b'CONNECT {"verbose":false%s}\r\nPING\r\n' % connect)
                seen.append(web.until(b"PONG"))
        return seen

    both.same(conversation)


def test_a_jwt_may_come_in_a_cookie(pair):
    """A bearer in the cookie lets in; what cannot be verified does not; CONNECT's own counts before the cookie's."""
    operator, account, user = nsc.Key("O", "operator"), nsc.Key("A", "account"), nsc.Key("U", "user")
    bearer, signed = nsc.user(account, user, bearer_token=True), nsc.user(account, user)
    both = pair("no_tls: true, jwt_cookie: session", f"operator: {nsc.operator(operator)}\nresolver: MEMORY\n"
                f"resolver_preload {{ {account.public}: {nsc.account(operator, account)} }}\n")

    def conversation(broker):
        seen = []
        for cookie, connect in ((f"session={bearer}", ""), (f"other={bearer}", ""), (f"session={signed}", ""), ("session=eyJ.x.y", ""),
                                (f"session={bearer}", ',"jwt":"eyJ.x.y"'), ("session=", f',"jwt":"{bearer}"')):
            with Web(broker) as web:
                web.request({"Cookie": cookie})
                web.read_frame()
                web.frame(b'CONNECT {"verbose":false%s}\r\nPING\r\n' % connect.encode())
                seen.append(web.until(b"PONG"))
        return seen

    both.same(conversation)
