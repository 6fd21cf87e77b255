"""Auth callout: what a server asks a service about a client, and what it makes of the answers."""

import json
import re
import socket
import threading
import time

import pytest

import nsc
from broker import STANDALONE
from wire import Wire, message_of

ISSUER, OTHER_ISSUER = nsc.Key("A", "issuer"), nsc.Key("A", "other issuer")
SERVICE_X, OTHER_X = nsc.Key("X", "service"), nsc.Key("X", "other")
U, STRANGER = nsc.Key("U", "u"), nsc.Key("U", "stranger")
ACCOUNTS = """
accounts {
  AUTH { users: [ { user: auth, password: auth } ] }
  APP { users: [ { user: known, password: p } ] }
  OTHER { users: [ { user: other, password: p } ] }
}
"""


def config(**more) -> str:
    options = {"issuer": ISSUER.public, "account": "AUTH", "auth_users": "[ auth ]"} | more
    text = "\n".join(f"    {key}: {value}" for key, value in options.items())
    return STANDALONE + ACCOUNTS + f"authorization {{\n  timeout: 1\n  auth_callout {{\n{text}\n  }}\n}}\n"


class Service:
    """Answers questions in a thread of its own as `answer(question, server) -> bytes | None` says."""

    def __init__(self, broker, answer, connect=None):
        self.answer = answer
        self.questions: list[dict] = []
        self.headers: list[tuple] = []
        self.client = Wire(broker.port)
        connect = connect or (lambda info: {"user": "auth", "pass": "auth"})
        self.client.send("CONNECT " + json.dumps({"verbose": False, "headers": True} | connect(self.client.info)), "SUB $SYS.REQ.USER.AUTH 1")
        self.client.until_pong()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        try:
            while True:
                operation = self.client.read(within=30)
                if operation.verb not in ("MSG", "HMSG"):
                    if operation.verb == "<closed>":
                        return
                    continue
                message = message_of(operation)
                server_xkey = message.header("Nats-Server-Xkey")
                payload = message.payload
                self.headers.append(tuple(key for key, _ in message.headers))
                if server_xkey:
                    payload = SERVICE_X.open(payload, server_xkey)
                question = nsc.claims_of(payload.decode())
                self.questions.append(question)
                answer = self.answer(question, server_xkey)
                if answer is not None:
                    self.client.send_raw(b"PUB %s %d\r\n%s\r\n" % (message.reply.encode(), len(answer), answer))
        except (OSError, AssertionError, ValueError):
            pass

    def close(self):
        self.client.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self.client.close()
        self.thread.join(timeout=5)


def response(question: dict, by: nsc.Key = ISSUER, user: str | None = None, subject: str | None = None, audience: str | None = None, **nats) -> bytes:
    """An answer's JWT: a user's, or an error."""
    if user is not None:
        nats["jwt"] = user
    body = nsc.token(by, "authorization_response", subject or question["nats"]["user_nkey"], nats, aud=audience or question["nats"]["server_id"]["id"])
    return body.encode()


def user_of(question: dict, by: nsc.Key = ISSUER, account: str = "APP", key: str | None = None, **nats) -> str:
    registered = {name: nats.pop(name) for name in ("exp", "nbf", "name") if name in nats}
    nats = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1} | nats
    return nsc.token(by, "user", key or question["nats"]["user_nkey"], nats, aud=account, **registered)


def granted(**nats):
    return lambda question, xkey: response(question, user=user_of(question, **nats))


NOW = int(time.time())
ANSWERS = {
    "yes": granted(),
    "yes by name": granted(name="bob"),
    "yes with permissions": granted(pub={"allow": ["p"]}, sub={"deny": ["s"]}),
    "yes with limits": granted(subs=1, payload=3),
    "yes for some time": granted(exp=NOW + 36_000),
    "yes but expired": granted(exp=NOW - 10),
    "yes into the service's account": granted(account="AUTH"),
    "yes into the global account": granted(account="$G"),
    "yes into an unknown account": granted(account="NONE"),
    "yes into no account": granted(account=""),
    "yes for another network": granted(src=["10.0.0.0/8"]),
    "yes for a network that is none": granted(src=["x"]),
    "yes at no time": granted(times=[{"start": "00:00:00", "end": "00:00:00"}]),
    "yes for websockets": granted(allowed_connection_types=["WEBSOCKET"]),
    "yes for the future": granted(allowed_connection_types=["QUIC"]),
    "yes through a proxy": granted(proxy_required=True),
    "yes with an issuer account": granted(issuer_account=ISSUER.public),
    "another user": lambda question, xkey: response(question, user=user_of(question, key=STRANGER.public)),
    "a user by another": lambda question, xkey: response(question, user=user_of(question, OTHER_ISSUER)),
    "an answer by another": lambda question, xkey: response(question, OTHER_ISSUER, user=user_of(question)),
    "an answer for another": lambda question, xkey: response(question, subject=STRANGER.public, user=user_of(question)),
    "an answer for another server": lambda question, xkey: response(question, audience=nsc.Key("N", "x").public, user=user_of(question)),
    "no": lambda question, xkey: response(question, error="not you"),
    "yes and no": lambda question, xkey: response(question, user=user_of(question), error="not you"),
    "neither": lambda question, xkey: response(question),
    "nothing in it": lambda question, xkey: b"",
    "nonsense": lambda question, xkey: b"eyJ.x.y",
    "silence": lambda question, xkey: None,
    "a user's JWT": lambda question, xkey: user_of(question).encode(),
}

