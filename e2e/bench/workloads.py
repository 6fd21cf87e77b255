"""The loads of `make bench-core` and the bars they have to meet. Not how they are run.

A bar compares Weir with nats-server: ("cpu_us", "<=", 0.5) means at most half its CPU a message.
"""

import dataclasses

PLAIN = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
"""
TLS = PLAIN + """
tls { cert_file: "FOLDER/cert.pem", key_file: "FOLDER/key.pem" }
"""
WEBSOCKET = PLAIN + """
websocket { listen: "127.0.0.1:WSPORT", no_tls: true }
"""
MAX_PENDING_BYTES = 16 * 2**20
SMALL_PENDING = PLAIN + f"""
max_pending: {MAX_PENDING_BYTES}
"""


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    mode: str
    count: int
    bars: tuple = ()
    values: dict = dataclasses.field(default_factory=dict)
    config: str = PLAIN
    transport: str = "tcp"
    servers: int = 1
    # So many times the pairs of the others: a p99 of one client is made by the few moments in which it did not get a processor.
    times: int = 1


def cpu(limit: float):
    return ("cpu_us", "<=", limit)


def rate(limit: float):
    return ("per_second", ">=", limit)


CORE = (
    Workload("publish 16 B", "publish", 10_000_000, (cpu(0.5),), {"size": 16}),
    Workload("1:1 16 B", "deliver", 5_000_000, (cpu(0.5), rate(1.3)), {"size": 16}),
    Workload("1:1 128 B", "deliver", 4_000_000, (cpu(0.5), rate(1.3)), {"size": 128}),
    Workload("1:1 1 KiB", "deliver", 1_500_000, (), {"size": 1024}),
    Workload("1:1 16 KiB", "deliver", 150_000, (cpu(0.8), rate(1.0)), {"size": 16384}),
    Workload("1:4 128 B", "deliver", 1_200_000, (cpu(0.5), rate(1.5)), {"size": 128, "subscribers": 4}),
    Workload("4:4 128 B", "deliver", 1_200_000, (cpu(0.5), rate(1.5)), {"size": 128, "publishers": 4, "subscribers": 4}),
    Workload("request 1 client", "request", 40_000, (("p50_us", "<=", 1.0), ("p99_us", "<=", 0.8), cpu(0.6)), {"size": 128}, times=3),
    Workload("request 50 clients", "request", 120_000, (("p50_us", "<=", 1.0), ("p99_us", "<=", 0.8), cpu(0.6)),
             {"size": 16, "clients": 50, "responders": 2}),
    Workload("100k subjects", "subjects", 1_000_000, (cpu(0.5),), {"size": 64, "subjects": 100_000}),
    Workload("routes 128 B", "deliver", 1_500_000, (cpu(0.5),), {"size": 128}, servers=3),
    Workload("1:1 128 B TLS", "deliver", 2_000_000, (cpu(0.8),), {"size": 128}, config=TLS, transport="tls"),
    Workload("1:1 128 B WebSocket", "deliver", 2_000_000, (cpu(0.8),), {"size": 128}, config=WEBSOCKET, transport="ws"),
)

# Connections that only exist; bars on resident memory.
IDLE = Workload("10k idle", "idle", 10_000, (("rss_mib", "<=", 0.5),))

# Not against nats-server but against itself: with one subscriber of 100 that never reads, and without. More than
# what may wait for one, so that it stalls for most of a slice and is cut before the end.
STALLED = Workload("1 of 100 stalled", "stalled", 30_000, values={"size": 1024, "subscribers": 99, "pairs": 24}, config=SMALL_PENDING)
STALLED_RATE = 0.95
STALLED_MEMORY = 1.1
# nats-server, whose figures are there to be read and not judged, goes through fewer.
STALLED_PAIRS_REFERENCE = 4
# For memory: so many messages between two moments at which everyone who reads has everything. Few: what waits for those
# who read would be counted too, and it is more or less by chance.
STALLED_WINDOW = 8
