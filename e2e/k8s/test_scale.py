"""Growing and shrinking a Cluster. In the order of the file, on one Cluster."""

import time

import pytest

from broker import wait_until
from kube import stream

pytestmark = pytest.mark.timeout(400)
GUARD = 3  # ordinals below this stay


def identity(pods):
    """What changes when a pod is made again, or a container in it starts again."""
    return {name: (pod["metadata"]["uid"], [(each["restartCount"], each["state"].get("running", {}).get("startedAt"))
                                            for each in pod["status"]["containerStatuses"]]) for name, pod in pods.items()}


def holders(demo, name):
    cluster = demo.stream_info(name)["cluster"]
    return {cluster["leader"], *(peer["name"] for peer in cluster.get("replicas") or [])}


def streams_on(demo, pod):
    """Names of the streams that have a replica on the pod."""
    with demo.jetstream() as js:
        names = js.raw("STREAM.NAMES").get("streams") or []
    return {name for name in names if pod in holders(demo, name)}


def test_three_to_five_restarts_nothing(namespace, demo):
    namespace.apply(stream("kept", "KEPT", ["kept.*"], replicas=3))
    namespace.wait_ready("stream/kept", within=60)
    with demo.jetstream() as js:
        js.fill("kept.a", 100)
    before = identity(demo.pods())
    namespace.patch("cluster", "demo", {"spec": {"replicas": 5}})
    demo.wait_pods_ready(5)
    demo.wait_meta_size(5)
    namespace.wait_ready("cluster/demo", within=120)
    after = identity(demo.pods())
    assert {name: after[name] for name in before} == before
    assert demo.stream_info("KEPT")["state"]["messages"] == 100
    names = set(demo.pods())
    for pod in names:
        meta = demo.monitor(pod, "/jsz")["meta_cluster"]
        assert meta["cluster_size"] == 5
        if meta["leader"] == pod:
            assert {peer["name"] for peer in meta["replicas"]} == names - {pod}
        wait_until(lambda: {route["remote_name"] for route in demo.monitor(pod, "/routez")["routes"]} == names - {pod},
                   f"{pod} has a route to all", 60)


def test_new_members_serve(namespace, demo):
    with demo.wire("demo-4") as subscriber, demo.jetstream("demo-3") as publisher:
        subscriber.subscribe("kept.*")
        subscriber.sync()

        def heard():
            publisher.publish("kept.b", "x")
            return subscriber.sync()

        assert wait_until(heard, "demo-4 hears what is published at demo-3")


def test_scaling_down_is_refused_while_the_pod_holds_replicas(namespace, demo):
    number = 0
    while not streams_on(demo, "demo-4"):
        number += 1
        assert number <= 6, "no stream is placed on demo-4"
        namespace.apply(stream(f"extra-{number}", f"EXTRA{number}", [f"extra.{number}"], replicas=3))
        namespace.wait_ready(f"stream/extra-{number}", within=60)
    before = identity(demo.pods())
    namespace("scale", "cluster", "demo", "--replicas=4")
    blocked = wait_until(lambda: (found := namespace.condition("cluster", "demo", "ScaleDownBlocked")).get("status") == "True" and found,
                         "the condition says that it is blocked", 60)
    assert "demo-4" in blocked["message"] and any(name in blocked["message"] for name in streams_on(demo, "demo-4")), blocked
    wait_until(lambda: namespace.events("ScaleDownBlocked"), "an event says so too", 30)
    time.sleep(8)
    assert identity(demo.pods()) == before
    assert demo.wait_meta_size(5)


def test_the_rest_goes_on_while_scaling_down_is_refused(namespace, demo):
    namespace.apply(stream("meanwhile", "MEANWHILE", ["meanwhile"], replicas=1))
    namespace.wait_ready("stream/meanwhile", within=60)
    if "MEANWHILE" in streams_on(demo, "demo-4") | streams_on(demo, "demo-3"):
        namespace("delete", "stream", "meanwhile", "--timeout=60s")


def test_scaling_down_goes_on_when_the_pod_holds_none(namespace, demo):
    for item in namespace.items("streams"):
        name = item["spec"].get("name", item["metadata"]["name"])
        if holders(demo, name) & {"demo-3", "demo-4"}:
            namespace("delete", "stream", item["metadata"]["name"], "--timeout=60s")
    survivors = {name: pod for name, pod in demo.pods().items() if int(name.rsplit("-", 1)[1]) < GUARD}
    before = identity(survivors)
    namespace.patch("cluster", "demo", {"spec": {"replicas": 3}})
    wait_until(lambda: sorted(demo.pods()) == ["demo-0", "demo-1", "demo-2"], "two pods are gone", 120, every=0.5)
    assert identity(demo.pods()) == before
    demo.wait_meta_size(3)
    namespace.wait_ready("cluster/demo", within=120)
    assert namespace.condition("cluster", "demo", "ScaleDownBlocked").get("status") != "True"
    offline = [peer for peer in demo.monitor(demo.wait_meta_size(3), "/jsz")["meta_cluster"].get("replicas") or [] if peer.get("offline")]
    assert not offline


def test_growing_again_brings_fresh_members(namespace, demo):
    namespace("scale", "cluster", "demo", "--replicas=4")
    demo.wait_pods_ready(4)
    demo.wait_meta_size(4)
    namespace.wait_ready("cluster/demo", within=120)
