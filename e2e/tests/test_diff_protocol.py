"""The client protocol at its edges: every verb with too little, too much and odd input; header blocks; subjects.

The ordinary ways are in test_diff_core.py, limits in test_diff_limits.py, INFO and CONNECT in test_diff_info.py.
"""

import pytest

from broker import STANDALONE, wait_until
from script import play
from wire import Wire

QUIET = 'a: CONNECT {"verbose":false,"pedantic":false}\n'
VERBOSE = 'a: CONNECT {"verbose":true,"pedantic":false}\n'
PEDANTIC = 'a: CONNECT {"verbose":false,"pedantic":true}\n'
HEADERS = 'a: CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\n'


def ids(table):
    return [str(name).replace(" ", "_") for name in table]


# What stands after the verb; sent right after CONNECT, then PING: what comes back up to PONG or the end.
SUB_ARGUMENTS = [
    "", " ", "foo", "foo 1 ", " foo 1", "foo q 1", "foo  q  1", "foo q 1 2", "foo\tq\t1", "foo 0", "foo -1", "foo 1.5", "foo a.b",
    "foo *", "foo {s*200}", "* 1", "> 1", "foo.* 1", "foo.> 1", "*.* 1", "*.> 1", ">.foo 1", "foo.>.* 1", "foo** 1", "foo*.x 1",
    "foo>.x 1", "foo.>x 1", ". 1", ".. 1", ".foo 1", "foo. 1", "foo..x 1", "foo.*. 1", "\\xc3\\xa4.\\xe2\\x82\\xac 1", "\\xff\\xfe 1",
    "foo\\x00bar 1", "foo\\x01 1", "$SYS.> 1", "$JS.API.> 1", "_INBOX.> 1", "_R_.> 1", "_GR_.> 1", "foo q* 1", "foo > 1", "foo * 1",
    "foo .q 1", "foo q. 1", "foo q..r 1", "foo {q*300} 1", "foo,bar 1", "'foo' 1", '"foo" 1', "foo\\\\bar 1",
]


@pytest.fixture(scope="module")
def plain(start_pair):
    return start_pair(STANDALONE)


@pytest.mark.parametrize("greeting", [QUIET, VERBOSE, PEDANTIC], ids=["quiet", "verbose", "pedantic"])
@pytest.mark.parametrize("arguments", SUB_ARGUMENTS)
def test_sub(plain, greeting, arguments):
    plain.same(lambda broker: play(broker.port, f"{greeting}a: SUB {arguments}\na: PUB foo 2\na: hi\na?"))


UNSUB_ARGUMENTS = [
    "", " ", "1", "1 ", " 1", "1 0", "1 1", "1 2", "1 -1", "1 x", "1 1.5", "1 99999999999999999999", "1 9223372036854775807", "2", "2 1",
    "1 2 3", "1\t1", "1  1", "{s*200}", "01", "1 +1", "1 01",
]


@pytest.mark.parametrize("greeting", [QUIET, VERBOSE, PEDANTIC], ids=["quiet", "verbose", "pedantic"])
@pytest.mark.parametrize("arguments", UNSUB_ARGUMENTS)
def test_unsub(plain, greeting, arguments):
    messages = "".join(f"a: PUB foo 1\na: {number}\n" for number in range(3))
    plain.same(lambda broker: play(broker.port, f"{greeting}a: SUB foo 1\na: UNSUB {arguments}\n{messages}a?"))


