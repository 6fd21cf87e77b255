"""Several brokers joined by routes, with JetStream on each: three by default.

Not a test: it starts, waits until one cluster has formed, and ends them all.
"""

import pathlib

import binaries
from broker import Broker, wait_until

FORMED_WITHIN_SECONDS = 20.0

CLUSTERED = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: loop, listen: "127.0.0.1:CLUSTER", routes: [{routes}] }}
"""
JETSTREAM = """
jetstream { store_dir: "STORE", max_memory_store: 256MB, max_file_store: 8GB }
"""
# The real nats-server refuses a block it does not know.
WEIR_ONLY = """
weir { grpc: "127.0.0.1:GRPC", grpc_advertise: "127.0.0.1:GRPC", cluster_secret: "loopback" }
"""


class Cluster:
    """`size` brokers of one binary, each with the routes of all in its config."""

    def __init__(self, binary: str, directory: pathlib.Path, size: int = 3, jetstream: bool = True, extra: str = ""):
        self.brokers = [Broker(binary, directory, "", f"n{index + 1}") for index in range(size)]
        self.jetstream = jetstream
        routes = ", ".join(f'"nats://127.0.0.1:{broker.cluster}"' for broker in self.brokers)
        config = CLUSTERED.format(routes=routes) + (JETSTREAM if jetstream else "") + extra
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

    def led(self) -> bool:
        leaders = set()
        for broker in self.brokers:
            meta = broker.get_json("/jsz").get("meta_cluster") or {}
            if meta.get("cluster_size") != len(self.brokers) or not meta.get("leader"):
                return False
            leaders.add(meta["leader"])
        return len(leaders) == 1

    def urls(self) -> list[str]:
        return [broker.url for broker in self.brokers]

    def named(self, name: str) -> Broker:
        return next(broker for broker in self.brokers if broker.name == name)

    def stop(self):
        for broker in self.brokers:
            broker.stop()

    def logs(self) -> str:
        return "\n".join(broker.log_tail() for broker in self.brokers)
