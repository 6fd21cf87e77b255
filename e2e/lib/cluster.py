"""Several brokers joined by routes, with JetStream on each: three by default; and what to wait for in a cluster.

Not a test: it starts, waits until one cluster has formed, and ends them all. What one server answers, another hears of a
moment later: who publishes through it, or leads there, is to be awaited and not assumed.
"""

import contextlib
import pathlib

import binaries
from broker import Broker, wait_until
from jetstream import JetStream, asked
from wire import Message

FORMED_WITHIN_SECONDS = 60.0
SETTLED_WITHIN_SECONDS = 60.0
NO_SUITABLE_PEERS = 10005
EXPIRES_NANOSECONDS = 10 * 10**9

CLUSTERED = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: loop, listen: "127.0.0.1:CLUSTER", routes: [{routes}] }}
"""
JETSTREAM = """
jetstream { store_dir: "STORE", max_memory_store: 256MB, max_file_store: 8GB, MORE }
"""
# The real nats-server refuses a block it does not know.
WEIR_ONLY = """
weir { grpc: "127.0.0.1:GRPC", grpc_advertise: "127.0.0.1:GRPC", cluster_secret: "loopback" }
"""


class Cluster:
    """`size` brokers of one binary, each with the routes of all in its config; `jetstream_options` stand in its jetstream block."""

    def __init__(self, binary: str, directory: pathlib.Path, size: int = 3, jetstream: bool = True, extra: str = "",
                 jetstream_options: str = ""):
        self.brokers = [Broker(binary, directory, "", f"n{index + 1}") for index in range(size)]
        self.jetstream = jetstream
        routes = ", ".join(f'"nats://127.0.0.1:{broker.cluster}"' for broker in self.brokers)
        config = CLUSTERED.format(routes=routes) + (JETSTREAM.replace("MORE", jetstream_options) if jetstream else "") + extra
        if jetstream and binary != binaries.reference():
            config += WEIR_ONLY
        for broker in self.brokers:
            broker.write_config(config)

    def start(self) -> "Cluster":
        for broker in self.brokers:
            broker.start(wait=False)
        for broker in self.brokers:
            broker.wait_ready()
        self.wait_formed()
        return self

    def restart(self):
        """Ends all and starts them again."""
        self.stop()
        self.start()

    def __enter__(self) -> "Cluster":
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def wait_formed(self, within: float = FORMED_WITHIN_SECONDS):
        """All routes are up, and with JetStream: a meta leader whom everyone knows."""
        try:
            wait_until(self.routed, "every broker has a route to every other", within)
            if self.jetstream:
                wait_until(self.led, "every broker knows the same meta leader of all", within)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.logs()}") from None

    def running(self) -> list[Broker]:
        return [broker for broker in self.brokers if broker.running]

    def routed(self) -> bool:
        names = {broker.name for broker in self.brokers}
        for broker in self.brokers:
            routes = broker.get_json("/routez")["routes"] or []
            if {route.get("remote_name") for route in routes} != names - {broker.name}:
                return False
        return True

    def led(self) -> str:
        """The meta leader whom every server knows, and which has heard of all; else nothing."""
        leaders = set()
        for broker in self.brokers:
            meta = broker.get_json("/jsz").get("meta_cluster") or {}
            if meta.get("cluster_size") != len(self.brokers) or not meta.get("leader"):
                return ""
            leaders.add(meta["leader"])
        return leaders.pop() if len(leaders) == 1 else ""

    def info(self, stream: str) -> dict:
        """STREAM.INFO through whichever server answers; {} where none does."""
        for broker in self.running():
            try:
                with JetStream(broker.port) as js:
                    answer = asked(js, f"STREAM.INFO.{stream}")
            except OSError:
                continue
            if "state" in answer:
                return answer
        return {}

    def leader(self, stream: str) -> Broker:
        """The broker that leads a stream, once one does."""
        name = wait_until(lambda: self.info(stream).get("cluster", {}).get("leader"), f"{stream} is led", SETTLED_WITHIN_SECONDS)
        return self.named(name)

    def lead(self, stream: str, name: str):
        """Moves a stream's leadership."""
        def is_there():
            if self.info(stream).get("cluster", {}).get("leader") == name:
                return True
            with JetStream(self.brokers[0].port) as js:
                asked(js, f"STREAM.LEADER.STEPDOWN.{stream}", {"placement": {"preferred": name}})
            return False

        wait_until(is_there, f"{name} leads {stream}", SETTLED_WITHIN_SECONDS, every=0.3)

    def current(self, stream: str, replicas: int) -> dict:
        """STREAM.INFO where the stream has a leader and so many replicas in all, each with all there is; else {}."""
        answer = self.info(stream)
        cluster = answer.get("cluster") or {}
        followers = cluster.get("replicas") or []
        is_whole = len(followers) == replicas - 1 and all(peer["current"] and not peer.get("lag") for peer in followers)
        return answer if cluster.get("leader") and is_whole else {}

    def wait_empty(self):
        """Every server has forgotten all streams."""
        def is_empty():
            for broker in self.brokers:
                with JetStream(broker.port) as js:
                    answer = asked(js, "STREAM.NAMES")
                    if "streams" not in answer or answer["streams"]:
                        return False
            return True

        wait_until(is_empty, "every server has forgotten the streams", SETTLED_WITHIN_SECONDS, every=0.05)

    def urls(self) -> list[str]:
        return [broker.url for broker in self.brokers]

    def named(self, name: str) -> Broker:
        return next(broker for broker in self.brokers if broker.name == name)

    def stop(self):
        for broker in self.brokers:
            broker.stop()

    def logs(self) -> str:
        return "\n".join(broker.log_tail() for broker in self.brokers)


