"""The loads of `make bench-jetstream` and the bars they have to meet. Not how they are run.

A bar compares Weir, which syncs before every ack, with nats-server as it comes (it acks before the disk has it) or with
nats-server's `sync_interval: always`: ("per_second", ">=", 1.5, DEFAULT) means at least 1.5 times its throughput.
"""

import dataclasses

WEIR, DEFAULT, ALWAYS = "weir", "nats-server", "sync always"

STANDALONE = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
jetstream { store_dir: "STORE", max_memory_store: 256MB, max_file_store: 40GB }
"""


def cpu(limit: float, against: str = DEFAULT):
    return ("cpu_us", "<=", limit, against)


def rate(limit: float, against: str = DEFAULT):
    return ("per_second", ">=", limit, against)


def stream(name: str = "BENCH", **fields) -> dict:
    return {"name": name, "subjects": [fields.pop("subject", "bench")], "storage": "file"} | fields


def bucket(**fields) -> dict:
    """A key-value bucket as clients make it."""
    return stream("KV_BENCH", subject="$KV.BENCH.>", max_msgs_per_subject=1, discard="new", allow_rollup_hdrs=True,
                  deny_delete=True, allow_direct=True, **fields)


@dataclasses.dataclass(frozen=True)
class Load:
    """Servers of their own, streams made, filled, then one run of the generator."""

    name: str
    mode: str
    count: int
    bars: tuple
    values: dict
    streams: tuple = (stream(),)
    replicas: int = 1
    # Stored before the measured part begins: values of the generator.
    fill: dict | None = None
    consumer: dict | None = None
    # With fsync a message, nats-server would take minutes for the same count.
    always_share: float = 1.0
    # Acks in flight at most: what one fdatasync may cover.
    window: int = 0

    @property
    def contenders(self) -> list[str]:
        return [DEFAULT, *({ALWAYS} & {bar[3] for bar in self.bars}), WEIR]


def publish(name: str, size: int, count: int, bars: tuple, **more) -> Load:
    return Load(name, "stored", count, bars, {"expected": "ack", "size": size, "window": 500}, window=500, **more)


ASYNC = (rate(1.5), cpu(0.33), rate(20, ALWAYS))
CONSUME = (rate(2), cpu(0.4))
KEYS = 100_000
DURABLE = {"durable_name": "bench", "ack_policy": "explicit", "max_ack_pending": 10_000}

LOADS = (
    publish("R1 async 128 B", 128, 400_000, ASYNC, always_share=0.03),
    publish("R1 async 1 KiB", 1024, 200_000, ASYNC, always_share=0.05),
    Load("R1 sync 128 B", "request", 3_000, (("p50_us", "<=", 1.1, ALWAYS), ("p99_us", "<=", 1.1, ALWAYS)),
         {"expected": "ack", "size": 128, "responders": 0}, window=1),
    Load("R1 sync 64 streams", "request", 40_000, (rate(5, ALWAYS),),
         {"expected": "ack", "size": 128, "responders": 0, "clients": 64, "subject": "bench.{c}"},
         streams=tuple(stream(f"BENCH{number}", subject=f"bench.{number}") for number in range(64)), always_share=0.2, window=64),
    publish("R3 async 128 B", 128, 200_000, (rate(1.5), cpu(0.5), rate(2.5, ALWAYS)), replicas=3, always_share=0.3),
    Load("pull and ack", "pull", 300_000, CONSUME, {"batch": 500}, fill={"size": 128}, consumer=DURABLE),
    Load("ordered replay", "replay", 600_000, CONSUME, {}, fill={"size": 128}),
    Load("atomic batch 100", "atomic", 200_000, (rate(1.5),), {"size": 128, "batch": 100}, streams=(stream(allow_atomic=True),), window=100),
    Load("fast batch", "fast", 400_000, (rate(1.5),), {"size": 128, "batch": 500}, streams=(stream(allow_batched=True),), window=1000),
    Load("KV put", "stored", 300_000, (rate(1.5), ("rss_mib", "<=", 0.5, DEFAULT)),
         {"expected": "ack", "size": 128, "window": 500, "subject": "$KV.BENCH.key.{n}", "subjects": KEYS}, streams=(bucket(),), window=500),
    Load("KV get", "stored", 300_000, (rate(1.5),),
         {"expected": "stored", "size": 128, "window": 64, "subject": "$JS.API.DIRECT.GET.KV_BENCH.$KV.BENCH.key.{n}", "subjects": KEYS},
         streams=(bucket(),), fill={"size": 128, "subject": "$KV.BENCH.key.{n}", "subjects": KEYS, "count": KEYS}),
    Load("KV watch 100k keys", "replay", KEYS, (rate(1.5),), {"stream": "KV_BENCH", "policy": "last_per_subject", "filter": "$KV.BENCH.>"},
         streams=(bucket(),), fill={"size": 128, "subject": "$KV.BENCH.key.{n}", "subjects": KEYS, "count": KEYS}),
    Load("1M subjects", "stored", 1_000_000, (rate(1.5), ("rss_mib", "<=", 0.5, DEFAULT)),
         {"expected": "ack", "size": 64, "window": 500, "subject": "bench.{n}", "subjects": 1_000_000},
         streams=(stream(subject="bench.>"),), window=500),
)

RESTART_MESSAGES = 20_000_000
RESTART_BARS = (("restart_ms", "<=", 0.3, DEFAULT),)
IDLE_STREAMS, IDLE_CONSUMERS = 1_000, 10
IDLE_BARS = (("idle_cpu_percent", "<=", 0.5, DEFAULT), ("rss_mib", "<=", 0.5, DEFAULT))
REPLICATED_STREAMS = 100
REPLICATED_BARS = (("idle_cpu_percent", "<=", 0.1, DEFAULT), ("rss_mib", "<=", 0.5, DEFAULT), ("create_s", "<=", 0.2, DEFAULT))
PURGE_MESSAGES = 10_000_000
# Another stream's p99 while a stream is purged or deleted, beside its p99 before.
PURGE_FACTOR = 2.0
