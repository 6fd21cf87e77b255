// Makes what the sample needs, once, in a folder: keys, the brokers' configs, the backend's settings.
// Usage: node setup.mjs FOLDER. Environment: HOST (127.0.0.1), PORTS (JSON: a list of [client, websocket, route,
// monitor, grpc] for each broker), ORIGIN (where the page comes from), FOR=nats-server (leaves out Weir's own block).
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAccount } from "@nats-io/nkeys";

const folder = process.argv[2] ?? "run";
const host = process.env.HOST ?? "127.0.0.1";
const origin = process.env.ORIGIN ?? `http://${host}:8000`;
const ports = JSON.parse(process.env.PORTS ?? "null") ?? [1, 2, 3].map((n) => [4221 + n, 8079 + n, 6221 + n, 8221 + n, 7421 + n]);

// The brokers ask the backend about everybody but the backend itself, and believe what this key has signed.
const issuer = createAccount();
const password = randomBytes(24).toString("base64url");

mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, "auth.conf"), `authorization {
  users: [ { user: backend, password: "${password}" } ]
  auth_callout { issuer: ${issuer.getPublicKey()}, auth_users: [ backend ] }
}
`, { mode: 0o600 });

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
  password,
  issuer_seed: new TextDecoder().decode(issuer.getSeed()),
  token_secret: randomBytes(32).toString("base64url"),
  servers: ports.map(([client]) => `nats://${host}:${client}`),
  websockets: ports.map(([, websocket]) => `ws://${host}:${websocket}`),
  replicas: Math.min(ports.length, 3),
}, null, 2), { mode: 0o600 });
console.log(`${folder}: ${ports.map((_, index) => `n${index + 1}.conf`).join(" ")} auth.conf backend.json`);
