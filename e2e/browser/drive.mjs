// Two users in two tabs of a headless Chromium, on the page of manifests/samples/browser-push: one line `ok NAME` for
// each claim that holds. Usage: node drive.mjs PAGE BROKERS SHOTS; BROKERS is JSON, broker name -> process id (one gets
// killed); SHOTS is a folder for pictures. Each claim builds on those before it, so the first that fails ends the run.
import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [page, brokersText, shots] = process.argv.slice(2);
const brokers = JSON.parse(brokersText);
const WITHIN_MS = 40_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const tabs = {};

async function tab(name) {
  const context = await browser.newContext({ viewport: { width: 820, height: 700 }, colorScheme: name === "bob" ? "dark" : "light" });
  context.setDefaultTimeout(WITHIN_MS);
  tabs[name] = await context.newPage();
  tabs[name].on("pageerror", (error) => console.error(`${name}'s page: ${error}`));
  await tabs[name].goto(page);
  return tabs[name];
}

async function login(tab, name, password) {
  await tab.fill("#name", name);
  await tab.fill("#password", password);
  await tab.click("#login button");
}

const connected = (tab) => tab.locator("#state.connected").waitFor().then(() => tab.locator("#state").textContent())
  .then((text) => text.replace("connected to ", ""));

/** Reloads bob's page until it has another broker than ann's, for which one a page takes is chance; ann's broker. */
async function apart() {
  const holder = await connected(tabs.ann);
  for (let attempt = 0; (await connected(tabs.bob)) === holder; attempt++) {
    assert.ok(attempt < 40, "bob always comes to ann's broker");
    await tabs.bob.reload();
  }
  return holder;
}

async function push(tab, to, text) {
  await tab.fill("#to", to);
  await tab.fill("#note", text);
  await tab.click("#compose button");
  await tab.locator("#sent", { hasText: "stored as" }).waitFor();
}

/** The texts on a page, the oldest first. */
const texts = async (tab) => (await tab.locator("#messages .message p").allTextContents()).reverse();

async function shows(tab, expected) {
  const deadline = Date.now() + WITHIN_MS;
  let seen;
  do {
    seen = await texts(tab);
    if (seen.length >= expected.length) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  } while (Date.now() < deadline);
  assert.deepEqual(seen, expected);
}

const shot = (name) => tabs[name.split("-")[0]].screenshot({ path: join(shots, `${name}.png`) });
const expected = { ann: [], bob: [] };

