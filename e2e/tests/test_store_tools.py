"""`weir store check` and `weir store repair` on the store of a real server that was stopped or killed."""

import base64
import json
import random
import shutil
import subprocess

import pytest

import binaries
from broker import WITH_JETSTREAM, Broker, wait_until
from jetstream import JetStream
from numbered import MESSAGES, create_stream, flip, journal, payload, publish, segment

SOUND, DAMAGED, NOT_CHECKED = 0, 1, 2
BLOCK = 4096
SEED = 1
CASES = 10


def store(*words):
    return subprocess.run([binaries.weir(), "store", *map(str, words)], capture_output=True, text=True, timeout=120)


def check(broker):
    done = store("check", broker.store, "--json")
    assert done.returncode in (SOUND, DAMAGED), done.stderr
    return done.returncode, json.loads(done.stdout)


def lost(report):
    return [pair for stream in report["streams"] for pair in stream["lost"]]


def serves(broker, without=()):
    """Every message but those is served, with what was stored."""
    with JetStream(broker.port) as js:
        for number in range(1, MESSAGES + 1):
            answer = js.raw("STREAM.MSG.GET.LEDGER", {"seq": number})
            assert ("error" in answer) == (number in without), (number, answer)


@pytest.fixture
def broker(single):
    return single


@pytest.mark.timeout(120)
def test_a_sound_store_is_sound_and_one_in_use_is_refused(broker):
    busy = store("check", broker.store)
    assert busy.returncode == NOT_CHECKED and "stop it first" in busy.stderr, busy
    broker.stop()
    code, report = check(broker)
    assert code == SOUND, report
    (stream,) = report["streams"]
    assert (stream["account"], stream["name"]) == ("$G", "LEDGER")
    assert (stream["messages"], stream["first_seq"], stream["last_seq"], stream["lost"]) == (MESSAGES, 1, MESSAGES, [])
    broker.start()
    broker.kill()
    code, report = check(broker)
    assert code == SOUND, report


@pytest.mark.timeout(120)
def test_a_damaged_segment_is_named_and_repaired(broker):
    broker.stop()
    flip(segment(broker), b"message 7 ")
    code, report = check(broker)
    assert code == DAMAGED and lost(report) == [[7, 7]], report
    text = store("check", broker.store).stdout
    assert "messages 7" in text and ".segment at byte" in text, text
    before = {path: path.read_bytes() for path in broker.store.rglob("*") if path.is_file()}
    tried = store("repair", broker.store, "--dry-run")
    assert tried.returncode == SOUND and "lost for good: messages 7" in tried.stdout, tried
    assert before == {path: path.read_bytes() for path in broker.store.rglob("*") if path.is_file()}
    done = store("repair", broker.store, "--yes")
    assert done.returncode == SOUND and "lost for good: messages 7" in done.stdout, done
    assert any("quarantine" in str(path) for path in broker.store.rglob("*.segment"))
    assert check(broker)[0] == SOUND
    broker.start()
    assert "lost in a repair: messages 7" in broker.log_tail()
    serves(broker, without=[7])
    publish(broker.port, MESSAGES + 1)


@pytest.mark.timeout(120)
def test_messages_of_a_damaged_log_are_named_and_those_behind_them_saved(broker):
    broker.kill()
    flip(journal(broker, b"message 40 "), b"message 40 ")
    code, report = check(broker)
    assert code == DAMAGED and lost(report) == [[40, 40]], report
    broker.start()
    wait_until(lambda: "which held message 40" in broker.log_tail(), "the server names the message")
    broker.stop()
    done = store("repair", broker.store, "--yes")
    assert done.returncode == SOUND and "lost for good: messages 40" in done.stdout, done
    assert check(broker)[0] == SOUND
    broker.start()
    serves(broker, without=[40])
    publish(broker.port, MESSAGES + 1)
    broker.kill()
    broker.start()
    serves(broker, without=[40])


