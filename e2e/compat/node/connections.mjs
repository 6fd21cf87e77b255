// @nats-io/transport-node and nats-core over WebSocket: ways in, and what happens when a server goes.
// Usage: node connections.mjs KEY=VALUE..., as lib/doors.py has them. One line `ok NAME` for each claim that holds.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect, credsAuthenticator, nkeyAuthenticator, wsconnect } from "@nats-io/transport-node";

const doors = Object.fromEntries(process.argv.slice(2).map((pair) => pair.split(/=(.*)/s, 2)));
const text = (message) => new TextDecoder().decode(message.data);
const token = "s3cret";

async function works(options, open = connect) {
  const nc = await open({ reconnect: false, timeout: 5000, ...options });
  try {
    const subscription = nc.subscribe("door.>", { max: 1 });
    nc.publish("door.a", "hi");
    for await (const message of subscription) assert.equal(text(message), "hi");
  } finally {
    await nc.close();
  }
}

async function until(condition, what) {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const claims = {
  async user_and_password() {
    await works({ servers: doors.users, user: "ann", pass: "apple" });
  },

  async a_wrong_password_is_refused() {
    await assert.rejects(works({ servers: doors.users, user: "ann", pass: "pear" }), /authorization violation/i);
  },

  async token() {
    await works({ servers: doors.token, token });
  },

  async nkey() {
    await works({ servers: doors.nkeys, authenticator: nkeyAuthenticator(new TextEncoder().encode(doors.nkey_seed)) });
  },

  async credentials_file() {
    await works({ servers: doors.operator, authenticator: credsAuthenticator(readFileSync(doors.credentials)) });
  },

  async tls() {
    await works({ servers: doors.tls, token, tls: { caFile: doors.ca } });
  },

  async tls_with_an_unknown_ca_is_refused() {
    await assert.rejects(works({ servers: doors.tls, token, tls: {} }));
  },

  async tls_first() {
    await works({ servers: doors.tls_first, token, tls: { caFile: doors.ca, handshakeFirst: true } });
  },

  async websocket() {
    await works({ servers: doors.websocket, user: "ann", pass: "apple" }, wsconnect);
  },

  async a_wrong_password_is_refused_over_websocket() {
    await assert.rejects(works({ servers: doors.websocket, user: "ann", pass: "pear" }, wsconnect), /authorization violation/i);
  },

  async large_messages_over_websocket() {
    const nc = await wsconnect({ servers: doors.websocket, user: "ann", pass: "apple" });
    const sizes = [0, 1, 125, 126, 4095, 4096, 65_535, 65_536, nc.info.max_payload];
    const subscription = nc.subscribe("large", { max: sizes.length });
    for (const size of sizes) nc.publish("large", new Uint8Array(size).fill(7));
    const seen = [];
    for await (const message of subscription) seen.push(message.data.length);
    assert.deepEqual(seen, sizes);
    await nc.close();
  },

  // One server is killed, the next one says good-bye: the client learns of others and moves on, its subscription with it.
  async discovery_reconnect_and_lame_duck() {
    const nc = await connect({ servers: doors.trio, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
    const events = [];
    (async () => { for await (const event of nc.status()) events.push(event.type); })();
    await until(() => nc.protocol.servers.length() >= 3, "all three are known");
    const seen = [];
    nc.subscribe("moved.>", { callback: (_, message) => seen.push(text(message)) });
    await nc.flush();
    for (const [signal, word] of [["SIGKILL", "one"], ["SIGUSR2", "two"]]) {
      const holder = nc.info.server_name;
      const returns = events.filter((type) => type === "reconnect").length;
      process.kill(Number(doors[`pid_${holder}`]), signal);
      await until(() => events.filter((type) => type === "reconnect").length > returns && nc.info.server_name !== holder, `it has left ${holder}`);
      nc.publish("moved.a", word);
      await until(() => seen.at(-1) === word, "the subscription went along");
    }
    assert.ok(events.includes("ldm"), events.join(" "));
    await nc.close();
  },
};

for (const [name, claim] of Object.entries(claims)) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("not within 30 s")), 30_000); });
  try {
    await Promise.race([claim(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`failed ${name}: ${error.stack}`);
    process.exitCode = 1;
  } finally {
    clearTimeout(timer);
  }
}
process.exit();
