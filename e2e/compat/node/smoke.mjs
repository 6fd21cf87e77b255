// The main calls of @nats-io/transport-node, jetstream and kv: one line `ok NAME` for each claim that holds.
// Usage: node smoke.mjs URL. Ends with status 1 at the first that does not hold.
import assert from "node:assert/strict";
import { connect, headers, nuid } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";

const url = process.argv[2];
const text = (message) => new TextDecoder().decode(message.data);

async function take(iterator, count) {
  const seen = [];
  for await (const message of iterator) {
    seen.push(message);
    if (seen.length === count) break;
  }
  return seen;
}

const claims = {
  async publish_and_subscribe(nc) {
    const subscription = nc.subscribe("js.>", { max: 3 });
    for (const word of ["a", "b", "c"]) nc.publish(`js.${word}`, word);
    assert.deepEqual((await take(subscription, 3)).map(text), ["a", "b", "c"]);
  },

  async request_and_reply(nc) {
    nc.subscribe("js.service", { callback: (_, message) => message.respond(`you said ${text(message)}`) });
    assert.equal(text(await nc.request("js.service", "hi", { timeout: 2000 })), "you said hi");
  },

  async many_replies(nc) {
    nc.subscribe("js.many", { callback: (_, message) => { message.respond("1"); message.respond("2"); } });
    const answers = await nc.requestMany("js.many", "", { strategy: "count", maxMessages: 2, maxWait: 2000 });
    assert.deepEqual((await take(answers, 2)).map(text), ["1", "2"]);
  },

  async no_responders(nc) {
    await assert.rejects(nc.request("js.nobody", "", { timeout: 2000 }), /no responders/i);
  },

  async headers_are_kept(nc) {
    const subscription = nc.subscribe("js.headed", { max: 1 });
    const sent = headers();
    sent.append("Color", "red");
    sent.append("Color", "blue");
    nc.publish("js.headed", "x", { headers: sent });
    const [message] = await take(subscription, 1);
    assert.deepEqual(message.headers.values("Color"), ["red", "blue"]);
  },

  async queue_groups(nc) {
    let count = 0;
    for (let index = 0; index < 3; index++) nc.subscribe("js.jobs", { queue: "workers", callback: () => { count++; } });
    await nc.flush();
    for (let index = 0; index < 100; index++) nc.publish("js.jobs");
    await nc.flush();
    await nc.flush();
    assert.equal(count, 100);
  },

  async round_trip_time(nc) {
    assert.ok((await nc.rtt()) >= 0);
  },

  async drain() {
    const nc = await connect({ servers: url });
    let count = 0;
    nc.subscribe("js.drained", { callback: () => { count++; } });
    for (let index = 0; index < 50; index++) nc.publish("js.drained");
    await nc.drain();
    assert.equal(count, 50);
    assert.ok(nc.isClosed());
  },

  async streams(nc) {
    const jsm = await jetstreamManager(nc);
    const info = await jsm.streams.add({ name: "JS", subjects: ["jss.*"] });
    assert.equal(info.config.max_msgs, -1);
    const js = jetstream(nc);
    assert.equal((await js.publish("jss.a", "x")).seq, 1);
    assert.equal((await js.publish("jss.a", "x", { msgID: "1" })).duplicate, false);
    assert.equal((await js.publish("jss.a", "x", { msgID: "1" })).duplicate, true);
    await assert.rejects(js.publish("jss.a", "x", { expect: { lastSequence: 9 } }), /wrong last sequence/);
    await jsm.streams.update("JS", { max_msgs: 10 });
    assert.equal((await jsm.streams.info("JS")).config.max_msgs, 10);
    assert.equal(await jsm.streams.find("jss.a"), "JS");
    assert.deepEqual((await jsm.streams.names().next()).filter((name) => name === "JS"), ["JS"]);
    assert.equal((await jsm.streams.list().next()).filter((each) => each.config.name === "JS").length, 1);
    assert.equal((await jsm.streams.getMessage("JS", { seq: 1 })).string(), "x");
    assert.equal((await jsm.streams.getMessage("JS", { last_by_subj: "jss.a" })).seq, 2);
    assert.equal(await jsm.streams.deleteMessage("JS", 1), true);
    assert.equal((await jsm.streams.purge("JS")).purged, 1);
    assert.equal(await jsm.streams.delete("JS"), true);
    assert.ok((await jsm.getAccountInfo()).limits);
  },

  async pull_consumers(nc) {
    const jsm = await jetstreamManager(nc);
    await jsm.streams.add({ name: "JSP", subjects: ["jsp"] });
    await jsm.consumers.add("JSP", { durable_name: "c", ack_policy: AckPolicy.Explicit });
    const js = jetstream(nc);
    for (let index = 0; index < 50; index++) await js.publish("jsp", `${index}`);
    const consumer = await js.consumers.get("JSP", "c");
    const first = await consumer.next({ expires: 2000 });
    assert.equal(first.string(), "0");
    first.nak();
    // A nak is not awaited: another message may come before its own.
    const next = [];
    while (!next.at(-1)?.info.redelivered) next.push(await consumer.next({ expires: 2000 }));
    for (const message of next) assert.equal(await message.ackAck(), true);
    for await (const message of await consumer.fetch({ max_messages: 10 - next.length, expires: 2000 })) message.ack();
    const rest = await take(await consumer.consume(), 40);
    for (const message of rest) assert.equal(await message.ackAck(), true);
    assert.deepEqual(rest.map((message) => message.seq), Array.from({ length: 40 }, (_, index) => index + 11));
    const info = await consumer.info();
    assert.equal(info.num_pending, 0);
    assert.equal(info.ack_floor.stream_seq, 50);
    assert.equal((await jsm.consumers.list("JSP").next()).length, 1);
    assert.equal(await consumer.delete(), true);
    await jsm.streams.delete("JSP");
  },

  async ordered_consumers(nc) {
    const jsm = await jetstreamManager(nc);
    await jsm.streams.add({ name: "JSO", subjects: ["jso.*"] });
    const js = jetstream(nc);
    for (let index = 0; index < 200; index++) await js.publish(`jso.${index % 2}`, `${index}`);
    const consumer = await js.consumers.get("JSO", { filter_subjects: ["jso.1"] });
    const seen = await take(await consumer.consume(), 100);
    assert.deepEqual(seen.map((message) => Number(message.string())), Array.from({ length: 100 }, (_, index) => index * 2 + 1));
    await jsm.streams.delete("JSO");
  },

  async push_consumers(nc) {
    const jsm = await jetstreamManager(nc);
    await jsm.streams.add({ name: "JSU", subjects: ["jsu"] });
    const js = jetstream(nc);
    for (let index = 0; index < 20; index++) await js.publish("jsu", `${index}`);
    await jsm.consumers.add("JSU", {
      durable_name: "p", ack_policy: AckPolicy.Explicit, deliver_policy: DeliverPolicy.All, deliver_subject: `to.${nuid.next()}`,
    });
    const consumer = await js.consumers.getPushConsumer("JSU", "p");
    const seen = await take(await consumer.consume(), 20);
    for (const message of seen) assert.equal(await message.ackAck(), true);
    assert.deepEqual(seen.map((message) => message.seq), Array.from({ length: 20 }, (_, index) => index + 1));
    await jsm.streams.delete("JSU");
  },

  async key_value(nc) {
    const kv = await new Kvm(nc).create("jskv", { history: 5 });
    assert.equal(await kv.put("color", "red"), 1);
    assert.equal((await kv.get("color")).string(), "red");
    assert.equal(await kv.update("color", "blue", 1), 2);
    await assert.rejects(kv.update("color", "green", 1), /wrong last sequence/);
    await kv.create("size", "9");
    assert.deepEqual((await take(await kv.keys(), 2)).sort(), ["color", "size"]);
    assert.deepEqual((await take(await kv.history({ key: "color" }), 2)).map((entry) => entry.string()), ["red", "blue"]);
    const watch = await kv.watch({ key: "size" });
    await kv.put("size", "10");
    assert.deepEqual((await take(watch, 2)).map((entry) => entry.string()), ["9", "10"]);
    await kv.delete("size");
    assert.equal((await kv.get("size")).operation, "DEL");
    await kv.purge("color");
    assert.equal((await kv.status()).bucket, "jskv");
    assert.equal(await kv.destroy(), true);
  },
};

const nc = await connect({ servers: url, maxReconnectAttempts: 0 });
for (const [name, claim] of Object.entries(claims)) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("not within 15 s")), 15_000); });
  try {
    await Promise.race([claim(nc), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`failed ${name}: ${error.stack}`);
    process.exitCode = 1;
  } finally {
    clearTimeout(timer);
  }
}
await nc.close();
process.exit();
