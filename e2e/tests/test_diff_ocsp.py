"""OCSP: the status our certificates are shown with, as nats-server shows it. Peers are in test_diff_ocsp_peer.py."""

import re
import shutil
import socket
import ssl
import subprocess

import pytest

import binaries
from broker import STANDALONE, Broker, wait_until
from compare import difference
from conftest import Pair, WebPair
from ocsp import GOOD, UNKNOWN, Responder, revoked
from route import route_count

STATUSES = {"good": GOOD, "revoked": revoked(), "unknown": UNKNOWN}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
STORED = 'store_dir: "STORE"\n'
FIRST = "handshake_first: true"
REFUSAL = re.compile(r"(bad OCSP status|found existing OCSP|no issuers|OCSP peer verification|OCSP storage)[^\"]*")


@pytest.fixture(scope="module")
def lasting(authority):
    """A responder that lasts as long as the module, with two certificates: one that must be stapled."""
    made = Responder(authority)
    names = {False: "may", True: "must"}
    yield made, {must: authority.issue(name, extensions=made.extensions(must)) for must, name in names.items()}
    made.stop()


@pytest.fixture
def pair(make_pair):
    """Makes pairs, which their tests start."""
    return lambda config, kind=Pair: make_pair(STANDALONE + "debug: true\n" + config, kind, start=False)


def block(certificate, authority, more=FIRST) -> str:
    return f'tls {{ {certificate.lines()}, ca_file: "{authority.certificate}", {more} }}\n'


def stapled(port: int, authority, *arguments: str) -> list[str]:
    """What the openssl program gets with the certificate."""
    said = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-status", "-CAfile",
                           str(authority.certificate), *arguments], input=b"", capture_output=True, timeout=10)
    text = said.stdout.decode(errors="replace")
    if "BEGIN CERTIFICATE" not in text:
        return ["refused"]
    lines = re.findall(r"OCSP response: no response sent|Cert Status: \w+|Serial Number: \w+|Verify return code: \d+", text)
    return sorted(set(lines))


def masked(text: str) -> str:
    text = TIME.sub("TIME", text)
    return re.sub(r"(checking|trying) again in [\dhms.]+", r"\1 again in A WHILE", text)


def log_of(broker, *wanted: str) -> list[str]:
    lines = []
    for line in broker.log_since_start().splitlines():
        if any(text in line for text in wanted):
            lines.append(masked(re.sub(r"^\[\d+\] \S+ \S+ ", "", line)))
    return lines


def refusal(broker) -> str:
    found = REFUSAL.search(broker.log_since_start())
    return masked(found.group(0)).strip() if found else broker.log_since_start()


def start(broker) -> list:
    """Starts it: how it ends, or what it says of OCSP."""
    broker.start(wait=False)
    wait_until(lambda: not broker.running or "Server is ready" in broker.log_since_start(), "it runs or has ended")
    if not broker.running:
        return [broker.wait_exit(), refusal(broker)]
    broker.wait_ready()
    return ["runs"]


def alike(both, conversation):
    """As `Pair.same`, for servers that may end."""
    expected, actual = (conversation(broker) for broker in both.servers)
    assert actual == expected, f"\n{difference(expected, actual)}\n{both.weir.log_tail()}"


def outcome(broker, authority, *arguments: str) -> list:
    seen = start(broker)
    if seen == ["runs"]:
        seen += stapled(broker.port, authority, *arguments)
    return seen


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("must", [False, True], ids=["plain", "must-staple"])
@pytest.mark.parametrize("mode", ["", "ocsp: false", "ocsp: true", "ocsp { mode: auto }", "ocsp { mode: always }",
                                  "ocsp { mode: must }", "ocsp { mode: never }"])
def test_the_mode_and_the_certificate_decide_what_is_shown(pair, lasting, authority, mode, must, status):
    responder, certificates = lasting
    responder.say(certificates[must], STATUSES[status])
    both = pair(mode + "\n" + block(certificates[must], authority))
    alike(both, lambda broker: outcome(broker, authority))


def test_older_clients_get_the_status_too(pair, lasting, authority):
    responder, certificates = lasting
    responder.say(certificates[True], GOOD)
    both = pair(block(certificates[True], authority))
    both.same(lambda broker: outcome(broker, authority, "-tls1_2"))


