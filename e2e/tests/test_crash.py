"""kill -9 under load: every message that was acked is there once, in order, on every replica.

The random choices follow a seed, which is printed; CRASH_SEED repeats a run, CRASH_KILLS changes the number of kills.
"""

import os
import random
import time

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker, wait_until
from cluster import Cluster
from jetstream import JetStream, asked
from ledger import Publisher, Worker, check, check_unsynced, read_all
from numbered import await_replicas, create_stream, stream_state

KILLS = int(os.environ.get("CRASH_KILLS", "20"))
SINGLE_KILLS = int(os.environ.get("CRASH_KILLS", "6"))
SEED = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(2**32)))
# Losing a leader and finding another may take this long on a loaded machine.
PROGRESS_WITHIN_SECONDS = 60
SETTLED_WITHIN_SECONDS = 120
SHOWN = 20


@pytest.fixture
def chance(request):
    print(f"\nCRASH_SEED={SEED}")
    return random.Random(f"{SEED}/{request.node.name}")


def acked(publishers):
    return sum(len(publisher.record.acked) for publisher in publishers)


def await_progress(publishers, logs):
    """Someone gets acks again."""
    before = acked(publishers)
    try:
        wait_until(lambda: acked(publishers) > before + 20, "publishing goes on", PROGRESS_WITHIN_SECONDS)
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{logs()}") from None


def judge(stored, publishers, where):
    wrong = check(stored, publishers)
    assert not wrong, f"{len(wrong)} things are wrong {where} (CRASH_SEED={SEED}):\n" + "\n".join(wrong[:SHOWN])


def start_publishers(ports, subject="ledger"):
    publishers = [Publisher(number, [("127.0.0.1", port) for port in ports], subject, window) for number, window in enumerate((1, 1, 16, 32))]
    for publisher in publishers:
        publisher.start()
    return publishers


def start_worker(ports):
    """A consumer's client, so that acks and deliveries are on their way when a broker dies."""
    body = {"stream_name": "LEDGER", "config": {"durable_name": "worker", "name": "worker", "ack_policy": "explicit", "ack_wait": 3 * 10**9}}
    with JetStream(ports[0]) as js:
        wait_until(lambda: "config" in asked(js, "CONSUMER.CREATE.LEDGER.worker", body, within=10), "the consumer is created", 30, every=0.5)
    worker = Worker([("127.0.0.1", port) for port in ports], "LEDGER", "worker")
    worker.start()
    return worker


def judge_worker(worker, port):
    """The consumer is where its client saw it."""
    with JetStream(port) as js:
        info = wait_until(lambda: asked(js, "CONSUMER.INFO.LEDGER.worker"), "the consumer answers", PROGRESS_WITHIN_SECONDS)
    wrong = worker.check(info)
    print(f"{len(worker.confirmed)} acks of a consumer confirmed, {len(worker.delivered)} messages delivered")
    assert worker.confirmed, "nothing was consumed"
    assert not wrong, f"of the consumer (CRASH_SEED={SEED}):\n" + "\n".join(wrong[:SHOWN])


def report(publishers, began):
    unknown = sum(publisher.record.sent - len(publisher.record.acked) for publisher in publishers)
    duplicates = sum(len(publisher.record.duplicates) for publisher in publishers)
    print(f"{acked(publishers)} acked, {unknown} of unknown outcome, {duplicates} acked as duplicates, in {time.monotonic() - began:.0f} s")


