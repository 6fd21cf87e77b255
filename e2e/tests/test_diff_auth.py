"""Who gets in by configuration: users, hashes, tokens, nkeys, guests, connection types, proxies, and reloads of them.

JWTs are in test_diff_jwt, services that decide in test_diff_callout, certificates in test_diff_tls.
"""

import json
import re
import signal

import pytest

import nsc
from broker import STANDALONE, wait_until
from wire import Wire

USER, OTHER, PROXY = nsc.Key("U", "user"), nsc.Key("U", "other"), nsc.Key("U", "proxy")
# "secret" and "token" at the lowest cost.
HASH = "$2a$04$LRXgkl.hjzhlJKz/XUpyzOyWPL7tQoXYKsaU9hPzgjeJSInvTvuLq"


def signed(key: nsc.Key, **more):
    """A CONNECT that signs the nonce."""
    return lambda info: {"nkey": key.public, "sig": key.sign_nonce(info.get("nonce", ""))} | more


CONFIGS = {
    "open": "",
    "user": "authorization { user: u, password: p }",
    "token": "authorization { token: tok }",
    "users": "authorization { users: [ { user: u, password: p }, { user: v, password: q, permissions: { publish: a } } ] }",
    "guest": "authorization { users: [ { user: u, password: p }, { user: g, password: x } ] }\nno_auth_user: g",
    "accounts": "accounts { A { users: [ { user: u, password: p } ] }, B { users: [ { user: v, password: q } ] } }",
    "accounts and a guest": "accounts { A { users: [ { user: u, password: p } ] } }\nno_auth_user: u",
    "system users only": "accounts { $SYS { users: [ { user: u, password: p } ] } }",
    "nkeys": f"authorization {{ users: [ {{ nkey: {USER.public} }}, {{ user: u, password: p }} ] }}",
    "nkey of an account": f"accounts {{ A {{ users: [ {{ nkey: {USER.public} }} ] }} }}",
    "guest with nkey": f"authorization {{ users: [ {{ nkey: {USER.public} }} ] }}\nno_auth_user: {USER.public}",
    "standard only": "authorization { users: [ { user: u, password: p, allowed_connection_types: [STANDARD] } ] }",
    "websocket only": "authorization { users: [ { user: u, password: p, allowed_connection_types: [websocket] } ] }",
    "nkey by websocket": f"authorization {{ users: [ {{ nkey: {USER.public}, allowed_connection_types: [WEBSOCKET] }} ] }}",
    "proxies": f"proxies {{ trusted: [ {{ key: {PROXY.public} }} ] }}\n"
               "authorization { users: [ { user: u, password: p, proxy_required: true }, { user: v, password: q } ] }",
    "proxy for a token": f"proxies {{ trusted: [ {{ key: {PROXY.public} }} ] }}\nauthorization {{ token: tok, proxy_required: true }}",
    "proxies without users": f"proxies {{ trusted: [ {{ key: {PROXY.public} }} ] }}",
}

CONNECTS = {
    "nothing": {},
    "the user": {"user": "u", "pass": "p"},
    "the other user": {"user": "v", "pass": "q"},
    "a wrong password": {"user": "u", "pass": "x"},
    "no password": {"user": "u"},
    "an unknown user": {"user": "nobody", "pass": "p"},
    "a password alone": {"pass": "p"},
    "the token": {"auth_token": "tok"},
    "a wrong token": {"auth_token": "to"},
    "the token as user": {"user": "tok"},
    "the token as password": {"pass": "tok"},
    "a user and a token": {"user": "u", "pass": "p", "auth_token": "tok"},
    "the nkey": signed(USER),
    "an unknown nkey": signed(OTHER),
    "an nkey without signature": {"nkey": USER.public},
    "a signature that is none": {"nkey": USER.public, "sig": "!"},
    "another's signature": lambda info: {"nkey": USER.public, "sig": OTHER.sign_nonce(info.get("nonce", ""))},
    "a jwt": {"jwt": "eyJ.e30.e30"},
    "an account": {"user": "u", "pass": "p", "account": "A"},
    "a new account": {"user": "u", "pass": "p", "new_account": True},
    "a proxied user": lambda info: {"user": "u", "pass": "p", "proxy_sig": PROXY.sign_nonce(info.get("nonce", ""))},
    "a proxied token": lambda info: {"auth_token": "tok", "proxy_sig": PROXY.sign_nonce(info.get("nonce", ""))},
    "a proxy nobody knows": lambda info: {"user": "v", "pass": "q", "proxy_sig": OTHER.sign_nonce(info.get("nonce", ""))},
    "a proxy's nonsense": {"user": "v", "pass": "q", "proxy_sig": "!"},
}