PUB_ARGUMENTS = [
    "", " ", "foo", "foo ", "2", "foo 2", " foo 2", "foo  2 ", "foo\t2", "foo bar 2", "foo  bar  2", "foo bar baz 2", "foo a b c d 2",
    "foo +2", "foo -2", "foo 2.0", "foo 2x", "foo x2", "foo 0x2", "foo 2147483648", "foo 9223372036854775808",
    "foo 00000000000000000000002", "foo * 2", "foo > 2", "foo a.* 2", "foo .a 2", "foo a. 2", "foo a..b 2", "* 2", "> 2", "foo.* 2",
    "foo.> 2", ".foo 2", "foo. 2", "foo..x 2", ". 2", "\\xc3\\xa4 2", "\\xff 2", "foo\\x00 2", "foo* 2", "foo>x 2", "$SYS.x 2",
    "$JS.API.x 2", "_R_.x 2", "foo $SYS.x 2", "foo $JS.ACK.x 2", "foo _R_.x 2", "foo _GR_.x 2", "{t*100}.{u*100} 2", "foo {r*300} 2",
]


@pytest.mark.parametrize("greeting", [QUIET, VERBOSE, PEDANTIC, HEADERS], ids=["quiet", "verbose", "pedantic", "headers"])
@pytest.mark.parametrize("arguments", PUB_ARGUMENTS)
def test_pub(plain, greeting, arguments):
    plain.same(lambda broker: play(broker.port, f"{greeting}a: SUB > 1\na: PUB {arguments}\na: hi\na?"))


@pytest.mark.deviates("sizes-are-written-anew.md")
@pytest.mark.parametrize("arguments, shown", [("foo 02", "foo 1 2"), ("foo 0000000002", None)])
def test_a_size_with_leading_zeros_is_shown_without(plain, arguments, shown):
    answers = play(plain.weir.port, f"{QUIET}a: SUB > 1\na: PUB {arguments}\na: hi\na?")
    assert answers == ([f"a MSG {shown} | b'hi'", "a PONG"] if shown else ["a <closed>"])


HPUB_ARGUMENTS = [
    "", " ", "foo", "foo 12", "foo 12 14", " foo 12 14 ", "foo  12  14", "foo\t12\t14", "foo bar 12 14", "foo bar baz 12 14",
    "foo a b c 12 14", "foo 14 12", "foo 0 14", "foo +12 14", "foo -12 14", "foo 12 -14", "foo 12 x", "foo x 14", "foo 12.0 14",
    "foo 12 14.0", "foo 13 14", "foo 11 14", "foo 14 14", "foo 15 14", "foo 1 14", "foo 2 14", "* 12 14", "foo.> 12 14", "foo..x 12 14",
    "foo b.* 12 14", "foo b..c 12 14", "foo 99999999999 14", "foo 12 99999999999999999999",
]


@pytest.mark.parametrize("greeting", [HEADERS, PEDANTIC.replace("true}", 'true,"headers":true}'), QUIET], ids=["headers", "pedantic", "without"])
@pytest.mark.parametrize("arguments", HPUB_ARGUMENTS)
def test_hpub(plain, greeting, arguments):
    plain.same(lambda broker: play(broker.port, f"{greeting}a: SUB > 1\na: HPUB {arguments}\na: NATS/1.0\\r\\n\\r\\nhi\na?"))


