"""A store that is encrypted: nothing of what was given to the server lies on its disk in the clear, and only the key
opens it.
"""

import hashlib
import subprocess

import pytest

import binaries
import numbered
from broker import STANDALONE, WITH_JETSTREAM, Broker, wait_until
from cluster import Cluster
from jetstream import JetStream
from numbered import await_replicas, create_stream

KEY, OTHER_KEY = "correct-horse-battery-staple", "a-second-key-for-the-store"
# Parts of a payload, a header, a subject, and the names of a stream, a consumer and a bucket's key.
SECRETS = [b"quetzalcoatl", b"popocatepetl", b"tlaxcala", b"XOCHIMILCO", b"chapultepec", b"iztaccihuatl"]
MESSAGES = 400


def config(key=KEY, more=""):
    return STANDALONE + f'jetstream {{ store_dir: "STORE", max_memory_store: 256MB, max_file_store: 4GB, key: "{key}", {more} }}\n'


@pytest.fixture
def start(tmp_path):
    started = []

    def run(text, wait=True):
        """The same server with another configuration."""
        if not started:
            started.append(Broker(binaries.weir(), tmp_path, text, "sealed"))
        broker = started[0]
        broker.stop()
        broker.write_config(text)
        return broker.start(wait=wait)

    yield run
    for broker in started:
        broker.stop()


def payload(number):
    return f"quetzalcoatl {number} ".ljust(300, "+")


def publish(broker, first, last):
    with JetStream(broker.port) as js:
        for number in range(first, last + 1):
            headers = [("Place", "popocatepetl")]
            assert js.publish(f"tlaxcala.{number % 7}", payload(number), headers).get("seq") == number


