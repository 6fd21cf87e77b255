"""The PROXY protocol in front of clients: the address that is shown, and headers that are none, as in nats-server."""

import json
import re
import socket
import struct

import pytest

from broker import STANDALONE, wait_until

WITHIN_SECONDS = 15.0
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CONNECT = b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n'


def version_2(command=0x21, family=0x11, data=b"", length=None) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(data) if length is None else length) + data


IPV4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack(">HH", 4096, 80)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + struct.pack(">HH", 4096, 80)
HEADERS = {
    "none": b"",
    "version 1": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
    "version 1 with IPv6": b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n",
    "version 1 of nobody": b"PROXY UNKNOWN\r\n",
    "version 1 with too little": b"PROXY TCP4 192.0.2.1\r\n",
    "version 1 with a bad address": b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
    "version 1 with a bad port": b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 2\r\n",
    "version 1 with families mixed": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "version 1 of another protocol": b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "version 1 without an end": b"PROXY TCP4 " + b"1" * 150,
    "version 2": version_2(data=IPV4),
    "version 2 with IPv6": version_2(family=0x21, data=IPV6),
    "version 2 with more than the address": version_2(data=IPV4 + b"\x04\0\x01x"),
    "version 2 of nobody": version_2(command=0x20, family=0),
    "version 2 of nobody with data": version_2(command=0x20, family=0, data=b"xyz"),
    "version 2 without a family": version_2(family=0x00),
    "version 2 of an unspecified family": version_2(family=0x01, data=b"abc"),
    "version 2 of datagrams": version_2(family=0x12, data=IPV4),
    "version 2 of sockets in files": version_2(family=0x31, data=b"x" * 216),
    "version 2 of another command": version_2(command=0x22, data=IPV4),
    "another version": version_2(command=0x11, data=IPV4),
    "version 2 with too little": version_2(data=IPV4[:6]),
    "almost a signature": b"\r\n\r\n\0\r\nQUIX\n" + b"\x21\x11\0\0",
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(STANDALONE + "debug: true\nproxy_protocol: true\n")


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_taken_alike(pair, name):
    def conversation(broker):
        before = len(broker.log_since_start())
        with socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_SECONDS) as client:
            seen = [read_info(client)]
            client.sendall(HEADERS[name] + CONNECT)
            answer = b""
            try:
                while answer.count(b"\r\n") < 2 and (piece := client.recv(4096)):
                    answer += piece
            except ConnectionError:
                pass
            for line in answer.split(b"\r\n"):
                seen.append(address(line) if line.startswith(b"INFO") else line)
        wait_until(lambda: "connection closed" in broker.log_since_start()[before:], "it is closed")
        log = broker.log_since_start()[before:]
        wanted = ("PROXY protocol", "connection closed")
        lines = [re.sub(r"^\[\d+\] \S+ \S+ ", "", line) for line in log.splitlines() if any(text in line for text in wanted)]
        return seen, [re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", re.sub(r"cid:\d+", "cid:N", line)) for line in lines]

    pair.same(conversation)


def read_info(client):
    line = b""
    while not line.endswith(b"\r\n"):
        line += client.recv(1)
    return address(line)


def address(line: bytes):
    return json.loads(line[5:]).get("client_ip")