@contextlib.contextmanager
def both(tmp_path_factory, **options):
    """A cluster of nats-server and one of Weir, both formed."""
    with contextlib.ExitStack() as running:
        made = [Cluster(binary, tmp_path_factory.mktemp(name), **options)
                for name, binary in (("reference", binaries.reference()), ("weir", binaries.weir()))]
        yield [running.enter_context(cluster) for cluster in made]


def create(js: JetStream, config: dict) -> dict:
    """Makes a stream, once there are servers for it, and waits until this connection's server knows who takes its messages."""
    def made():
        answer = asked(js, f"STREAM.CREATE.{config['name']}", config, within=20.0)
        # Right after its first election a meta leader does not know yet whom it has.
        is_final = answer and answer.get("error", {}).get("err_code") != NO_SUITABLE_PEERS
        return answer if is_final else None

    answer = wait_until(made, f"{config['name']} is created", SETTLED_WITHIN_SECONDS, every=0.3)
    assert "error" not in answer, answer
    for subject in config.get("subjects", []):
        wait_heard(js, subject.replace(">", "heard").replace("*", "heard"))
    return answer


def wait_heard(js: JetStream, subject: str):
    """A publish finds the stream: it is refused for what it expects, and changes nothing."""
    wait_until(lambda: "error" in js.publish(subject, "", [("Nats-Expected-Stream", "<none>")]),
               f"a stream takes {subject}", SETTLED_WITHIN_SECONDS, every=0.05)


def place_first(port: int, connect: dict | None = None):
    """A replicated stream can be made; it is gone again."""
    with JetStream(port, connect) as js:
        create(js, {"name": "FIRST", "num_replicas": 3})
        js.raw("STREAM.DELETE.FIRST")


def take(js: JetStream, stream: str, consumer: str, count: int) -> list[Message]:
    """So many messages, once the consumer's leader is heard here."""
    def delivered():
        messages = js.pull(stream, consumer, {"batch": count, "expires": EXPIRES_NANOSECONDS}, count, within=20.0)
        return [message for message in messages if not message.status]

    return wait_until(delivered, f"{consumer} delivers", SETTLED_WITHIN_SECONDS, every=0.1)
