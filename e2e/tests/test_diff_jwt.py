"""Operator mode: users, accounts and operators by JWT, resolvers, account updates, scopes, revocations, imports.

Configured users are in test_diff_auth, services that decide in test_diff_callout.
"""

import json
import re
import signal
import time

import pytest

import nsc
from account_server import AccountServer
from broker import STANDALONE, wait_until
from mask import mask
from wire import Wire

OPERATOR, SIGNER, STRANGER = nsc.Key("O", "operator"), nsc.Key("O", "signer"), nsc.Key("O", "stranger")
SYS, A, B, C = (nsc.Key("A", name) for name in ("SYS", "A", "B", "C"))
A_SIGNER, A_SCOPED = nsc.Key("A", "A signer"), nsc.Key("A", "A scoped")
ADMIN, U, V = nsc.Key("U", "admin"), nsc.Key("U", "u"), nsc.Key("U", "v")
LONG_AGO, SOON = 1_500_000_000, 2

SCOPE = {
    "kind": "user_scope", "key": A_SCOPED.public, "role": "r",
    "template": {
        "pub": {"allow": ["p.{{name()}}.>", "t.{{tag(team)}}", "s.{{subject()}}", "an.{{account-name()}}", "as.{{account-subject()}}"],
                "deny": ["p.{{name()}}.secret"]},
        "sub": {"allow": ["x.{{account-tag(kind)}}.*", "_INBOX.>"]},
        "subs": 3, "payload": 20,
    },
}
ACCOUNT_A = {"signing_keys": [A_SIGNER.public, SCOPE], "tags": ["kind:good", "kind:fine"]}