# Header blocks as they are: handed on byte for byte, whatever they hold. The payload "hi" follows.
BLOCKS = {
    "none": "",
    "only the version": "NATS/1.0\\r\\n\\r\\n",
    "no end": "NATS/1.0\\r\\nA: b",
    "no end of the block": "NATS/1.0\\r\\nA: b\\r\\n",
    "another version": "NATS/2.0\\r\\nA: b\\r\\n\\r\\n",
    "another protocol": "HTTP/1.1\\r\\nA: b\\r\\n\\r\\n",
    "a lower case version": "nats/1.0\\r\\nA: b\\r\\n\\r\\n",
    "a status": "NATS/1.0 100\\r\\n\\r\\n",
    "a status with text": "NATS/1.0 409 Consumer Deleted\\r\\n\\r\\n",
    "a status with a header": "NATS/1.0 503\\r\\nNats-Subject: x\\r\\n\\r\\n",
    "no colon": "NATS/1.0\\r\\nA b\\r\\n\\r\\n",
    "an empty name": "NATS/1.0\\r\\n: b\\r\\n\\r\\n",
    "an empty value": "NATS/1.0\\r\\nA:\\r\\n\\r\\n",
    "blanks about": "NATS/1.0\\r\\n A : b \\r\\n\\r\\n",
    "the same name twice": "NATS/1.0\\r\\nA: b\\r\\nA: c\\r\\n\\r\\n",
    "names by case": "NATS/1.0\\r\\na: b\\r\\nA: c\\r\\n\\r\\n",
    "line feeds alone": "NATS/1.0\\nA: b\\n\\n",
    "a folded line": "NATS/1.0\\r\\nA: b\\r\\n c\\r\\n\\r\\n",
    "binary": "NATS/1.0\\r\\nA: \\x00\\x01\\xff\\r\\n\\r\\n",
    "text beyond ascii": "NATS/1.0\\r\\nFarbe: gr\\xc3\\xbcn\\r\\n\\r\\n",
    "a long value": "NATS/1.0\\r\\nA: {v*5000}\\r\\n\\r\\n",
    "many": "NATS/1.0\\r\\n{A: b\\r\\n*300}\\r\\n",
    "only garbage": "{z*40}",
    "text after the end": "NATS/1.0\\r\\nA: b\\r\\n\\r\\nmore",
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=ids(BLOCKS))
@pytest.mark.parametrize("reply", ["", "re.ply "], ids=["plain", "reply"])
def test_header_blocks_are_handed_on(plain, block, reply):
    from script import unescape

    size = len(unescape(block))
    script = (f'b: CONNECT {{"verbose":false,"headers":false}}\nb: SUB foo 7\nb?\nc: CONNECT {{"verbose":false,"headers":true}}\nc: SUB foo 8\nc?\n'
              f'{HEADERS}a: SUB foo 1\na: HPUB foo {reply}{size} {size + 2}\na~ {block}hi\\r\\n\na?\nb?\nc?')
    plain.same(lambda broker: play(broker.port, script))


def test_a_block_that_looks_like_a_status_is_no_status_of_the_servers(plain):
    script = HEADERS + "a: SUB in.box 1\na: SUB foo 2\na: HPUB foo in.box 16 16\na~ NATS/1.0 503\\r\\n\\r\\n\\r\\n\na?"
    plain.same(lambda broker: play(broker.port, script))


OTHER_VERBS = {
    "ping with an argument": "a: PING x",
    "ping with a blank": "a: PING ",
    "pong with an argument": "a: PONG x",
    "many pongs": "a: PONG\na: PONG\na: PONG",
    "pings together": "a~ PING\\r\\nPING\\r\\nPING\\r\\n",
    "a lower case ping": "a: ping",
    "a verb alone": "a: P",
    "a wrong third letter": "a: PUX foo 2",
    "a wrong second letter": "a: PXB foo 2",
    "a verb without blank": "a: PUBfoo 2",
    "a verb and a tab": "a~ SUB\\tfoo\\t1\\r\\nPUB\\tfoo\\t0\\r\\n\\r\\n",
    "a leading blank": "a:  PING",
    "a leading tab": "a~ \\tPING\\r\\n",
    "a leading zero byte": "a~ \\x00PING\\r\\n",
    "two line ends": "a~ PING\\r\\n\\r\\n",
    "a carriage return alone": "a~ PING\\r",
    "a carriage return within": "a~ SUB fo\\ro 1\\r\\n",
    "two carriage returns": "a~ PING\\r\\r\\n",
    "a http request": "a~ GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
    "a tls hello": "a~ \\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc\\x03\\x03\\r\\n",
    "an info": "a: INFO",
    "an info with garbage": "a: INFO garbage",
    "an ok with an argument": "a: +OK x",
    "a short ok": "a: +O",
    "an err": "a: -ERR",
    "an err of the stale kind": "a: -ERR 'Stale Connection'",
    "a message": "a: MSG foo 1 0\na: ",
    "a route's unsubscription": "a: RS- foo",
    "a route's message": "a: RMSG $G foo 0",
    "a leaf node's unsubscription": "a: LS- foo",
    "a leaf node's message": "a: LMSG foo 0",
    "an account removal": "a: A- $G",
    "a header message": "a: HMSG foo 1 0 0",
    "a delay in the middle of a verb": "a~ PI\na|\na~ NG\\r\\n",
    "connect again with other options": 'a: CONNECT {"verbose":true}\na: PUB foo 0\na: ',
    "connect again with broken json": "a: CONNECT {broken",
    "connect in lower case": 'a: connect {"verbose":true}',
    "connect without a blank": 'a: CONNECT{"verbose":true}',
    "connect with blanks around": 'a: CONNECT   {"verbose":true}  ',
}


