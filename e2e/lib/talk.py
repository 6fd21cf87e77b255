"""Conversations of several users, written as lines; requests can be answered. One transcript each.

    a = ann               connection a logs in as user ann with the password "p"; with_headers and no_responders on
    a sub foo [queue]     subscribes, and waits until the server has it
    a until 2             the last subscription ends after 2 messages
    a unsub               the last subscription ends
    a pub foo text        publishes
    a pub foo >re.ply text
    a hpub foo K=V,L=W text    ... with headers; also with >re.ply
    a ask foo text        publishes with an inbox as the reply, which a listens on
    a answer one | two    a answers the last message it read, once with each text
    a ?                   what a has got up to now
    a wait 2              waits for two messages
    a quiet               like ?, after a moment in which late messages would come
    a .                   a goes away

What differs from run to run is masked: one-time reply subjects, round trips, start times, ids, addresses.
"""

import re
import time

from wire import CLOSED, Wire, message_of

QUIET_SECONDS = 0.15
MASKS = [
    (re.compile(r"_R_\.\w{6}\.\w{6}(\.\w+\.T)?"), "_R_"),
    (re.compile(r'"rtt":\d+'), '"rtt":0'),
    (re.compile(r'"start":"[^"]+"'), '"start":"<time>"'),
    (re.compile(r'"id":\d+'), '"id":0'),
]


class Talk:
    def __init__(self, port: int, password: str = "p"):
        self.port = port
        self.password = password
        self.connections: dict[str, Wire] = {}
        self.last: dict[str, object] = {}
        self.asked: dict[str, int] = {}
        self.transcript: list[str] = []

    def play(self, script: str) -> list[str]:
        try:
            for line in filter(None, (line.strip() for line in script.splitlines())):
                if line.startswith("#"):
                    continue
                name, verb, *rest = line.split(None, 2)
                self.step(name, verb, rest[0] if rest else "")
        except AssertionError as failure:
            raise AssertionError(f"{failure}\nafter:\n" + "\n".join(self.transcript)) from None
        finally:
            for connection in self.connections.values():
                connection.close()
        return self.transcript

    def step(self, name: str, verb: str, text: str):
        if verb == "=":
            options = {"headers": True, "no_responders": True, "protocol": 1}
            if text:
                options |= {"user": text.split()[0], "pass": self.password}
            if "noecho" in text:
                options["echo"] = False
            self.connections[name] = Wire(self.port, options)
            self.hear(name)
            return
        connection = self.connections[name]
        if verb == "sub":
            words = text.split()
            connection.subscribe(words[0], words[1] if len(words) > 1 else "")
            self.hear(name)
        elif verb == "until":
            connection.send(f"UNSUB {connection._sids} {text}")
            self.hear(name)
        elif verb == "unsub":
            connection.unsubscribe(str(connection._sids))
            self.hear(name)
        elif verb in ("pub", "hpub"):
            self.publish(connection, text, verb == "hpub")
        elif verb == "ask":
            subject, _, payload = text.partition(" ")
            # An inbox for each question: of two subscriptions to one inbox nats-server tells either "no responders".
            self.asked[name] = self.asked.get(name, 0) + 1
            inbox = f"_INBOX.{name}" if self.asked[name] == 1 else f"_INBOX.{name}.{self.asked[name]}"
            connection.subscribe(inbox)
            connection.publish(subject, payload, inbox)
        elif verb == "answer":
            for payload in text.split("|"):
                connection.publish(self.last[name].reply, payload.strip())
        elif verb == "?":
            self.hear(name)
        elif verb == "quiet":
            time.sleep(QUIET_SECONDS)
            self.hear(name)
        elif verb == "wait":
            for _ in range(int(text)):
                self.note(name, connection.read(), skip=("PONG", "INFO", "PING"))
        elif verb == ".":
            connection.close()
        else:
            raise AssertionError(f"not a step: {name} {verb} {text}")

    def publish(self, connection: Wire, text: str, with_headers: bool):
        subject, _, rest = text.partition(" ")
        headers, reply = (), ""
        if with_headers:
            pairs, _, rest = rest.partition(" ")
            headers = [tuple(pair.split("=", 1)) for pair in pairs.split(",")]
        if rest.startswith(">"):
            reply, _, rest = rest[1:].partition(" ")
        connection.publish(subject, rest, reply, headers)

    def hear(self, name: str):
        for operation in self.connections[name].until_pong():
            self.note(name, operation)

    def note(self, name: str, operation, skip=("PONG", "INFO", "PING")):
        if operation.verb in skip:
            return
        if operation.verb not in ("MSG", "HMSG"):
            self.transcript.append(f"{name} {operation}")
            assert operation != CLOSED or name, "closed"
            return
        message = message_of(operation)
        self.last[name] = message
        headers = " ".join(f"[{key}: {value}]" for key, value in message.headers)
        text = " ".join(filter(None, (
            f"{name} {message.subject} sid={message.sid}", message.reply and f"reply={message.reply}",
            message.status, headers, message.payload.decode(errors="replace"))))
        for pattern, mask in MASKS:
            text = pattern.sub(mask, text)
        self.transcript.append(text)


def talk(port: int, script: str) -> list[str]:
    return Talk(port).play(script)
