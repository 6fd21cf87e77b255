"""Accounts that import and export: the same conversations with Weir and the real nats-server."""

import json
import re
import signal
import subprocess

import pytest

import binaries
from broker import STANDALONE, wait_until
from talk import Talk, talk
from wire import Wire

def account(name: str, body: str = "") -> str:
    return f"{name} {{ users: [ {{ user: {name.lower()}, password: p }} ]\n{body} }}\n"


CONFIG = STANDALONE + "no_auth_user: a\naccounts {\n" + account("A", """
  exports: [
    { stream: "orders.>" }
    { stream: "plain" }
    { stream: "two.*.*" }
    { stream: "private", accounts: [B] }
    { service: "svc.*" }
    { service: "svc.deep.>" }
    { service: "one" }
    { service: "many", response_type: stream }
    { service: "pieces", response: chunked }
    { service: "slow", response_threshold: "200ms" }
    { service: "mine.*", account_token_position: 2 }
    { service: "secret", accounts: [B] }
  ]
  mappings: { "svc.mapped": "svc.mapped.v2" }
""") + account("B", """
  imports: [
    { stream: { account: A, subject: "orders.>" } }
    { stream: { account: A, subject: "plain" }, to: "flat" }
    { stream: { account: A, subject: "two.*.*" }, to: "swapped.$2.$1" }
    { stream: { account: A, subject: "private" }, prefix: "from.a" }
    { service: { account: A, subject: "svc.*" } }
    { service: { account: A, subject: "svc.deep.>" } }
    { service: { account: A, subject: "one" }, to: "uno" }
    { service: { account: A, subject: "many" } }
    { service: { account: A, subject: "pieces" } }
    { service: { account: A, subject: "slow" } }
    { service: { account: A, subject: "mine.B" } }
    { service: { account: A, subject: "secret" }, share: true }
  ]
  exports: [ { service: "chain" }, { service: "re.*" }, { stream: "orders.>" } ]
""") + account("C", """
  imports: [
    { service: { account: B, subject: "chain" }, to: "link" }
    { service: { account: A, subject: "svc.*" }, to: "my.$1.svc" }
    { stream: { account: A, subject: "orders.>" }, prefix: "pre" }
    { stream: { account: B, subject: "orders.>" }, to: "second.>" }
  ]
""") + account("D", """
  imports: [ { service: { account: A, subject: "svc.x" } }, { stream: { account: A, subject: "orders.new" }, to: "x.new" } ]
""") + "}\n"