@pytest.mark.timeout(600 + 10 * KILLS)
def test_three_replicas_lose_nothing_acked(tmp_path, chance):
    cluster = Cluster(binaries.weir(), tmp_path)
    publishers, worker = [], None
    began = time.monotonic()
    try:
        cluster.start()
        create_stream(cluster.brokers[0].port, 3)
        ports = [broker.port for broker in cluster.brokers]
        publishers, worker = start_publishers(ports), start_worker(ports)
        await_progress(publishers, cluster.logs)
        kills = 0
        while kills < KILLS:
            # Mostly one broker at a time; sometimes two, so that there is no majority; sometimes all.
            victims = chance.sample(cluster.brokers, chance.choices((1, 2, 3), (8, 2, 1))[0])
            for victim in victims:
                victim.kill()
            kills += len(victims)
            time.sleep(chance.uniform(0, 0.8))
            chance.shuffle(victims)
            for victim in victims:
                victim.start(wait=False)
            for victim in victims:
                victim.wait_ready()
            if chance.random() < 0.7:
                await_progress(publishers, cluster.logs)
            time.sleep(chance.uniform(0, 0.5))
        await_progress(publishers, cluster.logs)
        for client in (*publishers, worker):
            client.stop()
        report(publishers, began)

        last_sequence, *_ = await_replicas(cluster.brokers[0].port, SETTLED_WITHIN_SECONDS)
        contents = {}
        for name in led_by_each(cluster, chance):
            contents[name] = read_all(cluster.brokers[0].port, "LEDGER", last_sequence)
            judge_worker(worker, cluster.brokers[0].port)
        assert set(contents) == {broker.name for broker in cluster.brokers}
        for name, stored in contents.items():
            judge(stored, publishers, f"on {name}")
        assert len({tuple(stored) for stored in contents.values()}) == 1, "the replicas differ"
    except AssertionError as failure:
        raise AssertionError(f"CRASH_SEED={SEED}: {failure}\n{cluster.logs()}") from None
    finally:
        for publisher in publishers:
            publisher.stopping.set()
        if worker:
            worker.stopping.set()
        cluster.stop()


def led_by_each(cluster, chance):
    """Makes each broker in turn the stream's leader, and yields its name while it is."""
    for target in cluster.brokers:
        for round_number in range(40):
            state = stream_state(cluster.brokers[0].port)
            if state is None or not state[2] or not state[3]:
                time.sleep(0.2)
                continue
            if state[2] == target.name:
                break
            with JetStream(cluster.brokers[0].port) as js:
                answer = asked(js, "STREAM.LEADER.STEPDOWN.LEDGER", {"placement": {"preferred": target.name}})
                if "error" in answer and round_number % 10 == 9:
                    print(f"step down to {target.name}: {answer}")
            time.sleep(0.3)
        else:
            raise AssertionError(f"{target.name} cannot be made the stream's leader: {stream_state(cluster.brokers[0].port)}")
        yield target.name


@pytest.mark.timeout(300 + 10 * SINGLE_KILLS)
@pytest.mark.parametrize("storage", ["file"])
def test_a_single_replica_loses_nothing_acked(tmp_path, chance, storage):
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM, "single")
    publishers, worker = [], None
    began = time.monotonic()
    try:
        broker.start()
        create_stream(broker.port, 1, storage)
        publishers, worker = start_publishers([broker.port]), start_worker([broker.port])
        for _ in range(SINGLE_KILLS):
            await_progress(publishers, broker.log_tail)
            time.sleep(chance.uniform(0.1, 1.0))
            broker.kill()
            broker.start()
        await_progress(publishers, broker.log_tail)
        for client in (*publishers, worker):
            client.stop()
        report(publishers, began)
        last_sequence, *_ = wait_until(lambda: stream_state(broker.port), "the stream answers")
        judge_worker(worker, broker.port)
        judge(read_all(broker.port, "LEDGER", last_sequence), publishers, "after the kills")
        # And once more from the disk alone.
        broker.kill()
        broker.start()
        judge(read_all(broker.port, "LEDGER", last_sequence), publishers, "after a restart")
        judge_worker(worker, broker.port)
    except AssertionError as failure:
        raise AssertionError(f"CRASH_SEED={SEED}: {failure}\n{broker.log_tail()}") from None
    finally:
        for publisher in publishers:
            publisher.stopping.set()
        if worker:
            worker.stopping.set()
        broker.stop()


