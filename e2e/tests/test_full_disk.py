"""A real file system that runs full under a broker: it refuses messages and says so, serves what it has, goes on by
itself once there is room, and loses nothing it acknowledged.
"""

import base64
import hashlib
import subprocess

import pytest

import binaries
from broker import Broker, wait_until
from cluster import Cluster
from jetstream import JetStream
from numbered import await_replicas, create_stream
from wire import Wire

# Journal files of 64 MiB, one of them spare, and a part for the streams.
DISK_MEGABYTES = 200
PAYLOAD_BYTES = 200_000
MESSAGES_MAX = 2_000
CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 4GB }
accounts {
  APP { jetstream: enabled, users: [{ user: app, password: app }] }
  SYS { users: [{ user: sys, password: sys }] }
}
system_account: SYS
no_auth_user: app
"""


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", folder],
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def broker(disk, tmp_path):
    broker = Broker(binaries.weir(), tmp_path, CONFIG, "full")
    broker.store = disk / "store"
    broker.write_config(CONFIG)
    try:
        yield broker.start()
    finally:
        broker.stop()


def payload(number):
    text = f"message {number} "
    return text + hashlib.sha256(text.encode()).hexdigest() * ((PAYLOAD_BYTES - len(text)) // 64)


def fill(js, stream, first=1):
    """Publishes until it is refused; returns the last sequence acknowledged, and the refusal."""
    for number in range(first, MESSAGES_MAX):
        answer = js.publish(f"{stream.lower()}.x", payload(number))
        if "error" in answer:
            return number - 1, answer["error"]
        assert answer["seq"] == number, answer
    raise AssertionError("the disk did not run full")


def fill_with_ballast(disk):
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass


def create(js, name):
    answer = js.raw("STREAM.CREATE." + name, {"name": name, "subjects": [f"{name.lower()}.>"], "storage": "file"})
    assert "error" not in answer, answer


def check(js, stream, last, within=10.0):
    """Everything acknowledged is there, with the right content."""
    assert js.raw(f"STREAM.INFO.{stream}", within=within)["state"]["last_seq"] >= last
    for number in {1, (last + 2) // 3, (last + 1) // 2, max(last - 1, 1), last}:
        found = js.raw(f"STREAM.MSG.GET.{stream}", {"seq": number}, within=within)
        text = base64.b64decode(found["message"]["data"]).decode()
        assert text == payload(number), f"message {number} of {stream}"


def takes_messages(port, stream, number):
    def attempt():
        with JetStream(port) as js:
            answer = js.publish(f"{stream.lower()}.x", payload(number))
            return answer.get("seq") == number
    return attempt


@pytest.mark.timeout(180)
def test_a_full_disk_refuses_messages_serves_the_rest_and_goes_on_after_a_stream_is_deleted(broker):
    told = Wire(broker.port, {"user": "sys", "pass": "sys", "headers": True})
    told.subscribe("$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE")
    told.sync()
    with JetStream(broker.port) as js:
        create(js, "KEPT")
        create(js, "BULK")
        for number in range(1, 11):
            assert js.publish("kept.x", payload(number))["seq"] == number
        last, refusal = fill(js, "BULK")
        assert (refusal["code"], refusal["err_code"], refusal["description"]) == (503, 10023, "insufficient resources")
        advisory = told.read_message(10).json()
        assert advisory["type"] == "io.nats.jetstream.advisory.v1.server_out_of_space", advisory
        assert advisory["server"] == "full", advisory
        # Other streams share the disk.
        assert js.publish("kept.x", payload(11))["error"]["err_code"] == 10023
        assert js.raw("STREAM.CREATE.NEW", {"name": "NEW", "subjects": ["new"]})["error"]["err_code"] == 10023
        check(js, "BULK", last)
        check(js, "KEPT", 10)
    status, body = broker.get("/healthz")
    assert status == 503 and "No space left on device" in body and str(broker.store) in body, body
    assert broker.get("/healthz?js-enabled-only=true")[0] == 200
    assert "JetStream out of file resources" in broker.log() and "No space left on device" in broker.log()
    # What was acknowledged survives, and a full disk keeps no server from its start.
    broker.kill()
    broker.start()
    with JetStream(broker.port) as js:
        check(js, "BULK", last)
        check(js, "KEPT", 10)
        assert js.raw("STREAM.DELETE.BULK", within=20)["success"]
    wait_until(takes_messages(broker.port, "KEPT", 11), "messages are taken again", every=0.2)
    wait_until(lambda: broker.get("/healthz")[0] == 200, "the server is healthy again", every=0.1)
    assert broker.stop() == 0
    broker.start()
    with JetStream(broker.port) as js:
        check(js, "KEPT", 11)


@pytest.mark.timeout(180)
def test_a_disk_filled_by_others_stops_messages_until_they_leave(broker, disk):
    with JetStream(broker.port) as js:
        create(js, "KEPT")
        assert js.publish("kept.x", payload(1))["seq"] == 1
        fill_with_ballast(disk)
        last, refusal = fill(js, "KEPT", 2)
        assert refusal["err_code"] == 10023, refusal
        check(js, "KEPT", last)
        pid = broker.process.pid
        (disk / "ballast").unlink()
        wait_until(takes_messages(broker.port, "KEPT", last + 1), "messages are taken again", every=0.2)
        last += 1
        for number in range(last + 1, last + 11):
            assert js.publish("kept.x", payload(number))["seq"] == number
        last += 10
        assert broker.process.pid == pid and broker.running
    broker.kill()
    broker.start()
    with JetStream(broker.port) as js:
        check(js, "KEPT", last)


@pytest.mark.timeout(240)
def test_a_full_disk_under_one_of_three_moves_the_leadership_and_costs_nothing(disk, tmp_path):
    cluster = Cluster(binaries.weir(), tmp_path)
    small, other = cluster.brokers[0], cluster.brokers[1]
    config = small.config_path.read_text().replace(str(small.store), str(disk / "store"))
    small.config_path.write_text(config)
    small.store = disk / "store"
    try:
        cluster.start()
        create_stream(other.port, 3)
        cluster.lead("LEDGER", small.name)
        fill_with_ballast(disk)
        acked = 0
        # More than the journal's files that are there already.
        while acked < 400:
            acked = publish_through(other.port, payload(acked + 1)).get("seq", acked)
        leader = cluster.leader("LEDGER").name
        assert leader != small.name, "the server without room leads"
        status, body = small.get("/healthz")
        assert status == 503 and "No space left on device" in body, body
        # What it missed comes as a snapshot, which is kept twice for a while.
        subprocess.run(["mount", "-o", "remount,size=600m", disk], check=True)
        (disk / "ballast").unlink()
        await_replicas(other.port)
        wait_until(lambda: small.get("/healthz")[0] == 200, "the small server is healthy", every=0.3)
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{cluster.logs()}") from None
    finally:
        cluster.stop()


def publish_through(port, body):
    """The answer; nothing where none came, as while the leadership moves."""
    try:
        with JetStream(port) as js:
            return js.publish("ledger.x", body)
    except (AssertionError, OSError):
        return {}