TALKS = {
    # -- streams
    "a stream is heard where it is imported": "b = b\nb sub orders.*\na = a\na pub orders.new x\na ?\nb ?",
    "a stream is not heard where it is not imported": "d = d\nd sub orders.>\na = a\na pub orders.old x\na ?\nd ?",
    "a stream may be heard under another subject": "b = b\nb sub flat\na = a\na pub plain x\na ?\nb ?",
    "the exporter's subject is not heard under another": "b = b\nb sub plain\na = a\na pub plain x\na ?\nb ?",
    "tokens may change places": "b = b\nb sub swapped.*.*\na = a\na pub two.x.y z\na ?\nb ?",
    "tokens may change places for a literal subscription": "b = b\nb sub swapped.y.x\na = a\na pub two.x.y z\na pub two.y.x no\na ?\nb ?",
    "tokens may change places for a partial wildcard": "b = b\nb sub swapped.y.*\na = a\na pub two.x.y z\na pub two.y.x no\na ?\nb ?",
    "tokens may change places under a lone greater": "b = b\nb sub >\na = a\na pub two.x.y z\na ?\nb ?",
    "tokens may change places under stars": "b = b\nb sub *.*.*\na = a\na pub two.x.y z\na ?\nb ?",
    "tokens may change places under a greater": "b = b\nb sub swapped.>\na = a\na pub two.x.y z\na ?\nb ?",
    "a prefix stands in front": "b = b\nb sub from.a.private\na = a\na pub private x\na ?\nb ?",
    "a prefix stands in front of a wildcard": "c = c\nc sub pre.orders.>\na = a\na pub orders.a.b x\na ?\nc ?",
    "a prefix is matched by a star": "c = c\nc sub *.orders.new\na = a\na pub orders.new x\na ?\nc ?",
    "a prefix is matched by a lone greater": "c = c\nc sub >\na = a\na pub orders.new x\na ?\nc ?",
    "what is imported as part of a stream is heard": "d = d\nd sub x.new\na = a\na pub orders.new x\na pub orders.old y\na ?\nd ?",
    "what is imported as part of a stream is heard by a wildcard": "d = d\nd sub x.*\na = a\na pub orders.new x\na pub orders.old y\na ?\nd ?",
    "own messages and imported ones are heard alike": "b = b\nb sub orders.*\na = a\na pub orders.new x\na ?\nb pub orders.mine y\nb ?",
    "an importer's own messages stay there": "a = a\na sub orders.*\nb = b\nb pub orders.mine y\nb ?\na ?",
    "a stream is not imported through another account": "c = c\nc sub second.>\na = a\na pub orders.new x\na ?\nc ?\nb = b\nb pub orders.new y\nb ?\nc ?",
    "a stream carries reply and headers": "b = b\nb sub orders.*\na = a\na hpub orders.new K=V >re.ply x\na ?\nb ?",
    "a queue group of importers gets one copy": "b = b\nb sub orders.* q\na = a\na pub orders.new x\na ?\nb quiet",
    "queue groups of both accounts each get one copy": "b = b\nb sub flat q\na = a\na sub plain r\nc = a\nc pub plain x\nc ?\na ?\nb ?",
    "an importer's subscription ends": "b = b\nb sub orders.*\nb unsub\na = a\na pub orders.new x\na ?\nb ?",
    "a wide subscription hears every import once": "b = b\nb sub >\na = a\na pub orders.new x\na pub plain y\na pub private z\na ?\nb ?",
    "echo off does not matter across accounts": "b = b noecho\nb sub orders.*\na = a\na pub orders.new x\na ?\nb ?\nb pub orders.own y\nb ?",
    "two importers hear the same message": "b = b\nb sub orders.new\nc = c\nc sub pre.orders.new\na = a\na pub orders.new x\na ?\nb ?\nc ?",
    "an importer is no responder for a request in its own account": "b = b\nb ask orders.none x\nb ?",
    "an importer is a responder for the exporter's request": "b = b\nb sub orders.none\na = a\na ask orders.none x\na ?\nb ?",
    # -- services
    "a request reaches its service": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\na ?",
    "a service answers": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "a service that answers twice is heard once": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\na ?\na answer yes | again\na ?\nb quiet",
    "a service of many answers is heard every time": "a = a\na sub many\nb = b\nb ask many hello\nb ?\na ?\na answer yes | again | and again\na ?\nb quiet",
    "a service in pieces ends with an empty one": "a = a\na sub pieces\nb = b\nb ask pieces hello\nb ?\na ?\na answer yes | again | | late\na ?\nb quiet",
    "a service may be imported under another subject": "a = a\na sub one\nb = b\nb ask uno hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "a service is not found under the exporter's subject then": "a = a\na sub one\nb = b\nb ask one hello\nb ?\na ?",
    "a service may have its tokens elsewhere": "a = a\na sub svc.*\nc = c\nc ask my.x.svc hello\nc ?\na ?\na answer yes\na ?\nc ?",
    "a service with a long tail is reached": "a = a\na sub svc.deep.>\nb = b\nb ask svc.deep.er.still hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "a request without reply reaches its service": "a = a\na sub svc.*\nb = b\nb pub svc.x hello\nb ?\na ?",
    "a request with headers keeps them": "a = a\na sub svc.*\nb = b\nb hpub svc.x K=V hello\nb ?\na ?",
    "a request's forged identity is replaced": "a = a\na sub svc.*\nb = b\nb hpub svc.x Nats-Request-Info=me hello\nb ?\na ?",
    "a shared import tells who asks": "a = a\na sub secret\nb = b\nb pub secret hello\nb ?\na ?",
    "a service nobody serves has no responders": "b = b\nb ask svc.x hello\nb ?",
    "a service nobody serves has no responders under another subject": "b = b\nb ask uno hello\nb ?",
    "a service that is not imported has no responders": "a = a\na sub svc.y\nd = d\nd ask svc.y hello\nd ?\na ?",
    "a service by an account's name is reached": "a = a\na sub mine.*\nb = b\nb ask mine.B hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "a service by another account's name is not": "a = a\na sub mine.*\nb = b\nb ask mine.C hello\nb ?\na ?",
    "a queue group serves": "a = a\na sub svc.* workers\nb = b\nb ask svc.x hello\nb ?\na quiet",
    "exporter's own requests reach its service unchanged": "a = a\na sub svc.*\na ask svc.x hello\na ?",
    "an exporter's mapping applies to imported requests": "a = a\na sub svc.>\nb = b\nb ask svc.mapped hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "an answer carries headers": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\na ?\na hpub nowhere A=B x\na answer yes\na ?\nb ?",
    "an answer may ask back": "a = a\na sub svc.*\na sub in.a\nb = b\nb sub re.ply\nb pub svc.x >re.ply hello\nb ?\na ?\na answer plain\na ?\nb ?",
    "a requester that is gone is not waited for": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\nb .\na ?\na answer late\na ?",
    "a requester that listens no more is not answered": "a = a\na sub svc.*\nb = b\nb ask svc.x hello\nb unsub\na ?\na answer late\na ?\nb ?",
    "a service that is too slow is not heard": "a = a\na sub slow\nb = b\nb ask slow hello\nb ?\na ?\na quiet\na quiet\na quiet\na answer late\na ?\nb quiet",
    "a request to itself by echo off is answered": "a = a noecho\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "an import's chain ends where nothing is imported on": "b = b\nb sub chain\nc = c\nc ask link hello\nc ?\nb ?\nb answer yes\nb ?\nc ?",
    "an importer may serve its own copy of a subject": "b = b\nb sub svc.x\na = a\na sub svc.x\nb ask svc.x hello\nb ?\na ?",
    # -- reserved
    "a client may not reply to a one-time subject": "b = b\nb pub svc.x >_R_.abcdef.ghijkl hello\nb ?",
    "a client may publish to a one-time subject nobody waits for": "b = b\nb pub _R_.abcdef.ghijkl hello\nb ?",
    "a client may listen to one-time subjects": "a = a\na sub _R_.>\na sub svc.*\nb = b\nb ask svc.x hello\nb ?\na ?\na answer yes\na ?\nb ?",
}


