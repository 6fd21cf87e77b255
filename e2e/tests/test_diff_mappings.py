"""Mappings of subjects: the same publishes to Weir and the real nats-server, the same subjects heard."""

import re
import subprocess

import pytest

from broker import STANDALONE
from talk import talk

# Subject, destination; the publishes that are tried for each.
TABLE = [
    ("lit", "to.lit", ["lit", "lit.x"]),
    ("star.*", "to.$1", ["star.a", "star.a.b", "star"]),
    ("wild.*.*", "to.{{wildcard(2)}}.{{wildcard(1)}}", ["wild.a.b", "wild.a"]),
    ("Wild.*.*", "to.{{ Wildcard(2) }}.$1", ["Wild.a.b"]),
    ("drop.*.*", "to.$2", ["drop.a.b"]),
    ("tail.>", "to.tail.>", ["tail.a", "tail.a.b.c", "tail"]),
    ("mixed.*.>", "to.$1.x.>", ["mixed.a.b", "mixed.a.b.c"]),
    ("p1.*", "to.{{partition(10,1)}}", ["p1.a", "p1.b", "p1.foo", "p1.bar", "p1.baz"]),
    ("p2.*.*", "to.{{partition(5,1,2)}}.$1", ["p2.a.b", "p2.b.a", "p2.foo.bar"]),
    ("p3.*.*", "to.{{partition(7)}}.$1", ["p3.a.b", "p3.b.a", "p3.foo.bar"]),
    ("p5.*", "to.{{partition(0,1)}}", ["p5.a"]),
    ("p6.*", "to.{{partition(10, 0)}}", ["p6.a", "p6.b"]),
    ("r1.*", "to.{{random(1)}}", ["r1.a"]),
    ("r0.*", "to.{{random(0)}}", ["r0.a"]),
    ("sfl.*", "to.{{SplitFromLeft(1,3)}}", ["sfl.12345", "sfl.123", "sfl.12", "sfl.1234"]),
    ("sfr.*", "to.{{splitFromRight(1,3)}}", ["sfr.12345", "sfr.123", "sfr.12"]),
    ("slf.*", "to.{{sliceFromLeft(1,3)}}", ["slf.1234567890", "slf.123456", "slf.12"]),
    ("slr.*", "to.{{SliceFromRight(1,3)}}", ["slr.1234567890", "slr.123456", "slr.12"]),
    ("spl.*", "to.{{split(1,-)}}", ["spl.-abc-def--ghi-", "spl.abc-def--ghi-", "spl.abc", "spl.a--b", "spl.-"]),
    ("lef.*", "to.{{left(1,3)}}", ["lef.12345", "lef.12"]),
    ("rig.*", "to.{{right(1,3)}}", ["rig.12345", "rig.12"]),
    ("zero.*.*", "to.$0", ["zero.a.b"]),
    ("dollar.*", "to.$x.$JS.$1", ["dollar.a"]),
    ("full.*", [("to.full.$1", 100)], ["full.a"]),
    ("none.*", [("to.none.$1", 0)], ["none.a"]),
    ("lost", [("lost", 0)], ["lost"]),
    ("percent.*", [("to.pct.$1", '"100%"')], ["percent.a"]),
    ("here.*", [("to.elsewhere.$1", 100, "west"), ("to.here.$1", 100)], ["here.a"]),
    ("only.*", [("to.west.$1", 100, "west")], ["only.a"]),
]


def written(destination) -> str:
    if isinstance(destination, str):
        return f'"{destination}"'
    return "[ " + ", ".join(
        f'{{ destination: "{entry[0]}", weight: {entry[1]}' + (f", cluster: {entry[2]}" if len(entry) > 2 else "") + " }"
        for entry in destination) + " ]"


MAPPINGS = "mappings {\n" + "".join(f'  "{source}": {written(to)}\n' for source, to, _ in TABLE) + "}\n"
CASES = {f"{source} to {to}: {subject}": subject for source, to, subjects in TABLE for subject in subjects}


@pytest.fixture(scope="module")
def mapped(start_pair):
    return start_pair(STANDALONE + MAPPINGS)


@pytest.mark.parametrize("subject", CASES.values(), ids=[name.replace(" ", "_") for name in CASES])
def test_a_publish_goes_where_it_is_mapped(mapped, subject):
    mapped.same(lambda broker: talk(broker.port, f"b =\nb sub >\na =\na pub {subject} x\na ?\nb ?"))


