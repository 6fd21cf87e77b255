"""A Cluster of three: its forming, its messages, and what it survives. In the order of the file, on one Cluster."""

import base64
import re
import time

import pytest

from broker import wait_until
from kube import CLIENT_PORT, link_down, stream
from ledger import Publisher, check, read_all
from wire import Wire

MESSAGES = 500
RESUMES_WITHIN_SECONDS = 60

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def ledger(namespace, demo):
    """A replicated stream for records of what was acked."""
    namespace.apply(stream("ledger", "LEDGER", ["ledger.*"], replicas=3))
    namespace.wait_ready("stream/ledger", within=60)
    demo.wait_current("LEDGER")
    return "LEDGER"


class Publishing:
    """Publishers through the Service, from the beginning of a block to its end; then the stream must hold what was acked."""

    def __init__(self, demo, numbers):
        addresses = [(demo.service_address(), CLIENT_PORT)]
        self.demo = demo
        self.publishers = [Publisher(number, addresses, "ledger", window, demo.credentials())
                           for number, window in zip(numbers, (1, 8))]

    def __enter__(self):
        for publisher in self.publishers:
            publisher.start()
        self.await_progress()
        return self

    def __exit__(self, kind, *_):
        for publisher in self.publishers:
            publisher.stopping.set()
        if kind is None:
            for publisher in self.publishers:
                publisher.stop()

    def acked(self):
        return sum(len(publisher.record.acked) for publisher in self.publishers)

    def await_progress(self, messages=50, within=RESUMES_WITHIN_SECONDS):
        before = self.acked()
        began = time.monotonic()
        wait_until(lambda: self.acked() >= before + messages, "publishing goes on", within)
        return time.monotonic() - began

    def judge(self):
        info = self.demo.wait_current("LEDGER")
        stored = read_all(CLIENT_PORT, "LEDGER", info["state"]["last_seq"], self.demo.credentials(), self.demo.service_address())
        mine = {publisher.number for publisher in self.publishers}
        wrong = check([message for message in stored if int(message.payload.split(b"/")[0]) in mine], self.publishers)
        assert not wrong, "\n".join(wrong[:20])
        assert self.acked() > 0


def test_three_pods_are_spread_over_the_nodes(demo):
    pods = demo.pods()
    assert sorted(pods) == ["demo-0", "demo-1", "demo-2"]
    assert len({pod["spec"]["nodeName"] for pod in pods.values()}) == 3


def test_pods_form_one_cluster(demo):
    for pod in demo.pods():
        routes = {route["remote_name"] for route in demo.monitor(pod, "/routez")["routes"]}
        assert routes == set(demo.pods()) - {pod}
    assert demo.wait_meta_size(3) in demo.pods()


def test_brokers_know_each_other_by_dns_names_alone(namespace, demo):
    texts = [text for item in namespace.items("configmaps", "--selector", "weir.dev/cluster=demo") for text in item.get("data", {}).values()]
    texts += [base64.b64decode(text).decode() for item in namespace.items("secrets", "--selector", "weir.dev/cluster=demo")
              for text in item.get("data", {}).values()]
    hosts = {host for text in texts for host in re.findall(r"nats://[^@\s\"]+@([^:/\s\"]+):6222", text)}
    assert hosts == {f"demo-{index}.demo-headless.{namespace.name}.svc.cluster.local" for index in range(3)}


def test_health_says_caught_up(demo):
    for pod in demo.pods():
        assert demo.monitor(pod, "/healthz?weir-caught-up=true")["status"] == "ok"


def test_a_message_published_at_pod_0_reaches_a_subscriber_at_pod_2(demo):
    with demo.wire("demo-2") as subscriber, demo.wire("demo-0") as publisher:
        subscriber.subscribe("greetings.*")
        subscriber.sync()

        def heard():
            publisher.publish("greetings.from.pod", "")
            publisher.publish("greetings.pod0", "hello", "", {"Color": "red"})
            publisher.sync()
            return subscriber.sync()

        [message, *_] = wait_until(heard, "interest has crossed the route")
        assert (message.subject, message.payload, message.header("Color")) == ("greetings.pod0", b"hello", "red")


