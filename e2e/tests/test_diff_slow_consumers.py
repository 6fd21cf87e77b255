"""One subscriber of a hundred that never reads: it is cut, the others get everything, memory stays bounded.

Not a measurement (see `bench/core.py`): these are bounds that hold on any machine.
"""

import select
import socket
import threading

import pytest

import binaries
from broker import STANDALONE, Broker, wait_until

MIB = 2**20
MAX_PENDING = 4 * MIB
SUBSCRIBERS = 100
PAYLOAD = 8 * 1024
MESSAGES = 1500
# Messages sent before the readers have to have them all.
BATCH = 100
ARRIVED_WITHIN_SECONDS = 45
# What the server needs besides: its own growth with connections and buffers.
OVERHEAD = 24 * MIB
CONNECT = b'CONNECT {"verbose":false}\r\nPING\r\n'


def connect(port: int, lines: bytes = b"", receive_buffer: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", port))
    client.sendall(CONNECT + lines + b"PING\r\n")
    seen = b""
    # The answers to both PINGs, so that nothing of the greeting is counted later.
    while seen.count(b"PONG\r\n") < 2:
        seen += client.recv(65536)
    return client


class Readers(threading.Thread):
    """Reads from many connections and counts bytes; one thread for all."""

    def __init__(self, clients):
        super().__init__(daemon=True)
        self.received = {client: 0 for client in clients}
        self.poll = select.epoll()
        self.by_number = {client.fileno(): client for client in clients}
        for client in clients:
            client.setblocking(False)
            self.poll.register(client, select.EPOLLIN)
        self.is_over = False

    def run(self):
        while not self.is_over:
            for number, _ in self.poll.poll(0.05):
                client = self.by_number[number]
                read = client.recv(MIB)
                self.received[client] += len(read)
                if not read:
                    self.poll.unregister(client)


@pytest.mark.parametrize("program", ["weir"])
def test_a_stalled_subscriber_is_cut_and_the_others_get_everything_in_bounded_memory(program, tmp_path):
    broker = Broker(getattr(binaries, program)(), tmp_path, STANDALONE + f"max_pending: {MAX_PENDING}\n")
    broker.start()
    try:
        stalled = connect(broker.port, b"SUB load 1\r\n", receive_buffer=4096)
        clients = [connect(broker.port, b"SUB load 1\r\n") for _ in range(SUBSCRIBERS - 1)]
        before = broker.resident_bytes()
        readers = Readers(clients)
        readers.start()
        publisher = connect(broker.port)
        one = b"PUB load %d\r\n%s\r\n" % (PAYLOAD, b"x" * PAYLOAD)
        length = len(b"MSG load 1 %d\r\n%s\r\n" % (PAYLOAD, b"x" * PAYLOAD))
        for sent in range(1, MESSAGES + 1):
            publisher.sendall(one)
            if sent % BATCH == 0:
                # The server's own PINGs are counted too, so not exactly. Readers never fall far behind.
                wait_until(lambda: all(count >= sent * length for count in readers.received.values()),
                           f"everyone who reads has {sent} messages", within=ARRIVED_WITHIN_SECONDS, every=0.005)
        readers.is_over = True
        wait_until(lambda: "Slow Consumer" in broker.log(), "the stalled subscriber is cut")
        varz = broker.get_json("/varz")
        assert varz["slow_consumers"] == 1
        assert varz["connections"] == SUBSCRIBERS
        peak = int(next(line.split()[1] for line in open(f"/proc/{broker.process.pid}/status") if line.startswith("VmHWM"))) * 1024
        assert peak - before <= MAX_PENDING * 1.1 + OVERHEAD, f"{(peak - before) / MIB:.1f} MiB more at the most"
        stalled.close()
    finally:
        broker.stop()


@pytest.mark.parametrize("program", ["weir"])
def test_a_stalled_subscriber_alone_does_not_hold_up_its_publisher_for_others(program, tmp_path):
    """What is published elsewhere in between arrives, long before the stalled one is given up."""
    broker = Broker(getattr(binaries, program)(), tmp_path, STANDALONE + "write_deadline: 60s\nmax_pending: 64MB\n")
    broker.start()
    try:
        stalled = connect(broker.port, b"SUB load 1\r\n", receive_buffer=4096)
        other = connect(broker.port, b"SUB news 1\r\n")
        publisher = connect(broker.port)
        block = b"PUB load %d\r\n%s\r\n" % (PAYLOAD, b"x" * PAYLOAD) * 8
        # More than its socket takes, less than what is allowed to wait.
        for _ in range(20 * MIB // len(block)):
            publisher.sendall(block)
        news = b"PUB news 2\r\nhi\r\n"
        for _ in range(200):
            publisher.sendall(block[:len(block) // 8] + news)
        other.settimeout(30)
        seen = b""
        while seen.count(b"MSG news") < 200:
            seen += other.recv(65536)
        assert broker.get_json("/varz")["slow_consumers"] == 0
        stalled.close()
    finally:
        broker.stop()


@pytest.mark.parametrize("program", ["reference", "weir"])
def test_without_stalls_a_crowded_subscriber_misses_messages_and_stays(program, tmp_path):
    """no_fast_producer_stall: nobody waits for it, and its trace says why it got nothing."""
    broker = Broker(getattr(binaries, program)(), tmp_path, STANDALONE + "no_fast_producer_stall: true\nmax_pending: 4MB\nwrite_deadline: 60s\n")
    broker.start()
    try:
        stalled = connect(broker.port, b"SUB load 1\r\n", receive_buffer=4096)
        other = connect(broker.port, b"SUB load 1\r\nSUB trace 2\r\n")
        readers = Readers([other])
        readers.start()
        publisher = connect(broker.port)
        one = b"PUB load %d\r\n%s\r\n" % (PAYLOAD, b"x" * PAYLOAD)
        length = len(b"MSG load 1 %d\r\n%s\r\n" % (PAYLOAD, b"x" * PAYLOAD))
        # Several times what its socket and its share of memory hold.
        count = 32 * MIB // PAYLOAD
        for sent in range(1, count + 1):
            publisher.sendall(one)
            if sent % 32 == 0:
                wait_until(lambda: readers.received[other] >= sent * length, f"who reads has {sent} messages", within=ARRIVED_WITHIN_SECONDS, every=0.002)
        readers.is_over = True
        readers.join()
        other.setblocking(True)
        block = b"NATS/1.0\r\nNats-Trace-Dest: trace\r\n\r\n"
        publisher.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nHPUB load %d %d\r\n%b\r\n' % (len(block), len(block), block))
        other.settimeout(ARRIVED_WITHIN_SECONDS)
        seen = b""
        while b"egress" not in seen.lower() and b"\"type\":\"eg\"" not in seen:
            seen += other.recv(65536)
        assert b"Not delivered because fast producer not stalled and consumer is slow" in seen
        varz = broker.get_json("/varz")
        assert (varz["slow_consumers"], varz["connections"], varz.get("stalled_clients", 0)) == (0, 3, 0)
        # What it reads in the end is less than what was sent.
        stalled.sendall(b"PING\r\n")
        stalled.settimeout(ARRIVED_WITHIN_SECONDS)
        got, tail = 0, b""
        while b"PONG\r\n" not in tail:
            read = stalled.recv(MIB)
            assert read, "the subscriber was cut"
            got, tail = got + len(read), (tail + read)[-6:]
        assert got < count * length
    finally:
        broker.stop()
