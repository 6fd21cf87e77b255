"""OCSP: what is asked about the certificates of clients (`ocsp_peer`), as nats-server asks it.

The status of our own certificates is in test_diff_ocsp.py.
"""

import json
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request

import pytest

from broker import STANDALONE, free_port, wait_until
from certificates import Authority
from conftest import Pair
from ocsp import GOOD, UNKNOWN, Responder, revoked

STATUSES = {"good": GOOD, "revoked": revoked(), "unknown": UNKNOWN}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
WITHIN_SECONDS = 5.0
# What the log says of a client's certificates, at every level.
TOLD = ("OCSP", "Chain [", "is dirty")
NOT_TOLD = ("peer cache", "compression ratio", "OCSP responder url", "Plugging")


@pytest.fixture
def client(authority, responder):
    return authority.issue("client", extensions=responder.extensions())


@pytest.fixture
def pair(make_pair):
    return lambda config: make_pair(STANDALONE + "debug: true\n" + config)


def block(server, authority, peer: str, more: str = "") -> str:
    return f'tls {{ {server.lines()}, ca_file: "{authority.certificate}", verify: true, timeout: 5, ocsp_peer {peer}, {more} }}\n'


def connect(broker, authority, certificate, **settings) -> str:
    """What a client sees: an answer to its PING, or a refusal."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(certificate.certificate, certificate.key)
    for key, value in settings.items():
        setattr(context, key, value)
    with socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_SECONDS) as plain:
        plain.recv(4096)
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as over:
                over.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
                answer = b""
                while b"PONG" not in answer:
                    piece = over.recv(4096)
                    if not piece:
                        return "cut"
                    answer += piece
                return "in"
        except ssl.SSLError as refused:
            return re.sub(r"^(SSLV3|TLSV1)_", "", refused.reason or "")
        except ConnectionError:
            return "cut"


def log_of(broker, told=TOLD, not_told=NOT_TOLD) -> list[str]:
    lines = []
    for line in broker.log_since_start().splitlines():
        if any(text in line for text in told) and not any(text in line for text in not_told):
            line = re.sub(r"^\[\d+\] \S+ \S+ ", "", line)
            line = TIME.sub("TIME", re.sub(r"127\.0\.0\.1:\d+ - cid:\d+", "CLIENT", line))
            lines.append(re.sub(r"(/[\w%]{40,}|\[[\w+/]{43}=\])", "LONG", line))
    return lines


def asked(broker, authority, certificate, **settings) -> list[str]:
    before = len(log_of(broker))
    seen = connect(broker, authority, certificate, **settings)
    wait_until(lambda: len(log_of(broker)) > before, "the log tells of it")
    if seen != "in":
        wait_until(lambda: log_of(broker, ("error: client not",)), "the log tells of the refusal")
    return [seen] + log_of(broker)[before:]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("status", STATUSES)
def test_only_clients_whose_certificates_are_good_get_in(pair, authority, server, responder, client, status, version):
    both = pair(block(server, authority, "{ verify: true }"))
    responder.say(client, STATUSES[status])
    both.same(lambda broker: asked(broker, authority, client, maximum_version=getattr(ssl.TLSVersion, version)))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("option", ["unknown_is_good", "warn_only", "allow_when_ca_unreachable"])
def test_options_let_more_in(pair, authority, server, responder, client, option, status):
    both = pair(block(server, authority, f"{{ verify: true, {option}: true }}"))
    responder.say(client, STATUSES[status])
    both.same(lambda broker: asked(broker, authority, client))


@pytest.mark.parametrize("option", ["verify", "warn_only", "allow_when_ca_unreachable", "allowed_clockskew", "ca_timeout"])
@pytest.mark.parametrize("how", ["down", "refuses", "stale", "future", "spoiled", "slow"])
def test_answers_that_are_of_no_use(pair, authority, server, responder, client, how, option):
    value = {"allowed_clockskew": "1h", "ca_timeout": "100ms"}.get(option, "true")
    both = pair(block(server, authority, f"{{ verify: true, ca_timeout: 1, {option}: {value} }}".replace("ca_timeout: 1, ca", "ca")))
    responder.say(client, GOOD)
    if how == "down":
        responder.stop()
    responder.http_status = 500 if how == "refuses" else 200
    responder.spoiled = how == "spoiled"
    responder.delay_seconds = 1.5 if how == "slow" else 0
    if how == "stale":
        responder.valid_seconds, responder.age_seconds = -100, 600
    if how == "future":
        responder.age_seconds = -600
    try:
        # Whether a refused connection shows as an alert or as an end is the system's choice.
        both.same(lambda broker: asked(broker, authority, client))
    finally:
        if how == "down":
            responder.resume()


def test_answers_without_an_end_are_used_for_a_while(pair, authority, server, responder, client):
    both = pair(block(server, authority, "{ verify: true, cache_ttl_when_next_update_unset: 10, allowed_clockskew: 0 }"))
    responder.say(client, GOOD)
    responder.valid_seconds, responder.age_seconds = None, 5
    both.same(lambda broker: asked(broker, authority, client))
    responder.age_seconds = 100
    other = authority.issue("other", extensions=responder.extensions())
    responder.say(other, GOOD)
    both.same(lambda broker: asked(broker, authority, other))


def test_certificates_that_name_no_responder_get_in(pair, authority, server, responder):
    both = pair(block(server, authority, "true"))
    silent = authority.issue("silent")
    both.same(lambda broker: asked(broker, authority, silent))


def test_answers_of_delegates_count_only_if_they_are_some(pair, authority, server):
    for name, usage in (("delegate", "extendedKeyUsage=OCSPSigning"), ("stranger", "")):
        responder = Responder(authority, authority.issue(name, extensions=usage))
        client = authority.issue(f"of-{name}", extensions=responder.extensions())
        responder.say(client, GOOD)
        both = pair(block(server, authority, "true"))
        both.same(lambda broker: asked(broker, authority, client))
        both.stop()
        responder.stop()


def test_verification_is_needed_to_ask(tmp_path, authority, server):
    config = STANDALONE + block(server, authority, "true").replace("verify: true", "verify: false")
    both = Pair(tmp_path, config)

    def conversation(broker):
        broker.start(wait=False)
        status = broker.wait_exit()
        return status, re.search(r"OCSP peer verification.*enabled", broker.log()).group(0)

    expected, actual = (conversation(broker) for broker in both.servers)
    assert actual == expected


def figures(broker) -> dict:
    return broker.get_json("/varz").get("ocsp_peer_cache")


def test_answers_are_kept_and_counted(pair, authority, server, responder):
    both = pair(block(server, authority, "{ verify: true, unknown_is_good: true }"))
    for name, status in STATUSES.items():
        client = authority.issue(f"kept-{name}", extensions=responder.extensions())
        responder.say(client, status)
        for _ in range(2):
            both.same(lambda broker: [asked(broker, authority, client)[0], figures(broker)])
    both.same(lambda broker: broker.get_json("/varz").get("tls_ocsp_peer_verify"))
    assert len(responder.requests) == 6


@pytest.mark.parametrize("cache", ["ocsp_cache: false", "ocsp_cache { type: none }", "ocsp_cache: true"])
def test_the_cache_can_be_turned_off(pair, authority, server, responder, client, cache):
    both = pair(cache + "\n" + block(server, authority, "true"))
    responder.say(client, GOOD)

    def conversation(broker):
        seen = [asked(broker, authority, client)[0] for _ in range(2)]
        return seen + [figures(broker)] + log_of(broker, ("cache online",), ())

    both.same(conversation)
    assert len(responder.requests) == (2 if "true" in cache else 4)


def test_what_one_has_kept_the_other_can_use(pair, authority, server, responder, client):
    both = pair(f'ocsp_cache {{ type: local, local_store: "kept", save_interval: 1 }}\n' + block(server, authority, "true"))
    responder.say(client, GOOD)

    def conversation(broker):
        file = broker.directory / "kept/cache.json"
        seen = asked(broker, authority, client)[:1]
        wait_until(file.exists, "it is saved")
        item = next(iter(json.loads(file.read_text()).values()))
        broker.stop()
        return seen + [sorted(item), item["subject"], item["resp_status"]]

    both.same_before = [conversation(broker) for broker in both.servers]
    assert both.same_before[0] == both.same_before[1]
    responder.stop()
    try:
        files = [broker.directory / "kept/cache.json" for broker in both.servers]
        shutil.move(files[0], files[0].with_name("other"))
        shutil.move(files[1], files[0])
        shutil.move(files[0].with_name("other"), files[1])
        both.start()
        both.same(lambda broker: [asked(broker, authority, client)[0], figures(broker)])
    finally:
        responder.resume()


@pytest.mark.parametrize("preserve", ["true", "false"])
def test_revocations_can_outlive_their_answers(pair, authority, server, responder, client, preserve):
    cache = f"ocsp_cache {{ type: local, preserve_revoked: {preserve} }}\n"
    peer = "{ verify: true, allow_when_ca_unreachable: true, allowed_clockskew: 0 }"
    both = pair(cache + block(server, authority, peer))
    responder.say(client, revoked())
    responder.valid_seconds = 3

    def first(broker):
        return asked(broker, authority, client)[0]

    both.same(first)
    responder.http_status = 500

    def later(broker):
        def expired():
            connect(broker, authority, client)
            return log_of(broker, ("CARespon", "AllowWhenCAUnreachable"), ())
        return wait_until(expired, "the answer is over", within=15, every=0.5)[:1] + [figures(broker)["cached_revoked_responses"]
                                                                                   if preserve == "true" else ""]

    both.same(later)


@pytest.mark.parametrize("lines", [("cluster", "name: c, listen: \"127.0.0.1:CLUSTER\""), ("websocket", "listen: \"127.0.0.1:WEBSOCKET\"")])
def test_the_option_is_taken_in_every_block(tmp_path, authority, server, lines):
    name, rest = lines
    config = f"{name} {{ {rest}, {block(server, authority, 'true')} }}\n".replace("WEBSOCKET", str(free_port()))
    both = Pair(tmp_path, STANDALONE + config)
    # Both get the same WebSocket port: one after the other.

    def conversation(broker):
        broker.start()
        varz = broker.get_json("/varz")
        broker.stop()
        return varz.get("tls_ocsp_peer_verify"), varz.get("websocket", {}).get("tls_ocsp_peer_verify")

    assert conversation(both.reference) == conversation(both.weir)


def test_monitoring_asks_as_well(tmp_path, authority, server, responder, client):
    config = STANDALONE.replace("http:", "https:") + block(server, authority, "true")
    both = Pair(tmp_path, config)
    responder.say(client, GOOD)
    bad = authority.issue("bad", extensions=responder.extensions())
    responder.say(bad, revoked())

    def get(broker, certificate):
        context = ssl.create_default_context(cafile=str(authority.certificate))
        if certificate:
            context.load_cert_chain(certificate.certificate, certificate.key)
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{broker.http}/varz", context=context) as answer:
                return answer.status
        except (urllib.error.URLError, ssl.SSLError, ConnectionError, OSError):
            return "refused"

    try:
        both.start().same(lambda broker: [get(broker, one) for one in (client, bad, None)])
    finally:
        both.stop()


class Watch:
    """Hears events about peers, over TLS as everybody else."""

    def __init__(self, broker, authority, certificate):
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.load_cert_chain(certificate.certificate, certificate.key)
        plain = socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_SECONDS)
        plain.recv(4096)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.file = self.socket.makefile("rb")
        self.socket.sendall(b'CONNECT {"verbose":false,"user":"sys","pass":"pw"}\r\nSUB $SYS.SERVER.*.OCSP.> 1\r\nPING\r\n')
        while self.file.readline() != b"PONG\r\n":
            pass

    def next(self) -> tuple[str, dict]:
        while not (line := self.file.readline()).startswith(b"MSG"):
            assert line, "cut"
        subject, _, size = line.decode().split()[1:]
        body = self.file.read(int(size) + 2)
        return re.sub(r"N[A-Z2-7]{55}", "ID", subject), json.loads(body)


def test_the_system_account_hears_of_refused_clients(pair, authority, server, responder, client):
    accounts = "accounts { $SYS { users: [{user: sys, password: pw}] }, A { users: [{user: a, password: pw}] } }\n"
    both = pair(accounts + block(server, authority, "true"))
    responder.say(client, revoked())
    good = authority.issue("good")

    def conversation(broker):
        watch = Watch(broker, authority, good)
        seen = [connect(broker, authority, client)]
        for _ in range(2):
            subject, body = watch.next()
            for key in ("id", "timestamp"):
                assert body.pop(key)
            server = body.pop("server")
            seen.append((subject, list(body), body, server["name"], {"seq", "time", "id"} <= set(server)))
        return seen

    both.same(conversation)


def test_an_intermediate_that_is_revoked_keeps_its_clients_out(pair, authority, server, responder, tmp_path):
    ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\nextendedKeyUsage=serverAuth,clientAuth\n"
    middle = authority.issue("middle", extensions=ca + responder.extensions())
    child = Authority.__new__(Authority)
    child.directory, child.name, child.certificate, child.key = tmp_path, "middle", middle.certificate, middle.key
    client = child.issue("grandchild")
    client.certificate.write_text(client.certificate.read_text() + middle.certificate.read_text())
    both = pair(block(server, authority, "true"))
    responder.say(middle, GOOD)
    both.same(lambda broker: asked(broker, authority, client))
    both.stop()
    both = pair("ocsp_cache: false\n" + block(server, authority, "true"))
    responder.say(middle, revoked())
    both.same(lambda broker: asked(broker, authority, client))


def test_slow_responders_do_not_hold_up_others(pair, authority, server, responder, client):
    both = pair("ocsp_cache: false\n" + block(server, authority, "{ verify: true, ca_timeout: 3 }"))
    responder.say(client, GOOD)
    responder.delay_seconds = 2
    silent = authority.issue("quick")

    def conversation(broker):
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.load_cert_chain(client.certificate, client.key)
        waiting = []
        for _ in range(20):
            plain = socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_SECONDS)
            plain.recv(4096)
            waiting.append(context.wrap_socket(plain, server_hostname="localhost"))
        seen = connect(broker, authority, silent)
        for one in waiting:
            one.close()
        return seen

    both.same(conversation)