@pytest.mark.timeout(120)
def test_what_is_not_for_this_program_is_left_as_it_was(broker, tmp_path):
    broker.stop()
    (broker.store / "jetstream" / "notes.txt").write_text("mine")
    assert "notes.txt" in store("check", broker.store).stdout
    newer = segment(broker)
    foreign = tmp_path / "other"
    (foreign / "jetstream" / "$G" / "streams").mkdir(parents=True)
    refused = store("check", foreign)
    assert refused.returncode == NOT_CHECKED and "nats-server" in refused.stderr, refused
    assert store("check", tmp_path / "nothing").returncode == NOT_CHECKED
    assert store("repair", broker.store).returncode == NOT_CHECKED
    assert newer.exists()


def damage(chance, path):
    content = bytearray(path.read_bytes())
    kind = chance.choice(("bit", "cut", "swap"))
    at = chance.randrange(len(content))
    if kind == "bit":
        content[at] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[at:]
    else:
        used = max(2, min(len(content) // BLOCK, 16))
        one, other = (block * BLOCK for block in chance.sample(range(used), 2))
        content[one:one + BLOCK], content[other:other + BLOCK] = content[other:other + BLOCK], content[one:one + BLOCK]
    path.write_bytes(content)
    return kind


@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_damage_to_any_file_is_never_served_and_a_repair_ends_it(broker, tmp_path, end):
    chance = random.Random(f"{SEED}/{end}")
    broker.stop() if end == "stop" else broker.kill()
    kept = tmp_path / "kept"
    shutil.copytree(broker.store, kept)
    kinds = {}
    for path in sorted(kept.rglob("*")):
        if path.is_file() and path.stat().st_size:
            kinds.setdefault(path.name.split(".")[-1].removesuffix("-copy"), []).append(path)
    for number in range(CASES):
        kind = sorted(kinds)[number % len(kinds)]
        path = broker.store / chance.choice(kinds[kind]).relative_to(kept)
        shutil.rmtree(broker.store)
        shutil.copytree(kept, broker.store)
        how = damage(chance, path)
        where = f"{how} in {path.name}"
        before = store("check", broker.store)
        assert before.returncode in (SOUND, DAMAGED), (where, before)
        done = store("repair", broker.store, "--yes")
        assert done.returncode == SOUND, (where, done)
        after = store("check", broker.store)
        assert after.returncode == SOUND, (where, done.stdout, after)
        gone = lost(json.loads(store("check", broker.store, "--json").stdout))
        assert not gone, (where, gone)
        broker.start()
        with JetStream(broker.port) as js:
            for seq in range(1, MESSAGES + 1):
                answer = js.raw("STREAM.MSG.GET.LEDGER", {"seq": seq})
                if "error" in answer:
                    assert "lost" in done.stdout, (where, seq, answer, done.stdout)
                else:
                    assert base64.b64decode(answer["message"]["data"]).decode() == payload(seq), (where, seq, answer)
        broker.stop()


@pytest.mark.timeout(120)
def test_an_encrypted_store_needs_its_key_and_is_repaired_with_it(tmp_path):
    key = "k" * 32
    broker = Broker(binaries.weir(), tmp_path, WITH_JETSTREAM.replace("{ store_dir", f'{{ key: "{key}", store_dir'), "sealed")
    try:
        broker.start()
        create_stream(broker.port, 1)
        publish(broker.port)
        broker.stop()
        refused = store("check", broker.store)
        assert refused.returncode == NOT_CHECKED and "encrypted" in refused.stderr, refused
        config = broker.config_path
        sound = store("check", "-c", config)
        assert sound.returncode == SOUND and f"{MESSAGES} messages" in sound.stdout, sound
        path = segment(broker)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        damaged = store("check", "-c", config, "--json")
        gone = lost(json.loads(damaged.stdout))
        assert damaged.returncode == DAMAGED and gone, damaged
        assert store("repair", "-c", config, "--yes").returncode == SOUND
        assert store("check", "-c", config).returncode == SOUND
        broker.start()
        serves(broker, without=[seq for first, last in gone for seq in range(first, last + 1)])
    finally:
        broker.stop()
