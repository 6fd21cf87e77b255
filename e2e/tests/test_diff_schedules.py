"""Scheduled messages (ADR-51): what is refused, what is stored, what is published when: as nats-server answers."""

import json
import re
import time

import pytest

from broker import WITH_JETSTREAM, wait_until
from steps import converse, pub

S = {"name": "S", "subjects": ["s.>"], "allow_msg_schedules": True, "allow_msg_ttl": True}
INFO = ("STREAM.INFO.S", {"subjects_filter": ">"})
LATER = "@at 2099-01-01T00:00:00Z"


def create(**more):
    return ("STREAM.CREATE.S", S | more)


def get(seq):
    return ("STREAM.MSG.GET.S", {"seq": seq})


def schedule(pattern, target="s.target", subject="s.schedule", payload="x", **more):
    fields = {"Nats_Schedule": pattern} | ({} if target is None else {"Nats_Schedule_Target": target}) | more
    return pub(subject, payload, **fields)


PATTERNS = [
    "@at 2099-01-01T00:00:00Z", "@at 2099-01-01T00:00:00+02:00", "@at 2099-01-01T00:00:00.5Z", "@at 2099-01-01", "@at now", "@at", "@at ", "@AT 2099-01-01T00:00:00Z",
    "@every 1h", "@every 1s", "@every 999ms", "@every 1h30m", "@every -1h", "@every x", "@every", "@every 0", "@every  1h",
    "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@minutely", "@Hourly",
    "0 0 0 1 1 *", "0 0 0 * * *", "* * * * *", "0 0 0 1 1 * 2030", "0 0 12 * * MON-FRI", "0 0 12 * JAN,jul *", "0 0 12 ? * ?", "0 0 12 * * 7", "60 0 0 * * *", "0 60 0 * * *",
    "0 0 24 * * *", "0 0 0 0 * *", "0 0 0 32 * *", "0 0 0 1 13 *", "0 0 0 31 2 *", "0 0 0 30 2 *", "0 0 0 29 2 *", "*/15 0 0 * * *", "5/15 0 0 * * *", "1-5 0 0 * * *", "5-1 0 0 * * *",
    "1-5/2 0 0 * * *", "*/0 0 0 * * *", "*/x 0 0 * * *", "1/2/3 0 0 * * *", "1-2-3 0 0 * * *", "-1 0 0 * * *", "+1 0 0 * * *", "1,,2 0 0 * * *", "*-5 0 0 * * *", "a 0 0 * * *",
    " 0  0 0 * * *", "",
]

