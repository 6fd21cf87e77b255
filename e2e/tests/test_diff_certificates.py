"""Certificates that say who somebody is, that are pinned or have to be for known addresses, and that change under load.

Handshakes themselves are in test_diff_tls.py, OCSP in test_diff_ocsp.py.
"""

import re
import signal
import socket
import ssl
import threading

import pytest

import binaries
from broker import STANDALONE, Broker, wait_until
from route import route_count

WITHIN_SECONDS = 5.0
USERS = {
    "email": "me@weir.test",
    "dns": "host.weir.test",
    "uri": "spiffe://weir.test/ns/app",
    "subject": "CN=by subject,OU=Room,O=Weir",
    "other order": "O=Weir, OU=Turned, CN=turned",
    "plus": "CN=plus+OU=Joined,O=Weir",
    "components": "CN=dc,O=Weir,DC=weir,DC=test",
    "limited": "limited@weir.test",
}
# What certificates say: alternative names, and the subject as the openssl program takes it.
CERTIFICATES = {
    "an email": ("email:me@weir.test", "/O=Weir/CN=a"),
    "the second email": ("email:you@weir.test,email:me@weir.test", "/O=Weir/CN=b"),
    "a dns name": ("DNS:host.weir.test", "/O=Weir/CN=c"),
    "a uri": ("URI:spiffe://weir.test/ns/app", "/O=Weir/CN=d"),
    "an email and a dns name": ("DNS:host.weir.test,email:me@weir.test", "/O=Weir/CN=e"),
    "a subject": ("DNS:nobody.test", "/O=Weir/OU=Room/CN=by subject"),
    "a subject in another order": ("DNS:nobody.test", "/O=Weir/OU=Turned/CN=turned"),
    "a subject in the order of the user": ("DNS:nobody.test", "/CN=turned/OU=Turned/O=Weir"),
    "a subject with more than one value": ("DNS:nobody.test", "/O=Weir/CN=plus+OU=Joined"),
    "domain components": ("DNS:nobody.test", "/DC=test/DC=weir/O=Weir/CN=dc"),
    "a subject that is nearly one": ("DNS:nobody.test", "/O=Weir/OU=Rooms/CN=by subject"),
    "nobody's names": ("DNS:nobody.test,email:nobody@weir.test", "/O=Weir/CN=nobody"),
    "names of other kinds": ("email:me@weir.test", "/O=Weir/CN=h/UID=u,1/emailAddress=h@weir.test/DC=test"),
    "another case": ("email:ME@weir.test", "/O=Weir/CN=f"),
    "limits": ("email:limited@weir.test", "/O=Weir/CN=g"),
}


@pytest.fixture
def pair(make_pair):
    return lambda config: make_pair(STANDALONE + config)


def block(certificate, authority, more: str) -> str:
    return f'tls {{ {certificate.lines()}, ca_file: "{authority.certificate}", timeout: 5, {more} }}\n'


def secure(broker, authority, certificate=None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if certificate:
        context.load_cert_chain(certificate.certificate, certificate.key)
    plain = socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_SECONDS)
    plain.recv(4096)
    return context.wrap_socket(plain, server_hostname="localhost")


def ask(over, *lines: str) -> list[str]:
    """Says these lines and a PING; gives what comes up to the answer, or to the end."""
    answer = b""
    try:
        over.sendall("".join(f"{line}\r\n" for line in (*lines, "PING")).encode())
        while b"PONG\r\n" not in answer:
            piece = over.recv(4096)
            if not piece:
                return answer.decode().splitlines() + ["<end>"]
            answer += piece
    except (ssl.SSLError, ConnectionError):
        return answer.decode().splitlines() + ["<end>"]
    return [line for line in answer.decode().splitlines() if not line.startswith("INFO")]


@pytest.fixture(scope="module")
def mapped(start_pair, authority, server):
    users = ", ".join(f'{{ user: "{user}" }}' for name, user in USERS.items() if name != "limited")
    users += f', {{ user: "{USERS["limited"]}", permissions: {{ publish: "allowed.>" }} }}'
    return start_pair(STANDALONE + f"authorization {{ users: [ {users} ] }}\n" + block(server, authority, "verify_and_map: true"))


@pytest.fixture(scope="module")
def shown(authority):
    return {name: authority.issue(f"shown-{number}", names, subject=subject)
            for number, (name, (names, subject)) in enumerate(CERTIFICATES.items())}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_says_who_its_user_is(mapped, authority, shown, name):
    def conversation(broker):
        with secure(broker, authority, shown[name]) as over:
            seen = ask(over, 'CONNECT {"verbose":false,"pedantic":false}', "PUB allowed.a 0", "", "PUB other 0", "")
            if "<end>" not in seen:
                connections = broker.get_json("/connz?auth=1")["connections"]
                seen += [connection.get("authorized_user") for connection in connections]
                seen += [peer["subject"] for connection in connections for peer in connection.get("tls_peer_certs", [])]
            return seen

    mapped.same(conversation)


