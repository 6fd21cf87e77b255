"""Meshes of Weir and real nats-servers with everything a `cluster` block can ask for: pools, pinned accounts, compression,
TLS, changes while running, and servers that come and go."""

import signal
import subprocess

import pytest

import binaries
from broker import Broker, wait_until
from wire import Wire

BASE = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
{rest}
cluster {{ name: mixed, listen: "127.0.0.1:CLUSTER", {cluster}, routes: [{routes}] }}
"""
ACCOUNTS = """
accounts { A { users: [{user: a, password: a}] }, B { users: [{user: b, password: b}] } }
"""
BINARIES = {"weir": binaries.weir, "nats": binaries.reference}


class Mesh:
    """Servers by name; the kind of each is its name up to a digit. The first is the seed of all others."""

    def __init__(self, directory, names, cluster="compression: off", rest="", own=None):
        self.brokers = {name: Broker(BINARIES[name.rstrip("0123456789")](), directory, "", name) for name in names}
        self.cluster, self.rest, self.own = cluster, rest, own or {}
        for name in names:
            self.configure(name)

    def configure(self, name, cluster=None, seeds=None):
        first = next(iter(self.brokers))
        seeds = seeds if seeds is not None else [self.brokers[other].cluster for other in self.brokers if other == first != name]
        routes = ", ".join(f'"nats://{self.host}:{port}"' for port in seeds)
        text = BASE.format(rest=self.rest, cluster=cluster or self.own.get(name, self.cluster), routes=routes)
        self.brokers[name].write_config(text.replace("NAME", name))

    host = "127.0.0.1"

    def __getitem__(self, name) -> Broker:
        return self.brokers[name]

    def start(self):
        for broker in self.brokers.values():
            broker.start()
        self.wait()
        return self

    def wait(self):
        def whole():
            return all({route.get("remote_name") for route in self.routes(name)} == set(self.brokers) - {name} for name in self.brokers)
        wait_until(whole, "all servers have routes to all others")

    def routes(self, name) -> list[dict]:
        return self[name].get_json("/routez").get("routes") or []

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        for broker in self.brokers.values():
            broker.stop()


def crosses(source, target, user="", count=50, size=0, subject="mesh.test"):
    """Messages from a client of one server reach a client of the other, each once and in order."""
    options = {"headers": True, "no_responders": True} | ({"user": user, "pass": user} if user else {})
    with Wire(target.port, options) as subscriber, Wire(source.port, options) as publisher:
        subscriber.subscribe(subject)
        subscriber.sync()

        def heard():
            publisher.publish(subject, "probe")
            publisher.sync()
            return subscriber.sync()

        wait_until(heard, f"interest is known at {source.name}")
        payload = b"0123456789abcdef" * (size // 16)
        for number in range(count):
            publisher.publish(subject, str(number).encode() + b" " + payload)
        got = []
        while len(got) < count:
            message = subscriber.read_message()
            if message.payload != b"probe":
                got.append(message.payload)
        assert got == [str(number).encode() + b" " + payload for number in range(count)]


def all_cross(mesh, **how):
    for source in mesh.brokers.values():
        for target in mesh.brokers.values():
            if source is not target:
                crosses(source, target, **how)


COMPRESSION = {
    # (weir, nats): what both end up with
    ("s2_fast", "s2_fast"): ("s2_fast", "s2_fast"),
    ("s2_better", "s2_better"): ("s2_better", "s2_better"),
    ("s2_best", "s2_best"): ("s2_best", "s2_best"),
    ("accept", "s2_fast"): ("s2_fast", "s2_fast"),
    ("s2_best", "accept"): ("s2_best", "s2_best"),
    ("s2_best", "s2_fast"): ("s2_best", "s2_fast"),
    ("accept", "accept"): ("off", "off"),
    ("off", "s2_fast"): ("off", "off"),
    ("s2_auto", "s2_auto"): ("s2_uncompressed", "s2_uncompressed"),
    ("accept", "s2_auto"): ("s2_fast", "s2_uncompressed"),
}


# As by default, but for a round trip on a busy machine.
AUTO = "{ mode: s2_auto, rtt_thresholds: [10s, 20s, 30s] }"


@pytest.mark.parametrize("seed", ["weir", "nats"])
@pytest.mark.parametrize("modes,outcome", COMPRESSION.items(), ids=["+".join(modes) for modes in COMPRESSION])
def test_compression_is_agreed_on_and_messages_cross(tmp_path, modes, outcome, seed):
    names = [seed, "nats" if seed == "weir" else "weir"]
    own = {name: f"compression: {AUTO if mode == 's2_auto' else mode}" for name, mode in zip(("weir", "nats"), modes)}
    with Mesh(tmp_path, names, own=own) as mesh:
        all_cross(mesh, count=30, size=8_000)
        for name, level in zip(("weir", "nats"), outcome):
            wait_until(lambda: {route["compression"] for route in mesh.routes(name)} == {level}, f"{name} compresses by {level}")


@pytest.mark.parametrize("threshold,level", [("[1ns, 10s, 20s]", "s2_fast"), ("[0s, 0s, 10s]", "s2_better"), ("[1ns, 2ns, 3ns]", "s2_best")])
def test_the_round_trip_decides_the_level_of_auto(tmp_path, threshold, level):
    cluster = f"compression: {{ mode: s2_auto, rtt_thresholds: {threshold} }}"
    with Mesh(tmp_path, ["weir", "nats"], cluster) as mesh:
        for name in mesh.brokers:
            wait_until(lambda: {route["compression"] for route in mesh.routes(name)} == {level}, f"{name} compresses so")
        all_cross(mesh, size=4_000)


@pytest.mark.parametrize("seed", ["weir", "nats"])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (5, 3), (-1, 3), (3, -1), (-1, -1)])
def test_pools_of_any_sizes_carry_all_accounts(tmp_path, sizes, seed):
    names = [seed, "nats" if seed == "weir" else "weir"]
    own = {name: f"compression: off, pool_size: {size}" for name, size in zip(("weir", "nats"), sizes)}
    with Mesh(tmp_path, names, rest=ACCOUNTS, own=own) as mesh:
        expected = 1 if -1 in sizes else max(sizes)
        for name in names:
            wait_until(lambda: len([route for route in mesh.routes(name) if not route.get("account")]) == expected, f"{name}'s pool is whole")
        for user in ("a", "b"):
            all_cross(mesh, user=user)


@pytest.mark.parametrize("seed", ["weir", "nats"])
def test_pinned_accounts_have_connections_of_their_own(tmp_path, seed):
    names = [seed, "nats" if seed == "weir" else "weir"]
    with Mesh(tmp_path, names, "compression: off, accounts: [A]", ACCOUNTS) as mesh:
        def pinned():
            return all(sorted(route["account"] for route in mesh.routes(name) if route.get("account")) == ["$SYS", "A"] for name in names)
        wait_until(pinned, "both accounts have theirs")
        for user in ("a", "b"):
            all_cross(mesh, user=user)
        for name in names:
            [own] = [route for route in mesh.routes(name) if route.get("account") == "A"]
            others = [route for route in mesh.routes(name) if not route.get("account")]
            assert own["in_msgs"] >= 50 and own["out_msgs"] >= 50
            assert sum(route["in_msgs"] for route in others) >= 50


def test_a_queue_group_is_spread_over_the_servers(tmp_path):
    with Mesh(tmp_path, ["weir", "nats"]) as mesh:
        for source, target in (("weir", "nats"), ("nats", "weir")):
            with Wire(mesh[source].port, {}) as near, Wire(mesh[target].port, {}) as far, Wire(mesh[source].port, {}) as publisher:
                near.subscribe("spread", "q")
                for _ in range(3):
                    far.subscribe("spread", "q")
                far.subscribe("mark")
                near.sync()
                far.sync()
                # What was subscribed to later is known later.
                wait_until(lambda: publisher.publish("mark", "") or publisher.sync() is None or far.sync(), "the far members are known")
                for number in range(1000):
                    publisher.publish("spread", str(number))
                publisher.sync()
                counts = {near: 0, far: 0}

                def all_came():
                    for wire in counts:
                        counts[wire] += len([message for message in wire.sync() if message.subject == "spread"])
                    return sum(counts.values()) >= 1000

                wait_until(all_came, "all are delivered")
                here, there = counts.values()
                assert here + there == 1000
                assert 150 < here < 350, f"{here} of 1000 at {source}, which has one of four members"


@pytest.mark.parametrize("names", [["weir1", "nats1", "nats2"], ["nats1", "weir1", "weir2"], ["weir1", "weir2", "nats1"], ["weir1", "weir2", "weir3"]], ids="-".join)
def test_meshes_of_three_survive_restarts_and_kills_of_each(tmp_path, names):
    with Mesh(tmp_path, names, "compression: accept") as mesh:
        all_cross(mesh, count=5)
        for name in names:
            broker = mesh[name]
            broker.kill() if name.endswith("1") else broker.stop()
            others = {other: mesh[other] for other in names if other != name}
            for other in others:
                wait_until(lambda: name not in {route.get("remote_name") for route in mesh.routes(other)}, f"{other} sees {name} gone")
            first, second = others.values()
            crosses(first, second, count=5)
            broker.start()
            mesh.wait()
            all_cross(mesh, count=5)


def certificates(directory, *names):
    """A certificate authority and a certificate for each name, for 127.0.0.1 and localhost."""
    def run(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
        "-days", "2", "-subj", "/CN=ca", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    for name in names:
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (directory / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out", f"{name}.pem", "-extfile", "ext")


def tls(directory, name="server", ca="ca.pem", more=""):
    return f'compression: s2_fast, tls {{ cert_file: "{directory}/{name}.pem", key_file: "{directory}/{name}.key", ca_file: "{directory}/{ca}", timeout: 5 {more} }}'


@pytest.mark.parametrize("seed", ["weir", "nats"])
@pytest.mark.parametrize("more", ["", ", verify: true", ", verify_cert_and_check_known_urls: true", ", insecure: true"], ids=["plain", "verify", "known_urls", "insecure"])
def test_routes_over_tls(tmp_path, seed, more):
    certificates(tmp_path, "server")
    names = [seed, "nats" if seed == "weir" else "weir"]
    mesh = Mesh(tmp_path, names, tls(tmp_path, more=more))
    mesh.host = "localhost"
    for name in names:
        # Who checks known URLs needs to know the other's.
        other = next(other for other in names if other != name)
        mesh.configure(name, seeds=[mesh[other].cluster])
    with mesh:
        all_cross(mesh, size=8_000)


@pytest.mark.parametrize("inner,outer", [("weir", "nats"), ("nats", "weir")])
def test_a_route_with_a_foreign_certificate_is_refused(tmp_path, inner, outer):
    certificates(tmp_path, "server")
    (tmp_path / "other").mkdir()
    certificates(tmp_path / "other", "server")
    mesh = Mesh(tmp_path, [inner, outer], own={inner: tls(tmp_path), outer: tls(tmp_path / "other", more=", insecure: true")})
    try:
        for broker in mesh.brokers.values():
            broker.start()
        wait_until(lambda: "TLS route handshake error" in mesh[inner].log(), "the foreigner is refused")
        assert not mesh.routes(inner)
    finally:
        mesh.__exit__()


def reload(broker):
    lines = len(broker.log().splitlines())
    broker.signal(signal.SIGHUP)
    wait_until(lambda: any("Reloaded server configuration" in line for line in broker.log().splitlines()[lines:]), f"{broker.name} reloads")


def test_changes_of_the_cluster_take_effect_while_it_runs(tmp_path):
    with Mesh(tmp_path, ["nats", "weir"], "compression: off", ACCOUNTS) as mesh:
        for name, cluster in [("weir", "compression: off, pool_size: 5"), ("nats", "compression: off, pool_size: 5"),
                              ("weir", "compression: off, pool_size: 5, accounts: [A]"), ("nats", "compression: off, pool_size: 5, accounts: [A]"),
                              ("weir", "compression: s2_fast, pool_size: 5, accounts: [A]"), ("nats", "compression: s2_fast, pool_size: 5, accounts: [A]"),
                              ("weir", "compression: off, pool_size: 5"), ("nats", "compression: off, pool_size: 5"),
                              ("nats", "compression: off, pool_size: 2"), ("weir", "compression: off, pool_size: 2")]:
            mesh.configure(name, cluster)
            reload(mesh[name])
            mesh.wait()
        for user in ("a", "b"):
            all_cross(mesh, user=user)
        for name in mesh.brokers:
            wait_until(lambda: len([route for route in mesh.routes(name) if not route.get("account")]) == 2, f"{name}'s pool is as configured")
            assert {route["account"] for route in mesh.routes(name) if route.get("account")} <= {"$SYS"}


def test_routes_are_added_and_removed_by_a_reload(tmp_path):
    mesh = Mesh(tmp_path, ["nats", "weir"])
    mesh.configure("weir", seeds=[])
    try:
        for broker in mesh.brokers.values():
            broker.start()
        assert not mesh.routes("weir")
        mesh.configure("weir", seeds=[mesh["nats"].cluster])
        reload(mesh["weir"])
        mesh.wait()
        all_cross(mesh)
        mesh.configure("weir", seeds=[])
        reload(mesh["weir"])
        wait_until(lambda: not mesh.routes("weir"), "the routes are gone")
    finally:
        mesh.__exit__()


def test_made_up_cluster_names_become_one(tmp_path):
    brokers = {}
    config = 'listen: "127.0.0.1:PORT"\nhttp: "127.0.0.1:HTTP"\nserver_name: NAME\ncluster {{ {name} listen: "127.0.0.1:CLUSTER", routes: [{routes}] }}\n'
    try:
        for name, cluster in (("nats", "name: chosen,"), ("weir", "")):
            brokers[name] = Broker(BINARIES[name](), tmp_path, "", name)
            routes = f'"nats://127.0.0.1:{brokers["nats"].cluster}"' if name == "weir" else ""
            brokers[name].write_config(config.format(name=cluster, routes=routes).replace("NAME", name))
            brokers[name].start()
        wait_until(lambda: brokers["weir"].get_json("/varz")["cluster"].get("name") == "chosen", "weir takes on the name")
        crosses(brokers["weir"], brokers["nats"])
        crosses(brokers["nats"], brokers["weir"])
    finally:
        for broker in brokers.values():
            broker.stop()


def test_a_stalled_peer_does_not_hold_up_others(tmp_path):
    """A server that stops reading (SIGSTOP) costs its own route; messages to the third go on."""
    with Mesh(tmp_path, ["weir1", "nats1", "nats2"]) as mesh:
        with Wire(mesh["nats1"].port, {}) as stalled, Wire(mesh["nats2"].port, {}) as lively, Wire(mesh["weir1"].port, {}) as publisher:
            for wire in (stalled, lively):
                wire.subscribe("load")
                wire.sync()
            wait_until(lambda: publisher.publish("load", "probe") or publisher.sync() is None or (lively.sync() and stalled.sync()), "both are known")
            mesh["nats1"].signal(signal.SIGSTOP)
            try:
                lively.sync()
                payload = b"x" * 100_000
                got = 0
                for number in range(300):
                    publisher.publish("load", payload)
                    if number % 20 == 19:
                        got += len(lively.sync())
                received = [got]

                def has_all():
                    received.append(len(lively.sync()))
                    return sum(received) >= 300

                wait_until(has_all, "the lively one has all")
            finally:
                mesh["nats1"].signal(signal.SIGCONT)
