"""Stream and Consumer objects: kept as the broker has them, and the broker as they are. Invalid ones are refused."""

import os
import subprocess
import sys

import pytest

from binaries import REPOSITORY
from broker import wait_until
from kube import Refused, WeirCluster, consumer, stream

PUT_BACK_WITHIN_SECONDS = 45
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def orders(namespace, demo):
    """The stream and the consumers of the samples."""
    namespace.apply(stream("orders", "ORDERS", ["ORDERS.*"], replicas=3, storage="file"),
                    consumer("order-review", "ORDERS", ackPolicy="explicit", maxAckPending=500),
                    consumer("monitor", "ORDERS", deliverSubject="monitor.ORDERS", ackPolicy="explicit"))
    namespace.wait_ready("stream/orders", "consumer/order-review", "consumer/monitor", within=90)
    return demo


def config(demo, subject):
    with demo.jetstream() as js:
        return js.raw(subject).get("config")


def test_the_broker_has_what_the_objects_say(orders):
    made = config(orders, "STREAM.INFO.ORDERS")
    assert (made["subjects"], made["num_replicas"], made["storage"]) == (["ORDERS.*"], 3, "file")
    review, monitor = (config(orders, f"CONSUMER.INFO.ORDERS.{name}") for name in ("order-review", "monitor"))
    assert (review["durable_name"], review["ack_policy"], review.get("deliver_subject")) == ("order-review", "explicit", None)
    assert (monitor["durable_name"], monitor["deliver_subject"]) == ("monitor", "monitor.ORDERS")


def test_columns_tell_a_person_what_is_there(namespace, orders):
    text = namespace("get", "clusters,streams,consumers")
    for word in ("demo", "ORDERS", "order-review", "monitor", "Ready", "push", "pull"):
        assert word in text, text


def test_limits_changed_by_kubectl_change_the_brokers(namespace, orders):
    namespace.patch("stream", "orders", {"spec": {"maxAge": "24h", "maxMsgs": 5000}})
    wait_until(lambda: (made := config(orders, "STREAM.INFO.ORDERS")) and (made["max_age"], made["max_msgs"]) == (86400 * 10**9, 5000),
               "the broker's limits are changed", PUT_BACK_WITHIN_SECONDS)
    namespace.wait_ready("stream/orders", within=30)
    assert namespace.get("stream", "orders")["status"]["observedGeneration"] == namespace.get("stream", "orders")["metadata"]["generation"]


def test_what_is_changed_behind_the_operators_back_is_put_back(namespace, orders):
    made = config(orders, "STREAM.INFO.ORDERS")
    with orders.jetstream() as js:
        assert "error" not in js.raw("STREAM.UPDATE.ORDERS", made | {"max_msgs": 7, "description": "mine now"})
    wait_until(lambda: config(orders, "STREAM.INFO.ORDERS").get("max_msgs") == made["max_msgs"], "the limit is put back", PUT_BACK_WITHIN_SECONDS)


def test_a_stream_deleted_behind_the_operators_back_is_made_again(namespace, orders):
    namespace.apply(stream("fleeting", "FLEETING", ["fleeting"], replicas=1))
    namespace.wait_ready("stream/fleeting", within=60)
    with orders.jetstream() as js:
        assert js.raw("STREAM.DELETE.FLEETING").get("success")
    # Nobody answers for a stream that is made just now and has no leader yet, as with nats-server.
    wait_until(lambda: orders.stream_info("FLEETING"), "the stream is there again", PUT_BACK_WITHIN_SECONDS)


def test_a_consumer_changed_behind_the_operators_back_is_put_back(namespace, orders):
    made = config(orders, "CONSUMER.INFO.ORDERS.order-review")
    with orders.jetstream() as js:
        answer = js.raw("CONSUMER.CREATE.ORDERS.order-review", {"stream_name": "ORDERS", "config": made | {"max_ack_pending": 3}})
        assert "error" not in answer, answer
    wait_until(lambda: config(orders, "CONSUMER.INFO.ORDERS.order-review")["max_ack_pending"] == made["max_ack_pending"],
               "the limit is put back", PUT_BACK_WITHIN_SECONDS)