CASES = {
    "a schedule is stored": [create(), schedule(LATER), get(1), INFO],
    "a schedule replaces the one before": [create(), schedule(LATER), schedule("@hourly"), INFO],
    "a rollup of its own": [create(), schedule(LATER, Nats_Rollup="sub"), get(1), schedule(LATER, Nats_Rollup="SUB"), schedule(LATER, Nats_Rollup="all"), schedule(LATER, Nats_Rollup="x"), INFO],
    "schedules that are not allowed": [("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}), schedule(LATER), schedule("x"), pub("s.a", Nats_Schedule_Time_Zone="x"), INFO],
    "a lifetime of what is published": [create(), schedule(LATER, Nats_Schedule_TTL="1h"), schedule(LATER, Nats_Schedule_TTL="x"), schedule(LATER, Nats_Schedule_TTL="500ms"), schedule(LATER, Nats_Schedule_TTL="never"), INFO],
    "a lifetime where none is allowed": [create(allow_msg_ttl=False), schedule(LATER, Nats_Schedule_TTL="1h"), INFO],
    "a rollup of what is published": [create(), schedule(LATER, Nats_Schedule_Rollup="sub"), schedule(LATER, Nats_Schedule_Rollup="all"), schedule(LATER, Nats_Schedule_Rollup="SUB"), INFO],
    "an empty schedule is none": [create(), schedule(""), get(1)],
    "a client cannot say when next": [create(), pub("s.a", Nats_Schedule_Next="2030-01-01T00:00:00Z", Nats_Scheduler="s.schedule"), pub("s.a", Nats_Scheduler="s.schedule"), pub("s.a", Nats_Schedule_Next="purge"), INFO],
    "a client ends a schedule": [create(), schedule(LATER), pub("s.end", "x", Nats_Schedule_Next="purge", Nats_Scheduler="s.schedule"), get(2), INFO],
    "a client ends no schedule": [create(), pub("s.end", "x", Nats_Schedule_Next="purge", Nats_Scheduler="s.schedule"), INFO],
    "a client ends what is none": [create(), pub("s.a"), pub("s.end", "x", Nats_Schedule_Next="purge", Nats_Scheduler="s.a"), pub("s.a", "x", Nats_Schedule_Next="purge", Nats_Scheduler="s.a"),
                                   pub("s.end", "x", Nats_Schedule_Next="purge", Nats_Scheduler="s.*"), INFO],
    "ending where schedules are not allowed": [("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}), pub("s.end", "x", Nats_Schedule_Next="purge", Nats_Scheduler="s.schedule"), INFO],
    "schedules are switched on": [("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}), ("STREAM.UPDATE.S", S), schedule(LATER), INFO],
    "schedules are not switched off": [create(), ("STREAM.UPDATE.S", S | {"allow_msg_schedules": False})],
    "a schedule with a duplicate id": [create(), schedule(LATER, Nats_Msg_Id="1"), schedule(LATER, Nats_Msg_Id="1"), INFO],
    "a schedule with expectations": [create(), schedule(LATER, Nats_Expected_Last_Subject_Sequence="0"), schedule(LATER, Nats_Expected_Last_Subject_Sequence="0"), INFO],
} | {
    f"the target {target!r}": [create(), schedule(LATER, target), INFO] for target in [None, "", "s.*", "s.>", "t.x", "s.schedule", "s..x", "s.a b"]
} | {
    f"the source {source!r}": [create(), schedule(LATER, Nats_Schedule_Source=source), INFO] for source in ["", "s.source", "s.target", "s.schedule", "s.*", "t.x"]
} | {
    f"the zone {zone!r} for {pattern}": [create(), schedule(pattern, Nats_Schedule_Time_Zone=zone), INFO]
    for zone in ["Europe/Berlin", "UTC", "Local", "Mars/Base", "europe/berlin", "", "../UTC", "CET", "Etc/GMT+5"] for pattern in ["@daily", "@every 1h", LATER]
} | {
    f"a stream with {json.dumps(more)}": [create(**more)]
    for more in [{"discard": "new", "max_msgs": 5}, {"deny_purge": True}, {"deny_purge": True, "allow_rollup_hdrs": True}, {"retention": "workqueue"}, {"storage": "memory"}, {"max_msgs_per_subject": 1}]
}


@pytest.fixture(scope="module")
def pair(start_pair):
    return start_pair(WITH_JETSTREAM)


@pytest.mark.parametrize("steps", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_schedules(pair, steps):
    pair.same(lambda broker: converse(broker.port, steps))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern(pair, pattern):
    pair.same(lambda broker: converse(broker.port, [create(), schedule(pattern), INFO]))


def count(js, subject):
    return (js.raw("STREAM.INFO.S", {"subjects_filter": subject})["state"].get("subjects") or {}).get(subject, 0)


def published(js, number=1, subject="s.target", within=8):
    wait_until(lambda: count(js, subject) >= number, f"{number} are published", within)
    message = js.raw("STREAM.MSG.GET.S", {"last_by_subj": subject})["message"]
    return js.direct("S", {"seq": message["seq"]}), message["seq"]


def soon(seconds=0):
    return time.strftime("@at %Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


FIRED = {
    "once": (lambda: soon(1), {}),
    "in the past": (lambda: "@at 2001-01-01T00:00:00Z", {}),
    "with headers": (lambda: soon(1), {"Color": "red", "Nats-Msg-Id": "1", "Nats-TTL": "1h", "Nats-Schedule-TTL": "5m", "Nats-Schedule-Rollup": "sub", "Nats-Expected-Last-Sequence": "2"}),
    "from a source": (lambda: soon(1), {"Nats-Schedule-Source": "s.source", "Color": "red"}),
    "from a source without messages": (lambda: soon(1), {"Nats-Schedule-Source": "s.nothing", "Color": "red"}),
}


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", FIRED)
def test_a_schedule_fires(both, name, storage):
    pattern, headers = FIRED[name]

    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"storage": storage, "allow_direct": True})
        js.publish("s.source", "sourced", {"Shape": "round", "Nats-Msg-Id": "9"}.items())
        js.publish("s.target", "before")
        fields = {"Nats-Schedule": pattern(), "Nats-Schedule-Target": "s.target"} | headers
        answer = js.publish("s.schedule", "body", fields.items())
        rolls = "Nats-Schedule-Rollup" in headers
        wait_until(lambda: count(js, "s.schedule") == 0 and count(js, "s.target") == (1 if rolls else 2), "it fired", 8)
        return answer, published(js), js.api("STREAM.INFO.S", {"subjects_filter": ">"})


@pytest.mark.parametrize("pattern", ["@every 1s", "* * * * * *", "*/1 * * * * ?"])
def test_a_repeating_schedule_fires_again(both, pattern):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S | {"allow_direct": True})
        js.publish("s.schedule", "body", {"Nats-Schedule": pattern, "Nats-Schedule-Target": "s.target"}.items())
        message, seq = published(js, 2)
        first = js.direct("S", {"seq": 2})
        return message, seq, first, count(js, "s.schedule")


def test_the_next_time_is_said_in_the_zone(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        fields = {"Nats-Schedule": "* * * * * *", "Nats-Schedule-Time-Zone": "Asia/Kolkata", "Nats-Schedule-Target": "s.target"}
        js.publish("s.schedule", "body", fields.items())
        wait_until(lambda: count(js, "s.target") > 0, "it fired", 8)
        js.wire.subscribe("none")
        import base64

        message = js.raw("STREAM.MSG.GET.S", {"last_by_subj": "s.target"})["message"]
        block = base64.b64decode(message["hdrs"]).decode()
        return re.sub(r"\d\d", "00", block)


def test_a_replaced_schedule_does_not_fire(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.publish("s.schedule", "one", {"Nats-Schedule": soon(1), "Nats-Schedule-Target": "s.one"}.items())
        js.publish("s.schedule", "plain")
        js.publish("s.other", "two", {"Nats-Schedule": soon(1), "Nats-Schedule-Target": "s.two"}.items())
        wait_until(lambda: count(js, "s.two") == 1, "the other fired", 8)
        return js.api("STREAM.INFO.S", {"subjects_filter": ">"})["state"]


def test_a_purged_schedule_does_not_fire(both):
    @both
    def _(js):
        js.raw("STREAM.CREATE.S", S)
        js.publish("s.schedule", "one", {"Nats-Schedule": soon(1), "Nats-Schedule-Target": "s.one"}.items())
        js.raw("STREAM.PURGE.S", {"filter": "s.schedule"})
        js.publish("s.other", "two", {"Nats-Schedule": soon(1), "Nats-Schedule-Target": "s.two"}.items())
        wait_until(lambda: count(js, "s.two") == 1, "the other fired", 8)
        return js.api("STREAM.INFO.S", {"subjects_filter": ">"})["state"]