const claims = {
  async a_wrong_password_is_told_in_the_page() {
    const ann = await tab("ann");
    await login(ann, "ann", "pear");
    await ann.locator("#problem", { hasText: "Name and password do not match." }).waitFor();
  },

  async a_token_that_the_broker_refuses_is_told_in_the_page() {
    const ann = tabs.ann;
    await ann.evaluate(async () => {
      const answer = await fetch("/login", { method: "POST", body: JSON.stringify({ user: "ann", password: "apple" }) });
      const session = await answer.json();
      session.token = session.token.replace("ann", "bob");
      sessionStorage.setItem("session", JSON.stringify(session));
    });
    await ann.reload();
    await ann.locator("#problem", { hasText: "The broker did not accept this session. Please log in again." }).waitFor();
    await shot("ann-refused");
  },

  async users_in_two_tabs_are_on_two_brokers() {
    const ann = tabs.ann, bob = await tab("bob");
    await login(ann, "ann", "apple");
    await login(bob, "bob", "banana");
    await apart();
  },

  async each_sees_only_its_own_messages() {
    const { ann, bob } = tabs;
    for (const number of [1, 2, 3]) {
      await push(bob, "ann", `for ann ${number}`);
      await push(ann, "bob", `for bob ${number}`);
      expected.ann.push(`for ann ${number}`);
      expected.bob.push(`for bob ${number}`);
    }
    await shows(ann, expected.ann);
    await shows(bob, expected.bob);
    await shot("ann-inbox");
    await shot("bob-inbox");
  },

  async a_token_opens_no_one_elses_messages() {
    const answers = await tabs.ann.evaluate(async () => {
      const session = JSON.parse(sessionStorage.getItem("session"));
      // By hand, as a page that was tampered with would.
      const socket = new WebSocket(session.servers[0], []);
      socket.binaryType = "arraybuffer";
      let heard = "";
      socket.onmessage = ({ data }) => { heard += new TextDecoder().decode(data); };
      await new Promise((resolve) => { socket.onopen = resolve; });
      const create = JSON.stringify({ stream_name: "PUSH", config: { name: "x", filter_subject: "push.bob.>", deliver_subject: "_INBOX.ann.x" } });
      const lines = [
        `CONNECT ${JSON.stringify({ auth_token: session.token, verbose: false, headers: true, protocol: 1 })}`, "SUB push.bob.> 1", "SUB > 2", "SUB _INBOX.bob.> 3",
        "SUB _INBOX.ann.> 4", "PUB push.bob.note 2", "hi",
        `PUB $JS.API.CONSUMER.CREATE.PUSH.x.push.bob.> _INBOX.ann.y ${create.length}`, create,
        `PUB $JS.API.CONSUMER.CREATE.PUSH.x.push.ann.> _INBOX.ann.z ${create.length}`, create, "PING", "",
      ];
      socket.send(new TextEncoder().encode(lines.join("\r\n")));
      const deadline = Date.now() + 10_000;
      while (!(heard.includes("PONG") && heard.includes("_INBOX.ann.z")) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
      socket.close();
      return heard;
    });
    for (const refused of ['Subscription to "push.bob.>"', 'Subscription to ">"', 'Subscription to "_INBOX.bob.>"', 'Publish to "push.bob.note"',
      'Publish to "$JS.API.CONSUMER.CREATE.PUSH.x.push.bob.>"']) {
      assert.ok(answers.includes(`-ERR 'Permissions Violation for ${refused}`), `${refused}:\n${answers}`);
    }
    // The filter in the subject must be the one in the request.
    assert.match(answers, /MSG _INBOX\.ann\.z [^]*"err_code":10131/);
  },

  async a_reload_shows_the_same_once_in_order() {
    await tabs.bob.reload();
    await connected(tabs.bob);
    await shows(tabs.bob, expected.bob);
  },

  async a_page_moves_to_another_broker_and_shows_what_was_missed() {
    const { ann, bob } = tabs;
    const holder = await apart();
    // Without a network for a while, so that messages are stored before the page is back.
    await ann.context().setOffline(true);
    process.kill(brokers[holder], "SIGKILL");
    await ann.locator("#state.waiting").waitFor();
    await shot("ann-lost");
    for (const number of [4, 5, 6]) {
      await push(bob, "ann", `while away ${number}`);
      expected.ann.push(`while away ${number}`);
    }
    await ann.context().setOffline(false);
    assert.notEqual(await connected(ann), holder);
    await shows(ann, expected.ann);
    await push(bob, "ann", "after all that");
    expected.ann.push("after all that");
    await shows(ann, expected.ann);
    const sequences = (await ann.locator("#messages .message").evaluateAll((items) => items.map((item) => Number(item.dataset.sequence)))).reverse();
    assert.deepEqual(sequences, [...new Set(sequences)].sort((one, other) => one - other));
    const missed = await ann.locator(".message.missed p").allTextContents();
    assert.deepEqual([4, 5, 6].filter((number) => !missed.includes(`while away ${number}`)), []);
    await shot("ann-back");
  },

  async what_is_pushed_goes_on_to_the_other_too() {
    await push(tabs.ann, "bob", "still here");
    expected.bob.push("still here");
    await shows(tabs.bob, expected.bob);
  },
};

for (const [name, claim] of Object.entries(claims)) {
  try {
    await claim();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`failed ${name}: ${error.stack}`);
    for (const user of Object.keys(tabs)) await shot(`${user}-failed`).catch(() => {});
    process.exitCode = 1;
    break;
  }
}
await browser.close();
process.exit();
