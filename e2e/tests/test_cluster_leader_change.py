"""A stream's leader is killed, or steps down, in the middle of what JetStream promises: batches, schedules, pins, resets,
dedupe, counters, TTLs. Nothing that was acknowledged is lost, nothing is there twice, on no replica.
"""

import base64
import datetime
import json
import time

import pytest

from broker import wait_until
from jetstream import JetStream
from test_cluster_sources import WITHIN_SECONDS, cluster, empty, make  # noqa: F401: two are fixtures

SECOND = 10**9
S = {"name": "S", "subjects": ["s.>"], "num_replicas": 3}
PIN_MISMATCH = 423
WRONG_LAST_SEQUENCE = 10071
pytestmark = [pytest.mark.timeout(240), pytest.mark.parametrize("how", ["kill", "step down"])]


def leader(cluster):
    return cluster.info("S").get("cluster", {}).get("leader")


class Change:
    """A connection through a server that does not lead, and the change of the leader."""

    def __init__(self, cluster, how, config=()):
        self.cluster, self.how = cluster, how
        make(cluster, S | dict(config))
        self.old = wait_until(lambda: leader(cluster), "the stream is led", WITHIN_SECONDS)
        wait_until(self.current, "all replicas are current", WITHIN_SECONDS)
        self.js = JetStream(next(broker for broker in cluster.brokers if broker.name != self.old).port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.js.wire.close()

    def current(self):
        replicas = self.cluster.info("S").get("cluster", {}).get("replicas") or []
        return len(replicas) == 2 and all(peer["current"] for peer in replicas)

    def begin(self):
        if self.how == "kill":
            self.cluster.named(self.old).kill()
        else:
            self.js.raw("STREAM.LEADER.STEPDOWN.S")

    def end(self):
        """Another server leads, and its publishes are taken."""
        wait_until(lambda: leader(self.cluster) not in (None, "", self.old), "another server leads", WITHIN_SECONDS, every=0.1)

    def happens(self):
        self.begin()
        self.end()

    def publish(self, subject, payload="", **headers):
        """Until there is a leader that answers: no responders means that nothing was stored."""
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]

        def answered():
            answer = self.js.publish(subject, payload, fields)
            return None if "status" in answer else answer

        return wait_until(answered, f"{subject} is published", WITHIN_SECONDS, every=0.1)

    def asked(self, subject, body=None):
        """The answer to an API request, once there is somebody to give it."""

        def answered():
            try:
                answer = self.js.raw(subject, body, within=3)
            except AssertionError:
                return None
            return None if "status" in answer else answer

        return wait_until(answered, f"{subject} is answered", WITHIN_SECONDS, every=0.1)

    def everywhere(self):
        """What the stream holds, the same on every replica: [(sequence, subject, payload, headers)]."""
        for broker in self.cluster.brokers:
            if not broker.running:
                broker.start()
        self.cluster.wait_formed(WITHIN_SECONDS)
        found = {}
        for broker in self.cluster.brokers:
            wait_until(self.current, "all replicas are current", WITHIN_SECONDS, every=0.1)
            self._move_to(broker.name)
            with JetStream(broker.port) as js:
                found[broker.name] = contents(js)
        first, *others = found.values()
        assert all(other == first for other in others), found
        return first

    def _move_to(self, name):
        def moved():
            if leader(self.cluster) == name:
                return True
            with JetStream(self.cluster.running()[0].port) as js:
                js.raw("STREAM.LEADER.STEPDOWN.S", {"placement": {"preferred": name}}, within=5)
            return False

        wait_until(lambda: attempt(moved), f"{name} leads", WITHIN_SECONDS, every=0.3)


def attempt(function):
    try:
        return function()
    except (AssertionError, OSError):
        return None


def contents(js):
    state = js.raw("STREAM.INFO.S")["state"]
    found = []
    for sequence in range(state["first_seq"], state["last_seq"] + 1):
        message = js.raw("STREAM.MSG.GET.S", {"seq": sequence}).get("message")
        if message:
            found.append((sequence, message["subject"], base64.b64decode(message.get("data", "")).decode(),
                          base64.b64decode(message.get("hdrs", "")).decode()))
    assert len(found) == state["messages"], (state, found)
    return found


def payloads(stored):
    return [payload for _, _, payload, _ in stored]


