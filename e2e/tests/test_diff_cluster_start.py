"""A cluster's start, by flags and by the configuration: the log's lines, and what other servers, clients and the monitor are told.

Flags of a server on its own are in test_diff_flags.py, what routes say of their life in test_diff_route_log.py.
"""

import json
import re
import signal
import subprocess

import pytest

from broker import STANDALONE, Broker, free_port, wait_until
from compare import same, together
from route import RoutePeer, listener, wait_for_routes
from test_diff_log_lines import outside
from test_diff_process import plain, run
from test_diff_route_trouble import attempts
from wire import Wire

CLUSTER = 'cluster { name: C, listen: "127.0.0.1:CLUSTER", compression: off %s }\n'
NONAME = 'cluster { listen: "127.0.0.1:CLUSTER" %s }\n'
READY = "[INF] Server is ready"
# What is made up is as long as a name of this kind.
MADE_UP = re.compile(r"((?:Cluster name is|  Cluster: ) )[A-Za-z0-9]{22}$")


@pytest.fixture
def brokers(programs, tmp_path):
    """Both under the name nats-server, not started: a function of the configuration behind that of a server on its own."""
    made = []

    def make(config):
        made.extend(Broker(program, tmp_path, STANDALONE.replace("NAME", "subject") + config, name)
                    for name, program in zip(("reference", "weir"), programs))
        return made[-2:]

    yield make
    for broker in made:
        broker.stop()


def filled_in(broker, flags):
    return [re.sub("CLUSTER", str(broker.cluster), flag) for flag in flags]


def start(broker, flags=()):
    """Starts it, and waits until it says that it listens for routes and that it is ready: which first is left to chance."""
    broker.start(*filled_in(broker, flags))
    wait_until(lambda: all(line in broker.log() for line in ("Listening for route connections on", READY)), "it listens for routes")


def told(broker) -> list[str]:
    lines = outside(broker.log())
    lines.remove(READY)
    return lines


# -- the log

HERE = ("--cluster", "nats://127.0.0.1:CLUSTER")
STARTS = {
    "a name that is made up": (NONAME % "", ()),
    "a name that is made up, by flags": ("", HERE),
    "a name by flag": ("", (*HERE, "--cluster_name", "flagged")),
    "a name by flag in place of the configured": (CLUSTER % "", ("--cluster_name", "flagged")),
    "a name by flag where none is configured": (NONAME % "", ("--cluster_name=flagged",)),
    "an advertised address by flag": (CLUSTER % "", ("--cluster_advertise", "example.org:77")),
    "a listener by its other flag": ("", ("--cluster_listen", "nats://127.0.0.1:CLUSTER", "--cluster_name", "C")),
    "a configured listener, taken away by flag": (CLUSTER % "", ("--cluster", "")),
    "without advertising": (CLUSTER % "", ("--no_advertise",)),
    "credentials by flag": ("", ("--cluster", "nats://u:p@127.0.0.1:CLUSTER", "--cluster_name", "C")),
    "retries by flag": (CLUSTER % "", ("--connect_retries", "4")),
    "a pool of its own size": (CLUSTER % ", pool_size: 5, accounts: [A]" + "accounts { A {} }\n", ()),
    "a name that is made up, and accounts": (NONAME % "" + "accounts { A { users: [{user: a, password: p}] } }\n", ()),
}


@pytest.mark.parametrize("text, flags", STARTS.values(), ids=[name.replace(" ", "_") for name in STARTS])
def test_a_clusters_start_is_told_alike(brokers, text, flags):
    def ask(broker):
        if flags == ("--cluster", ""):
            broker.start(*flags)
        else:
            start(broker, flags)
        broker.stop()
        return [MADE_UP.sub(r"\1<made up>", line) for line in told(broker)]

    same(brokers(text), ask)


def test_a_start_that_does_not_verify_other_servers_is_told_alike(brokers, authority, server):
    tls = f', tls {{ cert_file: "{server.certificate}", key_file: "{server.key}", ca_file: "{authority.certificate}", insecure: true }}'

    def ask(broker):
        start(broker)
        wait_until(lambda: "[WRN]" in broker.log(), "it warns")
        broker.stop()
        return told(broker)

    same(brokers(CLUSTER % tls), ask)


def test_a_route_port_that_is_taken_is_told_alike(brokers):
    def ask(broker):
        with listener() as (port, _):
            broker.write_config(broker.config_path.read_text().replace(str(broker.cluster), str(port)))
            broker.start(wait=False)
            status = broker.wait_exit()
            return status, [line.replace(str(port), "<port>") for line in outside(broker.log()) if "[FTL]" in line or "luster" in line]

    same(brokers(CLUSTER % ""), ask)


# -- refusals