def config(accounts: dict[str, str], **more) -> str:
    """Operator mode with a memory resolver."""
    operator = more.pop("operator", None) or nsc.operator(OPERATOR, signing_keys=[SIGNER.public], system_account=SYS.public)
    lines = [STANDALONE, f"operator: {operator}", "resolver: MEMORY", "resolver_preload {"]
    lines += [f"  {key}: {token}" for key, token in accounts.items()]
    lines += ["}", f"system_account: {SYS.public}"] + [f"{key}: {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def accounts(**more) -> dict[str, str]:
    """The accounts of most tests."""
    known = {
        SYS.public: nsc.account(OPERATOR, SYS),
        A.public: nsc.account(OPERATOR, A, **ACCOUNT_A),
        B.public: nsc.account(SIGNER, B),
    }
    return known | {key.public: token for key, token in more.values()}


def login(token: str, key: nsc.Key | None = U, **more):
    def connect(info):
        return {"jwt": token} | ({"sig": key.sign_nonce(info["nonce"])} if key else {}) | more
    return connect


SHOWN = ("authorized_user", "account", "name_tag", "tags", "issuer_key", "reason")


def opened(broker, connect) -> Wire:
    client = Wire(broker.port)
    client.send("CONNECT " + json.dumps({"verbose": False, "protocol": 1} | connect(client.info)))
    return client


def entered(broker, connect, *lines: str) -> dict:
    """What becomes of one client that says these lines."""
    with opened(broker, connect) as client:
        cid = client.info["client_id"]
        outcome = {"info": {key: key in client.info for key in ("nonce", "auth_required", "xkey")}}
        heard = client.until_pong()
        if lines and not client.ended:  # apart: nats-server maps nothing that comes in one piece with CONNECT
            client.send(*lines)
            heard = heard[:-1] + client.until_pong()
        outcome["heard"] = [op.verb if op.verb == "INFO" else str(op) for op in heard]
        state = "closed" if client.ended else "open"

        listed = broker.connection(cid, state)
        outcome |= {key: listed.get(key) for key in SHOWN} | {"state": state}
    log = [line for line in broker.log_since_start().splitlines() if re.search(rf"\[(ERR|WRN)\].* cid:{cid}\b", line)]
    # A line that says the same again is not repeated by nats-server.
    outcome["log"] = list(dict.fromkeys(re.sub(r"^.*?\[(ERR|WRN)\] \S+ - cid:\d+( - \"v1:wire\")?", r"\1", line) for line in log))
    return outcome


def published(*subjects: str) -> list[str]:
    return [line for subject in subjects for line in (f"PUB {subject} 1", "x")]


NOW = int(time.time())
WHOLE_DAY = [{"start": "00:00:00", "end": "23:59:59"}]
# A range that has ended, wherever the clock stands.
OTHER_HOURS = {
    "times": [{"start": time.strftime("%H:%M:%S", time.gmtime(NOW + 3 * 3600)), "end": time.strftime("%H:%M:%S", time.gmtime(NOW + 4 * 3600))}],
    "times_location": "UTC",
}

USERS = {
    "the account's own key": login(nsc.user(A, U)),
    "a signing key": login(nsc.user(A_SIGNER, U, issuer_account=A.public)),
    "a signing key without the account": login(nsc.user(A_SIGNER, U)),
    "a signing key for another account": login(nsc.user(A_SIGNER, U, issuer_account=B.public)),
    "an unknown account": login(nsc.user(C, U)),
    "an unknown signing key": login(nsc.user(C, U, issuer_account=A.public)),
    "an operator's signature": login(nsc.user(OPERATOR, U)),
    "the account signed by a signing key": login(nsc.user(B, U)),
    "a scope": login(nsc.user(A_SCOPED, U, scoped=True, issuer_account=A.public, tags=["team:red", "team:blue"], name="bob")),
    "a scope without tags": login(nsc.user(A_SCOPED, U, scoped=True, issuer_account=A.public, name="bob")),
    "a scope and limits of its own": login(nsc.user(A_SCOPED, U, issuer_account=A.public)),
    "a scope and permissions of its own": login(nsc.user(A_SCOPED, U, scoped=True, issuer_account=A.public, pub={"allow": ["x"]})),
    "no signature": login(nsc.user(A, U), None),
    "another's signature": login(nsc.user(A, U), V),
    "a bearer": login(nsc.user(A, U, bearer_token=True), None),
    "a bearer with a wrong signature": login(nsc.user(A, U, bearer_token=True), V),
    "no JWT": lambda info: {},
    "a user and a password": lambda info: {"user": "u", "pass": "p"},
    "nonsense": login("eyJ.x.y"),
    "an account's JWT": login(nsc.account(OPERATOR, A)),
    "a changed JWT": login(nsc.user(A, U)[:-4] + "AAAA"),
    "an expired one": login(nsc.user(A, U, exp=LONG_AGO)),
    "one not valid yet": login(nsc.user(A, U, nbf=NOW + 3600)),
    "one that will expire": login(nsc.user(A, U, exp=NOW + 36_000)),
    "another network": login(nsc.user(A, U, src=["10.0.0.0/8"])),
    "this network": login(nsc.user(A, U, src=["10.0.0.0/8", "127.0.0.0/8"])),
    "networks in one text": login(nsc.user(A, U, src="10.0.0.0/8,127.0.0.1/32")),
    "a network that is none": login(nsc.user(A, U, src=["localhost"])),
    "any time": login(nsc.user(A, U, times=WHOLE_DAY)),
    "another time": login(nsc.user(A, U, **OTHER_HOURS)),
    "a time that is none": login(nsc.user(A, U, times=[{"start": "25:00:00", "end": "x"}])),
    "a zone that is none": login(nsc.user(A, U, times=WHOLE_DAY, times_location="Nowhere/Else")),
    "standard connections": login(nsc.user(A, U, allowed_connection_types=["STANDARD"])),
    "other connections": login(nsc.user(A, U, allowed_connection_types=["WEBSOCKET", "MQTT"])),
    "connections in small letters": login(nsc.user(A, U, allowed_connection_types=["standard"])),
    "connections of the future": login(nsc.user(A, U, allowed_connection_types=["QUIC"])),
    "connections of the future and of now": login(nsc.user(A, U, allowed_connection_types=["QUIC", "STANDARD"])),
    "a proxy needed": login(nsc.user(A, U, proxy_required=True)),
    "permissions": login(nsc.user(A, U, pub={"allow": ["p.>"], "deny": ["p.bob.secret"]}, sub={"deny": ["x.>"]})),
    "responses": login(nsc.user(A, U, resp={"max": 1, "ttl": 0})),
    "few subscriptions": login(nsc.user(A, U, subs=1)),
    "small payloads": login(nsc.user(A, U, payload=3)),
    "tags": login(nsc.user(A, U, tags=["a:b", "c"])),
    "a later version": login(nsc.token(A, "user", U.public, {"version": 3})),
    "the system account": login(nsc.user(SYS, ADMIN), ADMIN),
}
SAID = published("p.bob.a", "p.bob.secret", "t.red", f"s.{U.public}", "an.A", f"as.{A.public}", "other") + [
    "SUB x.good.1 1", "SUB x.fine.* 2", "SUB x.bad.1 3", "SUB other 4", "SUB another 5", "PUB other 10", "0123456789",
]


@pytest.fixture(scope="module")
def memory(start_pair):
    return start_pair(config(accounts()))


@pytest.mark.parametrize("connect", USERS.values(), ids=[name.replace(" ", "_") for name in USERS])
def test_user(memory, connect):
    memory.same(lambda broker: entered(broker, connect, *SAID))


def test_start_without_connect(memory):
    def start(broker):
        with Wire(broker.port) as client:
            return [str(op) for op in client.until_pong()]

    memory.same(start)


def test_user_expires_while_it_is_connected(memory):
    def expire(broker):
        token = nsc.user(A, U, exp=int(time.time()) + SOON)
        with opened(broker, login(token)) as client:
            heard = [op.verb for op in client.until_pong()]
            return heard, [str(op) for op in client.until_closed(10) if op.verb != "INFO"]

    memory.same(expire)


ACCOUNTS = {
    "a stranger signed it": (nsc.account(STRANGER, C), {}),
    "a signing key signed it": (nsc.account(SIGNER, C), {}),
    "it signed itself": (nsc.account(C, C), {}),
    "it has expired": (nsc.account(OPERATOR, C, exp=LONG_AGO), {}),
    "it is not valid yet": (nsc.account(OPERATOR, C, nbf=NOW + 3600), {}),
    "it is another's": (nsc.account(OPERATOR, B), {}),
    "no bearers": (nsc.account(OPERATOR, C, {"disallow_bearer": True}), {"bearer_token": True}),
    "bearers": (nsc.account(OPERATOR, C), {"bearer_token": True}),
    "the user is revoked": (nsc.account(OPERATOR, C, revocations={U.public: NOW + 10}), {}),
    "the user was revoked": (nsc.account(OPERATOR, C, revocations={U.public: NOW - 100}), {"issued": NOW}),
    "all are revoked": (nsc.account(OPERATOR, C, revocations={"*": NOW + 10}), {}),
    "another is revoked": (nsc.account(OPERATOR, C, revocations={V.public: NOW + 10}), {}),
    "small payloads": (nsc.account(OPERATOR, C, {"payload": 3}), {}),
    "few subscriptions": (nsc.account(OPERATOR, C, {"subs": 1}), {}),
    "no connections": (nsc.account(OPERATOR, C, {"conn": 0}), {}),
    "default permissions": (nsc.account(OPERATOR, C, default_permissions={"pub": {"allow": ["p.>"]}, "sub": {"deny": ["other"]}}), {}),
    "default permissions and own": (nsc.account(OPERATOR, C, default_permissions={"pub": {"allow": ["p.>"]}, "sub": {}}), {"pub": {"allow": ["other"]}}),
    "mappings": (nsc.account(OPERATOR, C, mappings={"p.bob.a": [{"subject": "other", "weight": 100}]}), {}),
    "too many exports": (nsc.account(OPERATOR, C, {"exports": 0}, exports=[{"subject": "e", "type": "stream"}]), {}),
    "as many exports as allowed": (nsc.account(OPERATOR, C, {"exports": 1}, exports=[{"subject": "e", "type": "stream"}]), {}),
    "too many imports": (nsc.account(OPERATOR, C, {"imports": 0}, imports=[{"subject": "e", "type": "stream", "account": A.public}]), {}),
    "as many imports as allowed": (nsc.account(OPERATOR, C, {"imports": 1}, imports=[{"subject": "e", "type": "stream", "account": A.public}]), {}),
    "wildcards that are not allowed": (nsc.account(OPERATOR, C, {"exports": 2, "wildcards": False}, exports=[{"subject": "e.*", "type": "stream"}]), {}),
    "no wildcards where none are allowed": (nsc.account(OPERATOR, C, {"exports": 2, "wildcards": False}, exports=[{"subject": "e", "type": "stream"}]), {}),
    "wildcards beside any number of exports": (nsc.account(OPERATOR, C, {"wildcards": False}, exports=[{"subject": "e.*", "type": "stream"}]), {}),
    "leaf nodes": (nsc.account(OPERATOR, C, {"leaf": 0}), {}),
    "tiers and limits at once": (nsc.account(OPERATOR, C, {"disk_storage": 1000, "tiered_limits": {"R1": {"disk_storage": 1000}}}), {}),
    "a tier without a name": (nsc.account(OPERATOR, C, {"tiered_limits": {"": {"disk_storage": 1000}}}), {}),
    "a trace to a pattern": (nsc.account(OPERATOR, C, trace={"dest": "t.*"}), {}),
    "a trace sampled too often": (nsc.account(OPERATOR, C, trace={"dest": "t", "sampling": 101}), {}),
    "a callout without users": (nsc.account(OPERATOR, C, authorization={"allowed_accounts": [A.public]}), {}),
    "a mapping of more than all": (nsc.account(OPERATOR, C, mappings={"p.bob.a": [{"subject": "other", "weight": 60}, {"subject": "x", "weight": 60}]}), {}),
    "an export that is none": (nsc.account(OPERATOR, C, exports=[{"subject": "e..f", "type": "stream"}]), {}),
    "an import from nobody": (nsc.account(OPERATOR, C, imports=[{"subject": "e", "type": "stream", "account": nsc.Key("A", "none").public}]), {}),
}


@pytest.mark.parametrize("case", ACCOUNTS.values(), ids=[name.replace(" ", "_") for name in ACCOUNTS])
def test_account(start_pair, case):
    token, user = case
    # Who finds the account full is shown with less than it is by Weir.
    without = {"authorized_user", "issuer_key", "log", "name_tag", "account"} if '"conn": 0' in json.dumps(nsc.claims_of(token)) else ()
    pair = start_pair(config(accounts(c=(C, token))))
    connect = login(nsc.user(C, U, **user))
    try:
        said = ["SUB other 1", "SUB p.> 2", *published("p.bob.a", "other"), "PUB other 5", "01234"]
        pair.same(lambda broker: {key: value for key, value in entered(broker, connect, *said).items() if key not in without})
    finally:
        pair.stop()


# -- the configuration

def started(tmp_path_factory, binary, text: str, name: str) -> tuple:
    """Whether a server starts with the configuration, and the last line of its log."""
    from broker import Broker
    broker = Broker(binary, tmp_path_factory.mktemp("start"), text, name)
    broker.start(wait=False)
    wait_until(lambda: not broker.running or "Server is ready" in broker.log(), "it starts or ends")
    lines = [line for line in broker.log().splitlines() if "[FTL]" in line or line.startswith("nats-server:")]
    ready = broker.running
    broker.stop()
    return ready, [re.sub(r"^.*\[FTL\] |/\S*/", "", line) for line in lines[-1:]]


PLAIN_OPERATOR = nsc.operator(OPERATOR)
CONFIGURATIONS = {
    "no resolver": f"operator: {PLAIN_OPERATOR}",
    "accounts beside": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\naccounts {{ A {{ users: [ {{ user: u, password: p }} ] }} }}",
    "users beside": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\nauthorization {{ users: [ {{ user: u, password: p }} ] }}",
    "a guest": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\nno_auth_user: u",
    "another system account": f"operator: {nsc.operator(OPERATOR, system_account=SYS.public)}\nresolver: MEMORY\nsystem_account: {A.public}",
    "a folder without system account": f'operator: {PLAIN_OPERATOR}\nresolver: {{ type: full, dir: "STORE" }}',
    "a system account nobody knows": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\nsystem_account: {SYS.public}",
    "a later server wanted": f"operator: {nsc.operator(OPERATOR, assert_server_version='3.0.0')}\nresolver: MEMORY",
    "a later minor wanted": f"operator: {nsc.operator(OPERATOR, assert_server_version='2.99.0')}\nresolver: MEMORY",
    "a version that is none": f"operator: {nsc.operator(OPERATOR, assert_server_version='2')}\nresolver: MEMORY",
    "an older server wanted": f"operator: {nsc.operator(OPERATOR, assert_server_version='2.1.0')}\nresolver: MEMORY",
    "a sentinel without operator": f"default_sentinel: {nsc.user(A, U, bearer_token=True)}",
    "a sentinel that is no bearer": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\ndefault_sentinel: {nsc.user(A, U)}",
    "a sentinel that is none": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\ndefault_sentinel: eyJ.x.y",
    "a preload that is none": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY\nresolver_preload {{ {A.public}: eyJ.x.y }}",
    "a plain memory resolver": f"operator: {PLAIN_OPERATOR}\nresolver: MEMORY",
}


@pytest.mark.parametrize("text", CONFIGURATIONS.values(), ids=[name.replace(" ", "_") for name in CONFIGURATIONS])
def test_configuration(tmp_path_factory, text):
    import binaries
    text = STANDALONE + text + "\n"
    expected = started(tmp_path_factory, binaries.reference(), text, "reference")
    actual = started(tmp_path_factory, binaries.weir(), text, "weir")
    assert actual[0] == expected[0], f"nats-server: {expected}\nweir: {actual}"


def test_strict_operators_want_signing_keys(start_pair):
    strict = nsc.operator(OPERATOR, signing_keys=[SIGNER.public], strict_signing_key_usage=True, system_account=SYS.public)
    known = {
        SYS.public: nsc.account(SIGNER, SYS, signing_keys=[A_SIGNER.public]),
        A.public: nsc.account(SIGNER, A, signing_keys=[A_SIGNER.public]),
        B.public: nsc.account(OPERATOR, B, signing_keys=[A_SIGNER.public]),
    }
    pair = start_pair(config(known, operator=strict))
    for connect in (login(nsc.user(A, U)), login(nsc.user(A_SIGNER, U, issuer_account=A.public)), login(nsc.user(A_SIGNER, U, issuer_account=B.public))):
        pair.same(lambda broker: entered(broker, connect))


def test_sentinel_stands_in(start_pair):
    sentinel = nsc.user(A, V, bearer_token=True, pub={"deny": [">"]})
    pair = start_pair(config(accounts(), default_sentinel=sentinel))
    for connect in (lambda info: {}, lambda info: {"user": "u", "pass": "p"}, lambda info: {"jwt": "x"}, login(nsc.user(A, U))):
        pair.same(lambda broker: entered(broker, connect, *published("x")))


def test_pinned_accounts(start_pair):
    pair = start_pair(config(accounts(), resolver_pinned_accounts=f"[{A.public}]"))
    for signer, key in ((A, U), (B, U), (SYS, ADMIN)):
        pair.same(lambda broker: entered(broker, login(nsc.user(signer, key), key)))


# -- imports

def test_imports_by_jwt(start_pair):
    exports = [{"name": "s", "subject": "s.*", "type": "stream"}, {"name": "r", "subject": "r.>", "type": "service"},
               {"name": "p", "subject": "private", "type": "service", "token_req": True}]
    private = nsc.activation(A, B, "private", "service")
    imports = [{"name": "s", "subject": "s.*", "type": "stream", "account": A.public, "local_subject": "from.$1"},
               {"name": "r", "subject": "r.>", "type": "service", "account": A.public, "local_subject": "to.>"},
               {"name": "p", "subject": "private", "type": "service", "account": A.public, "token": private}]
    stolen = [{"name": "p", "subject": "private", "type": "service", "account": A.public, "token": private},
              {"name": "q", "subject": "s.*", "type": "stream", "account": A.public, "to": "pre"}]
    known = {SYS.public: nsc.account(OPERATOR, SYS), A.public: nsc.account(OPERATOR, A, exports=exports),
             B.public: nsc.account(OPERATOR, B, imports=imports), C.public: nsc.account(OPERATOR, C, imports=stolen)}
    pair = start_pair(config(known))

    def talk(broker):
        heard = []
        with opened(broker, login(nsc.user(A, U))) as a, opened(broker, login(nsc.user(B, U))) as b, opened(broker, login(nsc.user(C, U))) as c:
            b.send("SUB from.* 1", "SUB answers 2")
            c.send("SUB pre.> 1", "SUB s.> 2")
            a.send("SUB r.> 1", "SUB private 2")
            for client in (a, b, c):
                client.until_pong()
            a.send(*published("s.one"))
            heard.append([str(op) for op in a.until_pong() if op.verb != "INFO"])
            b.send("PUB to.two answers 1", "x", "PUB private answers 1", "y")
            c.send("PUB private answers 1", "z")
            for client in (b, c, a, b, c):
                heard.append(sorted(re.sub(r"_R_\.\S+", "<reply>", str(op)) for op in client.until_pong() if op.verb != "INFO"))
        return heard

    pair.same(talk)


# -- resolvers

@pytest.fixture
def account_server():
    """(URL, what is known there) of an HTTP server that knows some accounts."""
    known = {key: token for key, token in accounts().items()}
    with AccountServer(known) as server:
        yield server.url, known


def test_accounts_by_url(start_pair, account_server):
    url, known = account_server
    operator = nsc.operator(OPERATOR, signing_keys=[SIGNER.public])
    pair = start_pair(STANDALONE + f'operator: {operator}\nresolver: URL("{url}")\nsystem_account: {SYS.public}\n')
    for signer in (A, B, C):
        pair.same(lambda broker: entered(broker, login(nsc.user(signer, U))))
    known[C.public] = nsc.account(OPERATOR, C)
    pair.same(lambda broker: entered(broker, login(nsc.user(C, U))))


def full(**more) -> str:
    operator = nsc.operator(OPERATOR, signing_keys=[SIGNER.public], system_account=SYS.public)
    options = {"type": "full", "dir": '"STORE"', "allow_delete": "true", "interval": '"1m"'} | more
    text = ", ".join(f"{key}: {value}" for key, value in options.items())
    return STANDALONE + f"operator: {operator}\nsystem_account: {SYS.public}\nresolver {{ {text} }}\n" \
        f"resolver_preload {{ {SYS.public}: {nsc.account(OPERATOR, SYS)} }}\n"


def asked(broker, subject: str, body: str = "") -> object:
    """The system account's answer to a request."""
    with opened(broker, login(nsc.user(SYS, ADMIN), ADMIN)) as client:
        client.send("SUB answers 1", f"PUB {subject} answers {len(body)}", body)
        try:
            payload = client.until(lambda operation: operation.verb == "MSG", within=3)[-1].payload
        except (AssertionError, TimeoutError, OSError):
            return "<no answer>"
    try:
        answer = json.loads(payload)
    except ValueError:
        return payload.decode()
    answer["server"] = sorted(answer["server"])
    return mask(answer)


BAD_UPDATES = {
    "nonsense": "x",
    "nothing": "",
    "a user": nsc.user(A, U),
    "a stranger's": nsc.account(STRANGER, A),
    "another account's": nsc.account(OPERATOR, B),
    "one with an export that is none": nsc.account(OPERATOR, A, exports=[{"subject": "", "type": "stream"}]),
    "one with too heavy mappings": nsc.account(OPERATOR, A, mappings={"m": [{"subject": "a", "weight": 80}, {"subject": "b", "weight": 80}]}),
}


@pytest.fixture(scope="module")
def folder(start_pair):
    return start_pair(full())


@pytest.mark.parametrize("body", BAD_UPDATES.values(), ids=[name.replace(" ", "_") for name in BAD_UPDATES])
@pytest.mark.parametrize("subject", ["$SYS.REQ.CLAIMS.UPDATE", f"$SYS.REQ.ACCOUNT.{A.public}.CLAIMS.UPDATE"], ids=["all", "one"])
def test_bad_update(start_pair, body, subject, folder):
    folder.same(lambda broker: asked(broker, subject, body))


def test_life_of_an_account_in_a_folder(start_pair):
    pair = start_pair(full())
    first = nsc.account(OPERATOR, A, issued=NOW - 50)
    second = nsc.account(OPERATOR, A, {"subs": 2}, issued=NOW - 40)
    revoking = nsc.account(OPERATOR, A, {"subs": 2}, issued=NOW - 30, revocations={U.public: NOW + 100})
    update, one = "$SYS.REQ.CLAIMS.UPDATE", f"$SYS.REQ.ACCOUNT.{A.public}.CLAIMS"
    delete = nsc.token(OPERATOR, "generic", OPERATOR.public, {"accounts": [A.public]})
    connect = login(nsc.user(A, U, issued=NOW))

    def live(broker):
        steps = [entered(broker, connect)["heard"], asked(broker, f"{one}.LOOKUP")]
        steps += [asked(broker, update, first), asked(broker, "$SYS.REQ.CLAIMS.LIST"), asked(broker, f"{one}.LOOKUP")]
        held = opened(broker, connect)
        held.send("SUB a 1")
        steps.append([op.verb for op in held.until_pong()])
        steps.append(asked(broker, f"{one}.UPDATE", second))
        steps.append(entered(broker, connect, "SUB a 1", "SUB b 2", "SUB c 3")["heard"])
        steps.append(asked(broker, f"{one}.UPDATE", revoking))
        steps.append([str(op) for op in held.until_closed() if op.verb != "INFO"])
        held.close()
        steps.append(entered(broker, connect))
        other = opened(broker, login(nsc.user(A, V)))
        other.until_pong()
        steps.append(asked(broker, "$SYS.REQ.CLAIMS.DELETE", delete))
        steps.append([str(op) for op in other.until_closed() if op.verb != "INFO"])
        other.close()
        steps += [asked(broker, "$SYS.REQ.CLAIMS.LIST"), asked(broker, f"{one}.LOOKUP"), entered(broker, login(nsc.user(A, V)))["heard"]]
        return steps

    def sorted_lists(broker):
        steps = live(broker)
        steps = [[line for line in step if "maximum subscriptions" not in line] if isinstance(step, list) else step for step in steps]
        return [step | {"data": sorted(step["data"])} if isinstance(step, dict) and isinstance(step.get("data"), list) else step for step in steps]

    pair.same(sorted_lists)


BAD_DELETES = {
    "a stranger's": nsc.token(STRANGER, "generic", STRANGER.public, {"accounts": [A.public]}),
    "not for itself": nsc.token(OPERATOR, "generic", SIGNER.public, {"accounts": [A.public]}),
    "without accounts": nsc.token(OPERATOR, "generic", OPERATOR.public, {}),
    "with one that is none": nsc.token(OPERATOR, "generic", OPERATOR.public, {"accounts": ["A"]}),
    "of the system account": nsc.token(OPERATOR, "generic", OPERATOR.public, {"accounts": [SYS.public]}),
    "of an unknown account": nsc.token(OPERATOR, "generic", OPERATOR.public, {"accounts": [C.public]}),
    "nonsense": "x",
}


@pytest.mark.parametrize("body", BAD_DELETES.values(), ids=[name.replace(" ", "_") for name in BAD_DELETES])
def test_delete(folder, body):
    folder.same(lambda broker: asked(broker, "$SYS.REQ.CLAIMS.DELETE", body))


def test_deletes_must_be_allowed(start_pair):
    pair = start_pair(full(allow_delete="false"))
    pair.same(lambda broker: asked(broker, "$SYS.REQ.CLAIMS.DELETE", nsc.token(OPERATOR, "generic", OPERATOR.public, {"accounts": [A.public]})))


def test_pack(start_pair):
    def pack(broker):
        with opened(broker, login(nsc.user(SYS, ADMIN), ADMIN)) as client:
            client.send("SUB answers 1")
            client.until_pong()
            deadline = time.monotonic() + 10
            # nats-server takes a moment to put what it was started with into its folder.
            while len(seen := packed(client)) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            return seen

    def packed(client):
        client.send("PUB $SYS.REQ.CLAIMS.PACK answers 0", "")
        seen = []
        while not seen or seen[-1]:
            seen.append(client.read_message().payload)
        return [payload.split(b"|")[0] for payload in seen]

    pair = start_pair(full())
    pair.same(pack)


UPDATES = {
    "bearers are forbidden": ({}, {"disallow_bearer": True}, {}, {"bearer_token": True}),
    "a signing key goes": ({"signing_keys": [A_SIGNER.public]}, {}, {}, {}),
    "default permissions change": ({"default_permissions": {"pub": {}, "sub": {}}}, {}, {"default_permissions": {"pub": {}, "sub": {"deny": ["a"]}}}, {}),
    "nothing changes": ({}, {}, {}, {}),
    "it expires": ({}, {}, {"exp": 0}, {}),
}


@pytest.mark.parametrize("case", UPDATES.values(), ids=[name.replace(" ", "_") for name in UPDATES])
def test_update_of_an_account_in_use(start_pair, case):
    before, limits, after, user = case
    pair = start_pair(full())
    signer, more = (A_SIGNER, {"issuer_account": A.public}) if "signing_keys" in before else (A, {})
    connect = login(nsc.user(signer, U, **user, **more))

    def change(broker):
        changed = dict(after)
        if "exp" in changed:
            changed["exp"] = int(time.time()) + SOON
        asked(broker, "$SYS.REQ.CLAIMS.UPDATE", nsc.account(OPERATOR, A, issued=NOW - 50, **before))
        held = opened(broker, connect)
        held.send("SUB a 1", "SUB b 2")
        held.until_pong()
        answer = asked(broker, "$SYS.REQ.CLAIMS.UPDATE", nsc.account(OPERATOR, A, limits, issued=NOW - 40, **changed))
        if "exp" in changed:
            heard = [str(op) for op in held.until_closed(8)]
        else:
            time.sleep(0.2)  # an INFO or an error may come of itself
            heard = [str(op) for op in held.until_pong()]
        held.close()
        return answer, [line for line in heard if not line.startswith(("INFO", "PING"))]

    try:
        pair.same(change)
    finally:
        pair.stop()


def test_memory_resolver_takes_updates_of_accounts_in_use(start_pair):
    pair = start_pair(config(accounts()))
    changed = nsc.account(OPERATOR, A, {"subs": 1}, **ACCOUNT_A)
    subject = f"$SYS.REQ.ACCOUNT.{A.public}.CLAIMS.UPDATE"

    def change(broker):
        steps = [asked(broker, subject, changed), entered(broker, login(nsc.user(A, U)), "SUB a 1", "SUB b 2")["heard"]]
        return steps + [asked(broker, subject, body) for body in (changed, "x", "", nsc.account(OPERATOR, B))]

    pair.same(change)


def test_reload_changes_preloaded_accounts(start_pair):
    pair = start_pair(config(accounts()))
    changed = accounts() | {A.public: nsc.account(OPERATOR, A, revocations={"*": NOW + 100})}
    del changed[B.public]

    def reload(broker):
        held = [opened(broker, login(nsc.user(signer, U))) for signer in (A, B)]
        for client in held:
            client.until_pong()
        broker.write_config(config(changed).replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log_since_start(), "the reload")
        heard = [[str(op) for op in client.until_pong() if op.verb != "INFO"] for client in held]
        for client in held:
            client.close()
        return heard, [entered(broker, login(nsc.user(signer, U)))["heard"] for signer in (A, B)]

    pair.same(reload)