def test_a_deleted_object_deletes_the_brokers(namespace, orders):
    namespace.apply(stream("gone", "GONE", ["gone"], replicas=1), consumer("gone-too", "GONE"))
    namespace.wait_ready("stream/gone", "consumer/gone-too", within=60)
    namespace("delete", "consumer", "gone-too", "--timeout=60s")
    assert config(orders, "CONSUMER.INFO.GONE.gone-too") is None
    namespace("delete", "stream", "gone", "--timeout=60s")
    assert config(orders, "STREAM.INFO.GONE") is None


def test_prevent_delete_keeps_the_brokers(namespace, orders):
    namespace.apply(stream("kept", "KEPT", ["kept"], replicas=1, preventDelete=True))
    namespace.wait_ready("stream/kept", within=60)
    namespace("delete", "stream", "kept", "--timeout=60s")
    assert config(orders, "STREAM.INFO.KEPT")


def test_a_stream_of_somebody_else_is_not_taken_over(namespace, orders):
    with orders.jetstream() as js:
        js.raw("STREAM.CREATE.THEIRS", {"name": "THEIRS", "subjects": ["theirs"], "max_msgs": 3})
    namespace.apply(stream("theirs", "THEIRS", ["theirs"], replicas=1))
    found = wait_until(lambda: (ready := namespace.condition("stream", "theirs", "Ready")).get("status") == "False" and ready, "it says so", 30)
    assert found["reason"] == "NotOurs" and "adopt" in found["message"], found
    assert config(orders, "STREAM.INFO.THEIRS")["max_msgs"] == 3
    namespace.patch("stream", "theirs", {"spec": {"adopt": True}})
    namespace.wait_ready("stream/theirs", within=60)
    assert config(orders, "STREAM.INFO.THEIRS")["max_msgs"] == -1


def test_jetstreams_refusal_is_shown(namespace, orders):
    namespace.apply(stream("overlap", "OVERLAP", ["ORDERS.*"], replicas=1))
    found = wait_until(lambda: (ready := namespace.condition("stream", "overlap", "Ready")).get("status") == "False" and ready, "it says so", 30)
    assert "10065" in found["message"] and "overlap" in found["message"], found
    namespace("delete", "stream", "overlap", "--timeout=60s")


def test_objects_before_their_cluster_wait(namespace, orders):
    namespace.apply(stream("early", "EARLY", ["early"], cluster="later", replicas=1))
    found = wait_until(lambda: (ready := namespace.condition("stream", "early", "Ready")).get("status") == "False" and ready, "it says so", 30)
    assert found["reason"] == "ClusterNotFound" and "later" in found["message"], found
    WeirCluster(namespace, "later").create(1)
    namespace.wait_ready("stream/early", within=90)
    namespace("delete", "stream", "early", "--timeout=60s")
    namespace("delete", "cluster", "later", "--timeout=60s")