REFUSED = [
    ("--routes", "nats://127.0.0.1:1"), ("--cluster", "nats://u@127.0.0.1:-1"), ("--cluster", "127.0.0.1:-1"), ("--cluster", "nats://127.0.0.1"),
    ("--cluster", "nats://127.0.0.1:x"), ("--cluster_listen", "nats://u@127.0.0.1:-1"), ("--connect_retries", "many"), ("--connect_retries"," "),
    (*HERE, "--cluster_name", "a b"), (*HERE, "--cluster_name", "_"), ("--cluster_name",), ("--cluster_advertise",),
    ("--no_advertise=perhaps",),
    *((*HERE, "--cluster_advertise", address) for address in ("a:b:c", "example.org:port", "[::1", "::1", "example.org:", "[::1]:2:3", "a]:1")),
    *(("--client_advertise", address) for address in ("a:b:c", "example.org:port", "[::1", "::1")),
]


@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
def test_flags_of_a_cluster_are_refused_alike(programs, tmp_path, flags):
    def ask(program):
        port = str(free_port())
        try:
            status, out, err = run(program, "-a", "127.0.0.1", "-p", "-1", *(flag.replace("CLUSTER", port) for flag in flags), cwd=tmp_path, within=3)
        except subprocess.TimeoutExpired:
            return "runs"
        said = plain(err or out, program).splitlines()
        # Behind what is wrong with a flag comes the help.
        return status, next((line.replace(port, "<port>") for line in said if "[FTL]" in line), said[0].replace(port, "<port>") if said else "")

    same(programs, ask)


# -- what others are told

def told_to_routes(broker):
    """What a server that connects is told of where this one is, and which one it is."""
    with RoutePeer(broker.cluster) as peer:
        fields = peer.info
    own = (str(broker.cluster), str(broker.port))
    shown = {key: fields.get(key) for key in ("host", "port", "ip", "cluster", "cluster_dynamic", "auth_required", "tls_required", "connect_urls")}
    if shown["cluster_dynamic"]:
        shown["cluster"] = len(shown["cluster"])
    return json.loads(re.sub(r"\b\d+\b", lambda found: "0" if found[0] in own else found[0], json.dumps(shown)))


TOLD = {
    "an advertised address": (CLUSTER % "", ("--cluster_advertise", "example.org:77")),
    "an advertised address, joined": (CLUSTER % "", ("--cluster_advertise=example.org:77",)),
    "an advertised host": (CLUSTER % "", ("--cluster_advertise", "example.org")),
    "an advertised address of six parts": (CLUSTER % "", ("--cluster_advertise", "[::1]:77")),
    "the configured address": (CLUSTER % ', advertise: "configured.example:5"', ()),
    "the flag before the configuration": (CLUSTER % ', advertise: "configured.example:5"', ("--cluster_advertise", "example.org:77")),
    "a flag for no address": (CLUSTER % ', advertise: "configured.example:5"', ("--cluster_advertise", "")),
    "an advertised address of six parts alone": (CLUSTER % "", ("--cluster_advertise", "[::1]")),
    "an advertised host with its own port": (CLUSTER % "", ("--cluster_advertise", " example.org :-1")),
    "a client's address": (CLUSTER % "", ("--client_advertise", "example.org:77")),
    "a host for clients": (CLUSTER % "", ("--client_advertise", "example.org")),
    "no advertising": (CLUSTER % "", ("--no_advertise",)),
    "no advertising after all": (CLUSTER % ", no_advertise: true", ("--no_advertise=false",)),
    "a name": (CLUSTER % "", ("--cluster_name", "flagged")),
    "a name that is made up": (NONAME % ", compression: off", ()),
    "a listener": ("", (*HERE, "--cluster_name", "C")),
    "credentials": ("", ("--cluster", "nats://u:p@127.0.0.1:CLUSTER", "--cluster_name", "C")),
    "credentials taken away": (CLUSTER % ", authorization { user: u, password: p }", HERE),
    "all at once": ("", ("--cluster_listen", "nats://127.0.0.1:CLUSTER", "--cluster_name", "C", "--cluster_advertise", "example.org:77", "--no_advertise")),
}


@pytest.mark.parametrize("text, flags", TOLD.values(), ids=[name.replace(" ", "_") for name in TOLD])
def test_other_servers_are_told_what_the_flags_say(brokers, text, flags):
    def ask(broker):
        start(broker, flags)
        varz = broker.get_json("/varz")
        shown = {key: value for key, value in varz["cluster"].items() if key not in ("name", "cluster_port", "tls_timeout")}
        with Wire(broker.port) as client:
            shown["host"] = client.info["host"]
            return told_to_routes(broker), shown, varz.get("connect_urls"), client.info.get("connect_urls"), client.info.get("cluster_dynamic")

    same(brokers(text), ask)


