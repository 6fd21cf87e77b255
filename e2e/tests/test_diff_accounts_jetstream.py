"""JetStream of another account, by imports and exports: the same conversations with Weir and the real nats-server."""

import json

import pytest

from broker import STANDALONE, wait_until
from wire import Wire

CONFIG = STANDALONE + """
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 1GB }
accounts {
  JS {
    jetstream: enabled
    users: [ { user: js, password: p } ]
    exports: [
      { service: "$JS.API.>", response_type: stream }
      { service: "$JS.ACK.>" }
      { service: "orders.>" }
      { stream: "deliver.>" }
      { stream: "copied.>" }
    ]
  }
  U {
    users: [ { user: u, password: p } ]
    imports: [
      { service: { account: JS, subject: "$JS.API.>" }, to: "remote.API.>" }
      { service: { account: JS, subject: "$JS.ACK.>" } }
      { service: { account: JS, subject: "orders.>" } }
      { stream: { account: JS, subject: "deliver.>" } }
    ]
  }
  S {
    jetstream: enabled
    users: [ { user: s, password: p } ]
    imports: [ { stream: { account: JS, subject: "copied.>" } } ]
  }
}
"""


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(CONFIG)


def user(broker, name):
    return Wire(broker.port, {"user": name, "pass": "p", "headers": True, "no_responders": True})


def outcome(message):
    answer = message.json()
    error = answer.get("error")
    return answer.get("type"), (error["err_code"] if error else None)


def test_a_stream_is_made_filled_and_read_from_another_account(pair):
    def use(broker):
        said = []
        with user(broker, "u") as client:
            create = {"name": "ORDERS", "subjects": ["orders.>"], "storage": "memory"}
            said.append(outcome(client.request("remote.API.STREAM.CREATE.ORDERS", json.dumps(create))))
            for number in range(5):
                answer = client.request(f"orders.{number}", f"order {number}").json()
                said.append((answer["stream"], answer["seq"]))
            consumer = {"stream_name": "ORDERS", "config": {"durable_name": "C", "ack_policy": "explicit"}}
            said.append(outcome(client.request("remote.API.CONSUMER.CREATE.ORDERS.C", json.dumps(consumer))))
            inbox = client.inbox()
            sid = client.subscribe(inbox)
            client.publish("remote.API.CONSUMER.MSG.NEXT.ORDERS.C", '{"batch":3,"expires":1000000000}', inbox)
            for _ in range(3):
                message = client.read_message()
                said.append((message.subject, message.sid == sid, message.payload, message.reply.split(".")[:4]))
                client.publish(message.reply, "+ACK")
            client.sync()
            state = lambda: client.request("remote.API.CONSUMER.INFO.ORDERS.C").json()
            wait_until(lambda: state()["ack_floor"]["stream_seq"] == 3, "all are acknowledged")
            info = state()
            said.append((info["num_pending"], info["ack_floor"]["stream_seq"], info["num_ack_pending"]))
            got = client.request("remote.API.STREAM.MSG.GET.ORDERS", '{"seq":2}').json()["message"]
            said.append((got["subject"], got["seq"], got["data"], got.get("hdrs")))
            said.append(client.request("remote.API.STREAM.NAMES").json()["streams"])
            said.append(outcome(client.request("remote.API.STREAM.DELETE.ORDERS")))
        return said

    pair.same(use)


def test_a_push_consumer_delivers_into_another_account(pair):
    def use(broker):
        said = []
        with user(broker, "js") as owner, user(broker, "u") as client:
            create = {"name": "P", "subjects": ["p.>"], "storage": "memory"}
            said.append(outcome(owner.request("$JS.API.STREAM.CREATE.P", json.dumps(create))))
            for number in range(3):
                owner.request(f"p.{number}", str(number))
            client.subscribe("deliver.u")
            client.sync()
            consumer = {"stream_name": "P", "config": {"deliver_subject": "deliver.u", "durable_name": "D", "ack_policy": "explicit"}}
            said.append(outcome(owner.request("$JS.API.CONSUMER.CREATE.P.D", json.dumps(consumer))))
            for _ in range(3):
                message = client.read_message()
                said.append((message.subject, message.payload))
                client.publish(message.reply, "+ACK")
            client.sync()
            floor = lambda: owner.request("$JS.API.CONSUMER.INFO.P.D").json()["ack_floor"]["stream_seq"]
            wait_until(lambda: floor() == 3, "all are acknowledged")
            said.append(outcome(owner.request("$JS.API.STREAM.DELETE.P")))
        return said

    pair.same(use)


def test_a_stream_stores_what_another_account_exports(pair):
    def use(broker):
        with user(broker, "s") as storer, user(broker, "js") as exporter:
            create = {"name": "COPY", "subjects": ["copied.>"], "storage": "memory"}
            said = [outcome(storer.request("$JS.API.STREAM.CREATE.COPY", json.dumps(create)))]
            for number in range(4):
                exporter.publish(f"copied.{number}", str(number))
            exporter.sync()
            ask = lambda: storer.request("$JS.API.STREAM.INFO.COPY", '{"subjects_filter":">"}').json()["state"]
            wait_until(lambda: ask()["messages"] == 4, "the stream has all of them")
            state = ask()
            said.append((state["messages"], state.get("subjects")))
            said.append(outcome(storer.request("$JS.API.STREAM.DELETE.COPY")))
            return said

    pair.same(use)
