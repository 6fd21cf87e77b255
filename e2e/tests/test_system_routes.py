"""The system account across servers: a Weir server and a real nats-server joined by routes see each other's events
and answer the same requests, wherever they are asked."""

import json

import pytest

import binaries
from broker import Broker, wait_until
from wire import Wire

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
accounts {
  $SYS { users: [{user: sys, password: pw}] }
  A { users: [{user: a, password: pw}] }
}
cluster { name: mixed, listen: "127.0.0.1:CLUSTER", routes: [ROUTES] }
"""
SYSTEM = {"user": "sys", "pass": "pw", "headers": True, "protocol": 1}
USER = {"user": "a", "pass": "pw", "headers": True}
ANSWERS_WITHIN = 2.0


@pytest.fixture(scope="module", params=["mixed", "weir"])
def mesh(request, tmp_path_factory):
    """Three servers: two Weir and one nats-server, or three Weir."""
    directory = tmp_path_factory.mktemp("mesh")
    other = binaries.reference() if request.param == "mixed" else binaries.weir()
    brokers = [Broker(binary, directory, "", name) for name, binary in
               (("one", binaries.weir()), ("two", binaries.weir()), ("three", other))]
    routes = ", ".join(f'"nats://127.0.0.1:{broker.cluster}"' for broker in brokers)
    for broker in brokers:
        broker.write_config(CONFIG.replace("ROUTES", routes))
        broker.start(wait=False)
    for broker in brokers:
        broker.wait_ready()
    names = {broker.name for broker in brokers}
    wait_until(lambda: all({route["remote_name"] for route in broker.get_json("/routez")["routes"]} == names - {broker.name}
                           for broker in brokers), "every server has a route to every other", 20)
    yield brokers
    for broker in brokers:
        broker.stop()


def gather(client: Wire, subject: str, count: int, body="") -> list:
    """The last answers of `count` servers; that there are no more is not waited for."""
    inbox = client.inbox()
    sid = client.subscribe(inbox)
    answers = {}

    def ask():
        client.publish(subject, body, inbox)
        try:
            while len(answers) < count:
                message = client.read_message(ANSWERS_WITHIN)
                if message.sid == sid:
                    answer = message.json()
                    answers[answer["server"]["name"] if "server" in answer else answer["name"]] = answer
        except AssertionError:
            return False
        return True

    # Interest in the inbox has to cross the routes first.
    wait_until(ask, f"{count} servers answer {subject}")
    client.unsubscribe(sid)
    client.sync()
    return list(answers.values())


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("service", ["IDZ", "STATSZ", "VARZ", "CONNZ", "SUBSZ", "ROUTEZ", "HEALTHZ", "ACCOUNTZ", "JSZ", "RAFTZ"])
def test_every_server_answers_a_ping(mesh, at, service):
    with Wire(mesh[at].port, SYSTEM) as client:
        answers = gather(client, f"$SYS.REQ.SERVER.PING.{service}", len(mesh))
    assert {answer["server"]["name"] if "server" in answer else answer["name"] for answer in answers} == {"one", "two", "three"}


@pytest.mark.parametrize("asked", range(3))
@pytest.mark.parametrize("at", range(3))
def test_one_server_answers_by_its_id(mesh, at, asked):
    wanted = mesh[asked].get_json("/varz")["server_id"]
    with Wire(mesh[at].port, SYSTEM) as client:
        [answer] = gather(client, f"$SYS.REQ.SERVER.{wanted}.VARZ", 1)
    assert answer["data"]["server_id"] == wanted


@pytest.mark.parametrize("at", range(3))
def test_a_filter_leaves_one(mesh, at):
    with Wire(mesh[at].port, SYSTEM) as client:
        [answer] = gather(client, "$SYS.REQ.SERVER.PING.HEALTHZ", 1, json.dumps({"server_name": "two", "exact_match": True}))
    assert answer["server"]["name"] == "two"


@pytest.mark.parametrize("at", range(3))
def test_connections_are_told_on_every_server(mesh, at):
    watchers = [Wire(broker.port, SYSTEM) for broker in mesh]
    for watcher in watchers:
        watcher.subscribe("$SYS.ACCOUNT.A.*")
        watcher.sync()

    def everybody_hears():
        with Wire(mesh[at].port, USER | {"name": "visitor"}) as client:
            client.sync()
        try:
            return all(watcher.read_message(ANSWERS_WITHIN) for watcher in watchers)
        except AssertionError:
            return False

    # The watchers' interest has to cross the routes first.
    wait_until(everybody_hears, "every watcher hears of a connection")
    for watcher in watchers:
        watcher.close()


@pytest.mark.parametrize("at", range(3))
def test_an_account_sees_its_connections_everywhere(mesh, at):
    clients = [Wire(broker.port, USER | {"name": f"on-{broker.name}"}) for broker in mesh]
    for client in clients:
        client.sync()
    answers = gather(clients[at], "$SYS.REQ.ACCOUNT.PING.CONNZ", len(mesh))
    seen = {connection["name"] for answer in answers for connection in answer["data"]["connections"]}
    for client in clients:
        client.close()
    assert {"on-one", "on-two", "on-three"} <= seen


@pytest.mark.parametrize("at", range(3))
def test_an_account_sees_its_statistics_everywhere(mesh, at):
    clients = [Wire(broker.port, USER) for broker in mesh]
    for client in clients:
        client.sync()
    answers = gather(clients[at], "$SYS.REQ.ACCOUNT.PING.STATZ", len(mesh))
    for client in clients:
        client.close()
    assert all(statz["acc"] == "A" and statz["conns"] >= 1 for answer in answers for statz in answer["data"]["account_statz"])


@pytest.mark.parametrize("at", range(3))
def test_subscribers_are_counted_everywhere(mesh, at):
    holders = [Wire(broker.port, SYSTEM) for broker in mesh]
    for holder in holders:
        holder.subscribe("counted.here")
        holder.sync()

    def counted():
        with Wire(mesh[at].port, SYSTEM) as client:
            return int(client.request("$SYS.DEBUG.SUBSCRIBERS", "counted.here").payload) == len(mesh)

    wait_until(counted, "all subscriptions are counted")
    for holder in holders:
        holder.close()


def test_every_server_counts_the_others(mesh):
    def all_known():
        with Wire(mesh[0].port, SYSTEM) as client:
            answers = gather(client, "$SYS.REQ.SERVER.PING.STATSZ", len(mesh))
        return all(answer["statsz"]["active_servers"] == len(mesh) for answer in answers)

    wait_until(all_known, "every server counts three")


@pytest.mark.parametrize("at", range(3))
def test_a_client_of_another_server_is_kicked(mesh, at):
    victim_at = (at + 1) % 3
    server = mesh[victim_at].get_json("/varz")["server_id"]
    with Wire(mesh[at].port, SYSTEM) as client, Wire(mesh[victim_at].port, USER | {"name": "victim"}) as victim:
        victim.sync()
        [cid] = [each["cid"] for each in mesh[victim_at].get_json("/connz")["connections"] if each.get("name") == "victim"]
        gather(client, f"$SYS.REQ.SERVER.{server}.IDZ", 1)
        answer = client.request(f"$SYS.REQ.SERVER.{server}.KICK", json.dumps({"cid": cid}))
        victim.until_closed()
    assert sorted(answer.json()) == ["server"]
