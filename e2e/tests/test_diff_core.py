"""The core protocol: the same bytes sent to Weir and to the real nats-server bring the same bytes back."""

import time

import pytest

from broker import STANDALONE, wait_until
from script import play
from wire import Wire

PLAIN = {
    # -- greeting
    "ping is answered before connect": "a?",
    "connect is silent without verbose": 'a: CONNECT {"verbose":false}\na?',
    "connect without fields is verbose and pedantic": "a: CONNECT {}\na?",
    "connect with verbose is answered by ok": 'a: CONNECT {"verbose":true}\na?',
    "verbose answers every operation": 'a: CONNECT {"verbose":true}\na: SUB foo 1\na: PUB foo 2\na: hi\na: UNSUB 1\na?',
    "a second connect changes the options": 'a: CONNECT {"verbose":true}\na: CONNECT {"verbose":false}\na: SUB foo 1\na?',
    "connect with broken json closes": "a: CONNECT {not json\na!",
    "connect with a wrong type closes": 'a: CONNECT {"verbose":"maybe"}\na!',
    "connect with an array closes": "a: CONNECT []\na!",
    "connect with unknown fields is accepted": 'a: CONNECT {"verbose":false,"colour":"blue"}\na?',
    "connect with a newer protocol is accepted": 'a: CONNECT {"verbose":false,"protocol":1}\na?',
    "connect with an impossible protocol is refused": 'a: CONNECT {"verbose":false,"protocol":9}\na!',
    "connect with credentials is accepted where none are asked": 'a: CONNECT {"verbose":false,"user":"u","pass":"p"}\na?',
    "connect without argument closes": "a: CONNECT\na!",
    # -- the shape of operations
    "operations are case insensitive": 'a: connect {"verbose":false}\na: sub foo 1\na: Pub foo 2\na: hi\na: pInG\na<2',
    "an unknown operation closes": "a: FOO bar\na!",
    "an empty line closes": "a~ \\r\\n\na!",
    "a broken PING closes": "a: PIZZA\na!",
    "garbage closes": "a: \\x00\\x01\\x02\\xff\na!",
    "a message operation from a client closes": "a: MSG foo 1 2\na!",
    "a route's operation from a client closes": "a: RS+ $G foo\na!",
    "a leaf node's operation from a client closes": "a: LS+ foo\na!",
    "an account operation from a client closes": "a: A+ $G\na!",
    "a header message operation from a client closes": "a: HMSG foo 1 2 2\na!",
    "an INFO from a client is ignored": "a: INFO {}\na?",
    "an OK from a client is ignored": "a: +OK\na?",
    "an ERR from a client closes silently": "a: -ERR 'no'\na!",
    "a PONG from a client is ignored": "a: PONG\na?",
    "tabs separate arguments": 'a: CONNECT {"verbose":false}\na: SUB\tfoo\t1\na: PUB\tfoo\t2\na: hi\na?',
    "many blanks separate arguments": 'a: CONNECT {"verbose":false}\na: SUB   foo    1\na: PUB   foo   2\na: hi\na?',
    "operations may arrive in pieces": 'a: CONNECT {"verbose":false}\na~ SU\na|\na~ B fo\na|\na~ o 1\\r\na|\na~ \\nPU\na|\na~ B foo 5\\r\\nhel\na|\na~ lo\\r\\n\na?',
    "operations may arrive together": 'a~ CONNECT {"verbose":false}\\r\\nSUB foo 1\\r\\nPUB foo 1\\r\\nx\\r\\nPUB foo 1\\r\\ny\\r\\n\na?',
    "a lone line feed ends an operation": 'a~ CONNECT {"verbose":false}\\nPING\\n\na<1',
    "blanks after PING are accepted": "a~ PING  \\r\\n\na<1",
    # -- publish
    "a message reaches its subscriber": 'b: CONNECT {"verbose":false}\nb: SUB foo 9\nb?\na: CONNECT {"verbose":false}\na: PUB foo 5\na: hello\na?\nb?',
    "an empty message is delivered": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB foo 0\na: \na?',
    "a reply subject is handed on": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB foo bar 2\na: hi\na?',
    "a payload may hold protocol text": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB foo 18\na: x\\r\\nPUB foo 1\\r\\ny\\r\\nz\na?',
    "a payload longer than announced closes": 'a: CONNECT {"verbose":false}\na: PUB foo 2\na: hello\na!',
    "a publish without size closes": 'a: CONNECT {"verbose":false}\na: PUB foo\na!',
    "a publish with a negative size closes": 'a: CONNECT {"verbose":false}\na: PUB foo -1\na!',
    "a publish with a size that is no number closes": 'a: CONNECT {"verbose":false}\na: PUB foo two\na!',
    "a publish with too many arguments closes": 'a: CONNECT {"verbose":false}\na: PUB foo bar baz 2\na!',
    "a publish with an absurd size closes": 'a: CONNECT {"verbose":false}\na: PUB foo 99999999999999999999\na!',
    "a publish without arguments closes": 'a: CONNECT {"verbose":false}\na: PUB\na!',
    "a publish above max_payload closes": 'a: CONNECT {"verbose":false}\na: PUB foo 2000000\na!',
    "a publish of max_payload is delivered": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB foo 1048576\na: {x*1048576}\na?',
    "a publish to a wildcard is an error and delivered": 'a: CONNECT {"verbose":false}\na: SUB foo.* 1\na: PUB foo.* 2\na: hi\na?',
    "a pedantic publish to a wildcard is an error once": 'a: CONNECT {"verbose":false,"pedantic":true}\na: SUB foo.* 1\na: PUB foo.* 2\na: hi\na?',
    "a publish to an empty token is an error with pedantic": 'a: CONNECT {"verbose":false,"pedantic":true}\na: PUB foo..bar 2\na: hi\na?',
    "echo off keeps own messages away": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB foo 1\nb: CONNECT {"verbose":false}\nb: SUB foo 2\nb?\na: PUB foo 2\na: hi\na?\nb?',
    "echo off lets others' messages in": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB foo 1\na?\nb: CONNECT {"verbose":false}\nb: PUB foo 2\nb: hi\nb?\na?',
    # -- subscriptions
    "a wildcard star matches one token": 'a: CONNECT {"verbose":false}\na: SUB foo.* 1\na: PUB foo 1\na: x\na: PUB foo.a 1\na: y\na: PUB foo.a.b 1\na: z\na?',
    "a wildcard greater matches the rest": 'a: CONNECT {"verbose":false}\na: SUB foo.> 1\na: PUB foo 1\na: x\na: PUB foo.a 1\na: y\na: PUB foo.a.b 1\na: z\na?',
    "a star in the middle matches": 'a: CONNECT {"verbose":false}\na: SUB foo.*.baz 1\na: PUB foo.bar.baz 1\na: x\na: PUB foo.bar.qux 1\na: y\na?',
    "a lone greater matches everything": 'a: CONNECT {"verbose":false}\na: SUB > 1\na: PUB any.thing 1\na: x\na?',
    "a star inside a token is literal": 'a: CONNECT {"verbose":false}\na: SUB foo*.bar 1\na: PUB foo*.bar 1\na: x\na: PUB foox.bar 1\na: y\na?',
    "two subscriptions of one client both get it": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: SUB foo 2\na: PUB foo 1\na: x\na?',
    "overlapping subscriptions all get it": 'a: CONNECT {"verbose":false}\na: SUB foo.bar 1\na: PUB foo.bar 1\na: x\na: SUB other 2\na?',
    "subjects are case sensitive": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB FOO 1\na: x\na?',
    "a sid may be any word": 'a: CONNECT {"verbose":false}\na: SUB foo any-word\na: PUB foo 1\na: x\na?',
    "the same sid again is a no operation": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: SUB bar 1\na: PUB foo 1\na: x\na: PUB bar 1\na: y\na?',
    "a subscription to an invalid subject is an error": 'a: CONNECT {"verbose":false}\na: SUB foo..bar 1\na?',
    "a subscription to greater in the middle is an error": 'a: CONNECT {"verbose":false}\na: SUB foo.>.bar 1\na?',
    "a subscription to a leading dot is an error": 'a: CONNECT {"verbose":false}\na: SUB .foo 1\na?',
    "a subscription to a trailing dot is an error": 'a: CONNECT {"verbose":false}\na: SUB foo. 1\na?',
    "a subscription without sid closes": 'a: CONNECT {"verbose":false}\na: SUB foo\na!',
    "a subscription with too many arguments closes": 'a: CONNECT {"verbose":false}\na: SUB foo q 1 2\na!',
    "a subscription without arguments closes": 'a: CONNECT {"verbose":false}\na: SUB\na!',
    "unsubscribe stops delivery": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: UNSUB 1\na: PUB foo 1\na: x\na?',
    "unsubscribe with max stops after that many": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: UNSUB 1 2\na: PUB foo 1\na: x\na: PUB foo 1\na: y\na: PUB foo 1\na: z\na?',
    "unsubscribe with a max already reached stops at once": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB foo 1\na: x\na: PUB foo 1\na: y\na: UNSUB 1 1\na: PUB foo 1\na: z\na?',
    "unsubscribe of an unknown sid is ignored": 'a: CONNECT {"verbose":false}\na: UNSUB 77\na?',
    "unsubscribe without sid closes": 'a: CONNECT {"verbose":false}\na: UNSUB\na!',
    "unsubscribe with too many arguments closes": 'a: CONNECT {"verbose":false}\na: UNSUB 1 2 3\na!',
    "unsubscribe with a max that is no number stops at once": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: UNSUB 1 x\na: PUB foo 1\na: x\na?',
    "a later unsubscribe replaces a max": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: UNSUB 1 5\na: UNSUB 1\na: PUB foo 1\na: x\na?',
    # -- queue groups
    "a queue group's one member gets every message": 'a: CONNECT {"verbose":false}\na: SUB foo q 1\na: PUB foo 1\na: x\na: PUB foo 1\na: y\na?',
    "two queue groups each get the message": 'a: CONNECT {"verbose":false}\na: SUB foo q 1\na?\nb: CONNECT {"verbose":false}\nb: SUB foo r 2\nb?\nc: CONNECT {"verbose":false}\nc: PUB foo 1\nc: x\nc?\na?\nb?',
    "a queue subscriber and a plain one both get it": 'a: CONNECT {"verbose":false}\na: SUB foo q 1\na?\nb: CONNECT {"verbose":false}\nb: SUB foo 2\nb?\nb: PUB foo 1\nb: x\nb?\na?',
    "unsubscribe leaves a queue group": 'a: CONNECT {"verbose":false}\na: SUB foo q 1\na: UNSUB 1\nb: CONNECT {"verbose":false}\nb: SUB foo q 2\nb: PUB foo 1\nb: x\nb?\na?',
    "a queue name may hold a wildcard": 'a: CONNECT {"verbose":false}\na: SUB foo q.* 1\na: PUB foo 1\na: x\na?',
    # -- headers
    "headers are handed on": 'a: CONNECT {"verbose":false,"headers":true}\na: SUB foo 1\na: HPUB foo 22 24\na: NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\nhi\na?',
    "headers with reply are handed on": 'a: CONNECT {"verbose":false,"headers":true}\na: SUB foo 1\na: HPUB foo re.ply 22 24\na: NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\nhi\na?',
    "headers without payload are handed on": 'a: CONNECT {"verbose":false,"headers":true}\na: SUB foo 1\na: HPUB foo 22 22\na: NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\n\na?',
    "headers are cut for one who cannot read them": 'b: CONNECT {"verbose":false,"headers":false}\nb: SUB foo 2\nb?\na: CONNECT {"verbose":false,"headers":true}\na: HPUB foo 22 24\na: NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\nhi\na?\nb?',
    "headers without having asked for them close": 'a: CONNECT {"verbose":false,"headers":false}\na: HPUB foo 22 24\na: NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\nhi\na!',
    "headers larger than the whole close": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo 30 24\na!',
    "headers without sizes close": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo\na!',
    "headers with one size close": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo 12\na!',
    "headers with a negative size close": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo -1 24\na!',
    "headers with too many arguments close": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo a b 1 2\na!',
    "headers above max_payload close": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo 12 2000000\na!',
    "headers without version line are handed on": 'a: CONNECT {"verbose":false,"headers":true}\na: SUB foo 1\na: HPUB foo 12 15\na: Bar: Baz\\r\\n\\r\\n.hi\na?',
    # -- no responders
    "no responders is said to one who asked": 'a: CONNECT {"verbose":false,"headers":true,"no_responders":true}\na: SUB in.box 1\na: PUB foo in.box 2\na: hi\na?',
    "no responders is said for a header message": 'a: CONNECT {"verbose":false,"headers":true,"no_responders":true}\na: SUB in.box 1\na: HPUB foo in.box 22 24\na: NATS/1.0\\r\\nBar: Baz\\r\\n\\r\\nhi\na?',
    "no responders is not said without having asked": 'a: CONNECT {"verbose":false,"headers":true}\na: SUB in.box 1\na: PUB foo in.box 2\na: hi\na?',
    "no responders is not said where someone listens": 'b: CONNECT {"verbose":false}\nb: SUB foo 1\nb?\na: CONNECT {"verbose":false,"headers":true,"no_responders":true}\na: SUB in.box 1\na: PUB foo in.box 2\na: hi\na?\nb?',
    "no responders is not said without reply": 'a: CONNECT {"verbose":false,"headers":true,"no_responders":true}\na: SUB in.box 1\na: PUB foo 2\na: hi\na?',
    "no responders without headers is refused": 'a: CONNECT {"verbose":false,"headers":false,"no_responders":true}\na!',
    "a requester alone on the subject with echo off has no responders": 'a: CONNECT {"verbose":false,"echo":false,"headers":true,"no_responders":true}\na: SUB foo 2\na: SUB in.box 1\na: PUB foo in.box 2\na: hi\na?',
    # -- limits
    "a control line above its limit closes": 'a: CONNECT {"verbose":false}\na: SUB {x*5000} 1\na!',
    "a control line above its limit without end closes": 'a: CONNECT {"verbose":false}\na~ SUB {x*6000}\na!',
    "a subject near the control line's limit is served": 'a: CONNECT {"verbose":false}\na: SUB {x*4000} 1\na: PUB {x*4000} 1\na: y\na?',
    # -- others are not disturbed
    "one client's error leaves the other connected": 'b: CONNECT {"verbose":false}\nb: SUB foo 1\nb?\na: NONSENSE\na!\nc: CONNECT {"verbose":false}\nc: PUB foo 1\nc: x\nc?\nb?',
    "a client that vanishes takes its subscription along": 'a: CONNECT {"verbose":false}\na: SUB gone 1\na?\na.\nb: CONNECT {"verbose":false}\nb: PUB gone 1\nb: x\nb?',
}