@pytest.fixture(scope="module")
def accounts(start_pair):
    return start_pair(CONFIG)


@pytest.mark.parametrize("script", TALKS.values(), ids=[name.replace(" ", "_") for name in TALKS])
def test_exchange(accounts, script):
    accounts.same(lambda broker: talk(broker.port, script))


@pytest.mark.deviates("imported-auto-unsubscribe.md")
def test_an_automatic_unsubscribe_counts_imported_messages(accounts):
    heard = talk(accounts.weir.port, "b = b\nb sub orders.*\nb until 2\na = a\na pub orders.new 1\na pub orders.new 2\n"
                                     "a pub orders.new 3\na ?\nb ?\nb pub orders.own 4\nb ?")
    assert heard == ["b orders.new sid=101 1", "b orders.new sid=101 2"]


CHAIN = STANDALONE + "accounts {\n" + account("A", 'exports: [ { service: "a" } ]') + account(
    "B", 'exports: [ { service: "b" } ]\nimports: [ { service: { account: A, subject: "a" }, to: "b", share: true } ]'
) + account("C", 'imports: [ { service: { account: B, subject: "b" }, to: "c" } ]') + "}\n"
CHAINS = {
    "a request goes through two accounts": "a = a\na sub a\nc = c\nc ask c hello\nc ?\na ?\na answer yes\na ?\nc ?",
    "a request through two accounts finds nobody": "c = c\nc ask c hello\nc ?",
    "a request enters half way": "a = a\na sub a\nb = b\nb ask b hello\nb ?\na ?\na answer yes\na ?\nb ?",
    "both accounts serve": "a = a\na sub a\nb = b\nb sub b\nc = c\nc ask c hello\nc ?\na ?\nb ?",
}


@pytest.fixture(scope="module")
def chain(start_pair):
    return start_pair(CHAIN)


@pytest.mark.parametrize("script", CHAINS.values(), ids=[name.replace(" ", "_") for name in CHAINS])
def test_chain(chain, script):
    chain.same(lambda broker: talk(broker.port, script))


LATENCY = STANDALONE + "accounts {\n" + account("A", """exports: [
  { service: "always", latency: { sampling: 100%, subject: "lat.always" } }
  { service: "asked", latency: { sampling: headers, subject: "lat.asked" } }
  { service: "brief", latency: "lat.brief", response_threshold: "150ms" }
]""") + account("B", """imports: [
  { service: { account: A, subject: "always" } }
  { service: { account: A, subject: "asked" } }
  { service: { account: A, subject: "brief" }, share: true }
]""") + "}\n"
MEASURED = [(re.compile(r'"(service|system|total)":\d+'), r'"\1":<n>'), (re.compile(r'"start":"[^"]*"'), '"start":"<t>"'),
            (re.compile(r'"timestamp":"[^"]*"'), '"timestamp":"<t>"'), (re.compile(r'"id":("\w{22}"|\d+)'), '"id":<id>')]
