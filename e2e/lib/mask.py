"""Takes out of an answer what differs from server to server: times, ids, ports. Nothing else.

Not a judge: what is left must be equal.
"""

import re

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
NO_TIME = "0001-01-01T00:00:00Z"
# <prefix>.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
ACK_SUBJECT = re.compile(r"^(\$JS\.ACK(?:\.[^.]+){2}\.\d+\.\d+\.\d+)\.\d+\.(\d+)$")
GENERATED_NAME = re.compile(r"^[A-Za-z0-9]{8}$")
ID = re.compile(r"^[A-Za-z0-9]{22}$|^[UN][A-Z2-7]{55}$")
# Durations and ages that depend on when one asks.
VARYING = {"active", "idle", "uptime", "rtt", "cpu", "mem", "start", "now", "last_activity", "pause_remaining"}


def mask(value, key: str = ""):
    """The same structure with times as <time>, ids as <id>, generated consumer names as <generated>."""
    if isinstance(value, dict):
        return {name: mask(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [mask(inner, key) for inner in value]
    if key in VARYING:
        return f"<{key}>"
    if isinstance(value, str):
        if value == NO_TIME:
            return value
        if TIME.fullmatch(value):
            return "<time>"
        if ID.match(value):
            return "<id>"
        return TIME.sub("<time>", mask_subject(value))
    return value


def mask_subject(subject: str) -> str:
    """An ack's reply subject without its time; any other as it is."""
    return ACK_SUBJECT.sub(r"\1.<time>.\2", subject)


def mask_generated(value, name: str):
    """`name` (a name the server made up) replaced wherever it occurs."""
    if isinstance(value, dict):
        return {key: mask_generated(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_generated(inner, name) for inner in value]
    return value.replace(name, "<generated>") if isinstance(value, str) else value
