"""The ORDERS example, by a stock client: 1,000 orders published; order-review pulls them, monitor is pushed them.

Talks to the Cluster `demo` of manifests/samples in the Kubernetes of KUBECONFIG. The Stream and the Consumers are
there already. Environment: NAMESPACE (default), CLUSTER (demo), ORDERS (1000); NATS_URL goes straight to a server,
and then makes the stream and the consumers itself.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import time

import nats
from nats.js.api import AckPolicy, ConsumerConfig

COUNT = int(os.environ.get("ORDERS", "1000"))
NAMESPACE = os.environ.get("NAMESPACE", "default")
CLUSTER = os.environ.get("CLUSTER", "demo")
WITHIN_SECONDS = 120
PULL_BATCH = 100
PUBLISH_WINDOW = 250


def kubectl(*arguments: str) -> dict:
    done = subprocess.run(["kubectl", "--namespace", NAMESPACE, *arguments, "--output", "json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"orders: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def endpoint() -> dict:
    """How to connect: the Service's address, and the application's credentials out of its Secret."""
    if url := os.environ.get("NATS_URL"):
        return {"servers": [url]}
    address = kubectl("get", "service", CLUSTER)["spec"]["clusterIP"]
    secret = kubectl("get", "secret", f"{CLUSTER}-app")["data"]
    return {"servers": [f"nats://{address}:4222"]} | {
        option: base64.b64decode(secret[key]).decode() for option, key in (("user", "username"), ("password", "password"))}


async def prepare(js):
    """Where no operator has made them."""
    await js.add_stream(name="ORDERS", subjects=["ORDERS.*"])
    await js.add_consumer("ORDERS", ConsumerConfig(durable_name="order-review", ack_policy=AckPolicy.EXPLICIT))
    await js.add_consumer("ORDERS", ConsumerConfig(durable_name="monitor", ack_policy=AckPolicy.EXPLICIT,
                                                   deliver_subject="monitor.ORDERS"))


async def publish(js) -> tuple[int, int]:
    """Publishes the orders, a window at a time; the first and the last sequence they got."""
    sequences = []
    for begin in range(1, COUNT + 1, PUBLISH_WINDOW):
        orders = range(begin, min(begin + PUBLISH_WINDOW, COUNT + 1))
        acks = await asyncio.gather(*(
            js.publish("ORDERS.received", json.dumps({"order": number, "total": number * 7 % 100}).encode(), timeout=10)
            for number in orders))
        sequences += [ack.seq for ack in acks]
    return min(sequences), max(sequences)


async def review(js, first: int, last: int) -> int:
    """Pulls with `order-review` until every order was there and is acked."""
    subscription = await js.pull_subscribe_bind("order-review", "ORDERS")
    seen: set[int] = set()
    while len(seen) < COUNT:
        try:
            messages = await subscription.fetch(PULL_BATCH, timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            if first <= message.metadata.sequence.stream <= last:
                seen.add(message.metadata.sequence.stream)
            await message.ack()
    return len(seen)


async def watch(client, js, first: int, last: int) -> int:
    """Listens where `monitor` pushes, and acks by hand."""
    subscription = await js.subscribe_bind("ORDERS", (await js.consumer_info("ORDERS", "monitor")).config, "monitor", manual_ack=True)
    seen: set[int] = set()
    while len(seen) < COUNT:
        message = await subscription.next_msg(timeout=WITHIN_SECONDS)
        if first <= message.metadata.sequence.stream <= last:
            seen.add(message.metadata.sequence.stream)
        await message.ack()
    return len(seen)


async def settled(js, name: str, last: int) -> bool:
    """Nothing of ours is left without ack."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (await js.consumer_info("ORDERS", name)).ack_floor.stream_seq >= last:
            return True
        await asyncio.sleep(0.1)
    return False


async def main():
    options = endpoint()
    client = await nats.connect(**options, name="orders", connect_timeout=10)
    js = client.jetstream(timeout=10)
    if os.environ.get("NATS_URL"):
        await prepare(js)
    info = await js.stream_info("ORDERS")
    replicas = [info.cluster.leader, *(peer.name for peer in info.cluster.replicas or [])] if info.cluster else []
    print(f"connected to   {client.connected_url.netloc}, stream ORDERS on {info.config.subjects}"
          + (f", replicas {', '.join(sorted(filter(None, replicas)))} (leader {info.cluster.leader})" if replicas else ""))

    began = time.monotonic()
    first, last = await publish(js)
    took = time.monotonic() - began
    print(f"published      {COUNT:,} orders in {took:.2f} s, each acked: sequences {first} to {last}")

    began = time.monotonic()
    pulled = await review(js, first, last)
    print(f"order-review   pulled and acked {pulled:,} in {time.monotonic() - began:.2f} s")

    began = time.monotonic()
    pushed = await watch(client, js, first, last)
    print(f"monitor        was pushed and acked {pushed:,} in {time.monotonic() - began:.2f} s")

    for name in ("order-review", "monitor"):
        if not await settled(js, name, last):
            sys.exit(f"orders: {name} has orders without ack: {await js.consumer_info('ORDERS', name)}")
    print(f"both           have acked all {COUNT:,}")
    await client.close()


asyncio.run(asyncio.wait_for(main(), WITHIN_SECONDS))
