"""The Kubernetes of KUBECONFIG by kubectl, and Weir's clusters in it as the tests see them.

Not a client of the API: what a person would type is what the tests type.
"""

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import yaml

from broker import wait_until
from jetstream import JetStream
from wire import Wire

LINK = pathlib.Path(__file__).resolve().parents[1] / "kube/link"
CLIENT_PORT = 4222
MONITOR_PORT = 8222


class Refused(Exception):
    """kubectl ended with an error; its text is the message."""


def kubectl(*arguments: str, namespace: str | None = None, stdin: str | None = None, within: float = 120) -> str:
    command = ["kubectl", *(["--namespace", namespace] if namespace else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=within)
    if done.returncode:
        raise Refused((done.stderr or done.stdout).strip())
    return done.stdout


class Namespace:
    """A namespace of one test module."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: str, **more) -> str:
        return kubectl(*arguments, namespace=self.name, **more)

    def get(self, kind: str, name: str) -> dict:
        return json.loads(self("get", kind, name, "--output", "json"))

    def items(self, kind: str, *arguments: str) -> list[dict]:
        return json.loads(self("get", kind, *arguments, "--output", "json"))["items"]

    def apply(self, *manifests: dict, dry_run: bool = False):
        text = yaml.safe_dump_all(manifests)
        self("apply", *(["--dry-run=server"] if dry_run else []), "--filename", "-", stdin=text)

    def patch(self, kind: str, name: str, change: dict):
        self("patch", kind, name, "--type", "merge", "--patch", json.dumps(change))

    def wait_ready(self, *names: str, within: int = 180):
        """`names` as kind/name."""
        self("wait", "--for=condition=Ready", *names, f"--timeout={within}s", within=within + 30)

    def condition(self, kind: str, name: str, condition: str) -> dict:
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((each for each in found if each["type"] == condition), {})

    def events(self, reason: str) -> list[dict]:
        return [event for event in self.items("events") if event.get("reason") == reason]

    def state(self) -> str:
        """What a person would look at when something is wrong."""
        parts = []
        for arguments in (["get", "clusters,streams,consumers,pods,pvc", "--output", "wide"], ["get", "events", "--sort-by=.lastTimestamp"],
                          ["describe", "clusters,streams,consumers"]):
            with contextlib.suppress(Refused, subprocess.TimeoutExpired):
                parts.append(self(*arguments)[-6000:])
        for pod in self("get", "pods", "--output", "name").split():
            with contextlib.suppress(Refused, subprocess.TimeoutExpired):
                parts.append(f"--- {pod}\n" + self("logs", pod, "--tail=25"))
        with contextlib.suppress(Refused, subprocess.TimeoutExpired):
            parts.append("--- the operator\n" + kubectl("logs", "--selector", "app.kubernetes.io/name=weir-operator", "--tail=40",
                                                        "--all-containers", namespace="weir-system"))
        return "\n".join(parts)


class WeirCluster:
    """A Cluster object and its brokers."""

    def __init__(self, namespace: Namespace, name: str = "demo"):
        self.namespace, self.name = namespace, name

    def create(self, replicas: int = 3, **spec) -> "WeirCluster":
        self.namespace.apply(self.manifest(replicas, **spec))
        self.namespace.wait_ready(f"cluster/{self.name}")
        return self

    def manifest(self, replicas: int = 3, **spec) -> dict:
        return {"apiVersion": "weir.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": self.name},
                "spec": {"replicas": replicas, "storage": {"size": "512Mi"}} | spec}

    def pods(self) -> dict[str, dict]:
        found = self.namespace.items("pods", "--selector", f"weir.dev/cluster={self.name}")
        return {pod["metadata"]["name"]: pod for pod in sorted(found, key=lambda pod: pod["metadata"]["name"])}

    def address(self, pod: str) -> str:
        return self.namespace.get("pod", pod)["status"]["podIP"]

    def service_address(self) -> str:
        return self.namespace.get("service", self.name)["spec"]["clusterIP"]

    def credentials(self) -> dict:
        data = self.namespace.get("secret", f"{self.name}-app")["data"]
        return {field: base64.b64decode(data[key]).decode() for field, key in (("user", "username"), ("pass", "password"))}

    def wire(self, pod: str) -> Wire:
        return Wire(CLIENT_PORT, {"headers": True} | self.credentials(), self.address(pod))

    def jetstream(self, pod: str | None = None) -> JetStream:
        return JetStream(CLIENT_PORT, self.credentials(), self.address(pod) if pod else self.service_address())

    def monitor(self, pod: str, path: str) -> dict:
        with urllib.request.urlopen(f"http://{self.address(pod)}:{MONITOR_PORT}{path}", timeout=5) as answer:
            return json.load(answer)

    def stream_info(self, stream: str) -> dict | None:
        """Through the service; None while nobody answers."""
        try:
            with self.jetstream() as js:
                info = js.raw(f"STREAM.INFO.{stream}", within=4)
        except (OSError, AssertionError):
            return None
        return info if "config" in info else None

    def leader(self, stream: str) -> str | None:
        info = self.stream_info(stream)
        return (info.get("cluster") or {}).get("leader") if info else None

    def wait_current(self, stream: str, within: float = 90) -> dict:
        """Until every replica of the stream is current; the stream's info."""
        def current():
            info = self.stream_info(stream)
            cluster = (info or {}).get("cluster") or {}
            peers = cluster.get("replicas") or []
            good = cluster.get("leader") and len(peers) == info["config"]["num_replicas"] - 1 and \
                all(peer["current"] and not peer.get("offline") and not peer.get("lag") for peer in peers)
            return info if good else None

        return wait_until(current, f"every replica of {stream} is current", within, every=0.5)

    def meta(self, pod: str) -> dict | None:
        try:
            return self.monitor(pod, "/jsz").get("meta_cluster")
        except OSError:
            return None

    def wait_meta_size(self, size: int, within: float = 120):
        """Every pod knows a meta group of this size, and the same leader."""
        def agreed():
            groups = [self.meta(pod) or {} for pod in self.pods()]
            return all(group.get("cluster_size") == size for group in groups) and \
                len({group.get("leader") for group in groups}) == 1 and groups[0].get("leader")

        return wait_until(agreed, f"every pod sees a meta group of {size}", within, every=0.5)

    def wait_pods_ready(self, count: int, within: float = 180):
        def ready():
            pods = self.pods()
            return len(pods) == count and all(
                any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"].get("conditions", []))
                and "deletionTimestamp" not in pod["metadata"] for pod in pods.values())

        wait_until(ready, f"{count} pods are ready", within, every=0.5)


def stream(name: str, stream_name: str, subjects: list[str], cluster: str = "demo", **spec) -> dict:
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "Stream", "metadata": {"name": name},
            "spec": {"clusterRef": {"name": cluster}, "name": stream_name, "subjects": subjects} | spec}


def consumer(name: str, stream_name: str, cluster: str = "demo", **spec) -> dict:
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "Consumer", "metadata": {"name": name},
            "spec": {"clusterRef": {"name": cluster}, "streamName": stream_name} | spec}


@contextlib.contextmanager
def link_down(node: str):
    """The node is cut off from the others inside the block."""
    instance = os.environ.get("WEIR_KUBE_INSTANCE") or instance_of_kubeconfig()
    subprocess.run([str(LINK), node, "down", instance], check=True)
    try:
        yield
    finally:
        subprocess.run([str(LINK), node, "up", instance], check=True)


def instance_of_kubeconfig() -> str:
    """The local Kubernetes keeps its kubeconfig in a folder named after the instance."""
    return pathlib.Path(os.environ["KUBECONFIG"]).parent.name


def delete_namespace(name: str, within: float) -> float:
    """Deletes it and waits; the seconds it took."""
    began = time.monotonic()
    kubectl("delete", "namespace", name, f"--timeout={within:.0f}s", "--ignore-not-found", within=within + 30)
    return time.monotonic() - began