@pytest.fixture(scope="module")
def pairs(start_pair):
    """One pair for each configuration, started when it is first asked for."""
    started = {}

    def of(name):
        if name not in started:
            started[name] = start_pair(STANDALONE + CONFIGS[name] + "\n")
        return started[name]

    return of


SHOWN = ("authorized_user", "account", "name_tag", "tags", "issuer_key", "reason", "proxy")


def log_of(broker, cid: int) -> list[str]:
    """What the log says of a connection at level error or warning, without its address and number."""
    lines = [line for line in broker.log_since_start().splitlines() if re.search(rf"\[(ERR|WRN)\].* cid:{cid}\b", line)]
    return [re.sub(r"^.*?\[(ERR|WRN)\] \S+ - cid:\d+", r"\1", line) for line in lines]


def entered(broker, connect, silent: bool = False) -> dict:
    """What becomes of one client: the operations it gets, how monitoring shows it, what the log says."""
    with Wire(broker.port) as client:
        cid = client.info["client_id"]
        outcome = {"info": {key: key in client.info for key in ("nonce", "auth_required")}}
        if not silent:
            options = connect(client.info) if callable(connect) else connect
            client.send("CONNECT " + json.dumps({"verbose": False, "protocol": 1} | options))
        outcome["heard"] = [op.verb if op.verb == "INFO" else str(op) for op in client.until_pong()]
        state = "closed" if client.ended else "open"

        def shown():
            listed = broker.get_json(f"/connz?auth=1&state={state}&limit=4096")["connections"]
            return next((one for one in listed if one["cid"] == cid), None)

        wait_until(lambda: shown() is not None, f"connection {cid} is listed as {state}")
        listed = shown()
        outcome |= {key: listed.get(key) for key in SHOWN} | {"state": state}
        if state == "closed":
            outcome["proxy"] = None  # Weir does not note the proxy of who is refused
        # The guest that a server makes up for itself.
        outcome["authorized_user"] = re.sub(r"^nats-\w{8}$", "<guest>", outcome["authorized_user"] or "")
    if state == "closed":
        outcome["log"] = log_of(broker, cid)
    return outcome


@pytest.mark.parametrize("connect", CONNECTS.values(), ids=[name.replace(" ", "_") for name in CONNECTS])
@pytest.mark.parametrize("config", CONFIGS)
def test_login(pairs, config, connect):
    pairs(config).same(lambda broker: entered(broker, connect))


@pytest.mark.parametrize("config", CONFIGS)
def test_start_without_connect(pairs, config):
    pairs(config).same(lambda broker: entered(broker, {}, silent=True))


@pytest.mark.parametrize("given, expected", [("secret", True), ("Secret", False), ("", False), (HASH, False)])
def test_hashes(start_pair, given, expected):
    pair = start_pair(STANDALONE + f'authorization {{ users: [ {{ user: u, password: "{HASH}" }} ] }}\n')
    pair.same(lambda broker: entered(broker, {"user": "u", "pass": given}))
    pair.stop()


def test_a_hash_may_be_the_token(start_pair):
    pair = start_pair(STANDALONE + f'authorization {{ token: "{HASH}" }}\n')
    for given in ("secret", HASH):
        pair.same(lambda broker: entered(broker, {"auth_token": given}))


