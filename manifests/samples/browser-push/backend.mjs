// The application's server: hands out the page, logs users in, and pushes messages to them through the brokers.
// A browser gets a token; whichever broker it shows that to asks here (auth callout), and the answer, signed, allows one
// user's messages and nothing else.
// Usage: node backend.mjs FOLDER [PORT]; FOLDER is what setup.mjs made.
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { decode, encodeAuthorizationResponse, encodeUser } from "@nats-io/jwt";
import { fromPublic, fromSeed } from "@nats-io/nkeys";
import { connect, nanos, nuid } from "@nats-io/transport-node";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { build } from "esbuild";

const [folder = "run", port = "8000"] = process.argv.slice(2);
const here = new URL("page/", import.meta.url).pathname;
const settings = JSON.parse(readFileSync(join(folder, "backend.json"), "utf8"));
const issuer = fromSeed(new TextEncoder().encode(settings.issuer_seed));
const TOKEN_SECONDS = Number(process.env.TOKEN_SECONDS ?? 3600);
const ATTEMPTS = 60;
const RETRY_MS = 500;
const BODY_BYTES = 16 * 1024;

/** What a user's browser may do: read its own part of the stream, on inboxes of its own. */
const permissions = (user) => ({
  pub: { allow: [`$JS.API.CONSUMER.CREATE.PUSH.*.push.${user}.>`] },
  sub: { allow: [`_INBOX.${user}.>`] },
});

const sign = (text) => createHmac("sha256", settings.token_secret).update(text).digest("base64url");
const inSeconds = () => Math.floor(Date.now() / 1000);

/** `<user>.<when it expires>.<signature>`: whoever shows it is the user until then. */
function tokenOf(user) {
  const text = `${user}.${inSeconds() + TOKEN_SECONDS}`;
  return `${text}.${sign(text)}`;
}

/** Who shows this token, and until when; undefined for one that is not ours or has expired. */
function holderOf(token) {
  const [user, expires, signature = ""] = String(token).split(".");
  const expected = Buffer.from(sign(`${user}.${expires}`));
  const given = Buffer.from(signature);
  const isOurs = given.length === expected.length && timingSafeEqual(given, expected);
  return isOurs && Number(expires) > inSeconds() ? { user, expires: Number(expires) } : undefined;
}

/** Answers brokers that ask whether to let a connection in. */
async function answerBrokers(nc) {
  for await (const question of nc.subscribe("$SYS.REQ.USER.AUTH", { queue: "backend" })) {
    const { user_nkey, server_id, connect_opts } = decode(question.string()).nats;
    const holder = holderOf(connect_opts.auth_token);
    const answer = holder
      ? { jwt: await encodeUser(holder.user, fromPublic(user_nkey), issuer,
        { ...permissions(holder.user), allowed_connection_types: ["WEBSOCKET"] }, { aud: "$G", exp: holder.expires }) }
      : { error: "not a token of this application" };
    question.respond(await encodeAuthorizationResponse(fromPublic(user_nkey), fromPublic(server_id.id), issuer, answer, {}));
  }
}

async function connectBrokers() {
  const nc = await connect({
    servers: settings.servers, name: "backend", maxReconnectAttempts: -1, reconnectTimeWait: 250, waitOnFirstConnect: true,
    user: "backend", pass: settings.password,
  });
  answerBrokers(nc);
  const stream = { name: "PUSH", subjects: ["push.*.>"], num_replicas: settings.replicas, max_age: nanos(7 * 24 * 3600 * 1000) };
  // Brokers that have just started may have no leader yet.
  await persistently(async () => (await jetstreamManager(nc, { timeout: 3_000 })).streams.add(stream));
  return jetstream(nc, { timeout: 2_000 });
}

/** Tries until it succeeds, for a while. */
async function persistently(action) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await action();
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Publishes until it is acknowledged: the id keeps a message that was stored all the same from coming twice. */
function push(js, user, message) {
  const msgID = nuid.next();
  return persistently(() => js.publish(`push.${user}.note`, JSON.stringify(message), { msgID }));
}

const handlers = {
  async "POST /login"({ user, password }) {
    if (typeof user !== "string" || !Object.hasOwn(settings.users, user) || settings.users[user] !== password) {
      return [401, { error: "Name and password do not match." }];
    }
    return [200, { user, token: tokenOf(user), servers: settings.websockets }];
  },
  async "POST /push"({ to, text }, from, js) {
    if (!from) return [401, { error: "Log in first." }];
    if (typeof to !== "string" || !Object.hasOwn(settings.users, to)) return [404, { error: `Nobody here is called ${to}.` }];
    const ack = await push(js, to, { from, text: String(text), sent: new Date().toISOString() });
    return [200, { sequence: ack.seq }];
  },
};

const FILES = { "/": ["index.html", "text/html"], "/style.css": ["style.css", "text/css"] };

async function bodyOf(request) {
  let body = "";
  for await (const piece of request) {
    if ((body += piece).length > BODY_BYTES) throw new Error("the body is too long");
  }
  return JSON.parse(body);
}

const js = await connectBrokers();
const script = (await build({ entryPoints: [join(here, "app.js")], bundle: true, minify: true, format: "esm", write: false })).outputFiles[0].text;

createServer(async (request, response) => {
  const answer = (status, type, body) => response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body);
  const json = (status, value) => answer(status, "application/json", JSON.stringify(value));
  try {
    const handler = handlers[`${request.method} ${request.url}`];
    if (handler) {
      const holder = holderOf((request.headers.authorization ?? "").replace(/^Bearer /, ""));
      return json(...await handler(await bodyOf(request), holder?.user, js));
    }
    if (request.url === "/app.js") return answer(200, "text/javascript", script);
    const file = FILES[request.url];
    return file ? answer(200, file[1], readFileSync(join(here, file[0]))) : answer(404, "text/plain", "not found");
  } catch (error) {
    return json(500, { error: error.message });
  }
}).listen(Number(port), "127.0.0.1", function () {
  console.log(`Page on http://127.0.0.1:${this.address().port}`);
});
