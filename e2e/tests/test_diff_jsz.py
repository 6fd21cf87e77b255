"""What /jsz says of accounts, their limits and requests, and of what streams copy: key by key as nats-server."""

import re

import pytest

from broker import STANDALONE, wait_until
from jetstream import JetStream
from mask import mask

CONFIG = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB }
accounts {
  FREE { jetstream: enabled, users: [ { user: free, password: p } ] }
  BOUND { jetstream: { max_mem: 1000000, max_file: 20000000, max_streams: 5, max_consumers: 3 }, users: [ { user: bound, password: p } ] }
  NONE { jetstream: { max_mem: 0, max_file: 0 }, users: [ { user: none, password: p } ] }
  OUT { users: [ { user: out, password: p } ] }
  SYS { users: [ { user: s, password: p } ] }
}
system_account: SYS
"""
SIZES = ("memory", "storage", "bytes", "active", "lag", "store_dir", "server_id")


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(CONFIG)


def without_sizes(value):
    if isinstance(value, dict):
        return {key: without_sizes(inner) for key, inner in value.items() if key not in SIZES}
    return [without_sizes(inner) for inner in value] if isinstance(value, list) else value


def filled(broker):
    """Streams of two accounts: one with a consumer, its mirror, and one that has it as a source; some requests fail."""
    with JetStream(broker.port, {"user": "bound", "pass": "p"}) as js:
        js.clear()
        js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "max_bytes": 5000})
        js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"name": "C", "ack_policy": "explicit"}})
        js.fill("s.a", 4)
        js.api("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "S"}})
        js.api("STREAM.CREATE.A", {"name": "A", "sources": [
            {"name": "S", "filter_subject": "s.a"}, {"name": "S", "subject_transforms": [{"src": "s.b", "dest": "t.b"}]}]})
        js.api("STREAM.INFO.NONE")
        wait_until(lambda: js.raw("STREAM.INFO.A")["state"]["messages"] == 4, "the source is copied")
        wait_until(lambda: js.raw("STREAM.INFO.M")["state"]["messages"] == 4, "the mirror is filled")
    with JetStream(broker.port, {"user": "free", "pass": "p"}) as js:
        js.clear()
        js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "storage": "memory", "max_bytes": 700})


def direct_consumers(broker):
    """Those of the stream S that have looked at all its messages."""
    account = broker.get_json("/jsz?acc=BOUND&consumers=true&direct-consumers=true")["account_details"][0]
    stream = next(stream for stream in account["stream_detail"] if stream["name"] == "S")
    return sum(consumer["delivered"]["stream_seq"] == 4 for consumer in stream.get("direct_consumer_detail", []))


def sorted_by_filter(consumers):
    """Those of mirrors and sources, whose names are made up."""
    for consumer in consumers:
        consumer["name"] = consumer["name"].rsplit("-", 1)[0]
        for key in ("name", "deliver_subject", "filter_subject"):
            if key in consumer.get("config", {}):
                consumer["config"][key] = re.sub(r"[A-Za-z0-9]{8}$", "<random>", consumer["config"][key])
    return sorted(consumers, key=str)


QUERIES = ["", "?accounts=true", "?streams=true", "?acc=BOUND", "?acc=BOUND&streams=true&config=true", "?acc=FREE&consumers=true", "?acc=OUT",
           "?acc=NONE", "?acc=BOUND&consumers=true&config=true", "?accounts=true&offset=1&limit=1", "?acc=BOUND&streams=true&raft=true", "?acc=BOUND&consumers=true&raft=true",
           "?acc=BOUND&consumers=true&direct-consumers=true", "?acc=BOUND&consumers=true&direct-consumers=true&config=true", "?acc=BOUND&direct-consumers=true"]


@pytest.mark.parametrize("query", QUERIES)
def test_jsz_of_accounts(pair, query):
    def use(broker):
        filled(broker)
        wait_until(lambda: direct_consumers(broker) == 3, "each origin has its consumer, which looked at all messages")
        status, body = broker.get(f"/jsz{query}")
        if status != 200:
            return status, body
        answer = broker.get_json(f"/jsz{query}")
        # How often a condition was looked at, and how often a source had to ask again; what is said of fsync is compared elsewhere.
        answer.pop("api")
        answer.pop("config")
        for account in answer.get("account_details", []):
            account["api"] = bool(account["api"].pop("total")), sorted(account["api"])
            # Of a Go map.
            account.get("stream_detail", []).sort(key=lambda stream: stream["name"])
            for stream in account.get("stream_detail", []):
                if direct := stream.get("direct_consumer_detail"):
                    stream["direct_consumer_detail"] = sorted_by_filter(direct)
        return mask(without_sizes(answer))

    pair.same(use)


def test_jsz_counts_the_requests_of_each_account(pair):
    def use(broker):
        def counts():
            details = broker.get_json("/jsz?accounts=true")["account_details"]
            return {account["name"]: account["api"] for account in details}

        before = counts()
        with JetStream(broker.port, {"user": "bound", "pass": "p"}) as js:
            js.api("INFO"), js.api("STREAM.INFO.NONE"), js.api("STREAM.NAMES")
        after = counts()
        return {name: {key: value - before[name][key] for key, value in now.items()} for name, now in after.items()}

    pair.same(use)


@pytest.mark.parametrize("account", ["FREE", "BOUND", "NONE", "OUT", "SYS"])
def test_accountz_says_who_has_jetstream(pair, account):
    def use(broker):
        detail = broker.get_json(f"/accountz?acc={account}")["account_detail"]
        return {key: detail.get(key) for key in ("account_name", "jetstream_enabled", "is_system", "expired", "complete")}, sorted(detail)

    pair.same(use)