LOGINS = {
    "nobody": {},
    "a user": {"user": "u", "pass": "p", "name": "a name"},
    "a token": {"auth_token": "t"},
    "an nkey": lambda info: {"nkey": U.public, "sig": U.sign_nonce(info.get("nonce", ""))},
    "a configured user": {"user": "known", "pass": "p"},
    "a configured user of elsewhere": {"user": "other", "pass": "p"},
    "a configured user with a wrong password": {"user": "known", "pass": "x"},
    "the service's user": {"user": "auth", "pass": "auth"},
    "the service's user with a wrong password": {"user": "auth", "pass": "x"},
}

ITS_OWN = {"iat", "exp", "jti", "iss"}


def shape(question: dict) -> dict:
    """A question without what differs from server to server."""
    question = {key: value for key, value in question.items() if key not in ITS_OWN} | {"": sorted(question)}
    nats = dict(question["nats"])
    nats["user_nkey"] = nats["user_nkey"][:1] + str(len(nats["user_nkey"]))
    nats["server_id"] = {key: value if key in ("name", "host", "version", "cluster", "tags") else len(value) for key, value in nats["server_id"].items()}
    nats["client_info"] = nats["client_info"] | {"id": "<cid>"} | ({"nonce": "<nonce>"} if "nonce" in nats["client_info"] else {})
    nats["connect_opts"] = nats["connect_opts"] | ({"sig": "<sig>"} if "sig" in nats["connect_opts"] else {})
    return question | {"nats": nats}


def entered(broker, connect) -> dict:
    with Wire(broker.port) as client:
        cid = client.info["client_id"]
        options = connect(client.info) if callable(connect) else connect
        client.send("CONNECT " + json.dumps({"verbose": False, "protocol": 1} | options))
        client.send("SUB s 1", "SUB t 2", "PUB p 5", "01234", "PUB q 1", "x", "PUB $SYS.REQ.USER.AUTH 1", "x")
        heard = [op.verb if op.verb == "INFO" else str(op) for op in client.until_pong()]
        state = "closed" if client.ended else "open"

        listed = broker.connection(cid, state)
        # Weir does not note who vouched for a client that is refused.
        keys = ("authorized_user", "account", "reason") + (("issuer_key",) if state == "open" else ())
        return {"heard": heard, "state": state} | {key: listed.get(key) for key in keys}


def held(broker, answer, connect, service=None) -> dict:
    """One client and the service: what becomes of the client, what was asked, what the log says."""
    service = Service(broker, answer, service)
    before = len(broker.log_since_start())
    try:
        outcome = entered(broker, connect)
    finally:
        service.close()
    warnings = [re.sub(r"^.*\[WRN\] ", "", line) for line in broker.log_since_start()[before:].splitlines() if "[WRN]" in line]
    masked = [re.sub(r'"U[A-Z2-7]{55}"', "<user>", line) for line in warnings]
    masked = ["<bad JSON>" if "JSON" in line or "EOF" in line else line for line in masked]
    questions = [shape(question) for question in service.questions if "q" != question.get("sub")]
    return outcome | {"questions": questions, "headers": service.headers, "warnings": masked}


@pytest.fixture(scope="module")
def plain(start_pair):
    return start_pair(config())


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=[name.replace(" ", "_") for name in ANSWERS])
def test_answer(plain, answer):
    plain.same(lambda broker: held(broker, answer, {"user": "u", "pass": "p"}))


@pytest.mark.parametrize("connect", LOGINS.values(), ids=[name.replace(" ", "_") for name in LOGINS])
def test_question(plain, connect):
    plain.same(lambda broker: held(broker, ANSWERS["yes by name"], connect))


def test_without_service_nobody_gets_in(plain):
    plain.same(lambda broker: entered(broker, {"user": "u", "pass": "p"}))


@pytest.mark.parametrize("connect", LOGINS.values(), ids=[name.replace(" ", "_") for name in LOGINS])
def test_only_some_accounts_are_delegated(start_pair, connect):
    pair = start_pair(config(allowed_accounts="[ APP ]"))
    try:
        pair.same(lambda broker: held(broker, ANSWERS["yes by name"], connect))
    finally:
        pair.stop()


def sealed(by: nsc.Key, signer: nsc.Key = ISSUER):
    return lambda question, xkey: by.seal(response(question, signer, user=user_of(question, name="bob")), xkey)