@pytest.mark.parametrize("subject", ["lit", "full.a", "lost", "tail.a"])
def test_a_request_without_responders_names_the_mapped_subject(mapped, subject):
    mapped.same(lambda broker: talk(broker.port, f"a =\na ask {subject} x\na ?"))


def test_subscriptions_are_not_mapped(mapped):
    mapped.same(lambda broker: talk(broker.port, "b =\nb sub lit\na =\na pub lit x\na ?\nb ?\na pub to.lit y\na ?\nb ?"))


ACCOUNTS = STANDALONE + """
accounts {
  A { users: [ { user: a, password: p, permissions: { publish: ["to.allowed", "from.denied"] } } ]
      mappings: { "from.allowed": "to.allowed", "from.denied": "to.denied" } }
  B { users: [ { user: b, password: p } ] }
}
"""


@pytest.fixture(scope="module")
def accounts(start_pair):
    return start_pair(ACCOUNTS)


@pytest.mark.parametrize("script", [
    "b = a\nb sub >\na = a\na pub from.allowed x\na ?\nb ?",
    "b = a\nb sub >\na = a\na pub from.denied x\na ?\nb ?",
    "b = a\nb sub >\na = a\na pub to.allowed x\na ?\nb ?",
    "b = b\nb sub >\na = b\na pub from.allowed x\na ?\nb ?",
])
def test_permissions_are_for_the_mapped_subject(accounts, script):
    accounts.same(lambda broker: talk(broker.port, script))


def test_weights_share_the_messages_out(start_pair):
    """Not compared: chance decides. Of 2,000 each share lies within a tenth of all."""
    config = STANDALONE + 'mappings { "w.*": [ { destination: "one.$1", weight: 50% }, { destination: "two.$1", weight: 30 } ] }\n'
    for broker in start_pair(config).servers:
        lines = talk(broker.port, "b =\nb sub >\na =\n" + "a pub w.x 1\n" * 2000 + "a ?\nb ?")
        count = {name: sum(line.startswith(f"b {name}.x ") for line in lines) for name in ("one", "two", "w")}
        assert sum(count.values()) == 2000
        for name, share in (("one", 1000), ("two", 600), ("w", 400)):
            assert abs(count[name] - share) < 200, count


BAD = {
    "a source that is no subject": '"foo..bar": "x"',
    "an unknown function": '"foo.*": "{{nope(1)}}"',
    "an index out of range": '"foo.*": "bar.$2"',
    "a function with too few arguments": '"foo.*": "{{wildcard()}}"',
    "a function with too many arguments": '"foo.*": "{{wildcard(1,2)}}"',
    "a function with no number": '"foo.*": "{{wildcard(x)}}"',
    "a split with one argument": '"foo.*": "{{split(1)}}"',
    "weights above a hundred in sum": '"foo": [ { destination: a, weight: 60 }, { destination: b, weight: 60 } ]',
    "a weight above a hundred": '"foo": [ { destination: a, weight: 160 } ]',
    "a weight that is no number": '"foo": [ { destination: a, weight: "x%" } ]',
    "a destination without weight": '"foo": [ { destination: a } ]',
    "the same destination twice": '"foo": [ { destination: a, weight: 10 }, { destination: a, weight: 10 } ]',
    "a destination with a wildcard": '"foo.*": "bar.*"',
    "a tail that only the source has": '"foo.>": "bar"',
    "a tail that only the destination has": '"foo": "bar.>"',
    "an unknown field": '"foo": [ { destination: a, weight: 10, colour: blue } ]',
    "a function in a mapping of a literal": '"foo": "bar.{{wildcard(1)}}"',
}


@pytest.mark.parametrize("mapping", BAD.values(), ids=[name.replace(" ", "_") for name in BAD])
def test_what_is_no_mapping_is_refused_alike(mapping, tmp_path):
    import binaries
    file = tmp_path / "t.conf"
    file.write_text(f"listen: 127.0.0.1:-1\nmappings {{ {mapping} }}\n")
    # The reference's way of starting, so that both say it the same way.
    alias = tmp_path / "nats-server"
    alias.symlink_to(binaries.weir())

    def said(program):
        done = subprocess.run([program, "-t", "-c", str(file)], capture_output=True, text=True, timeout=20, cwd=tmp_path)
        # Where in the file it is, is compared by the configuration's own tests.
        return done.returncode, re.sub(r":\d+:\d+:", ":", done.stdout + done.stderr)

    assert said(str(alias)) == said(binaries.reference())
