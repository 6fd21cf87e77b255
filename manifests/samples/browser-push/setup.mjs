// Makes what the sample needs, once, in a folder: keys, the brokers' configs, the backend's settings.
// Usage: node setup.mjs FOLDER. Environment: HOST (127.0.0.1), PORTS (JSON: a list of [client, websocket, route,
// monitor, grpc] for each broker), ORIGIN (where the page comes from), FOR=nats-server (leaves out Weir's own block).
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeAccount, encodeOperator } from "@nats-io/jwt";
import { createAccount, createOperator } from "@nats-io/nkeys";

const folder = process.argv[2] ?? "run";
const host = process.env.HOST ?? "127.0.0.1";
const origin = process.env.ORIGIN ?? `http://${host}:8000`;
const ports = JSON.parse(process.env.PORTS ?? "null") ?? [1, 2, 3].map((n) => [4221 + n, 8079 + n, 6221 + n, 8221 + n, 7421 + n]);
const text = (bytes) => new TextDecoder().decode(bytes);

// The operator vouches for accounts; the account's key, which the backend keeps, for users.
const operator = createOperator();
const system = createAccount();
const push = createAccount();
const unlimited = {
  subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1,
  mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1,
};
const operatorJwt = await encodeOperator("sample", operator, { system_account: system.getPublicKey() });
const systemJwt = await encodeAccount("SYS", system, {}, { signer: operator });
const pushJwt = await encodeAccount("PUSH", push, { limits: unlimited }, { signer: operator });

mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, "auth.conf"), `operator: ${operatorJwt}
system_account: ${system.getPublicKey()}
resolver: MEMORY
resolver_preload {
  ${system.getPublicKey()}: ${systemJwt}
  ${push.getPublicKey()}: ${pushJwt}
}
`);

const routes = ports.map(([, , route]) => `"nats://${host}:${route}"`).join(", ");
ports.forEach(([client, websocket, route, monitor, grpc], index) => {
  const name = `n${index + 1}`;
  const own = `weir { grpc: "${host}:${grpc}", grpc_advertise: "${host}:${grpc}", cluster_secret: "sample" }\n`;
  writeFileSync(join(folder, `${name}.conf`), `server_name: ${name}
listen: "${host}:${client}"
http: "${host}:${monitor}"
include ./auth.conf
websocket {
  listen: "${host}:${websocket}"
  no_tls: true  # behind a proxy that ends TLS; else a tls block
  allowed_origins: ["${origin}"]
}
jetstream { store_dir: "${name}" }
cluster { name: sample, listen: "${host}:${route}", routes: [${routes}] }
${process.env.FOR === "nats-server" ? "" : own}`);
});

writeFileSync(join(folder, "backend.json"), JSON.stringify({
  // Who may log in is the backend's business; a real one asks its own user store.
  users: { ann: "apple", bob: "banana" },
  account: push.getPublicKey(),
  account_seed: text(push.getSeed()),
  servers: ports.map(([client]) => `nats://${host}:${client}`),
  websockets: ports.map(([, websocket]) => `ws://${host}:${websocket}`),
  replicas: Math.min(ports.length, 3),
}, null, 2), { mode: 0o600 });
console.log(`${folder}: ${ports.map((_, index) => `n${index + 1}.conf`).join(" ")} auth.conf backend.json`);