ENCRYPTED = {
    "sealed": sealed(SERVICE_X),
    "sealed and signed by another": sealed(SERVICE_X, OTHER_ISSUER),
    "sealed by another": sealed(OTHER_X),
    "plain": ANSWERS["yes by name"],
    "plain and signed by another": ANSWERS["an answer by another"],
    "nonsense": lambda question, xkey: b"xkv1nonsense",
    "no": lambda question, xkey: SERVICE_X.seal(response(question, error="not you"), xkey),
}


@pytest.fixture(scope="module")
def encrypted(start_pair):
    return start_pair(config(xkey=SERVICE_X.public))


@pytest.mark.parametrize("answer", ENCRYPTED.values(), ids=[name.replace(" ", "_") for name in ENCRYPTED])
def test_encrypted(encrypted, answer):
    encrypted.same(lambda broker: held(broker, answer, {"user": "u", "pass": "p"}))


# -- operator mode

OPERATOR, SYS = nsc.Key("O", "operator"), nsc.Key("A", "SYS")
AUTH, APP, LOCKED = nsc.Key("A", "AUTH"), nsc.Key("A", "APP"), nsc.Key("A", "LOCKED")
AUTH_SIGNER, APP_SIGNER = nsc.Key("A", "AUTH signer"), nsc.Key("A", "APP signer")
SERVICE, SENTINEL = nsc.Key("U", "service"), nsc.Key("U", "sentinel")


def delegating(xkey: str = "") -> str:
    authorization = {"auth_users": [SERVICE.public], "allowed_accounts": [APP.public]} | ({"xkey": xkey} if xkey else {})
    scope = {"kind": "user_scope", "key": APP_SIGNER.public, "role": "r", "template": {"pub": {"allow": ["p"]}, "subs": 1}}
    known = {
        SYS.public: nsc.account(OPERATOR, SYS),
        AUTH.public: nsc.account(OPERATOR, AUTH, authorization=authorization, signing_keys=[AUTH_SIGNER.public]),
        APP.public: nsc.account(OPERATOR, APP, signing_keys=[scope]),
        LOCKED.public: nsc.account(OPERATOR, LOCKED),
    }
    preload = "\n".join(f"  {key}: {token}" for key, token in known.items())
    return STANDALONE + f"operator: {nsc.operator(OPERATOR, system_account=SYS.public)}\nresolver: MEMORY\nauthorization {{ timeout: 1 }}\n" \
        f"system_account: {SYS.public}\nresolver_preload {{\n{preload}\n}}\n"


def placed(by: nsc.Key, answered_by: nsc.Key = AUTH, **nats):
    def answer(question, xkey):
        registered = {name: nats[name] for name in ("name",) if name in nats}
        rest = {key: value for key, value in nats.items() if key not in registered}
        user = nsc.token(by, "user", question["nats"]["user_nkey"], {"pub": {}, "sub": {}} | rest, **registered)
        return response(question, answered_by, user=user)
    return answer


FREE = {"subs": -1, "data": -1, "payload": -1}
PLACED = {
    "into the target": placed(APP, name="bob", **FREE),
    "by a scope": placed(APP_SIGNER, issuer_account=APP.public, name="bob"),
    "by a scope with limits": placed(APP_SIGNER, issuer_account=APP.public, **FREE),
    "into the service's account": placed(AUTH, **FREE),
    "by the service's signing key": placed(AUTH_SIGNER, issuer_account=AUTH.public, **FREE),
    "answered by a signing key": placed(APP, AUTH_SIGNER, **FREE),
    "answered by another": placed(APP, APP, **FREE),
    "into an account that is not allowed": placed(LOCKED, **FREE),
    "into an unknown account": placed(nsc.Key("A", "none"), **FREE),
    "no": lambda question, xkey: response(question, AUTH, error="not you"),
    "silence": lambda question, xkey: None,
}


@pytest.fixture(scope="module")
def operated(start_pair):
    return start_pair(delegating())


def by_jwt(signer: nsc.Key, key: nsc.Key, **nats):
    return lambda info: {"jwt": nsc.user(signer, key, **nats), "sig": key.sign_nonce(info["nonce"])}


@pytest.mark.parametrize("answer", PLACED.values(), ids=[name.replace(" ", "_") for name in PLACED])
def test_placement(operated, answer):
    def conversation(broker):
        outcome = held(broker, answer, lambda info: by_jwt(AUTH, SENTINEL)(info) | {"user": "u", "pass": "p"}, by_jwt(AUTH, SERVICE))
        for question in outcome["questions"]:
            question["nats"]["connect_opts"]["jwt"] = "<jwt>"
        if outcome["state"] == "closed":
            outcome["account"] = None  # nats-server names the account of the JWT that was shown
        return outcome

    operated.same(conversation)


def test_users_of_other_accounts_are_not_asked_about(operated):
    operated.same(lambda broker: held(broker, PLACED["no"], by_jwt(APP, U), by_jwt(AUTH, SERVICE)))