TIGHT_CONFIG = STANDALONE + """
max_payload: 100
max_control_line: 64
max_connections: 2
max_subscriptions: 2
ping_interval: "200ms"
ping_max: 1
"""
TIGHT = {
    "a publish above a small max_payload closes": 'a: CONNECT {"verbose":false}\na: PUB foo 101\na!',
    "a publish at a small max_payload passes": 'a: CONNECT {"verbose":false}\na: SUB foo 1\na: PUB foo 100\na: {x*100}\na?',
    "headers count towards max_payload": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo 22 101\na!',
    "a control line above a small limit closes": 'a: CONNECT {"verbose":false}\na: SUB {x*70} 1\na!',
    "a connect line counts too": 'a: CONNECT {"verbose":false,"name":"{x*30}"}\na?',
    "the third connection is refused": 'a: CONNECT {"verbose":false}\na?\nb: CONNECT {"verbose":false}\nb?\nc!',
    "the third subscription is refused": 'a: CONNECT {"verbose":false}\na: SUB a 1\na: SUB b 2\na: SUB c 3\na?',
    "one who answers no ping is stale": 'a: CONNECT {"verbose":false}\na!',
}

TOKEN_CONFIG = STANDALONE + 'authorization { token: "s3cret", timeout: 0.5 }\n'
TOKEN = {
    "the right token is accepted": 'a: CONNECT {"verbose":false,"auth_token":"s3cret"}\na?',
    "a wrong token is refused": 'a: CONNECT {"verbose":false,"auth_token":"guess"}\na!',
    "no token is refused": 'a: CONNECT {"verbose":false}\na!',
    "silence is refused in time": "a!",
    "a ping before connect is refused": "a: PING\na!",
    "a subscription before connect is refused": "a: SUB foo 1\na!",
    "a publish before connect is refused": "a: PUB foo 2\na: hi\na!",
    "an unknown operation before connect is refused": "a: FOO\na!",
    "an empty token is refused": 'a: CONNECT {"verbose":false,"auth_token":""}\na!',
}

