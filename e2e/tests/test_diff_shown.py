"""What is shown of settings that do little by themselves: feature flags, operators' claims, the heartbeat of accounts, and
accounts whose matching is not cached. The same with Weir and the real nats-server.
"""

import re
import signal
import subprocess
import time

import pytest

import nsc
from broker import STANDALONE, wait_until
from compare import same, together
from talk import talk
from test_diff_accounts import CONFIG as SHARED_ACCOUNTS
from test_diff_jwt import OPERATOR, SIGNER, STRANGER, SYS, accounts, config
from wire import Wire

STAMP = re.compile(r"^\[\d+\] \S+ \S+ ")

FLAGS = {
    "unknown": "{ nothing: true }",
    "opted in": "{ js_ack_fc_v2: true, js_api_reply_v2: true, js_snapshot_sources: true }",
    "opted out": "{ js_raft_delete_range: false }",
    "as they are": "{ js_raft_delete_range: true, js_ack_fc_v2: false }",
    "several, with an unknown one": "{ zeta: false, js_ack_fc_v2: true, alpha: true, js_raft_delete_range: false }",
    "none": "{}",
}


def about_flags(text: str) -> list[str]:
    lines = [STAMP.sub("", line) for line in text.splitlines()]
    begin = next((number for number, line in enumerate(lines) if "Feature flags:" in line), None)
    return [] if begin is None else [line for line in lines[begin:begin + 3] if line.startswith(("[INF]   Feature", "[INF]     "))]


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
def test_feature_flags_are_listed_at_the_start_and_in_varz(start_both, flags):
    def ask(broker):
        return about_flags(broker.log()), broker.get_json("/varz").get("feature_flags")

    same(start_both(STANDALONE.replace("NAME", "one") + f"feature_flags {flags}\n"), ask)


@pytest.mark.parametrize("flags", ["{ js_ack_fc_v2: 3 }", "3", '{ js_ack_fc_v2: "true" }', "[true]", FLAGS["several, with an unknown one"]])
def test_a_check_of_feature_flags_ends_alike(programs, tmp_path, flags):
    path = tmp_path / "flags.conf"
    path.write_text(f"port: -1\nfeature_flags: {flags}\n")

    def ask(program):
        done = subprocess.run([program, "-t", "-c", str(path)], capture_output=True, text=True, timeout=15)
        return done.returncode, re.sub(r"sha256:\w+", "<digest>", done.stderr.replace(program, "<program>")).strip()

    same(programs, ask)