def fill(broker, **stream):
    with JetStream(broker.port) as js:
        body = {"name": "XOCHIMILCO", "subjects": ["tlaxcala.>"], "metadata": {"note": "iztaccihuatl"}} | stream
        assert "error" not in js.raw("STREAM.CREATE.XOCHIMILCO", body)
        consumer = {"durable_name": "chapultepec", "ack_policy": "explicit"}
        asked = {"stream_name": "XOCHIMILCO", "config": consumer}
        assert "error" not in js.raw("CONSUMER.DURABLE.CREATE.XOCHIMILCO.chapultepec", asked)
    publish(broker, 1, MESSAGES)
    with JetStream(broker.port) as js:
        for message in js.pull("XOCHIMILCO", "chapultepec", {"batch": 20}, messages=20):
            js.ack(message)
        for number in range(1, MESSAGES // 2, 3):
            js.raw("STREAM.MSG.DELETE.XOCHIMILCO", {"seq": number})


def all_there(broker):
    with JetStream(broker.port) as js:
        for number in (2, 3, MESSAGES // 2, MESSAGES):
            assert "error" not in js.raw("STREAM.MSG.GET.XOCHIMILCO", {"seq": number}), number
        state = js.raw("STREAM.INFO.XOCHIMILCO")["state"]
        consumer = js.raw("CONSUMER.INFO.XOCHIMILCO.chapultepec")
        return state["messages"], state["bytes"], consumer["ack_floor"]["stream_seq"]


def contents(broker):
    """Every file of the store; those that a running server takes away meanwhile are passed over."""
    found = {}
    for path in broker.store.rglob("*"):
        try:
            if path.is_file():
                found[path] = path.read_bytes()
        except FileNotFoundError:
            pass
    return found


def in_the_clear(broker):
    return [(path, secret) for path, content in contents(broker).items() for secret in SECRETS if secret in content]


def fingerprint(broker):
    return {path: hashlib.sha256(content).hexdigest() for path, content in contents(broker).items()}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cipher", ["chachapoly", "aes"])
@pytest.mark.parametrize("compression", ["none", "s2"])
def test_nothing_lies_on_disk_in_the_clear(start, cipher, compression):
    text = config(more=f"cipher: {cipher}")
    broker = start(text)
    name = {"chachapoly": "ChaCha20-Poly1305", "aes": "AES-GCM"}[cipher]
    assert f"Encryption:      {name}" in broker.log()
    fill(broker, compression=compression)
    before = all_there(broker)
    assert not in_the_clear(broker), "while it runs"
    # With a clean end, checkpoints are made; after a kill, the journal is read.
    broker.stop()
    assert not in_the_clear(broker), "after a clean end"
    broker.start()
    assert all_there(broker) == before
    publish(broker, MESSAGES + 1, MESSAGES + 50)
    broker.kill()
    assert not in_the_clear(broker), "after a kill"
    broker.start()
    assert all_there(broker)[0] == before[0] + 50
    with JetStream(broker.port) as js:
        js.raw("STREAM.PURGE.XOCHIMILCO", {"keep": 10})
    broker.stop()
    broker.start()
    broker.stop()
    assert not in_the_clear(broker), "after a purge"
    assert any(b"WEIRSEGM" in content for content in contents(broker).values())


@pytest.mark.timeout(60)
def test_the_same_is_found_in_a_plain_store(start):
    broker = start(WITH_JETSTREAM)
    fill(broker)
    broker.stop()
    assert {secret for _, secret in in_the_clear(broker)} == set(SECRETS)


def refusal(broker):
    assert broker.wait_exit() != 0
    return broker.log_since_start()


@pytest.mark.timeout(60)
def test_a_store_opens_only_with_its_key_and_is_left_as_it_was(start):
    broker = start(config())
    fill(broker)
    before = all_there(broker)
    broker.stop()
    files = fingerprint(broker)
    wrong = {
        "no key is configured": WITH_JETSTREAM,
        "another key": config(OTHER_KEY),
        "neither the configured key nor the previous one": config(OTHER_KEY, 'prev_key: "third"'),
        "AES-GCM is configured": config(more="cipher: aes"),
    }
    for reason, text in wrong.items():
        log = refusal(start(text, wait=False))
        assert reason in log and str(broker.store) in log and "encryption: " in log, log
        assert fingerprint(broker) == files, reason
        assert KEY not in log and OTHER_KEY not in log
    assert all_there(start(config())) == before


@pytest.mark.timeout(60)
def test_a_plain_store_is_refused_with_a_key_and_left_as_it_was(start):
    broker = start(WITH_JETSTREAM)
    fill(broker)
    before = all_there(broker)
    broker.stop()
    files = fingerprint(broker)
    log = refusal(start(config(), wait=False))
    assert "was written without encryption" in log and str(broker.store) in log, log
    assert fingerprint(broker) == files
    assert all_there(start(WITH_JETSTREAM)) == before


@pytest.mark.timeout(60)
def test_a_new_key_takes_the_place_of_the_previous_one(start):
    broker = start(config())
    fill(broker)
    before = all_there(broker)
    assert all_there(start(config(OTHER_KEY, f'prev_key: "{KEY}"'))) == before
    assert "the store is under the new key now" in broker.log_since_start()
    # It may stay configured, and is not needed.
    assert all_there(start(config(OTHER_KEY, f'prev_key: "{KEY}"'))) == before
    assert "under the new key" not in broker.log_since_start()
    assert all_there(start(config(OTHER_KEY))) == before
    assert "another key" in refusal(start(config(), wait=False))


@pytest.mark.timeout(60)
def test_keys_are_shown_nowhere(start):
    broker = start("debug: true\ntrace: true\n" + config(more=f'prev_key: "{OTHER_KEY}"'))
    shown = [broker.get(path)[1] for path in ("/varz", "/jsz?config=true", "/healthz", "/")]
    for changed, name in ((config(OTHER_KEY), "JetStreamKey"), (config(more='prev_key: "third"'), "JetStreamOldKey")):
        broker.write_config("debug: true\ntrace: true\n" + changed)
        broker.signal(1)
        wait_until(lambda: f"config reload not supported for {name}" in broker.log(), "the reload is refused")
    shown.append(broker.log())
    assert not [key for key in (KEY, OTHER_KEY) for text in shown if key in text]


@pytest.mark.timeout(60)
def test_the_offline_check_takes_the_key_from_the_configuration(start):
    broker = start(config())
    fill(broker)
    broker.stop()
    files = fingerprint(broker)

    def check(*arguments):
        done = subprocess.run([broker.binary, "store", "check", *arguments, str(broker.store)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    code, text = check()
    assert code == 2 and "no key is configured" in text, text
    code, text = check("-c", str(broker.config_path))
    assert code == 0, text
    assert fingerprint(broker) == files


CLUSTER_MESSAGES = 300


@pytest.mark.timeout(180)
def test_three_encrypted_servers_hold_nothing_in_the_clear_and_renew_a_damaged_one(tmp_path):
    cluster = Cluster(binaries.weir(), tmp_path)
    for broker in cluster.brokers:
        text = broker.config_path.read_text().replace("jetstream {", f'jetstream {{ key: "{KEY}",', 1)
        broker.write_config(text)
    try:
        cluster.start()
        first, victim = cluster.brokers[:2]
        create_stream(first.port, 3)
        numbered.publish(first.port, count=CLUSTER_MESSAGES, text=payload)
        await_replicas(first.port)
        assert not [found for broker in cluster.brokers for found in in_the_clear(broker)]
        victim.stop()
        path = max(victim.store.rglob("*.segment"), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        victim.start()
        wait_until(lambda: "is made anew from the others" in victim.log(), "the replica leaves its group", 60)
        await_replicas(first.port)
        assert not [found for broker in cluster.brokers for found in in_the_clear(broker)]
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{cluster.logs()}") from None
    finally:
        cluster.stop()