USERS_CONFIG = STANDALONE + """
authorization {
  users: [
    { user: ann, password: one }
    { user: bob, password: two, permissions: { publish: { allow: ["out.>", "_INBOX.>"] }, subscribe: { allow: ["in.>"], deny: ["in.secret"] } } }
  ]
  timeout: 0.5
}
"""
USERS = {
    "a user with the right password is accepted": 'a: CONNECT {"verbose":false,"user":"ann","pass":"one"}\na?',
    "a wrong password is refused": 'a: CONNECT {"verbose":false,"user":"ann","pass":"two"}\na!',
    "an unknown user is refused": 'a: CONNECT {"verbose":false,"user":"eve","pass":"one"}\na!',
    "an empty password is refused": 'a: CONNECT {"verbose":false,"user":"ann"}\na!',
    "users of one account hear each other": 'a: CONNECT {"verbose":false,"user":"ann","pass":"one"}\na: SUB out.x 1\na?\nb: CONNECT {"verbose":false,"user":"bob","pass":"two"}\nb: PUB out.x 2\nb: hi\nb?\na?',
    "a publish without permission is an error": 'b: CONNECT {"verbose":false,"user":"bob","pass":"two"}\nb: PUB no.way 2\nb: hi\nb?',
    "a subscription without permission is an error": 'b: CONNECT {"verbose":false,"user":"bob","pass":"two"}\nb: SUB out.x 1\nb?',
    "a denied subscription is an error": 'b: CONNECT {"verbose":false,"user":"bob","pass":"two"}\nb: SUB in.secret 1\nb?',
    "a queue subscription without permission names the queue": 'b: CONNECT {"verbose":false,"user":"bob","pass":"two"}\nb: SUB out.x q 1\nb?',
    "a wildcard subscription does not carry what is denied": 'b: CONNECT {"verbose":false,"user":"bob","pass":"two"}\nb: SUB in.* 1\nb?\na: CONNECT {"verbose":false,"user":"ann","pass":"one"}\na: PUB in.secret 1\na: x\na: PUB in.open 1\na: y\na?\nb?',
}


