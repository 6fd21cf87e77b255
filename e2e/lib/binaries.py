"""Which programs the suites run: Weir, and the real nats-server as the judge.

Not a builder: it only finds what is there.
"""

import functools
import os
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@functools.cache
def reference() -> str:
    """The real nats-server 2.15.1 out of the PyPI wheel."""
    import sysconfig

    path = pathlib.Path(sysconfig.get_path("scripts")) / "nats-server"
    if not path.exists():
        raise RuntimeError(f"no nats-server at {path}: run the suites by e2e/run")
    return str(path)


@functools.cache
def weir() -> str:
    """Weir as WEIR_BIN names it (`reference` stands for the real nats-server), else the newest build here."""
    named = os.environ.get("WEIR_BIN")
    if named == "reference":
        return reference()
    if named:
        if not os.access(named, os.X_OK):
            raise RuntimeError(f"WEIR_BIN={named} is not a program")
        return os.path.abspath(named)
    builds = [REPOSITORY / "dist/weir", REPOSITORY / "target/release/weir"]
    present = [build for build in builds if build.exists()]
    if not present:
        raise RuntimeError(f"no weir at {' or '.join(map(str, builds))}: run `make dist`, or set WEIR_BIN")
    return str(max(present, key=lambda build: build.stat().st_mtime))


def weir_is_reference() -> bool:
    """True in a dry run, with the real nats-server in Weir's place."""
    return os.path.realpath(weir()) == os.path.realpath(reference())
