"""Keys and JWTs as an operator makes them with nsc: operators, accounts, users, activations, callout answers.

Not a checker: it signs whatever it is told to, so that tests can make bad ones as well.
"""

import base64
import hashlib
import json
import time

import nacl.bindings
import nacl.public
import nacl.signing

PREFIXES = {"O": 14, "A": 0, "U": 20, "N": 13, "C": 2, "X": 23}
SEED = 18
STARTED_SECONDS = int(time.time())
XKEY_VERSION = b"xkv1"
NONCE_BYTES = 24


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _text(data: bytes) -> str:
    return base64.b32encode(data + _crc16(data).to_bytes(2, "little")).decode().rstrip("=")


def _key_of(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))[1:-2]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A key pair of a kind (its letter), always the same for the same name."""

    def __init__(self, kind: str, name: str):
        self.secret = hashlib.sha256(f"{kind}/{name}".encode()).digest()
        self.name = name
        if kind == "X":
            public = nacl.bindings.crypto_scalarmult_base(self.secret)
        else:
            self.signer = nacl.signing.SigningKey(self.secret)
            public = bytes(self.signer.verify_key)
        self.public = _text(bytes([PREFIXES[kind] << 3]) + public)

    def sign(self, message: bytes) -> bytes:
        return self.signer.sign(message).signature

    def sign_nonce(self, nonce: str) -> str:
        return base64url(self.sign(nonce.encode()))

    def seal(self, plain: bytes, recipient: str) -> bytes:
        """Encrypts for another curve key."""
        box = nacl.public.Box(nacl.public.PrivateKey(self.secret), nacl.public.PublicKey(_key_of(recipient)))
        nonce = b"n" * NONCE_BYTES
        return XKEY_VERSION + nonce + box.encrypt(plain, nonce).ciphertext

    def open(self, sealed: bytes, sender: str) -> bytes:
        assert sealed.startswith(XKEY_VERSION), sealed[:8]
        box = nacl.public.Box(nacl.public.PrivateKey(self.secret), nacl.public.PublicKey(_key_of(sender)))
        rest = sealed[len(XKEY_VERSION):]
        return box.decrypt(rest[NONCE_BYTES:], rest[:NONCE_BYTES])


def token(signer: Key, kind: str, subject: str, nats: dict, issued: int | None = None, **registered) -> str:
    """A JWT of version 2; `registered` are fields such as exp, nbf, aud, name."""
    claims = {"iat": int(time.time()) if issued is None else issued, "iss": signer.public, "sub": subject} | registered
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims | nats, sort_keys=True).encode()).digest()).decode().rstrip("=")
    claims["nats"] = {"type": kind, "version": 2} | nats
    signed = ".".join(base64url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
    return f"{signed}.{base64url(signer.sign(signed.encode()))}"


def claims_of(text: str) -> dict:
    """The content of a JWT, unverified."""
    if text.count(".") != 2:
        raise ValueError(f"not a JWT: {text[:40]!r}")
    payload = text.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def operator(key: Key, **nats) -> str:
    registered = {name: nats.pop(name) for name in ("exp", "nbf", "name") if name in nats}
    # One time of issue: a config written a second later would have another operator, which no reload takes.
    return token(key, "operator", key.public, nats, STARTED_SECONDS, **{"name": "O"} | registered)


UNLIMITED = {
    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
}


def account(signer: Key, key: Key, limits: dict | None = None, issued: int | None = None, **nats) -> str:
    registered = {name: nats.pop(name) for name in ("exp", "nbf") if name in nats}
    nats = {"limits": UNLIMITED | (limits or {}), "default_permissions": {"pub": {}, "sub": {}}, "authorization": {}} | nats
    return token(signer, "account", key.public, nats, issued, **{"name": key.name} | registered)


def user(signer: Key, key: Key, scoped: bool = False, issued: int | None = None, **nats) -> str:
    registered = {name: nats.pop(name) for name in ("exp", "nbf", "aud", "name") if name in nats}
    free = {} if scoped else {"subs": -1, "data": -1, "payload": -1}
    return token(signer, "user", key.public, {"pub": {}, "sub": {}} | free | nats, issued, **{"name": key.name} | registered)


def activation(signer: Key, importer: Key, subject: str, kind: str, **nats) -> str:
    registered = {name: nats.pop(name) for name in ("exp", "nbf", "issued") if name in nats}
    return token(signer, "activation", importer.public, {"subject": subject, "kind": kind} | nats, **registered)
