"""/connz: which connections are shown, in which order, and page by page. Names stand for connections, so that whole answers compare.

The keys of a connection are in test_diff_monitor.py, what CONNECT decides in test_diff_info.py.
"""

import time

import pytest

from broker import STANDALONE, wait_until
from wire import Wire

CONFIG = STANDALONE + """
accounts {
  A { users: [ { user: a, password: p }, { user: b, password: p } ] }
  B { users: [ { user: c, password: p } ] }
}
no_auth_user: a
"""
# Each value differs from client to client, and no two orders are the same: name, user, subscriptions, messages sent, their size,
# messages received, their size.
OPEN = [
    ("first", "a", 3, 2, 40, 5, 30),
    ("second", "b", 1, 7, 3, 3, 90),
    ("third", "c", 4, 1, 500, 9, 1),
    ("fourth", "a", 2, 4, 20, 1, 600),
]
CLOSED = [("left", "a"), ("broke", "b"), ("other", "c")]


def populate(broker):
    """Four clients that stay, in the order of their activity: second, fourth, first, third. Three that went."""
    clients = {}
    with Wire(broker.port, {"name": "feeder"}) as feeder_a, Wire(broker.port, {"name": "feeder", "user": "c", "pass": "p"}) as feeder_c:
        for name, user, subscriptions, *_ in OPEN:
            client = clients[name] = Wire(broker.port, {"name": name, "user": user, "pass": "p"})
            client.subscribe(f"fed.{name}")
            for number in range(1, subscriptions):
                client.subscribe(f"{name}.{number}.*", "group" if number > 1 else "")
            client.sync()
            # Starts and activities are told apart by their times.
            time.sleep(0.01)
        for name in ("second", "fourth", "first", "third"):
            _, user, _, sent, size, received, received_size = next(each for each in OPEN if each[0] == name)
            feeder = feeder_c if user == "c" else feeder_a
            for _ in range(received):
                feeder.publish(f"fed.{name}", "x" * received_size)
            feeder.sync()
            for _ in range(sent):
                clients[name].publish("nobody.listens", "x" * size)
            clients[name].sync()
            time.sleep(0.01)
    for name, user in CLOSED:
        client = Wire(broker.port, {"name": name, "user": user, "pass": "p"})
        client.subscribe(f"{name}.x")
        client.sync()
        if name == "broke":
            client.send("NONSENSE")
            client.until_closed()
        client.close()
        wait_until(lambda: name in names(broker.get_json("/connz?state=closed")), "it is among the closed")
        time.sleep(0.01)
    wait_until(lambda: broker.get_json("/connz")["num_connections"] == len(OPEN), "the feeders are gone")
    return clients


def names(connz):
    return [each.get("name") for each in connz["connections"] or []]


@pytest.fixture(scope="module")
def pair(start_pair):
    pair = start_pair(CONFIG)
    clients = [populate(broker) for broker in pair.servers]
    yield pair
    for each in clients:
        for client in each.values():
            client.close()


def shown(broker, path):
    """The names in order, and the numbers around them; the two feeders came at once, so neither is first."""
    answer = broker.get_json(path)
    return names(answer), {key: answer[key] for key in ("num_connections", "total", "offset", "limit")}


QUERIES = [
    "sort=cid", "sort=start", "sort=subs", "sort=msgs_to", "sort=msgs_from", "sort=bytes_to", "sort=bytes_from", "sort=last", "sort=idle",
    "sort=uptime", "limit=2", "limit=2&offset=1", "limit=2&offset=3", "limit=0", "limit=-1", "offset=4", "offset=5", "offset=-1",
    "limit=1&sort=subs", "limit=1&offset=1&sort=msgs_to", "limit=2&offset=1&sort=uptime", "auth=1&user=a", "auth=1&user=b", "user=a",
    "auth=1&user=nobody", "auth=1&acc=A", "auth=1&acc=B", "acc=A", "acc=B", "acc=$G", "acc=$SYS", "acc=nobody", "auth=1&acc=A&user=c",
    "auth=1&user=a&limit=1&offset=1", "acc=A&limit=1", "acc=A&filter_subject=fed.first", "acc=A&filter_subject=fed.*",
    "acc=A&filter_subject=*.1.x", "acc=A&filter_subject=%3E", "acc=B&filter_subject=fed.first", "acc=A&filter_subject=first.1.*&subs=1",
    "acc=A&filter_subject=a..b", "filter_subject=fed.first", "mqtt_client=x", "sort=subs&acc=A",
    "state=closed&sort=stop&acc=B", "state=closed&auth=1&user=b", "state=closed&acc=B&filter_subject=other.x",
    "state=closed&acc=B&filter_subject=nothing", "state=any&acc=B&sort=cid",
]