@pytest.mark.parametrize("script", OTHER_VERBS.values(), ids=ids(OTHER_VERBS))
@pytest.mark.parametrize("greeting", ["", QUIET], ids=["first", "later"])
def test_odd_operations(plain, greeting, script):
    plain.same(lambda broker: play(broker.port, f"{greeting}{script}\na?"))


PAYLOADS = {
    "one byte short of what is said": "a~ PUB foo 3\\r\\nhi\\r\\n",
    "one byte more": "a~ PUB foo 1\\r\\nhi\\r\\n",
    "a line feed alone after it": "a~ PUB foo 2\\r\\nhi\\n",
    "no line end after it": "a~ PUB foo 2\\r\\nhiPING\\r\\n",
    "binary": "a~ PUB foo 6\\r\\n\\x00\\xff\\r\\n\\x80\\x7f\\r\\n",
    "only a line end": "a~ PUB foo 2\\r\\n\\r\\n\\r\\n",
    "in many pieces": "a~ PUB foo 5\\r\\nh\na|\na~ e\na|\na~ llo\na|\na~ \\r\na|\na~ \\n",
    "cut in its size": "a~ PUB foo 1\na|\na~ 1\\r\\nhello\na|\na~  world\\r\\n",
    "of several reads": "a~ PUB foo 200000\\r\\n{y*100000}\na|\na~ {z*100000}\\r\\n",
    "several small ones in one read": "a~ PUB foo 1\\r\\n1\\r\\nPUB foo 1\\r\\n2\\r\\nPUB foo 1\\r\\n3\\r\\n",
    "between two wrong ones": "a~ PUB foo..x 1\\r\\n1\\r\\nPUB foo 1\\r\\n2\\r\\nPUB .foo 1\\r\\n3\\r\\n",
}


@pytest.mark.parametrize("script", PAYLOADS.values(), ids=ids(PAYLOADS))
@pytest.mark.parametrize("greeting", [QUIET, VERBOSE, PEDANTIC], ids=["quiet", "verbose", "pedantic"])
def test_payloads(plain, greeting, script):
    plain.same(lambda broker: play(broker.port, f"{greeting}a: SUB foo 1\n{script}\na?"))


