"""TLS of the clients' port: handshakes, refusals and what is told of them, as nats-server does."""

import json
import re
import socket
import ssl
import time
import urllib.request

import pytest

from broker import STANDALONE, wait_until
from certificates import Authority
from conftest import Pair

CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\nPING\r\n'
INFO_FIELDS = ("tls_required", "tls_verify", "tls_available", "auth_required")
WITHIN_SECONDS = 5.0


@pytest.fixture(scope="module")
def client(authority):
    return authority.issue("client", "DNS:client.test,email:client@test")


@pytest.fixture
def pair(make_pair):
    return lambda config: make_pair(STANDALONE + "debug: true\n" + config)


def connect(broker) -> socket.socket:
    return socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_SECONDS)


def read_line(connection) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        byte = connection.recv(1)
        if not byte:
            return line + b"<end>"
        line += byte
    return line


def info(connection) -> dict:
    """The INFO that comes first, as far as it speaks of TLS."""
    line = read_line(connection)
    assert line.startswith(b"INFO "), line
    fields = json.loads(line[5:])
    return {name: fields[name] for name in INFO_FIELDS if name in fields} | {"ip": fields.get("client_ip")}


def secure(connection, authority, certificate=None, name="localhost", **settings) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if certificate:
        context.load_cert_chain(certificate.certificate, certificate.key)
    for key, value in settings.items():
        setattr(context, key, value)
    return context.wrap_socket(connection, server_hostname=name)


def pong(connection) -> bytes:
    """CONNECT, PING, and what comes up to the answer's line."""
    try:
        connection.sendall(CONNECT)
        return read_line(connection)
    except (ssl.SSLError, ConnectionError) as failure:
        return f"<{failure.__class__.__name__}>".encode()


def rest(connection) -> str:
    """What comes until the end."""
    data = b""
    try:
        while piece := connection.recv(4096):
            data += piece
    except ConnectionError:
        pass
    except ssl.SSLError:
        data += b"<ssl>"
    return data.decode(errors="replace")


def handshake(broker, authority, **arguments) -> list:
    """INFO, an upgrade to TLS, a PING: what can be seen of it."""
    with connect(broker) as plain:
        seen = [info(plain)]
        try:
            with secure(plain, authority, **arguments) as over:
                # With TLS 1.3 a refused certificate shows only when reading.
                seen += [over.version(), over.cipher()[0], pong(over)]
        except (ssl.SSLError, ConnectionError) as failure:
            seen.append("refused" if isinstance(failure, (ssl.SSLError, ConnectionError)) else failure)
        return seen


def connections(broker, state="open") -> list[dict]:
    found = broker.get_json(f"/connz?state={state}&auth=1")["connections"]
    names = ("reason", "tls_version", "tls_cipher_suite", "tls_peer_certs", "tls_first")
    return [{name: one[name] for name in names if name in one} for one in found]


