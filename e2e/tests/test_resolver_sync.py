"""Account claims among the servers of a mesh of Weir and nats-server: full resolvers agree, cache resolvers ask and forget."""

import time

import pytest

import binaries
import nsc
from account_server import AccountServer
from broker import Broker, wait_until
from certificates import Authority
from test_diff_jwt import A, B, OPERATOR, SYS, U, asked, login, opened

CONFIG = """
listen: "127.0.0.1:PORT"
http: "127.0.0.1:HTTP"
server_name: NAME
cluster {{ name: resolvers, listen: "127.0.0.1:CLUSTER", routes: [{routes}] }}
operator: {operator}
system_account: {system}
resolver {{ {resolver} }}
resolver_preload {{ {system}: {account} }}
"""
FULL = 'type: full, dir: "STORE", allow_delete: true, interval: "1s"'
UPDATE = "$SYS.REQ.CLAIMS.UPDATE"


def joined(directory, programs, resolvers):
    """One server of each program with the resolver beside it, each with a route to all."""
    made = [Broker(getattr(binaries, program)(), directory, "", f"n{at}") for at, program in enumerate(programs)]
    routes = ", ".join(f'"nats://127.0.0.1:{broker.cluster}"' for broker in made)
    for broker, resolver in zip(made, resolvers):
        broker.write_config(CONFIG.format(routes=routes, operator=nsc.operator(OPERATOR, system_account=SYS.public), system=SYS.public,
                                          account=nsc.account(OPERATOR, SYS), resolver=resolver).replace("NAME", broker.name))
        broker.start()
    wait_until(lambda: all(len({route["remote_id"] for route in broker.get_json("/routez").get("routes") or []}) == len(made) - 1 for broker in made),
               "the servers are joined", 15)
    return made


def stopped(made):
    for broker in made:
        broker.stop()


def gets_in(broker, account) -> bool:
    with opened(broker, login(nsc.user(account, U))) as client:
        return "PONG" in [operation.verb for operation in client.until_pong()]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("programs", [("weir", "reference"), ("weir", "weir")], ids=" and ".join)
def test_an_update_at_one_reaches_all(tmp_path, programs, at):
    made = joined(tmp_path, programs, [FULL, FULL])
    try:
        asked(made[at], UPDATE, nsc.account(OPERATOR, A))
        for broker in made:
            wait_until(lambda: gets_in(broker, A), f"{broker.name} knows the account")
            wait_until(lambda: (broker.store / f"{A.public}.jwt").exists(), f"{broker.name} has it in its folder")
    finally:
        stopped(made)


@pytest.mark.parametrize("programs", [("weir", "reference"), ("reference", "weir"), ("weir", "weir")], ids=" after ".join)
def test_who_was_away_catches_up(tmp_path, programs):
    """The first was down while the account came; what it has is compared with the others from time to time."""
    made = joined(tmp_path, programs, [FULL, FULL])
    try:
        made[0].stop()
        asked(made[1], UPDATE, nsc.account(OPERATOR, A))
        asked(made[1], UPDATE, nsc.account(OPERATOR, B))
        made[0].start()
        for account in (A, B):
            wait_until(lambda: (made[0].store / f"{account.public}.jwt").exists(), "the folder is complete")
        made[1].stop()
        assert gets_in(made[0], A) and gets_in(made[0], B)
    finally:
        stopped(made)


@pytest.mark.parametrize("programs", [("weir", "reference"), ("weir", "weir")], ids=" asks ".join)
def test_a_cache_asks_and_forgets(tmp_path, programs):
    """The folder of a cache is empty until somebody comes, holds `limit` accounts, each for `ttl`."""
    cache = 'type: cache, dir: "STORE", ttl: "2s", limit: 10, timeout: "2s"'
    made = joined(tmp_path, programs, [cache, FULL])
    try:
        asked(made[1], UPDATE, nsc.account(OPERATOR, A))
        file = made[0].store / f"{A.public}.jwt"
        wait_until(lambda: gets_in(made[0], A), "the cache asks the other")
        assert file.exists()
        wait_until(lambda: not file.exists(), "the account is forgotten")
        wait_until(lambda: gets_in(made[0], A), "it is asked for again")
    finally:
        stopped(made)


@pytest.mark.parametrize("program", ["weir", "reference"])
@pytest.mark.parametrize("trusted", [True, False], ids=["a known authority", "another authority"])
def test_accounts_by_https(tmp_path, program, trusted):
    """resolver_tls says whom to trust."""
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    known = {SYS.public: nsc.account(OPERATOR, SYS), A.public: nsc.account(OPERATOR, A)}
    with AccountServer(known, authority.issue("accounts")) as server:
        ca = (authority if trusted else other).certificate
        config = f'listen: "127.0.0.1:PORT"\noperator: {nsc.operator(OPERATOR)}\n' \
            f'resolver: URL("{server.url}")\nresolver_tls {{ ca_file: "{ca}" }}\n'
        broker = Broker(getattr(binaries, program)(), tmp_path, config)
        try:
            broker.start(wait=False)
            if not trusted:
                assert broker.wait_exit() != 0, "it does not start with an account server it cannot trust"
                return
            broker.wait_ready()
            assert gets_in(broker, A) and not gets_in(broker, B)
        finally:
            broker.stop()


def test_the_time_of_a_claim_decides(tmp_path):
    """An older claim does not come back from a server that was away."""
    made = joined(tmp_path, ("weir", "reference"), [FULL, FULL])
    now = int(time.time())
    try:
        for broker in made:
            asked(broker, UPDATE, nsc.account(OPERATOR, A, issued=now - 100))
        made[0].stop()
        newer = nsc.account(OPERATOR, A, {"conn": 7}, issued=now - 50)
        asked(made[1], UPDATE, newer)
        made[0].start()
        wait_until(lambda: (made[0].store / f"{A.public}.jwt").read_text() == newer, "the newer claim has come")
        assert (made[1].store / f"{A.public}.jwt").read_text() == newer
    finally:
        stopped(made)