@pytest.mark.parametrize("query", QUERIES)
def test_connections_are_chosen_and_sorted_alike(pair, query):
    def ask(broker):
        status, body = broker.get(f"/connz?{query}")
        return shown(broker, f"/connz?{query}") if status == 200 else (status, body)

    pair.same(ask)


@pytest.mark.parametrize("query", ["state=closed&sort=stop", "state=closed&sort=reason", "state=closed&sort=start", "state=any&sort=start",
                                   "state=closed&limit=1&sort=start", "state=any&limit=3&offset=20&sort=start"])
def test_closed_connections_are_sorted_alike(pair, query):
    def ask(broker):
        # Two feeders ended at once, for the same reason as others: their places are chance.
        chosen, numbers = shown(broker, f"/connz?{query}")
        # And who only looked whether the port is open has no name, and may be reset.
        reasons = [each.get("reason") for each in broker.get_json(f"/connz?{query}")["connections"] if each.get("name")]
        return [name for name in chosen if name not in ("feeder", None)] if "reason" not in query else reasons, numbers

    pair.same(ask)


VALUES = ("cid", "kind", "type", "ip", "subscriptions", "pending_bytes", "in_msgs", "in_bytes", "out_msgs", "out_bytes", "name", "lang", "version",
          "account", "authorized_user", "reason", "subscriptions_list", "subscriptions_list_detail", "stalls")


@pytest.mark.parametrize("name", [each[0] for each in OPEN])
@pytest.mark.parametrize("query", ["subs=1", "subs=detail", "auth=1", "auth=1&subs=detail"])
def test_a_connection_is_shown_with_the_same_values(pair, name, query):
    def ask(broker):
        [found] = [each for each in broker.get_json(f"/connz?{query}")["connections"] if each.get("name") == name]
        values = {key: found[key] for key in VALUES if key in found and key != "cid"}
        if "subscriptions_list" in values:
            values["subscriptions_list"].sort()
        values["detail"] = sorted(({key: value for key, value in each.items() if key != "cid"} for each in values.pop("subscriptions_list_detail", [])),
                                  key=lambda each: each["sid"])
        by_id = broker.get_json(f"/connz?cid={found['cid']}")
        return values, names(by_id), {key: by_id[key] for key in ("num_connections", "total", "offset", "limit")}

    pair.same(ask)


@pytest.mark.parametrize("name", [each[0] for each in CLOSED])
@pytest.mark.parametrize("query", ["subs=1", "subs=detail", "auth=1", "auth=1&subs=detail"])
def test_a_closed_connection_is_shown_with_the_same_values(pair, name, query):
    def ask(broker):
        [found] = [each for each in broker.get_json(f"/connz?state=closed&{query}")["connections"] if each.get("name") == name]
        # Whether the last words were written in time is chance.
        values = {key: found[key] for key in VALUES if key in found and key not in ("cid", "pending_bytes")}
        for each in values.get("subscriptions_list_detail", []):
            each.pop("cid")
        open_now = broker.get_json(f"/connz?cid={found['cid']}")
        any_state = broker.get_json(f"/connz?state=any&cid={found['cid']}")
        return values, names(open_now), names(any_state), open_now["total"] == any_state["total"]

    pair.same(ask)


def test_a_connection_that_is_reset_has_a_read_error(pair):
    def ask(broker):
        client = Wire(broker.port, {"name": "reset"})
        client.sync()
        cid = client.info["client_id"]
        client.reset()
        return wait_until(lambda: broker.get_json(f"/connz?state=closed&cid={cid}")["connections"], "it is among the closed")[0]["reason"]

    pair.same(ask)


def test_a_connection_whose_answers_cannot_be_written_has_a_write_error(pair):
    """What came before a reset is still read, and the answers to it are written in vain long before the last of it."""
    def ask(broker):
        client = Wire(broker.port, {"name": "unheard"})
        for _ in range(100):
            client.subscribe("echo")
        client.sync()
        cid = client.info["client_id"]
        with broker.paused():
            client.send_as_much_as_fits(b"PUB echo 0\r\n\r\n" * 1000)
            client.reset()
        [closed] = wait_until(lambda: broker.get_json(f"/connz?state=closed&cid={cid}")["connections"], "it is among the closed")
        return closed["reason"], closed["name"], closed["subscriptions"]

    pair.same(ask)


def test_a_connection_that_says_nothing_is_shown_without_a_name(pair):
    def ask(broker):
        with Wire(broker.port) as client:
            cid = client.info["client_id"]
            [found] = wait_until(lambda: broker.get_json(f"/connz?cid={cid}&auth=1&subs=1")["connections"], "it is shown")
            return {key: found.get(key) for key in VALUES if key != "cid"}

    pair.same(ask)