AUTO_UNSUBSCRIBE = {
    "max reached in one read": "a: SUB foo 1\na: UNSUB 1 2\na~ {PUB foo 1\\r\\nx\\r\\n*5}\na?",
    "max counted from the start": "a: SUB foo 1\na: PUB foo 1\na: x\na: UNSUB 1 3\na~ {PUB foo 1\\r\\ny\\r\\n*5}\na?",
    "max equal to what was delivered": "a: SUB foo 1\na~ {PUB foo 1\\r\\ny\\r\\n*2}\na: UNSUB 1 2\na: PUB foo 1\na: z\na?",
    "max raised": "a: SUB foo 1\na: UNSUB 1 1\na: UNSUB 1 3\na~ {PUB foo 1\\r\\ny\\r\\n*5}\na?",
    "max lowered": "a: SUB foo 1\na: UNSUB 1 5\na: UNSUB 1 1\na~ {PUB foo 1\\r\\ny\\r\\n*5}\na?",
    "max taken back by zero": "a: SUB foo 1\na: UNSUB 1 1\na: UNSUB 1 0\na~ {PUB foo 1\\r\\ny\\r\\n*3}\na?",
    "the sid may be used again": "a: SUB foo 1\na: UNSUB 1 1\na: PUB foo 1\na: x\na: SUB foo 1\na~ {PUB foo 1\\r\\ny\\r\\n*2}\na?",
    "the sid on another subject": "a: SUB foo 1\na: UNSUB 1\na: SUB bar 1\na: PUB foo 1\na: x\na: PUB bar 1\na: y\na?",
    "the same sid with another queue": "a: SUB foo 1\na: SUB foo q 1\na: PUB foo 1\na: x\na?",
    "two subscriptions, one with max": "a: SUB foo 1\na: SUB foo 2\na: UNSUB 2 1\na~ {PUB foo 1\\r\\nx\\r\\n*3}\na?",
    "a queue subscription with max": "a: SUB foo q 1\na: UNSUB 1 2\na~ {PUB foo 1\\r\\nx\\r\\n*4}\na?",
    "two members, one with max": "a: SUB foo q 1\na: UNSUB 1 1\na: SUB bar 5\na~ {PUB foo 1\\r\\nx\\r\\n*3}\na?",
    "a max on a wildcard": "a: SUB foo.* 1\na: UNSUB 1 2\na: PUB foo.a 1\na: x\na: PUB foo.b 1\na: y\na: PUB foo.c 1\na: z\na?",
    "a max with requests": "a: SUB in.box 1\na: UNSUB 1 1\na: PUB nobody in.box 0\na: \na: PUB nobody in.box 0\na: \na?",
}


@pytest.mark.parametrize("script", AUTO_UNSUBSCRIBE.values(), ids=ids(AUTO_UNSUBSCRIBE))
@pytest.mark.parametrize("greeting", [QUIET, VERBOSE, HEADERS], ids=["quiet", "verbose", "headers"])
def test_automatic_unsubscription(plain, greeting, script):
    plain.same(lambda broker: play(broker.port, greeting + script))


@pytest.mark.parametrize("publishers", [1, 4])
def test_a_max_holds_with_publishers_in_parallel(plain, publishers):
    """Never more than the max, and the subscription is gone for everybody after it."""
    def ask(broker):
        senders = [Wire(broker.port, {}) for _ in range(publishers)]
        with Wire(broker.port, {}) as client:
            sid = client.subscribe("race.>")
            client.send(f"UNSUB {sid} 500")
            client.sync()
            for sender in senders:
                sender.send_raw(b"PUB race.x 1\r\nx\r\n" * 1000)
            for sender in senders:
                sender.sync()
                sender.close()
            messages = client.sync()
            left = wait_until(lambda: [each for each in broker.get_json("/connz?subs=1")["connections"]
                                       if each["subscriptions"] == 0 and each["cid"] == client.info["client_id"]], "it is gone")
            return len(messages), len(left)

    plain.same(ask)


ECHO = {
    "for a queue group of one": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB foo q 1\na: PUB foo 1\na: x\na?',
    "for a queue group with another": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB foo q 1\na?\nb: CONNECT {"verbose":false}\nb: SUB foo q 2\nb?\n'
                                      "a~ {PUB foo 1\\r\\nx\\r\\n*4}\na?\nb?",
    "for a request to oneself": 'a: CONNECT {"verbose":false,"echo":false,"headers":true,"no_responders":true}\na: SUB in.box 1\na: SUB svc 2\na: PUB svc in.box 0\na: \na?',
    "for a wildcard": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB > 1\na: PUB foo 1\na: x\na?',
    "switched by a second connect": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB foo 1\na: PUB foo 1\na: x\na: CONNECT {"verbose":false,"echo":true}\na: PUB foo 1\na: y\na?',
    "with an auto unsubscription": 'a: CONNECT {"verbose":false,"echo":false}\na: SUB foo 1\na: UNSUB 1 1\na: PUB foo 1\na: x\na?\nb: CONNECT {"verbose":false}\nb~ {PUB foo 1\\r\\ny\\r\\n*2}\nb?\na?',
}


