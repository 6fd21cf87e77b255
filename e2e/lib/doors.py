"""Brokers that show all ways in: users, nkey, token, operator mode, TLS, WebSocket; and three joined by routes, of
which a client program may kill some. Not a test: the programs of compat/ knock.
"""

import base64
import json
import pathlib
import time

import certificates
import nkeys
from broker import STANDALONE, Broker, BrokerFailure, free_port
from cluster import Cluster


def seed(prefix: int, number: int) -> str:
    """The seed of a key that is the same in every run."""
    return nkeys.encode_seed(bytes([number] * 32), prefix).decode()


def public(text: str) -> str:
    return nkeys.from_seed(bytearray(text.encode())).public_key.decode()


def jwt(issuer: str, subject: str, name: str, kind: str, **claims) -> str:
    """A JWT of version 2, signed by the seed `issuer`."""
    def encoded(value) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    body = {"jti": name, "iat": int(time.time()), "iss": public(issuer), "sub": subject, "name": name, "nats": {"type": kind, "version": 2} | claims}
    text = encoded({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + encoded(body)
    return text + "." + encoded(nkeys.from_seed(bytearray(issuer.encode())).sign(text.encode()))


NKEY_SEED = seed(nkeys.PREFIX_BYTE_USER, 1)
UNLIMITED = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}

USERS = STANDALONE + "authorization { users: [ { user: ann, password: apple } ] }\n"
NKEYS = STANDALONE + f"authorization {{ users: [ {{ user: ann, password: apple }}, {{ nkey: {public(NKEY_SEED)} }} ] }}\n"
WITH_WEBSOCKET = """
websocket { listen: "127.0.0.1:WEBSOCKET", no_tls: true }
"""
WITH_SECURE_WEBSOCKET = """
websocket { listen: "127.0.0.1:WEBSOCKET", tls { cert_file: "CERTIFICATES/server.pem", key_file: "CERTIFICATES/server.key" } }
"""
TOKEN = STANDALONE + 'authorization { token: "s3cret" }\n'
WITH_TLS = """
tls { cert_file: "CERTIFICATES/server.pem", key_file: "CERTIFICATES/server.key" FIRST }
"""
TLS_FIRST = ", handshake_first: true"
TRIO_EXTRA = '\nlame_duck_duration: "30s"\nlame_duck_grace_period: "300ms"\n'


class Doors:
    """The brokers, all started at once. `at` has what a program needs to know, by name."""

    def __init__(self, binary: str, folder: pathlib.Path):
        self.binary = binary
        self.folder = folder
        self.certificates = certificates.make(folder / "certificates")
        self.brokers: list[Broker] = []
        self.trios: list[Cluster] = []
        self.websocket_port = free_port()
        self.at = {"ca": str(self.certificates / "ca.pem"), "nkey_seed": NKEY_SEED}
        self.at["users"] = self._start("users", USERS).url
        self.at["nkeys"] = self._start("nkeys", NKEYS).url
        self._start("websocket", USERS + self._placed(WITH_WEBSOCKET))
        self.at["websocket"] = f"ws://127.0.0.1:{self.websocket_port}"
        self.at["token"] = self._start("token", TOKEN).url
        self.at["tls"] = self._start("tls", TOKEN + self._placed(WITH_TLS)).url.replace("nats:", "tls:")
        self.at["tls_first"] = self._start("tls_first", TOKEN + self._placed(WITH_TLS, TLS_FIRST)).url.replace("nats:", "tls:")
        self.at["operator"] = self._start("operator", self._operator()).url

    def _placed(self, text: str, first: str = "") -> str:
        return (text.replace("CERTIFICATES", str(self.certificates)).replace("WEBSOCKET", str(self.websocket_port)).replace("FIRST", first))

    def _start(self, name: str, config: str) -> Broker:
        broker = Broker(self.binary, self.folder, config, name)
        self.brokers.append(broker)
        try:
            return broker.start()
        except BrokerFailure as failure:
            # Only who knocks at this door fails, and the log says why.
            print(failure)
            return broker

    def _operator(self) -> str:
        """A config in operator mode; a user's credentials are left in the file `credentials`."""
        operator, account = seed(nkeys.PREFIX_BYTE_OPERATOR, 6), seed(nkeys.PREFIX_BYTE_ACCOUNT, 7)
        system = seed(nkeys.PREFIX_BYTE_ACCOUNT, 8)
        user = seed(nkeys.PREFIX_BYTE_USER, 9)
        user_jwt = jwt(account, public(user), "ann", "user", subs=-1, data=-1, payload=-1)
        path = self.folder / "ann.creds"
        path.write_text(f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
                        f"-----BEGIN USER NKEY SEED-----\n{user}\n------END USER NKEY SEED------\n")
        self.at["credentials"] = str(path)
        account_jwt = jwt(operator, public(account), "A", "account", limits=UNLIMITED)
        system_jwt = jwt(operator, public(system), "SYS", "account", limits=UNLIMITED)
        return STANDALONE + (f"operator: {jwt(operator, public(operator), 'O', 'operator')}\nsystem_account: {public(system)}\nresolver: MEMORY\n"
                             f"resolver_preload {{ {public(account)}: {account_jwt}, {public(system)}: {system_jwt} }}\n")

    def trio(self) -> Cluster:
        """Three fresh brokers joined by routes."""
        trio = Cluster(self.binary, self.folder / f"trio{len(self.trios)}", jetstream=False, extra=TRIO_EXTRA)
        self.trios.append(trio)
        return trio.start()

    def secure_websockets(self) -> list[tuple[str, Broker]]:
        """Two fresh brokers that do not know each other, and their WebSocket URLs over TLS."""
        made = []
        for _ in range(2):
            port = free_port()
            text = WITH_SECURE_WEBSOCKET.replace("WEBSOCKET", str(port)).replace("CERTIFICATES", str(self.certificates))
            name = f"wss{len(self.brokers)}"
            made.append((f"wss://127.0.0.1:{port}", self._start(name, USERS.replace("NAME", name) + text)))
        return made

    def arguments(self) -> list[str]:
        """`KEY=VALUE` for a program, with a trio and a pair over secure WebSockets of its own."""
        trio, secure = self.trio(), self.secure_websockets()
        brokers = trio.brokers + [broker for _, broker in secure]
        own = {"trio": trio.brokers[0].url, "wss": ",".join(url for url, _ in secure)}
        pids = {f"pid_{broker.name}": broker.process.pid for broker in brokers}
        return [f"{key}={value}" for key, value in (self.at | own | pids).items()]

    def stop(self):
        for trio in self.trios:
            trio.stop()
        for broker in self.brokers:
            broker.stop()
