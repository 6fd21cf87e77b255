"""The operator by its chart, and a namespace for each module."""

import os
import secrets
import subprocess

import pytest

from binaries import REPOSITORY
from kube import Namespace, WeirCluster, delete_namespace, kubectl

DRIFT_SECONDS = 5
NAMESPACE_GONE_WITHIN_SECONDS = 120


def pytest_sessionstart(session):
    if not os.environ.get("KUBECONFIG"):
        pytest.exit('KUBECONFIG is not set: eval "$(make -s env)" first', returncode=2)


@pytest.fixture(scope="session")
def operator():
    """The chart, installed once."""
    subprocess.run(["helm", "upgrade", "--install", "weir", str(REPOSITORY / "charts/weir"), "--namespace", "weir-system",
                    "--create-namespace", "--wait", "--timeout", "180s", "--set", f"driftInterval={DRIFT_SECONDS}s"], check=True)


@pytest.fixture(scope="module")
def namespace(operator, request):
    name = f"e2e-{request.module.__name__.removeprefix('test_').replace('_', '-')}-{secrets.token_hex(2)}"
    kubectl("create", "namespace", name)
    yield Namespace(name)
    delete_namespace(name, NAMESPACE_GONE_WITHIN_SECONDS)


@pytest.fixture(scope="module")
def demo(namespace):
    """The Cluster `demo` with three brokers."""
    return WeirCluster(namespace).create(3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    namespace = item.funcargs.get("namespace") if hasattr(item, "funcargs") else None
    if report.failed and namespace and call.when in ("setup", "call"):
        try:
            report.sections.append((f"namespace {namespace.name}", namespace.state()))
        except Exception as trouble:  # the report itself must not fail
            report.sections.append(("namespace", f"cannot be shown: {trouble}"))
    return report