@pytest.mark.parametrize("script", ECHO.values(), ids=ids(ECHO))
def test_echo_off(plain, script):
    plain.same(lambda broker: play(broker.port, script))


NO_RESPONDERS = {
    "a reply nobody listens to": "a: PUB foo in.box 0\na: \na?",
    "a reply by wildcard": "a: SUB in.* 1\na: PUB foo in.box 0\na: \na?",
    "two listeners of the reply": "a: SUB in.box 1\na: SUB in.* 2\na: PUB foo in.box 0\na: \na?",
    "a listener of the reply on another connection": 'b: CONNECT {"verbose":false,"headers":true}\nb: SUB in.box 9\nb?\na: PUB foo in.box 0\na: \na?\nb?',
    "a queue listener of the reply": "a: SUB in.box q 1\na: PUB foo in.box 0\na: \na?",
    "a subject with odd text": "a: SUB in.box 1\na: PUB \\xc3\\xa4.x in.box 0\na: \na?",
    "a long subject": "a: SUB in.box 1\na: PUB {s*300} in.box 0\na: \na?",
    "a wildcard subject": "a: SUB in.box 1\na: PUB foo.* in.box 0\na: \na?",
    "after the responder left": 'b: CONNECT {"verbose":false}\nb: SUB foo 1\nb?\na: SUB in.box 1\na: PUB foo in.box 0\na: \na?\nb?\nb: UNSUB 1\nb?\na: PUB foo in.box 0\na: \na?',
    "after the responder's max": 'b: CONNECT {"verbose":false}\nb: SUB foo 1\nb: UNSUB 1 1\nb?\na: SUB in.box 1\na~ {PUB foo in.box 0\\r\\n\\r\\n*2}\na?\nb?',
    "several in one read": "a: SUB in.box 1\na~ {PUB foo in.box 0\\r\\n\\r\\n*3}\na?",
    "a system subject": "a: SUB in.box 1\na: PUB $SYS.REQ.NOTHING in.box 0\na: \na?",
    "a JetStream subject without JetStream": "a: SUB in.box 1\na: PUB $JS.API.INFO in.box 0\na: \na?",
}


@pytest.mark.parametrize("script", NO_RESPONDERS.values(), ids=ids(NO_RESPONDERS))
@pytest.mark.parametrize("greeting", [HEADERS, HEADERS.replace('"verbose":false', '"verbose":true')], ids=["quiet", "verbose"])
def test_no_responders(plain, greeting, script):
    plain.same(lambda broker: play(broker.port, greeting + script))


QUEUES = {
    "a group counts as one": 'b: CONNECT {"verbose":false}\nb: SUB foo q 1\nb: SUB foo q 2\nb: SUB foo q 3\nb?\na: PUB foo 0\na: \na?',
    "groups of different subjects": 'a: SUB foo.* q 1\na: SUB bar.* q 2\na: PUB foo.x 1\na: x\na: PUB bar.x 1\na: y\na?',
    "a literal and a wildcard of one name": "a: SUB foo.x q 1\na: PUB foo.x 1\na: x\na: UNSUB 1\na: SUB foo.* q 2\na: PUB foo.x 1\na: y\na?",
    "names by case": "a: SUB foo q 1\na: SUB foo Q 2\na: PUB foo 1\na: x\na?",
    "a member that left": 'b: CONNECT {"verbose":false}\nb: SUB foo q 1\nb?\na: SUB foo q 2\na?\nb.\n# what b missed goes to a\nc: CONNECT {"verbose":false}\nc?',
    "a plain subscriber beside": "a: SUB foo 1\na: SUB foo q 2\na: SUB > 3\na: PUB foo 1\na: x\na?",
    "a queue with a reply": "a: SUB foo q 1\na: PUB foo re.ply 1\na: x\na?",
}


