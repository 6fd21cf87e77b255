"""What people see who look inside: Raft groups and queues. Keys, types and states are nats-server's; names of groups are not."""

import json

import pytest

import binaries
from broker import WITH_JETSTREAM, wait_until
from cluster import create
from compare import same
from jetstream import JetStream
from test_diff_monitor import shape

# Queues that both programs have.
SHARED = {"System recvQ", "System recvQ Pings", "JetStream API queue", "[ACC:$G] stream 'S' messages"}


@pytest.fixture(scope="module")
def clusters(start_clusters):
    """Three servers of each program with one replicated stream, messages in it, and a leader whom all know."""
    made = start_clusters(binaries.reference(), binaries.weir())
    for cluster in made:
        with JetStream(cluster.brokers[0].port) as js:
            create(js, {"name": "S", "subjects": ["s.>"], "num_replicas": 3})
            js.fill("s.a", 3)
    return made


def groups_of(broker, query=""):
    """All groups of one answer, without their names."""
    return [group for account in broker.get_json(f"/raftz{query}").values() for group in account.values()]


def settled(cluster):
    for broker in cluster.brokers:
        groups = groups_of(broker) + groups_of(broker, "?acc=$G")
        if len(groups) != 2 or any(not group.get("leader") or group["applied"] != group["pindex"] for group in groups):
            return False
    return True


def of_both(clusters, function):
    for cluster in clusters:
        wait_until(lambda: settled(cluster), "all replicas have all")
    same(clusters, function)


def leading(cluster, query=""):
    return next(group for broker in cluster.brokers for group in groups_of(broker, query) if group["state"] == "LEADER")


# A follower of nats-server has heard its leader lately; Weir's says nothing of that. The time of a log entry Weir does not keep.
def described(group):
    seen = shape(group)
    if group["state"] == "FOLLOWER":
        # Two of three votes elect: the third may not have been asked.
        seen.pop("voted_for", None)
    seen["peers"] = sorted({key: kind for peer in group["peers"].values() for key, kind in shape(peer).items() if key != "last_seen"}.items())
    return seen


@pytest.mark.parametrize("query", ["", "?acc=$G"], ids=["meta", "stream"])
def test_a_leader_shows_the_same_figures(clusters, query):
    of_both(clusters, lambda cluster: described(leading(cluster, query)))


@pytest.mark.parametrize("query", ["", "?acc=$G"], ids=["meta", "stream"])
def test_a_follower_shows_the_same_figures(clusters, query):
    def ask(cluster):
        followers = [group for broker in cluster.brokers for group in groups_of(broker, query) if group["state"] == "FOLLOWER"]
        return len(followers), [described(group) for group in followers]

    of_both(clusters, ask)


def test_figures_of_a_group_agree_with_each_other(clusters):
    def ask(cluster):
        found = []
        for query in ("", "?acc=$G"):
            groups = [group for broker in cluster.brokers for group in groups_of(broker, query)]
            leader = leading(cluster, query)
            found.append({
                "one leader": {group["leader"] for group in groups} == {leader["id"]},
                "terms": len({(group["term"], group["pterm"]) for group in groups}),
                "votes": {group["voted_for"] for group in groups if group.get("voted_for")} <= {group["id"] for group in groups},
                "committed": all(group["committed"] == group["applied"] == group["pindex"] > 0 for group in groups),
                "log": all(group["wal"]["last_seq"] == group["pindex"] and group["wal"]["bytes"] > 0 for group in groups),
                "entries": all(group["wal"]["messages"] == group["wal"]["last_seq"] - group["wal"]["first_seq"] + 1 for group in groups),
                "replicated": {peer["last_replicated_index"] for peer in leader["peers"].values()} == {leader["pindex"]},
                "sizes": {(group["size"], group["quorum_needed"], group["system_account"], group["traffic_account"], group["ever_had_leader"])
                          for group in groups},
            })
        return found

    of_both(clusters, ask)


@pytest.mark.parametrize("query", ["?acc=nobody", "?group=none", "?group=_meta_", "?acc=$G&group=_meta_"])
def test_groups_are_filtered(clusters, query):
    of_both(clusters, lambda cluster: (cluster.brokers[0].get(f"/raftz{query}")[0],
                                       {account: sorted(groups) for account, groups in cluster.brokers[0].get_json(f"/raftz{query}").items()}))


@pytest.fixture(scope="module")
def pair(start_pair):
    pair = start_pair(WITH_JETSTREAM)
    pair.keeps_streams = True
    for broker in pair.servers:
        with JetStream(broker.port) as js:
            js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
    return pair


@pytest.mark.parametrize("query", ["?all=1", "?all=true&queues=recvQ", "?all=1&queues=messages", "?all=1&queues=none", "?queues=recvQ", ""])
def test_queues_have_the_same_names_and_form(pair, query):
    def ask(broker):
        status, body = broker.get(f"/ipqueuesz{query}")
        queues = json.loads(body)
        assert all(set(queue) <= {"pending", "in_progress"} and queue["pending"] >= 0 for queue in queues.values()), queues
        return status, {name: shape(queue) for name, queue in queues.items() if name in SHARED}

    pair.same(ask)