CLUSTER = {"apiVersion": "weir.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "new"}, "spec": {"replicas": 3, "storage": {"size": "1Gi"}}}


def changed(manifest, **spec):
    return manifest | {"spec": manifest["spec"] | spec}


NEW_STREAM = stream("new", "NEW", ["new"])
NEW_CONSUMER = consumer("new", "ORDERS")

# What is refused, and words that its reason must hold.
INVALID = {
    "no replicas": (changed(CLUSTER, replicas=0), "replicas must be 1 to 9"),
    "too many replicas": (changed(CLUSTER, replicas=10), "replicas must be 1 to 9"),
    "a name that is no dns label": (CLUSTER | {"metadata": {"name": "9x"}}, "must start with a letter"),
    "storage too small": (changed(CLUSTER, storage={"size": "1Mi"}), "storage.size"),
    "storage that is no quantity": (changed(CLUSTER, storage={"size": "big"}), "storage.size"),
    "an unknown field": (changed(CLUSTER, colour="blue"), "unknown field"),
    "max payload too large": (changed(CLUSTER, config={"maxPayload": 10**9}), "maxPayload must be"),
    "a broken ping interval": (changed(CLUSTER, config={"pingInterval": "soon"}), "duration"),
    "a stream without cluster": ({**NEW_STREAM, "spec": {"subjects": ["x"]}}, "clusterRef"),
    "a stream with an empty token": (changed(NEW_STREAM, subjects=["a..b"]), "subject"),
    "a stream with five replicas more": (changed(NEW_STREAM, replicas=6), "replicas of a stream must be 1 to 5"),
    "a stream with a short maxAge": (changed(NEW_STREAM, maxAge="5ms"), "maxAge must be"),
    "a stream with maxAge in days": (changed(NEW_STREAM, maxAge="5d"), "duration"),
    "a stream with discardPerSubject alone": (changed(NEW_STREAM, discardPerSubject=True), "discardPerSubject needs"),
    "a stream with an unknown storage": (changed(NEW_STREAM, storage="tape"), "storage"),
    "a stream name with a dot": (changed(NEW_STREAM, name="a.b"), "name"),
    "a consumer with both filters": (changed(NEW_CONSUMER, filterSubject="a", filterSubjects=["b"]), "not both"),
    "a consumer with a group but no subject": (changed(NEW_CONSUMER, deliverGroup="g"), "deliverGroup is for push consumers"),
    "a push consumer with maxWaiting": (changed(NEW_CONSUMER, deliverSubject="x", maxWaiting=5), "maxWaiting is for pull consumers"),
    "a consumer with backoff alone": (changed(NEW_CONSUMER, backoff=["1s"]), "backoff needs maxDeliver"),
    "a consumer by start sequence without one": (changed(NEW_CONSUMER, deliverPolicy="byStartSequence"), "needs optStartSeq"),
    "a consumer with an unknown ack policy": (changed(NEW_CONSUMER, ackPolicy="maybe"), "ackPolicy"),
    "a consumer without stream": ({**NEW_CONSUMER, "spec": {"clusterRef": {"name": "demo"}}}, "streamName"),
}


@pytest.mark.parametrize(("manifest", "words"), INVALID.values(), ids=[name.replace(" ", "_") for name in INVALID])
def test_invalid_objects_are_refused_with_a_reason(namespace, manifest, words):
    with pytest.raises(Refused) as refusal:
        namespace.apply(manifest, dry_run=True)
    assert words in str(refusal.value), refusal.value


IMMUTABLE = {
    "a stream's storage": ("stream", "orders", {"storage": "memory"}, "cannot be changed"),
    "a stream's name": ("stream", "orders", {"name": "OTHER"}, "cannot be changed"),
    "a stream's cluster": ("stream", "orders", {"clusterRef": {"name": "other"}}, "cannot be changed"),
    "a consumer's stream": ("consumer", "order-review", {"streamName": "OTHER"}, "cannot be changed"),
    "a consumer's ack policy": ("consumer", "order-review", {"ackPolicy": "none"}, "cannot be changed"),
    "a consumer's deliver policy": ("consumer", "order-review", {"deliverPolicy": "new"}, "cannot be changed"),
    "a consumer's kind": ("consumer", "order-review", {"deliverSubject": "x"}, "push"),
    "a cluster's size of storage downwards": ("cluster", "demo", {"storage": {"size": "100Mi"}}, "cannot shrink"),
    "a cluster's storage class": ("cluster", "demo", {"storage": {"storageClassName": "other"}}, "cannot be changed"),
}


@pytest.mark.parametrize(("kind", "name", "change", "words"), IMMUTABLE.values(), ids=[name.replace(" ", "_") for name in IMMUTABLE])
def test_what_cannot_be_changed_is_refused_with_a_reason(namespace, orders, kind, name, change, words):
    with pytest.raises(Refused) as refusal:
        namespace.patch(kind, name, {"spec": change})
    assert words in str(refusal.value), refusal.value


def test_orders_flow(namespace, orders):
    """The example of `make up`, in this namespace."""
    done = subprocess.run([sys.executable, str(REPOSITORY / "e2e/orders.py")], capture_output=True, text=True, timeout=150,
                          env=os.environ | {"NAMESPACE": namespace.name})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "have acked all 1,000" in done.stdout