def log_of(broker, *wanted: str) -> list[str]:
    """The level and text of the log lines that hold one of `wanted`, without addresses."""
    lines = []
    for line in broker.log_since_start().splitlines():
        if any(text in line for text in wanted):
            line = re.sub(r"^\[\d+\] \S+ \S+ ", "", line)
            lines.append(re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", re.sub(r"cid:\d+", "cid:N", line)))
    return lines


def test_info_says_that_tls_is_required_and_the_upgrade_follows_it(pair, authority, server):
    both = pair(f"tls {{ {server.lines()} }}")

    def conversation(broker):
        with connect(broker) as plain:
            seen = [info(plain)]
            with secure(plain, authority) as over:
                seen += [over.version(), over.cipher()[0], pong(over), connections(broker)]
        return seen + log_of(broker, "TLS handshake complete", "TLS version", "Starting TLS", "TLS required")

    both.same(conversation)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_the_version_is_what_the_client_can(pair, authority, server, version):
    both = pair(f"tls {{ {server.lines()} }}")
    both.same(lambda broker: handshake(broker, authority, maximum_version=getattr(ssl.TLSVersion, version)))


def test_an_older_version_than_min_version_is_refused(pair, authority, server):
    both = pair(f'tls {{ {server.lines()}, min_version: "1.3" }}')
    both.same(lambda broker: handshake(broker, authority, maximum_version=ssl.TLSVersion.TLSv1_2))
    both.same(lambda broker: handshake(broker, authority))


def test_configured_cipher_suites_are_the_ones_used(pair, authority, server):
    suites = '"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"'
    both = pair(f"tls {{ {server.lines()}, cipher_suites: [{suites}] }}")
    both.same(lambda broker: handshake(broker, authority, maximum_version=ssl.TLSVersion.TLSv1_2))
    both.same(lambda broker: handshake(broker, authority))


def test_configured_curves_are_the_ones_used(pair, authority, server):
    both = pair(f'tls {{ {server.lines()}, curve_preferences: ["CurveP256"] }}')
    both.same(lambda broker: handshake(broker, authority))


def test_a_client_that_speaks_in_plain_is_cut(pair, server):
    both = pair(f"tls {{ {server.lines()} }}")

    def conversation(broker):
        with connect(broker) as plain:
            info(plain)
            plain.sendall(CONNECT)
            seen = [rest(plain)]
        wait_until(lambda: log_of(broker, "first record"), "the log tells of it")
        wait_until(lambda: len(connections(broker, "closed")) == 2, "it and the harness's own are closed")
        return seen + connections(broker, "closed") + log_of(broker, "first record")

    both.same(conversation)


def test_a_client_that_does_not_begin_is_cut_in_time(pair, server):
    both = pair(f"tls {{ {server.lines()}, timeout: 0.3 }}")

    def conversation(broker):
        with connect(broker) as plain:
            info(plain)
            began = time.monotonic()
            seen = [rest(plain), 0.2 < time.monotonic() - began < 2]
        wait_until(lambda: len(connections(broker, "closed")) == 2, "it and the harness's own are closed")
        return seen + connections(broker, "closed") + log_of(broker, "connection closed")

    both.same(conversation)


def test_plain_clients_may_come_where_that_is_allowed(pair, authority, server):
    both = pair(f"allow_non_tls: true\ntls {{ {server.lines()} }}")

    def conversation(broker):
        with connect(broker) as plain:
            seen = [info(plain), pong(plain)]
        return seen + handshake(broker, authority) + log_of(broker, "TLS available", "TLS required")

    both.same(conversation)


@pytest.mark.parametrize("first", ["true", "auto", '"100ms"'])
def test_the_handshake_may_come_before_info(pair, authority, server, first):
    both = pair(f"tls {{ {server.lines()}, handshake_first: {first} }}")

    def conversation(broker):
        with connect(broker) as plain, secure(plain, authority) as over:
            return [info(over), pong(over), connections(broker), log_of(broker, "TLS Handshake First")]

    both.same(conversation)


def test_a_client_that_waits_for_info_is_cut_where_tls_comes_first(pair, server):
    both = pair(f"tls {{ {server.lines()}, handshake_first: true, timeout: 0.3 }}")

    def conversation(broker):
        with connect(broker) as plain:
            return rest(plain)

    both.same(conversation)


@pytest.mark.parametrize("first", ["auto", '"100ms"'])
def test_a_client_that_waits_for_info_gets_it_after_a_while(pair, authority, server, first):
    both = pair(f"tls {{ {server.lines()}, handshake_first: {first} }}")
    both.same(lambda broker: handshake(broker, authority))


def test_info_after_a_while_and_plain_clients_go_together(pair, authority, server):
    both = pair(f"allow_non_tls: true\ntls {{ {server.lines()}, handshake_first: auto }}")

    def conversation(broker):
        with connect(broker) as plain:
            return [info(plain), pong(plain)] + handshake(broker, authority)

    both.same(conversation)


def test_certificates_of_clients_are_verified(pair, authority, server, client, tmp_path):
    both = pair(f'tls {{ {server.lines()}, ca_file: "{authority.certificate}", verify: true }}')
    stranger = Authority(tmp_path / "stranger").issue("stranger")

    def conversation(broker):
        with connect(broker) as plain:
            seen = [info(plain)]
            with secure(plain, authority, client) as over:
                seen += [pong(over), connections(broker)]
        return seen

    both.same(conversation)
    both.same(lambda broker: handshake(broker, authority, maximum_version=ssl.TLSVersion.TLSv1_2))
    both.same(lambda broker: handshake(broker, authority, certificate=stranger, maximum_version=ssl.TLSVersion.TLSv1_2))
    both.same(lambda broker: sorted(one["reason"] for one in connections(broker, "closed")))


def test_a_missing_certificate_is_an_error_in_the_log(pair, authority, server):
    both = pair(f'tls {{ {server.lines()}, ca_file: "{authority.certificate}", verify: true }}')

    def conversation(broker):
        handshake(broker, authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        wait_until(lambda: log_of(broker, "provide a certificate"), "the log tells of it")
        return log_of(broker, "provide a certificate")

    both.same(conversation)


def test_only_pinned_certificates_get_in(pair, authority, server, client):
    verify = f'ca_file: "{authority.certificate}", verify: true'
    both = pair(f'tls {{ {server.lines()}, {verify}, pinned_certs: ["{client.key_fingerprint()}"] }}')
    other = authority.issue("other")

    def conversation(broker):
        seen = [handshake(broker, authority, certificate=client)]
        # The refusal comes behind the handshake: what is seen is an end.
        refused = handshake(broker, authority, certificate=other)
        return seen + [len(refused), refused[-1] in (b"<end>", b"<ConnectionResetError>", b"<SSLError>", b"<BrokenPipeError>",
                                                     b"<SSLEOFError>", "refused")]

    both.same(conversation)
    wait_until(lambda: all(log_of(broker, "not pinned") for broker in both.servers), "the log tells of it")
    both.same(lambda broker: log_of(broker, "not pinned"))


def test_certificates_follow_the_name_that_is_asked_for(pair, authority):
    one, two = authority.issue("one", "DNS:one.test"), authority.issue("two", "DNS:two.test")
    both = pair(f"tls {{ certs: [ {{ {one.lines()} }}, {{ {two.lines()} }} ] }}")

    def conversation(broker):
        seen = []
        for name in ("one.test", "two.test", "three.test"):
            with connect(broker) as plain:
                info(plain)
                with secure(plain, authority, name=name, check_hostname=False) as over:
                    seen.append((name, over.getpeercert()["subject"], pong(over)))
        return seen

    both.same(conversation)


def test_handshakes_above_the_rate_limit_are_refused_in_words(pair, authority, server):
    both = pair(f"tls {{ {server.lines()}, connection_rate_limit: 2 }}")

    def conversation(broker):
        # The harness's own connection counts: its second has to be over.
        time.sleep(1.1)
        seen, kept = [], []
        for _ in range(3):
            plain = connect(broker)
            info(plain)
            if len(seen) < 2:
                kept.append(secure(plain, authority))
                seen.append("in")
            else:
                seen.append(rest(plain))
        return seen + connections(broker, "closed")

    both.same(conversation)


def test_new_handshakes_use_certificates_that_were_reloaded(pair, authority, server, tmp_path):
    both = pair(f"tls {{ {server.lines()} }}")
    new = Authority(tmp_path / "new")
    replaced = new.issue("server")

    def conversation(broker):
        with connect(broker) as plain:
            info(plain)
            with secure(plain, authority) as over:
                seen = [pong(over)]
                read_line(over)  # the INFO that follows
                text = broker.config_path.read_text()
                broker.write_config(text.replace(server.lines(), replaced.lines()))
                broker.signal(1)
                wait_until(lambda: "Reloaded: tls" in broker.log_since_start(), "the reload is done")
                over.sendall(b"PING\r\n")
                seen.append(read_line(over))
        return seen + [handshake(broker, new), handshake(broker, authority)] + log_of(broker, "Reloaded: tls")

    both.same(conversation)


def test_messages_of_every_size_pass_in_both_directions(pair, authority, server):
    both = pair(f"tls {{ {server.lines()} }}")

    def conversation(broker):
        with connect(broker) as plain:
            info(plain)
            with secure(plain, authority) as over:
                over.sendall(b'CONNECT {"verbose":false}\r\nSUB foo 1\r\n')
                seen = []
                for size in (0, 1, 16_384, 16_385, 100_000, 1_048_576):
                    payload = bytes(at % 251 for at in range(size))
                    over.sendall(b"PUB foo %d\r\n%s\r\n" % (size, payload))
                    line = read_line(over)
                    while line.startswith((b"INFO", b"PING")):
                        line = read_line(over)
                    body = b""
                    while len(body) < size + 2:
                        body += over.recv(65536)
                    seen.append((line, body[:-2] == payload))
                return seen

    both.same(conversation)


@pytest.mark.parametrize("block", [
    'cert_file: "/missing.pem", key_file: "/missing.key"',
    'cert_file: "/missing.pem"',
    'key_file: "/missing.key"',
])
def test_a_server_does_not_start_without_its_certificate(tmp_path, block):
    pair = Pair(tmp_path, STANDALONE + f"tls {{ {block} }}\n")

    def conversation(broker):
        broker.start(wait=False)
        status = broker.wait_exit()
        # Where in the file it stands is not told by Weir, which reads certificates after the configuration.
        found = re.search(r"(error parsing X509|missing '\w+')[^\n]*", broker.log())
        return status, found and found.group(0)

    expected, actual = (conversation(broker) for broker in pair.servers)
    assert actual == expected


def test_monitoring_speaks_tls_where_that_is_configured(tmp_path, authority, server):
    config = STANDALONE.replace("http:", "https:") + f"tls {{ {server.lines()} }}\n"
    both = Pair(tmp_path, config)

    def conversation(broker):
        context = ssl.create_default_context(cafile=str(authority.certificate))
        with urllib.request.urlopen(f"https://127.0.0.1:{broker.http}/varz", context=context) as answer:
            varz = json.loads(answer.read())
        with socket.create_connection(("127.0.0.1", broker.http), timeout=WITHIN_SECONDS) as plain:
            plain.sendall(b"GET /varz HTTP/1.1\r\nHost: x\r\n\r\n")
            in_plain = plain.recv(4096)
        return varz["https_port"] == broker.http, varz["http_port"], b"server_id" in in_plain

    try:
        both.start().same(conversation)
    finally:
        both.stop()