def part(js, number, commit=None, batch="b"):
    """One message of an atomic batch; the body of its answer."""
    fields = [("Nats-Batch-Id", batch), ("Nats-Batch-Sequence", str(number))] + ([("Nats-Batch-Commit", commit)] if commit else [])
    answer = js.wire.request("s.batch", f"{batch}{number}", fields)
    return answer.status or (json.loads(answer.payload) if answer.payload else "staged")


def heard(answer):
    """The answer, unless nobody listened."""
    return answer if isinstance(answer, dict) else None


def test_a_batch_in_flight_is_stored_whole_or_not_at_all(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_atomic": True}) as change:
        assert change.publish("s.before", "before")["seq"] == 1
        assert [part(change.js, number) for number in (1, 2, 3)] == ["staged"] * 3
        change.happens()
        answer = wait_until(lambda: heard(part(change.js, 4, "1")), "the commit is answered", WITHIN_SECONDS)
        assert "error" in answer, f"a batch of which the new leader has nothing was committed: {answer}"
        # And again from its first message, as a client does it.
        assert [part(change.js, number) for number in (1, 2, 3)] == ["staged"] * 3
        assert part(change.js, 4, "1")["count"] == 4
        assert payloads(change.everywhere()) == ["before", "b1", "b2", "b3", "b4"]


def test_a_commit_during_the_change_stores_all_or_nothing(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_atomic": True}) as change:
        count, answers = 20, []
        for batch in "xyz":
            inbox = change.js.wire.inbox()
            change.js.wire.subscribe(inbox)
            for number in range(1, count + 1):
                fields = [("Nats-Batch-Id", batch), ("Nats-Batch-Sequence", str(number))] + ([("Nats-Batch-Commit", "1")] if number == count else [])
                change.js.wire.publish("s.batch", f"{batch}{number}", inbox if number == count else "", fields)
            answers.append(inbox)
        change.js.wire.send("PING")
        change.happens()
        acked = {message.subject for message in change.js.wire.sync() if message.payload and "error" not in message.json()}
        stored = payloads(change.everywhere())
        for batch, inbox in zip("xyz", answers, strict=True):
            there = [payload for payload in stored if payload.startswith(batch)]
            assert there in ([], [f"{batch}{number}" for number in range(1, count + 1)]), there
            assert there or inbox not in acked, f"batch {batch} was acknowledged and is gone"


class Fast:
    """A fast batch as a client sends it: every message has the next number, and answers say up to where it got."""

    def __init__(self, js):
        self.js, self.inbox, self.number = js, js.wire.inbox(), 0
        self.sid = js.wire.subscribe(f"{self.inbox}.>")

    def send(self, operation, number=None):
        if number is None:
            self.number += 1
            number = self.number
        self.js.wire.publish("s.fast", f"f{number}", f"{self.inbox}.f.1.fail.{number}.{operation}.$FI")

    def answers(self):
        return [message.json() for message in self.js.quiet(0.5) if message.payload]

    def told(self, last):
        """Reads answers until one meets the condition."""
        seen, deadline = [], time.monotonic() + WITHIN_SECONDS
        while True:
            message = self.js.wire.read_message(max(0.01, deadline - time.monotonic()))
            seen.append(message.json() if message.payload else {"status": message.status})
            if last(seen[-1]):
                return seen


def test_a_fast_batch_in_flight_keeps_what_was_acknowledged(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_batched": True}) as change:
        batch = Fast(change.js)
        for number in range(1, 11):
            batch.send(0 if number == 1 else 1)
        batch.told(lambda answer: answer.get("seq") == 10)
        change.happens()
        for _ in range(9):
            batch.send(1)
        batch.send(2)
        seen = batch.told(lambda answer: "stream" in answer or "error" in answer or "status" in answer)
        stored = payloads(change.everywhere())
        assert stored == [f"f{number}" for number in range(1, len(stored) + 1)], f"{stored}, told {seen}"
        assert len(stored) >= 10, f"{stored}, told {seen}"
        if "stream" in seen[-1]:
            assert seen[-1]["count"] == len(stored) == 20, seen


def test_a_schedule_is_published_once(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_msg_schedules": True}) as change:
        began = datetime.datetime.now(datetime.UTC)
        for number in range(8):
            at = began + datetime.timedelta(seconds=2 + number / 2)
            answer = change.publish(f"s.schedule.{number}", f"m{number}", Nats_Schedule=f"@at {at:%Y-%m-%dT%H:%M:%S.%f}Z", Nats_Schedule_Target=f"s.target.{number}")
            assert "seq" in answer, answer
        change.happens()
        at_last = began + datetime.timedelta(seconds=6)
        wait_until(lambda: datetime.datetime.now(datetime.UTC) > at_last, "all are due", WITHIN_SECONDS)
        wait_until(lambda: cluster.info("S").get("state", {}).get("messages") == 8, "every schedule is published and gone", WITHIN_SECONDS, every=0.2)
        stored = change.everywhere()
        targets = {f"s.target.{number}": f"m{number}" for number in range(8)}
        assert len(stored) == 8 and {subject: payload for _, subject, payload, _ in stored} == targets, stored


def test_a_repeated_schedule_goes_on_at_its_pace(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_msg_schedules": True}) as change:
        assert "seq" in change.publish("s.schedule", "tick", Nats_Schedule="@every 1s", Nats_Schedule_Target="s.target")
        ticks = lambda: cluster.info("S").get("state", {}).get("messages", 0) - 1  # noqa: E731
        wait_until(lambda: ticks() >= 1, "it ticks", WITHIN_SECONDS, every=0.05)
        change.happens()
        count = ticks()
        wait_until(lambda: ticks() >= count + 3, "it goes on", WITHIN_SECONDS, every=0.05)
        assert "seq" in change.publish("s.end", "", Nats_Schedule_Next="purge", Nats_Scheduler="s.schedule")
        change.everywhere()
        with JetStream(cluster.brokers[0].port) as js:
            state = js.raw("STREAM.INFO.S")["state"]
            stored = [js.raw("STREAM.MSG.GET.S", {"seq": seq}).get("message", {}) for seq in range(state["first_seq"], state["last_seq"] + 1)]
        times = [datetime.datetime.fromisoformat(message["time"][:26] + "+00:00") for message in stored if message.get("subject") == "s.target"]
        gaps = [(after - before).total_seconds() for before, after in zip(times, times[1:])]
        assert all(gap > 0.5 for gap in gaps), f"it was published twice for one time: {gaps}"


def consumer(change, **config):
    body = {"stream_name": "S", "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit", "ack_wait": 60 * SECOND} | config}
    answer = change.js.raw("CONSUMER.CREATE.S.C", body)
    assert "error" not in answer, answer


def pulled(change, count, **more):
    """Messages of pulls until there are so many; statuses are passed over."""
    found, deadline = [], time.monotonic() + WITHIN_SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} were delivered"
        messages = attempt(lambda: change.js.pull("S", "C", {"batch": count - len(found), "expires": SECOND} | more, count - len(found)))
        found += [message for message in messages or [] if not message.code]
    return found


def sequences(messages):
    return [int(message.reply.split(".")[5]) for message in messages]


def test_a_pinned_group_delivers_on_and_repeats_nothing_confirmed(cluster, how):  # noqa: F811
    with Change(cluster, how) as change:
        for number in range(10):
            change.publish("s.a", str(number))
        consumer(change, priority_groups=["A"], priority_policy="pinned_client", priority_timeout=60 * SECOND)
        first = pulled(change, 4, group="A")
        pin = first[0].header("Nats-Pin-Id")
        assert pin and all(message.header("Nats-Pin-Id") == pin for message in first)
        for message in first:
            assert not change.js.wire.request(message.reply, "+ACK").status
        change.happens()
        # The pin is known still, or is given anew to one who asks without.
        answered = wait_until(lambda: attempt(lambda: change.js.pull("S", "C", {"batch": 1, "expires": SECOND, "group": "A", "id": pin}, 1)), "a pull is answered", WITHIN_SECONDS)
        rest = [message for message in answered if not message.code]
        if rest:
            assert rest[0].header("Nats-Pin-Id") == pin
            rest += pulled(change, 5, group="A", id=pin)
        else:
            rest = pulled(change, 1, group="A")
            new = rest[0].header("Nats-Pin-Id")
            assert new and new != pin
            stale = change.js.pull("S", "C", {"batch": 1, "expires": SECOND, "group": "A", "id": pin}, 1)
            assert stale[-1].code == PIN_MISMATCH, stale
            rest += pulled(change, 5, group="A", id=new)
        assert sequences(rest) == list(range(5, 11))


def test_a_reset_consumer_stays_reset(cluster, how):  # noqa: F811
    with Change(cluster, how) as change:
        for number in range(10):
            change.publish("s.a", str(number))
        consumer(change)
        for message in pulled(change, 10):
            assert not change.js.wire.request(message.reply, "+ACK").status
        answer = change.js.raw("CONSUMER.RESET.S.C", {"seq": 4})
        assert "error" not in answer, answer
        change.happens()
        state = change.asked("CONSUMER.INFO.S.C")
        assert (state["num_pending"], state["num_ack_pending"], state["delivered"]["stream_seq"]) == (7, 0, 3), state
        assert sequences(pulled(change, 7)) == list(range(4, 11))


def test_a_message_id_is_known_to_the_next_leader(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_atomic": True}) as change:
        first = change.publish("s.a", "one", Nats_Msg_Id="1")
        assert first["seq"] == 1
        change.happens()
        again = change.publish("s.a", "one", Nats_Msg_Id="1")
        assert again.get("duplicate") and again["seq"] == 1, again
        assert change.publish("s.a", "two", Nats_Msg_Id="2")["seq"] == 2
        assert payloads(change.everywhere()) == ["one", "two"]


def test_a_counter_counts_what_was_acknowledged(cluster, how):  # noqa: F811
    with Change(cluster, how, {"allow_msg_counter": True}) as change:
        for number in range(1, 11):
            assert change.publish("s.a", Nats_Incr="1")["val"] == str(number)
        change.happens()
        for number in range(11, 21):
            assert change.publish("s.a", Nats_Incr="1")["val"] == str(number)
        values = [json.loads(payload)["val"] for payload in payloads(change.everywhere())]
        assert values == [str(number) for number in range(1, 21)]


def test_what_is_to_expire_expires_once_and_leaves_one_marker(cluster, how):  # noqa: F811
    # A marker stays for as long as the stream says, so all that was ever stored is heard by a consumer.
    with Change(cluster, how, {"allow_msg_ttl": True, "subject_delete_marker_ttl": 4 * SECOND}) as change:
        inbox = change.js.wire.inbox()
        change.js.wire.subscribe(inbox)
        consumer(change, deliver_subject=inbox, ack_policy="none")
        for number in range(5):
            assert "seq" in change.publish(f"s.short.{number}", "short", Nats_TTL="4s")
        assert "seq" in change.publish("s.long", "long", Nats_TTL="1h")
        change.happens()
        wait_until(lambda: cluster.info("S").get("state", {}).get("messages") == 1, "all but one are gone, and their markers", WITHIN_SECONDS, every=0.2)
        wait_until(lambda: change.asked("CONSUMER.INFO.S.C")["num_pending"] == 0, "all is delivered", WITHIN_SECONDS, every=0.1)
        # A new leader may deliver again what the old one had sent last.
        delivered = {int(message.reply.split(".")[5]): message for message in change.js.quiet(0.5) if message.reply.startswith("$JS.ACK.S.C.")}
        markers = [message.subject for message in delivered.values() if message.header("Nats-Marker-Reason") == "MaxAge"]
        assert sorted(markers) == [f"s.short.{number}" for number in range(5)]
        assert payloads(change.everywhere()) == ["long"]
def test_revisions_of_a_key_are_never_given_twice(cluster, how):  # noqa: F811
    with Change(cluster, how, {"max_msgs_per_subject": 5, "discard": "new", "allow_rollup_hdrs": True, "allow_direct": True, "deny_delete": True}) as change:
        revision, expected = 0, []
        for number in range(1, 6):
            revision = change.publish("s.key", f"v{number}", Nats_Expected_Last_Subject_Sequence=str(revision))["seq"]
            expected.append((revision, f"v{number}"))
        stale = expected[2][0]
        change.happens()
        refused = change.publish("s.key", "stale", Nats_Expected_Last_Subject_Sequence=str(stale))
        assert refused["error"]["err_code"] == WRONG_LAST_SEQUENCE, refused
        for number in range(6, 9):
            after = change.publish("s.key", f"v{number}", Nats_Expected_Last_Subject_Sequence=str(revision))
            assert after.get("seq", 0) > revision, after
            revision = after["seq"]
            expected.append((revision, f"v{number}"))
        assert [(sequence, payload) for sequence, _, payload, _ in change.everywhere()] == expected[-5:]