def test_silence_ends_in_time(start_pair):
    pair = start_pair(STANDALONE + "authorization { users: [ { user: u, password: p } ], timeout: 0.5 }\nno_auth_user: u\n")

    def wait(broker):
        with Wire(broker.port) as client:
            return [str(op) for op in client.until_closed()]

    pair.same(wait)


def test_second_login_changes_the_account(start_pair):
    pair = start_pair(STANDALONE + CONFIGS["accounts"] + "\n")

    def switch(broker):
        with Wire(broker.port, {"user": "u", "pass": "p"}) as client:
            client.send("SUB x 1")
            client.until_pong()
            client.send('CONNECT {"user":"v","pass":"q","verbose":false}', "PUB x 2", "hi", "SUB x 2", "PUB x 2", "ho")
            heard = [str(op) for op in client.until_pong() if op.verb != "INFO"]
            listed = broker.get_json("/connz?auth=1&subs=1")["connections"][0]
            return heard, listed["account"], listed["subscriptions_list"]

    pair.same(switch)


# -- reload

BEFORE = """
accounts {
  A { users: [ { user: a, password: p }, { user: b, password: p }, { user: c, password: p }, { user: d, password: p } ] }
  B { users: [ { user: e, password: p } ] }
}
"""
AFTER = """
accounts {
  A { users: [ { user: a, password: p }, { user: b, password: new }, { user: d, password: p, permissions: { subscribe: { deny: x } } } ] }
  B { users: [ { user: e, password: p }, { user: c, password: p } ] }
}
"""


def test_reload_closes_whom_nats_server_closes(tmp_path_factory, start_pair):
    pair = start_pair(STANDALONE + BEFORE)

    def reload(broker):
        clients = {name: Wire(broker.port, {"user": name, "pass": "p"}) for name in "abcde"}
        for client in clients.values():
            client.send("SUB x 1", "SUB y 2")
            client.until_pong()
        broker.write_config((STANDALONE + AFTER).replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log_since_start(), "the reload")
        heard = {name: [str(op) for op in client.until_pong() if op.verb != "INFO"] for name, client in clients.items()}

        def closed():
            # Both programs may list a connection a moment after its client has seen the end.
            listed = broker.get_json("/connz?auth=1&state=closed")["connections"]
            ends = sorted((one["authorized_user"], one["reason"]) for one in listed if one.get("authorized_user"))
            return ends if len(ends) >= sum("<closed>" in lines for lines in heard.values()) else None

        ends = wait_until(closed, "the closed ones are listed")
        for client in clients.values():
            client.close()
        return heard, ends

    pair.same(reload)


def test_reload_takes_nkeys_and_tokens(start_pair):
    pair = start_pair(STANDALONE + "authorization { token: one }\n")

    def reload(broker):
        held = Wire(broker.port, {"auth_token": "one"})
        held.until_pong()
        broker.write_config((STANDALONE + CONFIGS["nkeys"] + "\n").replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log_since_start(), "the reload")
        heard = [str(op) for op in held.until_pong() if op.verb != "INFO"]
        held.close()
        return heard, entered(broker, signed(USER)), entered(broker, {"auth_token": "one"})

    pair.same(reload)


def test_reload_drops_clients_of_a_proxy_that_is_not_trusted_any_more(start_pair):
    pair = start_pair(STANDALONE + CONFIGS["proxies"] + "\n")

    def reload(broker):
        held = Wire(broker.port)
        held.send("CONNECT " + json.dumps({"verbose": False, "user": "u", "pass": "p", "proxy_sig": PROXY.sign_nonce(held.info["nonce"])}))
        held.until_pong()
        broker.write_config((STANDALONE + CONFIGS["proxies"].replace(PROXY.public, OTHER.public) + "\n").replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log_since_start(), "the reload")
        heard = [str(op) for op in held.until_pong()]
        held.close()
        closed = wait_until(lambda: broker.get_json("/connz?state=closed")["connections"], "the closed one is listed")
        return heard, closed[-1]["reason"]

    pair.same(reload)
