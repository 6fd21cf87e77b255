"""Deleting a namespace never hangs, whatever state its objects are in."""

import secrets

import pytest

from broker import wait_until
from kube import Namespace, WeirCluster, consumer, delete_namespace, kubectl, stream

GONE_WITHIN_SECONDS = 120
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def doomed(operator):
    name = f"e2e-doomed-{secrets.token_hex(2)}"
    kubectl("create", "namespace", name)
    yield Namespace(name)
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def test_a_namespace_with_a_working_cluster_goes(doomed):
    WeirCluster(doomed).create(3)
    doomed.apply(stream("orders", "ORDERS", ["ORDERS.*"], replicas=3), consumer("review", "ORDERS"))
    doomed.wait_ready("stream/orders", "consumer/review", within=90)
    took = delete_namespace(doomed.name, GONE_WITHIN_SECONDS)
    print(f"gone in {took:.0f} s")


def test_a_namespace_with_objects_that_never_had_a_cluster_goes(doomed):
    doomed.apply(stream("orders", "ORDERS", ["ORDERS.*"], cluster="none"), consumer("review", "ORDERS", cluster="none"))
    wait_until(lambda: doomed.condition("stream", "orders", "Ready").get("status") == "False", "the operator has seen it", 30)
    delete_namespace(doomed.name, GONE_WITHIN_SECONDS)


def test_a_namespace_whose_brokers_do_not_answer_goes(doomed):
    demo = WeirCluster(doomed).create(1)
    doomed.apply(stream("orders", "ORDERS", ["ORDERS.*"], replicas=1), consumer("review", "ORDERS"))
    doomed.wait_ready("stream/orders", "consumer/review", within=90)
    # No image of that name: the pod never comes back.
    doomed.patch("cluster", "demo", {"spec": {"image": "weir:is-not-there", "imagePullPolicy": "Never"}})
    doomed("delete", "pod", "demo-0", "--force", "--grace-period=0")
    wait_until(lambda: all(not condition["status"] == "True" for pod in demo.pods().values()
                           for condition in pod["status"].get("conditions", []) if condition["type"] == "Ready"), "no broker is ready", 60)
    delete_namespace(doomed.name, GONE_WITHIN_SECONDS)


def test_a_cluster_deleted_before_its_streams_goes(doomed):
    WeirCluster(doomed).create(1)
    doomed.apply(stream("orders", "ORDERS", ["ORDERS.*"], replicas=1), consumer("review", "ORDERS"))
    doomed.wait_ready("stream/orders", "consumer/review", within=90)
    doomed("delete", "cluster", "demo", "--timeout=90s", within=120)
    doomed("delete", "stream", "orders", "--timeout=60s")
    doomed("delete", "consumer", "review", "--timeout=60s")
    delete_namespace(doomed.name, GONE_WITHIN_SECONDS)