def test_the_log_tells_of_the_status(pair, lasting, authority):
    responder, certificates = lasting
    responder.say(certificates[True], GOOD)
    both = pair("ocsp { mode: always }\n" + block(certificates[True], authority))

    def conversation(broker):
        seen = start(broker)
        wait_until(lambda: log_of(broker, "Found OCSP status"), "the log tells of it")
        return seen + log_of(broker, "OCSP S", "OCSP status")

    both.same(conversation)


def fails(responder, how: str):
    if how == "down":
        responder.stop()
    elif how == "refuses":
        responder.http_status = 500
    elif how == "stale":
        responder.valid_seconds, responder.age_seconds = -10, 600
    elif how == "future":
        responder.age_seconds = -600
    elif how == "spoiled":
        responder.spoiled = True


@pytest.mark.parametrize("how", ["down", "refuses", "stale", "future", "spoiled"])
def test_a_server_does_not_start_without_a_status_that_it_can_trust(pair, responder, authority, how):
    certificate = authority.issue(f"bad-{how}", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    port = responder.port
    fails(responder, how)
    both = pair("ocsp { mode: always }\n" + block(certificate, authority))
    try:
        alike(both, start)
        assert not both.reference.running
    finally:
        if how == "down":
            responder._listen(port)


def test_a_certificate_without_responders_cannot_be_stapled(pair, authority):
    certificate = authority.issue("nobody")
    both = pair("ocsp { mode: always }\n" + block(certificate, authority))
    alike(both, start)


def test_a_status_without_an_end_is_shown(pair, responder, authority):
    certificate = authority.issue("endless", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    responder.valid_seconds = None
    both = pair(block(certificate, authority))

    def conversation(broker):
        seen = outcome(broker, authority)
        wait_until(lambda: log_of(broker, "Found OCSP status"), "the log tells of it")
        return seen + log_of(broker, "Found OCSP status")

    both.same(conversation)


def test_configured_responders_are_asked_instead(pair, responder, authority):
    other = Responder(authority)
    certificate = authority.issue("elsewhere", extensions=responder.extensions(True))
    responder.say(certificate, revoked())
    other.say(certificate, GOOD)
    both = pair(f'ocsp {{ mode: must, url: "{other.url}" }}\n' + block(certificate, authority))
    both.same(lambda broker: outcome(broker, authority))
    other.stop()
    responder.say(certificate, GOOD)
    assert responder.requests == []


def test_a_delegate_of_the_authority_may_answer(pair, authority):
    delegate = authority.issue("delegate", extensions="extendedKeyUsage=OCSPSigning")
    responder = Responder(authority, delegate)
    certificate = authority.issue("delegated", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    both = pair("ocsp { mode: always }\n" + block(certificate, authority))
    both.same(lambda broker: outcome(broker, authority))
    responder.stop()


@pytest.mark.deviates("ocsp.md")
def test_a_certificate_that_is_no_delegate_may_not_answer(pair, authority):
    stranger = authority.issue("no-delegate")
    responder = Responder(authority, stranger)
    certificate = authority.issue("misled", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    both = pair("ocsp { mode: always }\n" + block(certificate, authority))
    assert start(both.reference) == ["runs"]
    status, text = start(both.weir)
    assert status == 1 and "not authorized" in text
    responder.stop()


def test_a_kept_status_is_used_while_the_responder_is_away(pair, responder, authority):
    certificate = authority.issue("kept", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    both = pair(STORED + "ocsp { mode: must }\n" + block(certificate, authority))

    def conversation(broker):
        seen = outcome(broker, authority)
        kept = sorted(path.name for path in (broker.store / "ocsp").iterdir())
        broker.stop()
        return seen + kept

    alike(both, conversation)
    responder.stop()
    try:
        # Each goes on with what the other has kept.
        for name in ("ocsp",):
            reference, weir = (broker.store / name for broker in both.servers)
            shutil.move(reference, both.reference.store / "moved")
            shutil.move(weir, reference)
            shutil.move(both.reference.store / "moved", weir)
        both.same(lambda broker: outcome(broker, authority))
    finally:
        responder.resume()


def test_a_status_is_renewed_before_its_end_and_connections_stay(pair, responder, authority):
    certificate = authority.issue("renewed", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    responder.valid_seconds = 6
    both = pair("ocsp { mode: always }\n" + block(certificate, authority))
    context = ssl.create_default_context(cafile=str(authority.certificate))

    def conversation(broker):
        start(broker)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", broker.port), 5), server_hostname="localhost") as kept:
            kept.recv(4096)
            kept.sendall(b'CONNECT {"verbose":false}\r\n')
            wait_until(lambda: log_of(broker, "Received OCSP status"), "it was renewed", within=15)
            kept.sendall(b"PING\r\n")
            answer = b""
            while b"PONG" not in answer:
                piece = kept.recv(4096)
                assert piece, "cut"
                answer += piece
        return stapled(broker.port, authority) + log_of(broker, "Received OCSP status")[:1]

    both.same(conversation)


@pytest.mark.parametrize("mode, stops", [("always", True), ("must", True), ("auto", False)])
def test_a_revocation_that_is_seen_later(pair, responder, authority, mode, stops):
    certificate = authority.issue(f"later-{mode}", extensions=responder.extensions(True))
    responder.valid_seconds = 6
    both = pair(f"ocsp {{ mode: {mode} }}\n" + block(certificate, authority))

    def conversation(broker):
        responder.say(certificate, GOOD)
        start(broker)
        responder.say(certificate, revoked())
        wait_until(lambda: log_of(broker, ": revoked"), "it was seen", within=15)
        seen = log_of(broker, ": revoked")
        if stops:
            return seen + [broker.wait_exit(), "Initiating Shutdown" in broker.log_since_start()]
        return seen + stapled(broker.port, authority)

    alike(both, conversation)


def test_nobody_gets_a_certificate_whose_status_is_over_until_there_is_a_new_one(pair, responder, authority):
    certificate = authority.issue("over", extensions=responder.extensions(True))
    responder.say(certificate, GOOD)
    responder.valid_seconds = 4
    both = pair("ocsp { mode: always }\n" + block(certificate, authority))
    for broker in both.servers:
        start(broker)
    responder.http_status = 503

    def without(broker):
        wait_until(lambda: log_of(broker, "Bad OCSP status update"), "the log tells of it", within=15)
        wait_until(lambda: stapled(broker.port, authority) == ["refused"], "nothing is shown", within=15)
        return [line.split("non-ok")[0] for line in log_of(broker, "Bad OCSP status update")[:1]]

    both.same(without)
    responder.http_status, responder.valid_seconds = 200, 3600

    def again(broker):
        return wait_until(lambda: [line for line in stapled(broker.port, authority) if "good" in line], "it is shown again")

    both.same(again)


def test_the_reload_of_a_certificate_brings_its_status(pair, responder, authority):
    old = authority.issue("old", extensions=responder.extensions(True))
    new = authority.issue("new", extensions=responder.extensions(True))
    responder.say(old, GOOD)
    responder.say(new, GOOD)
    both = pair("ocsp { mode: always }\n" + block(old, authority))

    def conversation(broker):
        seen = outcome(broker, authority)
        broker.write_config(broker.config_path.read_text().replace(old.lines(), new.lines()))
        broker.signal(1)
        wait_until(lambda: "Reloaded server configuration" in broker.log_since_start(), "the reload is done")
        wait_until(lambda: len(log_of(broker, "Found OCSP status")) == 2, "the log tells of it")
        return seen + stapled(broker.port, authority) + log_of(broker, "Reloaded: OCSP", "OCSP status", "OCSP S")

    both.same(conversation)


@pytest.mark.deviates("ocsp.md")
def test_a_reload_to_a_revoked_certificate_is_refused(pair, responder, authority):
    old = authority.issue("before", extensions=responder.extensions(True))
    new = authority.issue("after", extensions=responder.extensions(True))
    responder.say(old, GOOD)
    responder.say(new, revoked())
    both = pair("ocsp { mode: always }\n" + block(old, authority))

    def reload(broker, line):
        start(broker)
        broker.write_config(broker.config_path.read_text().replace(old.lines(), new.lines()))
        broker.signal(1)
        wait_until(lambda: line in broker.log_since_start(), "the log tells of it")
        return refusal(broker).split(" for certificate")[0], stapled(broker.port, authority)

    # nats-server goes on with the revoked certificate and shows no status; Weir keeps the good one.
    text, shown = reload(both.reference, "Can't restart OCSP features")
    assert "OCSP response: no response sent" in shown
    same_text, shown = reload(both.weir, "Failed to reload server configuration")
    assert same_text == text and "Cert Status: good" in shown


def test_websockets_get_the_status_too(pair, lasting, authority):
    responder, certificates = lasting
    responder.say(certificates[False], GOOD)
    tls = block(certificates[False], authority, "timeout: 2")
    # nats-server looks for the issuer of all clients' certificates in their own block.
    both = pair(f'ocsp {{ mode: always }}\n{tls}websocket {{ listen: "127.0.0.1:WEBSOCKET", {tls} }}', WebPair)

    def conversation(broker):
        seen = start(broker) + stapled(broker.websocket, authority)
        wait_until(lambda: len(log_of(broker, "Found OCSP status")) == 2, "the log tells of it")
        return seen + sorted(log_of(broker, "OCSP S", "OCSP status"))

    both.same(conversation)


def test_varz_tells_when_certificates_end(pair, lasting, authority):
    responder, certificates = lasting
    tls = block(certificates[False], authority)
    both = pair(f'ocsp: false\n{tls} websocket {{ listen: "127.0.0.1:WEBSOCKET", {tls.replace(FIRST, "timeout: 2")} }}\n'
                f'cluster {{ name: c, listen: "127.0.0.1:CLUSTER", {tls.replace(FIRST, "timeout: 2")} }}', WebPair)

    def conversation(broker):
        start(broker)
        varz = broker.get_json("/varz")
        return [part.get("tls_cert_not_after") for part in (varz, varz["websocket"], varz["cluster"])]

    both.same(conversation)


def routed(directory, binary, name, certificate, authority, seeds=(), mode="always") -> Broker:
    routes = ", ".join(f'"nats://127.0.0.1:{seed.cluster}"' for seed in seeds)
    tls = block(certificate, authority, "timeout: 5")
    return Broker(binary, directory, STANDALONE + f"debug: true\nocsp {{ mode: {mode} }}\n" + STORED +
                  f'cluster {{ name: c, listen: "127.0.0.1:CLUSTER", routes: [{routes}], {tls} }}\n', name)


@pytest.mark.parametrize("dialler, dialled", [("weir", "weir"), ("reference", "weir")])
def test_routes_show_each_other_that_they_are_good(tmp_path, running, responder, authority, dialler, dialled):
    certificates = [authority.issue(f"route{number}", extensions=responder.extensions()) for number in range(2)]
    for certificate in certificates:
        responder.say(certificate, GOOD)
    one = routed(tmp_path, getattr(binaries, dialled)(), "one", certificates[0], authority)
    two = routed(tmp_path, getattr(binaries, dialler)(), "two", certificates[1], authority, [one])
    running(one, two)
    for broker in (one, two):
        wait_until(lambda: route_count(broker) > 0, "there is a route")


@pytest.mark.parametrize("status, text", [("revoked", "bad status for OCSP Staple from Router peer: revoked"),
                                          ("unknown", "bad status for OCSP Staple from Router peer: unknown")])
def test_a_route_whose_certificate_is_not_good_is_refused(tmp_path, running, responder, authority, status, text):
    good = authority.issue(f"good-{status}", extensions=responder.extensions())
    bad = authority.issue(f"bad-{status}", extensions=responder.extensions(True))
    responder.say(good, GOOD)
    responder.say(bad, STATUSES[status])
    one = routed(tmp_path, binaries.weir(), "one", good, authority)
    # In this mode a server shows whatever its status is.
    two = routed(tmp_path, binaries.weir(), "two", bad, authority, [one], mode="auto")
    running(one, two)
    wait_until(lambda: log_of(one, text), "the one who was dialled refuses")
    assert one.get_json("/routez")["num_routes"] == 0
    two.stop()
    dialled = routed(tmp_path, binaries.weir(), "three", bad, authority, mode="auto")
    dialler = routed(tmp_path, binaries.weir(), "four", good, authority, [dialled])
    running(dialled, dialler)
    wait_until(lambda: log_of(dialler, text), "the one who dials refuses")


def test_a_route_that_shows_no_status_is_refused(tmp_path, running, responder, authority):
    good = authority.issue("shows", extensions=responder.extensions())
    silent = authority.issue("silent", extensions=responder.extensions())
    responder.say(good, GOOD)
    one = routed(tmp_path, binaries.weir(), "one", silent, authority, mode="never")
    two = routed(tmp_path, binaries.weir(), "two", good, authority, [one])
    reference = routed(tmp_path, binaries.reference(), "reference", good, authority, [one])
    running(one, two, reference)
    for broker in (two, reference):
        wait_until(lambda: log_of(broker, "Router peer missing OCSP Staple"), "it refuses")