def ids(table):
    return [name.replace(" ", "_") for name in table]


@pytest.fixture(scope="module")
def plain(start_pair):
    return start_pair(STANDALONE)


@pytest.mark.parametrize("script", PLAIN.values(), ids=ids(PLAIN))
def test_core(plain, script):
    plain.same(lambda broker: play(broker.port, script))


@pytest.fixture(scope="module")
def tight(start_pair):
    return start_pair(TIGHT_CONFIG)


@pytest.mark.parametrize("script", TIGHT.values(), ids=ids(TIGHT))
def test_limits(tight, script):
    for broker in tight.servers:
        wait_until(lambda: broker.get_json("/connz")["num_connections"] == 0, "the earlier connections are gone")
    tight.same(lambda broker: play(broker.port, script))


@pytest.fixture(scope="module")
def token(start_pair):
    return start_pair(TOKEN_CONFIG)


@pytest.mark.parametrize("script", TOKEN.values(), ids=ids(TOKEN))
def test_token(token, script):
    token.same(lambda broker: play(broker.port, script))


@pytest.fixture(scope="module")
def users(start_pair):
    return start_pair(USERS_CONFIG)


@pytest.mark.parametrize("script", USERS.values(), ids=ids(USERS))
def test_users(users, script):
    users.same(lambda broker: play(broker.port, script))


def test_who_has_logged_in_by_token_stays_beyond_the_login_timeout(token):
    assert_stays(token, {"auth_token": "s3cret"})


def test_a_user_who_has_logged_in_stays_beyond_the_login_timeout(users):
    assert_stays(users, {"user": "ann", "pass": "one"})


def assert_stays(pair, credentials):
    def hold(broker):
        with Wire(broker.port, credentials) as client:
            client.subscribe("foo")
            client.sync()
            time.sleep(0.8)  # the timeout is 0.5 s
            client.publish("foo", "still here")
            return [message.payload for message in client.sync()]

    pair.same(hold)