LATENCIES = {
    "an answered request is measured": "l = a\nl sub lat.>\na = a\na sub always\nb = b\nb ask always hello\nb ?\na ?\na answer yes\na ?\nb ?\nl wait 1",
    "a request without reply is a bad one": "l = a\nl sub lat.>\na = a\na sub always\nb = b\nb pub always hello\nb ?\na ?\nl wait 1",
    "a request nobody takes is told": "l = a\nl sub lat.>\nb = b\nb ask always hello\nb ?\nl wait 1",
    "a request nobody answers in time is told": "l = a\nl sub lat.>\na = a\na sub brief\nb = b\nb ask brief hello\nb ?\nl wait 1",
    "a requester that goes away is told": "l = a\nl sub lat.>\na = a\na sub always\nb = b\nb ask always hello\nb ?\nb .\nl wait 1",
    "a shared import tells who asked": "l = a\nl sub lat.>\na = a\na sub brief\nb = b\nb ask brief hello\nb ?\na ?\na answer yes\na ?\nb ?\nl wait 1",
    "a request is measured by its header": "l = a\nl sub lat.>\na = a\na sub asked\nb = b\nb sub in.box\nb hpub asked X-B3-Sampled=1 >in.box hello\nb ?\na ?\na answer yes\na ?\nb ?\nl wait 1",
    "a request is not measured by its header": "l = a\nl sub lat.>\na = a\na sub asked\nb = b\nb sub in.box\nb hpub asked X-B3-Sampled=0 >in.box hello\nb ?\na ?\na answer yes\na ?\nb ?\nl quiet",
}


@pytest.fixture(scope="module")
def latency(start_pair):
    return start_pair(LATENCY)


@pytest.mark.parametrize("script", LATENCIES.values(), ids=[name.replace(" ", "_") for name in LATENCIES])
def test_latency(latency, script):
    def measured(broker):
        lines = talk(broker.port, script)
        for pattern, mask in MEASURED:
            lines = [pattern.sub(mask, line) for line in lines]
        return lines

    latency.same(measured)


LIMITS = STANDALONE + "accounts {\n" + account("A", "limits { max_connections: 2, max_subscriptions: 2, max_payload: 10 }") + account("B") + "}\n"


@pytest.fixture(scope="module")
def limits(start_pair):
    return start_pair(LIMITS)


LIMITED = {
    "a third subscription is refused": "a = a\na sub one\na sub two\na sub three\na ?",
    "other accounts are not limited": "b = b\nb sub one\nb sub two\nb sub three\nb pub one 12345678901\nb ?",
    "a large message is refused": "a = a\na sub one\na pub one 1234567890\na ?\na pub one 12345678901\na wait 2",
    "a third connection is refused": "a = a\na ?\nb = a\nb ?\nc = a",
}


@pytest.mark.parametrize("script", LIMITED.values(), ids=[name.replace(" ", "_") for name in LIMITED])
def test_limits(limits, script):
    for broker in limits.servers:
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "the earlier connections are gone")
    limits.same(lambda broker: talk(broker.port, script))


def test_info_shows_the_accounts_max_payload(limits):
    def shown(broker):
        with Wire(broker.port, {"user": "a", "pass": "p", "protocol": 1}) as client:
            return [json.loads(operation.arguments)["max_payload"]
                    for operation in client.until_pong() + client.until_pong() if operation.verb == "INFO"]

    limits.same(shown)


RELOADED = STANDALONE + """
mappings { "old": "to.new" }
accounts {
  A { users: [ { user: a, password: p } ]
      exports: [ { service: "one" }, { stream: "s.>" }%s ] }
  B { users: [ { user: b, password: p } ]
      imports: [ { service: { account: A, subject: "one" } }%s ]
      mappings: { "m": "%s" }
      %s }
}
"""
BEFORE = RELOADED % ("", "", "first", "")
AFTER = RELOADED % (', { service: "two" }', ', { service: { account: A, subject: "two" } }, { stream: { account: A, subject: "s.>" } }',
                    "second", "limits { max_subscriptions: 40 }")


def test_a_reload_changes_accounts_and_keeps_connections(start_pair):
    pair = start_pair(BEFORE)

    def change(broker):
        broker.write_config(BEFORE.replace("NAME", "subject"))
        conversation = Talk(broker.port)
        step = lambda script: [conversation.step(*(line.split(None, 2) + [""])[:3]) for line in script.split("\n")]
        step("a = a\na sub one\na sub two\nb = b\nb sub s.*\nb sub first\nb sub second")
        step("b ask one x\nb ?\na ?\nb ask two x\nb ?\na pub s.x 1\na ?\nb ?\nb pub m 1\nb ?")
        broker.write_config(AFTER.replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log(), "the change is taken over")
        step("b ask one x\nb ?\na ?\nb ask two x\nb ?\na ?\na pub s.x 2\na ?\nb ?\nb pub m 2\nb ?")
        broker.write_config(BEFORE.replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: broker.log().count("Reloaded server configuration") == 2, "the change is taken back")
        step("b pub two x\nb ?\na ?\na pub s.x 3\na ?\nb ?\nb pub m 3\nb ?")
        for connection in conversation.connections.values():
            connection.close()
        return conversation.transcript

    pair.same(change)