@pytest.mark.parametrize("credentials", ['"user":"me@weir.test","pass":"x"', '"user":"host.weir.test"', '"auth_token":"x"'])
def test_what_a_client_says_of_itself_does_not_count(mapped, authority, shown, credentials):
    def conversation(broker):
        with secure(broker, authority, shown["a uri"]) as over:
            seen = ask(over, f'CONNECT {{"verbose":false,{credentials}}}')
            return seen + [one.get("authorized_user") for one in broker.get_json("/connz?auth=1")["connections"]]

    mapped.same(conversation)


def log_of(broker, wanted: str) -> list[str]:
    lines = [re.sub(r"^\[\d+\] \S+ \S+ ", "", line) for line in broker.log_since_start().splitlines() if wanted in line]
    return [re.sub(r"127\.0\.0\.1:\d+ - rid:\d+", "ROUTE", line) for line in lines]


def route(directory, program, name, certificate, authority, more, seeds=()) -> Broker:
    routes = ", ".join(f'"nats://{host}:{seed.cluster}"' for host, seed in seeds)
    tls = block(certificate, authority, more)
    return Broker(getattr(binaries, program)(), directory, STANDALONE + "debug: true\n" +
                  f'cluster {{ name: c, listen: "127.0.0.1:CLUSTER", routes: [{routes}], {tls} }}\n', name)


@pytest.mark.parametrize("dialler", ["weir", "reference"])
@pytest.mark.parametrize("dialled", ["weir", "reference"])
@pytest.mark.parametrize("pins", ["dialled", "dialler"])
def test_routes_with_other_keys_than_the_pinned_ones_are_refused(tmp_path, running, authority, dialled, dialler, pins):
    one, two, other = (authority.issue(name) for name in ("one", "two", "other"))

    def pinned(who, key):
        return f'pinned_certs: ["{key.key_fingerprint()}"]' if pins == who else ""

    first = route(tmp_path, dialled, "first", one, authority, pinned("dialled", two))
    second = route(tmp_path, dialler, "second", two, authority, pinned("dialler", one), [("127.0.0.1", first)])
    running(first, second)
    wait_until(lambda: route_count(second) > 0 and route_count(first) > 0, "the pinned ones are joined")
    second.stop()
    wait_until(lambda: route_count(first) == 0, "it is gone")
    third = route(tmp_path, dialler, "third", other, authority, pinned("dialler", other), [("127.0.0.1", first)])
    running(third)
    refuses = first if pins == "dialled" else third
    wait_until(lambda: log_of(refuses, "certificate not pinned"), "it says why")
    assert route_count(first) == 0


@pytest.mark.parametrize("names, joined", [("DNS:localhost,IP:127.0.0.1", True), ("DNS:a.weir.test", False),
                                           ("DNS:*.weir.test", False), ("URI:spiffe://x", False)])
def test_a_route_has_to_come_from_a_known_address_where_that_is_checked(tmp_path, running, authority, server, names, joined):
    dialler = authority.issue(f"dialler-{abs(hash(names))}", names)
    seen = []
    for program in ("reference", "weir"):
        # The address that is known is one where nobody listens: only the one who dials makes a route.
        directory = tmp_path / program
        first = route(directory, program, "first", server, authority, "verify_cert_and_check_known_urls: true")
        text = first.config_path.read_text().replace("routes: []", 'routes: ["nats://localhost:1"]')
        first.write_config(text)
        second = route(directory, "weir", "second", dialler, authority, "", [("127.0.0.1", first)])
        running(first, second)
        if joined:
            wait_until(lambda: route_count(first) > 0, "it is joined")
            seen.append([])
        else:
            wait_until(lambda: log_of(first, "authentication error"), "it is refused")
            seen.append(log_of(first, "authentication error")[:1])
            assert route_count(first) == 0
    assert seen[0] == seen[1]


def number_of(over) -> str:
    return over.getpeercert()["serialNumber"]


def test_certificates_change_under_load_and_nobody_is_cut(pair, authority, server):
    both = pair(block(server, authority, ""))
    others = [authority.issue(f"replaced-{number}") for number in range(4)]

    def conversation(broker):
        stop, cut, messages = threading.Event(), [], []

        def load(number):
            try:
                with secure(broker, authority) as over:
                    ask(over, 'CONNECT {"verbose":false}', f"SUB load.{number} 1")
                    while not stop.is_set():
                        over.sendall(b"PUB load.%d 5\r\nhello\r\nPING\r\n" % number)
                        answer = b""
                        while b"PONG\r\n" not in answer:
                            piece = over.recv(4096)
                            assert piece
                            answer += piece
                        messages.append(b"hello" in answer)
            except (AssertionError, OSError) as failure:
                cut.append(repr(failure))

        threads = [threading.Thread(target=load, args=[number]) for number in range(20)]
        for thread in threads:
            thread.start()
        current, seen = server, []
        for number, other in enumerate(others, 1):
            broker.write_config(broker.config_path.read_text().replace(current.lines(), other.lines()))
            broker.signal(signal.SIGHUP)
            wait_until(lambda: broker.log_since_start().count("Reloaded server configuration") == number, "the reload is done")
            with secure(broker, authority) as over:
                seen.append(int(number_of(over), 16) == other.serial())
            done = len(messages)
            wait_until(lambda: len(messages) > done + 20, "the load goes on")
            current = other
        stop.set()
        for thread in threads:
            thread.join()
        return seen, cut, all(messages)

    both.same(conversation)