def test_strangers_are_refused(demo):
    for wrong in ({}, {"user": "app", "pass": "guess"}):
        with Wire(CLIENT_PORT, wrong, demo.address("demo-0")) as stranger:
            assert "-ERR 'Authorization Violation'" in [str(operation) for operation in stranger.until_closed()]


def test_acked_messages_survive_the_forced_deletion_of_the_leader(namespace, demo, ledger):
    with Publishing(demo, (0, 1)) as publishing:
        leader = demo.leader("LEDGER")
        before = demo.pods()[leader]["metadata"]["uid"]
        namespace("delete", "pod", leader, "--force", "--grace-period=0")
        resumed = publishing.await_progress()
        print(f"publishing went on {resumed:.1f} s after the leader {leader} was deleted")
        wait_until(lambda: demo.pods().get(leader, {}).get("metadata", {}).get("uid", before) != before, "the pod is made again", 60)
        demo.wait_pods_ready(3)
        publishing.await_progress()
    publishing.judge()


def test_one_nodes_link_down_stops_nothing_and_its_replica_catches_up(demo, ledger):
    with Publishing(demo, (2, 3)) as publishing:
        victim = next(pod for pod in demo.pods() if pod != demo.leader("LEDGER"))
        with link_down(demo.pods()[victim]["spec"]["nodeName"]):
            for _ in range(3):
                publishing.await_progress()
                time.sleep(3)
        demo.wait_current("LEDGER")
        demo.wait_pods_ready(3)
    publishing.judge()
    last = demo.stream_info("LEDGER")["state"]["last_seq"]
    wait_until(lambda: last_sequence_at(demo, victim) >= last, f"{victim} has caught up", 60)


def last_sequence_at(demo, pod):
    """What the pod's own replica says, as its monitoring shows it."""
    accounts = demo.monitor(pod, "/jsz?streams=true").get("account_details") or []
    return max((each["state"]["last_seq"] for account in accounts for each in account.get("stream_detail") or [] if each["name"] == "LEDGER"),
               default=0)


def test_the_leaders_link_down_moves_leadership(demo, ledger):
    with Publishing(demo, (4, 5)) as publishing:
        leader = demo.leader("LEDGER")
        with link_down(demo.pods()[leader]["spec"]["nodeName"]):
            resumed = publishing.await_progress()
            print(f"publishing went on {resumed:.1f} s after the leader's link went down")
        demo.wait_pods_ready(3)
    publishing.judge()


def test_all_pods_deleted_at_once_come_back_with_all_data(namespace, demo, ledger):
    with Publishing(demo, (6, 7)) as publishing:
        uids = {pod["metadata"]["uid"] for pod in demo.pods().values()}
        namespace("delete", "pods", "--selector", "weir.dev/cluster=demo", "--force", "--grace-period=0")
        wait_until(lambda: len(demo.pods()) == 3 and not uids & {pod["metadata"]["uid"] for pod in demo.pods().values()}, "all pods are new", 120)
        demo.wait_pods_ready(3)
        publishing.await_progress(within=120)
    publishing.judge()
    assert demo.wait_meta_size(3)
    namespace.wait_ready("cluster/demo", "stream/ledger", within=120)


def test_a_converged_cluster_causes_no_writes(namespace, demo, ledger):
    def versions():
        found = {}
        for kind in ("clusters", "streams", "statefulsets", "services", "configmaps", "secrets", "serviceaccounts", "poddisruptionbudgets"):
            for item in namespace.items(kind):
                found[kind, item["metadata"]["name"]] = item["metadata"]["resourceVersion"]
        return found

    namespace.wait_ready("cluster/demo", "stream/ledger", within=120)
    before = wait_until(lambda: (first := versions()) == (time.sleep(6) or versions()) and first, "it settles", 60)
    time.sleep(20)  # several drift intervals
    assert versions() == before