def test_an_advertised_route_is_shown_and_gossiped(brokers):
    """What a third server hears of the second is the address that the second advertises."""
    def ask(broker):
        start(broker, ("--cluster_advertise", "example.org:77"))
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as first:
            with RoutePeer(broker.cluster, server_id="NSECOND", name="second") as second:
                second.connect()
                second.say_info(ip="nats-route://elsewhere.example:88/", host="elsewhere.example", port=88)
                second.settle()
                gossip = first.next_info()
                wait_for_routes(broker, 2)
                routes = sorted((route["remote_name"], route["did_solicit"], route["is_configured"]) for route in broker.get_json("/routez")["routes"])
                return gossip["ip"], gossip["server_id"], routes

    same(brokers(CLUSTER % ", pool_size: -1"), ask)


@pytest.mark.parametrize("advertised", ["", 'client_advertise: "example.org"\n', 'client_advertise: "example.org:7"\n'], ids=["none", "a host", "an address"])
def test_what_clients_are_told_first_is_this_server(brokers, advertised):
    def ask(broker):
        start(broker)
        with RoutePeer(broker.cluster, server_id="NURL", name="url").join(connect_urls=["10.0.0.1:4222"]):
            wait_until(lambda: broker.get_json("/varz").get("connect_urls"), "they are told")
            return [url.replace(str(broker.port), "<port>") for url in broker.get_json("/varz")["connect_urls"]]

    same(brokers(CLUSTER % "" + advertised), ask)


@pytest.mark.parametrize("settings", ["", ", no_advertise: true"], ids=["advertising", "by configuration"])
@pytest.mark.parametrize("flags", [(), ("--no_advertise",)], ids=["no flag", "by flag"])
def test_clients_hear_of_other_servers_unless_the_flag_says_no(brokers, settings, flags):
    def ask(broker):
        start(broker, flags)
        with RoutePeer(broker.cluster, server_id="NURL", name="url").join(connect_urls=["10.0.0.1:4222"]):
            wait_for_routes(broker, 1)
            if not settings and not flags:
                wait_until(lambda: broker.get_json("/varz").get("connect_urls"), "they are told")
            with Wire(broker.port) as client:
                return [url.replace(str(broker.port), "<port>") for url in client.info.get("connect_urls", [])]

    same(brokers(CLUSTER % settings), ask)


def test_routes_by_flag_are_dialled_and_shown(brokers):
    def ask(broker):
        with listener() as (port, accept):
            start(broker, ("--routes", f"nats://127.0.0.1:{port}"))
            with accept(server_id="NDIALLED", name="dialled") as peer:
                connect = json.loads(peer.heard().arguments)
                peer.say_info(route_pool_size=0)
                peer.settle()
                wait_for_routes(broker, 1)
                [route] = broker.get_json("/routez")["routes"]
                urls = [url.replace(str(port), "<port>") for url in broker.get_json("/varz")["cluster"]["urls"]]
                return connect["cluster"], route["did_solicit"], route["is_configured"], route["remote_name"], urls

    same(brokers("no_system_account: true\n" + CLUSTER % ', pool_size: -1, routes: ["nats://127.0.0.1:1"]'), ask)


WRONG_ADDRESSES = [("cluster", "a:b:c"), ("cluster", "example.org:port"), ("client", "a:b:c"), ("client", "[::1")]


@pytest.mark.parametrize("whose, address", WRONG_ADDRESSES)
def test_wrong_addresses_are_refused_by_a_reload(brokers, whose, address):
    def ask(broker):
        start(broker)
        text = broker.config_path.read_text()
        broker.write_config(text.replace(", compression", f', advertise: "{address}", compression') if whose == "cluster"
                            else text + f'client_advertise: "{address}"\n')
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "[ERR]" in broker.log(), "it is refused")
        return [line for line in outside(broker.log()) if "[ERR]" in line], told_to_routes(broker)

    same(brokers(CLUSTER % ""), ask)


@pytest.mark.parametrize("retries", ["1", "2"])
def test_servers_named_by_gossip_are_tried_as_often_as_the_flag_says(brokers, retries):
    def ask(broker):
        nobody = free_port()
        start(broker, ("--connect_retries", retries))
        with RoutePeer(broker.cluster, server_id="NFIRST", name="first").join() as peer:
            peer.say_info(server_id="NTHIRD", server_name="third", port=nobody, ip=f"nats-route://127.0.0.1:{nobody}/", route_pool_size=0)
            wait_until(lambda: len(attempts(broker, nobody)) > int(retries), "it was tried as often", 15)
            return attempts(broker, nobody)

    together(brokers("debug: true\n" + CLUSTER % ""), ask)
