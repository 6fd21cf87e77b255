// The page: logs in, connects to any broker by WebSocket with the token, shows what is pushed to this user.
import { tokenAuthenticator, wsconnect } from "@nats-io/nats-core";
import { Follower } from "./follow.js";

const find = (id) => document.getElementById(id);
let session = JSON.parse(sessionStorage.getItem("session") ?? "null");
let connection;
// What was stored before this moment and comes after it was missed.
let backSince = 0;

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST", body: JSON.stringify(body),
    headers: { "content-type": "application/json", ...(session && { authorization: `Bearer ${session.token}` }) },
  });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

// -- what is seen

function showLogin(problem = "") {
  find("login").hidden = false;
  find("inbox").hidden = true;
  find("problem").textContent = problem;
  find("problem").hidden = !problem;
}

function showInbox() {
  find("login").hidden = true;
  find("inbox").hidden = false;
  find("user").textContent = session.user;
  find("avatar").textContent = session.user[0].toUpperCase();
  find("messages").replaceChildren();
}

function showState(kind, text) {
  find("state").className = kind;
  find("state").textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text ?? "";
  return made;
}

function showMessage({ from, text, sent }, { sequence, stored }) {
  const missed = stored < backSince;
  const item = element("li", "message");
  item.dataset.sequence = sequence;
  if (missed) item.classList.add("missed");
  const head = element("div", "head");
  const time = new Date(sent).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  head.append(element("strong", "", from), element("time", "", time), element("span", "sequence", `#${sequence}`));
  if (missed) head.append(element("span", "badge", "while you were away"));
  item.append(head, element("p", "", text));
  find("messages").prepend(item);
  find("empty").hidden = true;
}

// -- the connection

const REFUSED = "The broker did not accept this session. Please log in again.";
const ENDED = "Your session has ended. Please log in again.";

function readable(error) {
  const text = String(error?.message ?? error);
  if (/expired/i.test(text)) return ENDED;
  return /authorization|authentication/i.test(text) ? REFUSED : `No broker can be reached: ${text}`;
}

async function open() {
  showInbox();
  showState("waiting", "connecting …");
  try {
    connection = await wsconnect({
      servers: session.servers, name: `page of ${session.user}`, authenticator: tokenAuthenticator(session.token),
      inboxPrefix: `_INBOX.${session.user}`, maxReconnectAttempts: -1, reconnectTimeWait: 300, reconnectJitter: 100,
      pingInterval: 10_000, timeout: 3_000,
    });
  } catch (error) {
    leave(readable(error));
    return;
  }
  const follower = new Follower(connection, session.user, showMessage);
  connected();
  watch(connection, follower);
  connection.closed().then((error) => {
    follower.stop();
    if (session) leave(error ? readable(error) : "");
  });
  await follower.start();
}

function connected() {
  showState("connected", `connected to ${connection.info.server_name}`);
}

async function watch(connection, follower) {
  for await (const event of connection.status()) {
    if (event.type === "disconnect") {
      showState("waiting", "connection lost, looking for another broker …");
    } else if (event.type === "reconnect") {
      backSince = Date.now();
      connected();
      await follower.start();
    }
  }
}

function leave(problem = "") {
  session = null;
  sessionStorage.removeItem("session");
  connection?.close();
  connection = undefined;
  showLogin(problem);
}

// -- the person

find("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    session = await post("/login", { user: find("name").value.trim(), password: find("password").value });
    sessionStorage.setItem("session", JSON.stringify(session));
    find("password").value = "";
    await open();
  } catch (error) {
    showLogin(error.message);
  }
});

find("compose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const note = find("note");
  find("sent").textContent = "sending …";
  try {
    const { sequence } = await post("/push", { to: find("to").value.trim(), text: note.value });
    find("sent").textContent = `stored as #${sequence}`;
    note.value = "";
  } catch (error) {
    find("sent").textContent = error.message;
  }
});

find("logout").addEventListener("click", () => leave());

session ? open() : showLogin();