OPERATORS = {
    "plain": nsc.operator(OPERATOR, system_account=SYS.public),
    "with much": nsc.operator(
        OPERATOR, signing_keys=[SIGNER.public, STRANGER.public], system_account=SYS.public, tags=["one", "two:x"],
        account_server_url="https://example.com/jwt/v1", operator_service_urls=["nats://example.com:4222", "tls://example.com"],
        assert_server_version="2.1.0", exp=4_000_000_000),
    "strict": nsc.operator(OPERATOR, signing_keys=[SIGNER.public], system_account=SYS.public, strict_signing_key_usage=True),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_varz_shows_operators_and_what_they_claim(start_both, operator):
    known = accounts()
    if operator == OPERATORS["strict"]:
        known = {SYS.public: nsc.account(SIGNER, SYS)}

    def ask(broker):
        varz = broker.get_json("/varz")
        return [varz.get(key) for key in ("trusted_operators_jwt", "trusted_operators_claim", "system_account")]

    same(start_both(config(known, operator=operator).replace("NAME", "one")), ask)


HEARTBEAT = STANDALONE.replace("NAME", "one") + """
accounts {
  $SYS { users: [{user: sys, password: p}] }
  A { users: [{user: a, password: p}] }
  B { users: [{user: b, password: p}] }
}
"""
APART_SECONDS = 4
BEAT_SECONDS = 30


def test_each_account_that_has_connections_is_told_of_by_a_timer_of_its_own(start_both):
    """Half a minute after it was told last, not all accounts together; and no more once its last client has gone."""
    brokers = start_both(HEARTBEAT)

    def listen(broker):
        with Wire(broker.port, {"user": "sys", "pass": "p"}) as watcher:
            watcher.subscribe("$SYS.ACCOUNT.*.SERVER.CONNS")
            watcher.sync()
            began = time.monotonic()
            first = Wire(broker.port, {"user": "a", "pass": "p"})
            first.sync()
            time.sleep(APART_SECONDS)
            second = Wire(broker.port, {"user": "b", "pass": "p"})
            second.sync()
            seen = []
            while (left := began + BEAT_SECONDS + 2 * APART_SECONDS - time.monotonic()) > 0:
                try:
                    message = watcher.read_message(left)
                except AssertionError:
                    break
                # The watcher's own account is told of too.
                if "$SYS.SERVER" not in message.subject:
                    seen.append((message.subject, message.json()["conns"], time.monotonic() - began > BEAT_SECONDS / 2))
            first.close()
            second.close()
            ended = [watcher.read_message() for _ in range(2)]
            return seen, sorted((message.subject, message.json()["conns"]) for message in ended)

    heard = together(brokers, listen)
    beats = [subject for subject, _, is_beat in heard[0] if is_beat]
    assert beats == ["$SYS.ACCOUNT.A.SERVER.CONNS", "$SYS.ACCOUNT.B.SERVER.CONNS"]


CONVERSATIONS = {
    "a service": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\na wait 1\na answer hi\nb wait 1",
    "a service under another name": "a = a\na sub one\nb = b\nb ask uno hello\na wait 1\na answer hi\nb wait 1",
    "a service of a service": "b = b\nb sub chain\nc = c\nc ask link hello\nb wait 1\nb answer hi\nc wait 1",
    "a request that is repeated": "a = a\na sub svc.*\nb = b\nb ask svc.x one\na wait 1\nb ask svc.x two\na wait 1\na answer hi\nb wait 1",
    "who answers comes later": "b = b\nb ask svc.x early\nb ?\na = a\na sub svc.*\nb ask svc.x late\na wait 1\na answer hi\nb wait 1",
    "who answers goes": "a = a\na sub svc.*\nb = b\nb ask svc.x one\na wait 1\na unsub\nb ask svc.x two\nb ?",
    "a stream": "b = b\nb sub orders.>\na = a\na pub orders.new hello\nb wait 1\na pub orders.new again\nb wait 1",
    "a stream under another name": "b = b\nb sub swapped.*.*\na = a\na pub two.x.y hello\nb wait 1",
    "a subscriber that comes and goes": "b = b\nb sub orders.>\na = a\na pub orders.a 1\nb wait 1\nb unsub\na pub orders.a 2\na ?\nb ?\n"
                                        "b sub orders.>\na pub orders.a 3\nb wait 1",
    "queue groups": "b = b\nb sub orders.> q\na = a\na pub orders.a 1\nb wait 1\na pub orders.a 2\nb wait 1",
    "mapped": "a = a\na sub svc.mapped.v2\na pub svc.mapped hello\na ?",
}


@pytest.fixture(scope="module")
def uncached(start_pair):
    return start_pair(SHARED_ACCOUNTS + "disable_sublist_cache: true\n")


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_accounts_exchange_the_same_where_matching_is_not_cached(uncached, script):
    uncached.same(lambda broker: talk(broker.port, script))


# The statistics are broadcast less and less often: up to 8 s after the start, and then not before 15 s.
QUIET_FROM_SECONDS = 8.5
# At most one broadcast a second.
TOLD_WITHIN_SECONDS, QUIET_SECONDS = 3, 1.2
WATCHED = STANDALONE.replace("NAME", "one") + """
accounts { $SYS { users: [{user: sys, password: p}] } }
jetstream { store_dir: "STORE", max_memory_store: 1MB, max_file_store: %s }
"""
CHANGES = {
    "tags": "server_tags: [x]\n",
    "metadata": "server_tags: [x]\nserver_metadata { k: v }\n",
    "something else": "server_tags: [x]\nserver_metadata { k: v }\nmax_payload: 5000\n",
    "storage": "server_tags: [x]\nserver_metadata { k: v }\nmax_payload: 5000\n",
}


def test_statistics_are_told_at_once_when_a_reload_changed_what_they_show(start_both):
    brokers = start_both(WATCHED % "1MB")

    def listen(broker):
        with Wire(broker.port, {"user": "sys", "pass": "p"}) as watcher:
            watcher.subscribe("$SYS.SERVER.*.STATSZ")
            time.sleep(QUIET_FROM_SECONDS)
            watcher.sync()
            seen = {}
            for number, (name, text) in enumerate(CHANGES.items(), 1):
                broker.write_config(WATCHED % ("4MB" if name == "storage" else "1MB") + text)
                broker.signal(signal.SIGHUP)
                wait_until(lambda: broker.log().count("Reloaded server configuration") == number, f"{name} is reloaded")
                try:
                    told = watcher.read_message(QUIET_SECONDS if name == "something else" else TOLD_WITHIN_SECONDS).json()
                    storage = told["statsz"]["jetstream"]["config"]["max_storage"]
                    seen[name] = told["server"].get("tags"), told["server"].get("metadata"), storage
                except AssertionError:
                    seen[name] = None
            return seen

    heard = together(brokers, listen)
    assert [told is not None for told in heard.values()] == [True, True, False, True]
