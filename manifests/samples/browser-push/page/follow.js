// Follows one user's messages in the stream: from where it was before, each once, in order, whatever happens to
// connections and brokers in between. It makes a consumer that only reads; a gap or silence makes it begin anew
// after the last message it has seen. It knows nothing of the page.
import { nuid } from "@nats-io/nats-core";

const STREAM = "PUSH";
const NANOS = 1_000_000;
const HEARTBEAT_MS = 1_000;
const SILENCE_MS = 3_500;
const RETRY_MS = 500;
const FIRST_MS = 24 * 3600 * 1000;

export class Follower {
  #nc; #user; #onMessage; #subscription; #timer; #expected = 0; #generation = 0;
  /** The sequence in the stream of the last message seen. */
  last = 0;

  constructor(nc, user, onMessage) {
    this.#nc = nc;
    this.#user = user;
    this.#onMessage = onMessage;
  }

  /** Begins, or begins anew after the last message seen. */
  async start() {
    const generation = ++this.#generation;
    this.#subscription?.unsubscribe();
    clearTimeout(this.#timer);
    this.#expected = 1;
    const name = nuid.next();
    const inbox = `_INBOX.${this.#user}.${name}`;
    this.#subscription = this.#nc.subscribe(inbox, { callback: (error, message) => !error && this.#take(message) });
    const filter = `push.${this.#user}.>`;
    const from = this.last
      ? { deliver_policy: "by_start_sequence", opt_start_seq: this.last + 1 }
      : { deliver_policy: "by_start_time", opt_start_time: new Date(Date.now() - FIRST_MS).toISOString() };
    const config = {
      name, filter_subject: filter, deliver_subject: inbox, ack_policy: "none", max_deliver: 1, mem_storage: true,
      num_replicas: 1, idle_heartbeat: HEARTBEAT_MS * NANOS, flow_control: true, inactive_threshold: 30_000 * NANOS, ...from,
    };
    try {
      const subject = `$JS.API.CONSUMER.CREATE.${STREAM}.${name}.${filter}`;
      const reply = await this.#nc.request(subject, JSON.stringify({ stream_name: STREAM, config }), { timeout: 3_000 });
      const { error } = reply.json();
      if (error) throw new Error(error.description);
      this.#watch(SILENCE_MS);
    } catch {
      if (generation === this.#generation) this.#watch(RETRY_MS);
    }
  }

  stop() {
    this.#generation++;
    clearTimeout(this.#timer);
    this.#subscription?.unsubscribe();
  }

  #watch(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#nc.isClosed() || this.start(), milliseconds);
  }

  #take(message) {
    this.#watch(SILENCE_MS);
    if (message.headers?.code === 100) {
      // A heartbeat; or the broker asks whether we keep up.
      if (message.reply) message.respond();
      const last = Number(message.headers.get("Nats-Last-Consumer"));
      if (last >= this.#expected) this.start();
      return;
    }
    const { stream, consumer, stored } = placeOf(message.reply);
    if (consumer !== this.#expected) {
      this.start();
      return;
    }
    this.#expected++;
    if (stream <= this.last) return;
    this.last = stream;
    this.#onMessage(message.json(), { sequence: stream, stored });
  }
}

/** `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanos>...`, with two tokens more in its newer form. */
function placeOf(reply) {
  const tokens = reply.split(".");
  const from = tokens.length > 9 ? 7 : 5;
  return { stream: Number(tokens[from]), consumer: Number(tokens[from + 1]), stored: Number(tokens[from + 2]) / NANOS };
}