def test_a_reload_with_lower_limits_closes_connections(start_pair):
    config = STANDALONE + "accounts { A { users: [ { user: a, password: p } ]\n limits { max_connections: %d, max_subscriptions: %d } } }\n"
    pair = start_pair(config % (10, 10))

    def change(broker):
        broker.write_config((config % (10, 10)).replace("NAME", "subject"))
        said = []
        clients = []
        for subscriptions in (0, 1, 2, 3, 0):
            clients.append(Wire(broker.port, {"user": "a", "pass": "p"}))
            for number in range(subscriptions):
                clients[-1].subscribe(f"s.{number}")
            clients[-1].sync()
        broker.write_config((config % (10, 3)).replace("NAME", "subject"))
        broker.signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded server configuration" in broker.log(), "the change is taken over")
        wait_until(lambda: broker.get_json("/connz")["num_connections"] < 5, "somebody is closed")
        for client in clients:
            said.append(sorted(str(operation) for operation in client.until_pong() if operation.verb not in ("INFO", "PING")))
            client.close()
        return said

    pair.same(change)


REFUSED = {
    "an import that nobody exports": 'accounts { A { }, B { imports: [ { service: { account: A, subject: "x" } } ] } }',
    "an import from nobody": 'accounts { B { imports: [ { stream: { account: A, subject: "x" } } ] } }',
    "an import of what is for others": 'accounts { A { exports: [ { stream: "x", accounts: [C] } ] }, B { imports: [ { stream: { account: A, subject: "x" } } ] }, C { } }',
    "an export for nobody there": 'accounts { A { exports: [ { stream: "x", accounts: [C] } ] } }',
    "a circle of services": 'accounts { A { exports: [ { service: a } ], imports: [ { service: { account: B, subject: b }, to: a } ] }, B { exports: [ { service: b } ], imports: [ { service: { account: A, subject: a }, to: b } ] } }',
    "the same service twice": 'accounts { A { exports: [ { service: a } ] }, B { imports: [ { service: { account: A, subject: a } }, { service: { account: A, subject: a } } ] } }',
    "the same stream twice": 'accounts { A { exports: [ { stream: a } ] }, B { imports: [ { stream: { account: A, subject: a } }, { stream: { account: A, subject: a }, to: b } ] } }',
    "a prefix with a wildcard": 'accounts { A { exports: [ { stream: a } ] }, B { imports: [ { stream: { account: A, subject: a }, prefix: "x.*" } ] } }',
    "a place for the account that is no star": 'accounts { A { exports: [ { service: "a.b", account_token_position: 2 } ] } }',
    "a latency of a service of many answers": 'accounts { A { exports: [ { service: a, response: stream, latency: { subject: l } } ] } }',
    "a latency above a hundred": 'accounts { A { exports: [ { service: a, latency: { sampling: 101, subject: l } } ] } }',
    "a mapping of tokens that are not there": 'accounts { A { exports: [ { stream: "a.*" } ] }, B { imports: [ { stream: { account: A, subject: "a.*" }, to: "b.$2" } ] } }',
    "an unknown response type": 'accounts { A { exports: [ { service: a, response: several } ] } }',
}


@pytest.mark.parametrize("accounts", REFUSED.values(), ids=[name.replace(" ", "_") for name in REFUSED])
def test_what_cannot_be_is_refused_alike(accounts, tmp_path):
    file = tmp_path / "t.conf"
    file.write_text("listen: 127.0.0.1:-1\n" + accounts + "\n")
    alias = tmp_path / "nats-server"
    alias.symlink_to(binaries.weir())

    def said(program):
        done = subprocess.run([program, "-t", "-c", str(file)], capture_output=True, text=True, timeout=20, cwd=tmp_path)
        # Which of two accounts is looked at first is chance there; where in the file, other tests compare.
        text = re.sub(r":\d+:\d+:", ":", done.stdout + done.stderr)
        return done.returncode, re.sub(r'service import "[ab]": import forms', "service import: import forms", text)

    assert said(str(alias)) == said(binaries.reference())