@pytest.mark.parametrize("script", QUEUES.values(), ids=ids(QUEUES))
def test_queue_groups(plain, script):
    plain.same(lambda broker: play(broker.port, script if script.startswith("b:") and "\na:" not in script else QUIET + script))


def test_a_queue_group_spreads_over_its_members(plain):
    """Not byte for byte: each of three members gets a fair share of 900."""
    def ask(broker):
        members = [Wire(broker.port, {}) for _ in range(3)]
        for member in members:
            member.subscribe("spread", "workers")
            member.sync()
        with Wire(broker.port, {}) as sender:
            sender.send_raw(b"PUB spread 1\r\nx\r\n" * 900)
            sender.sync()
        counts = [len(member.sync()) for member in members]
        for member in members:
            member.close()
        return sum(counts), all(150 < count < 450 for count in counts)

    plain.same(ask)


def test_messages_of_one_publisher_keep_their_order(plain):
    def ask(broker):
        with Wire(broker.port, {}) as listener, Wire(broker.port, {}) as sender:
            listener.subscribe("order.*")
            listener.sync()
            sender.send_raw(b"".join(b"PUB order.%d %d\r\n%d\r\n" % (number % 7, len(str(number)), number) for number in range(3000)))
            sender.sync()
            return [message.payload for message in listener.sync()] == [b"%d" % number for number in range(3000)]

    plain.same(ask)


# -- headers switched off by the server

@pytest.fixture(scope="module")
def headerless(start_pair):
    return start_pair(STANDALONE + "no_header_support: true\n")


HEADERLESS = {
    "a header publish": 'a: CONNECT {"verbose":false,"headers":true}\na: HPUB foo 12 14\na: NATS/1.0\\r\\n\\r\\nhi\na?',
    "asking for no responders": 'a: CONNECT {"verbose":false,"headers":true,"no_responders":true}\na?',
    "a plain publish": 'a: CONNECT {"verbose":false,"headers":true}\na: SUB foo 1\na: PUB foo 2\na: hi\na?',
}


@pytest.mark.parametrize("script", HEADERLESS.values(), ids=ids(HEADERLESS))
def test_a_server_without_headers(headerless, script):
    headerless.same(lambda broker: play(broker.port, script))


def test_a_server_without_headers_says_so(headerless):
    def ask(broker):
        with Wire(broker.port) as client:
            return client.info.get("headers", "absent")

    headerless.same(ask)


# -- how subjects are quoted in errors

@pytest.fixture(scope="module")
def confined(start_pair):
    return start_pair(STANDALONE + 'authorization { users: [ { user: u, password: p, permissions: { publish: "ok", subscribe: "ok" } } ] }\n')


QUOTED = ['a"b', "a\\\\b", "a\\x07\\x08\\x0cb", "a\\x00\\x01\\x1f\\x7fb", "\\xff\\xc3(", "\\xc3\\xa4.\\xe2\\x82\\xac.\\xf0\\x9f\\x98\\x80", "\\xc2\\x85", "it's",
          "\\xe2\\x80\\xa8", "a\\x0bb"]


@pytest.mark.parametrize("subject", QUOTED)
@pytest.mark.parametrize("line", ["PUB {} 0\na: ", "SUB {} 1", "SUB {} q 1", "SUB {} {} 1", "PUB ok _R_.{} 0\na: ", "SUB ok _sys_ 1"])
def test_subjects_are_quoted_in_errors(confined, subject, line):
    confined.same(lambda broker: play(broker.port, 'a: CONNECT {"verbose":false,"user":"u","pass":"p"}\na: ' + line.format(subject, subject) + "\na?"))