@pytest.mark.timeout(300 + 10 * SINGLE_KILLS)
def test_a_stream_that_is_not_synced_loses_no_more_than_its_end(tmp_path, chance):
    """persist_mode async: a kill may take what was acked last, but nothing before it, and neither order nor content."""
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM, "unsynced")
    publishers = []
    began = time.monotonic()
    try:
        broker.start()
        create_stream(broker.port, 1, persist_mode="async")
        publishers = start_publishers([broker.port])
        for _ in range(SINGLE_KILLS):
            await_progress(publishers, broker.log_tail)
            time.sleep(chance.uniform(0.1, 1.0))
            broker.kill()
            broker.start()
        await_progress(publishers, broker.log_tail)
        for publisher in publishers:
            publisher.stop()
        report(publishers, began)
        last_sequence, *_ = wait_until(lambda: stream_state(broker.port), "the stream answers")
        stored = read_all(broker.port, "LEDGER", last_sequence)
        lost, wrong = check_unsynced(stored, publishers)
        print(f"{lost} lost at the ends of {SINGLE_KILLS} lives")
        assert not wrong, f"{len(wrong)} things are wrong (CRASH_SEED={SEED}):\n" + "\n".join(wrong[:SHOWN])
        broker.kill()
        broker.start()
        last_sequence, *_ = wait_until(lambda: stream_state(broker.port), "the stream answers")
        again = read_all(broker.port, "LEDGER", last_sequence)
        assert again == stored[:len(again)], "what a restart left is no beginning of what was there"
    except AssertionError as failure:
        raise AssertionError(f"CRASH_SEED={SEED}: {failure}\n{broker.log_tail()}") from None
    finally:
        for publisher in publishers:
            publisher.stopping.set()
        broker.stop()


@pytest.mark.timeout(300)
def test_consumers_survive_kills(tmp_path, chance):
    """A durable consumer delivers everything at least once, and never again what it has confirmed to be acked."""
    cluster = Cluster(binaries.weir(), tmp_path)
    messages = 300
    try:
        cluster.start()
        create_stream(cluster.brokers[0].port, 3)
        with JetStream(cluster.brokers[0].port) as js:
            for number in range(1, messages + 1):
                assert js.publish("ledger.0", str(number)).get("seq") == number
            created = js.raw("CONSUMER.CREATE.LEDGER.worker", {"stream_name": "LEDGER", "config": {
                "durable_name": "worker", "name": "worker", "ack_policy": "explicit", "ack_wait": 3 * 10**9}}, within=10)
            assert "error" not in created, created
        confirmed: set[int] = set()
        delivered: set[int] = set()
        next_kill = 40
        deadline = time.monotonic() + 150
        while len(confirmed) < messages:
            assert time.monotonic() < deadline, f"only {len(confirmed)} of {messages} confirmed, {len(delivered)} delivered"
            try:
                with JetStream(chance.choice(cluster.running()).port) as js:
                    for message in js.pull("LEDGER", "worker", {"batch": 10, "expires": 10**9}, 10, within=3):
                        if message.status:
                            continue
                        number = int(message.payload)
                        assert number not in confirmed, f"{number} came again after its ack was confirmed"
                        delivered.add(number)
                        if not js.wire.request(message.reply, "+ACK", within=2).status:
                            confirmed.add(number)
            except OSError:
                continue
            except AssertionError as failure:
                if "came again" in str(failure):
                    raise
            if len(confirmed) >= next_kill:
                next_kill += 60
                victim = chance.choice(cluster.brokers)
                victim.kill()
                time.sleep(chance.uniform(0, 0.5))
                victim.start()
        with JetStream(cluster.brokers[0].port) as js:
            state = wait_until(lambda: asked(js, "CONSUMER.INFO.LEDGER.worker") or None, "the consumer is led", PROGRESS_WITHIN_SECONDS)
        assert state["num_pending"] == 0
        assert state["ack_floor"]["stream_seq"] == messages
    except AssertionError as failure:
        raise AssertionError(f"CRASH_SEED={SEED}: {failure}\n{cluster.logs()}") from None
    finally:
        cluster.stop()
