// node tests/web/fuzz.mjs CLIENT MSGPACK SEED CASES: sessions with servers that send frames at random, most of them nearly
// right. Whatever comes, each call settles with a value or an RpcError, nothing is thrown, said or left behind.
const [, , at, packed, seed0, cases] = process.argv;
const client = await import(at);
const { msgpack } = await import(packed);

let seed = Number(seed0);
const random = () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const pick = (list) => list[Math.floor(random() * list.length)];
const rarely = (often, usual, rare) => (random() < often ? usual() : rare());

const faults = [];
const closes = {};
process.on("unhandledRejection", (error) => faults.push(`unhandled: ${error?.stack ?? error}`));
process.on("uncaughtException", (error) => faults.push(`uncaught: ${error?.stack ?? error}`));
const say = console.log;
for (const kind of ["error", "warn", "log", "info", "debug"]) console[kind] = (...words) => faults.push(`console.${kind}: ${words.map((one) => one?.stack ?? one).join(" ")}`);

const ODD = [null, true, 0, -1, 1, 2, 3, 1.5, 1e300, 2 ** 53, "", "x", "__proto__", "then", "constructor", [], [[]], [null], {}, { length: 3 }, { then: 1 }, { toString: 1 }, "a".repeat(300)];
const hello = () => ["hello", { version: 1, session: "s", token: "t", resume_window: pick([0, 5000]), resumed: false, received: 0, window: 8, heartbeat: [20000, 10000], limits: { max_batch: 262144, max_calls: 8, max_value: 1 << 20, max_held: pick([0, 1 << 20]) } }];
const METHODS = ["Page.echo", "Page.stream", "Page.nope", "nodot", "Page.constructor", "Page.then", "wsrpc.reflection.describe", 1, 3, 2];
const USUAL = [
  (id) => ["result", id, pick(ODD)], (id) => ["message", id, [pick(ODD), 1]], (id) => ["end", id], (id) => ["end", id, [1]],
  (id) => ["error", id, { code: pick(["aborted", "zzz", "unavailable", "resource_exhausted", "__proto__"]), message: "m", not_started: pick([true, false]), data: pick(ODD) }],
  (id) => ["cancel", id, pick(["cancelled", "deadline_exceeded", null, "zz"])], (id) => ["credit", id, rarely(0.9, () => pick([1, 5, 100]), () => pick([0, -1, 2 ** 31]))],
  (id) => ["chunk", id, pick([true, false]), JSON.stringify("x".repeat(pick([1, 16384, 20000])))], (id) => ["result", id, null, pick([10, 100000, 1 << 22])],
  (id) => ["message", id, [null], pick([1, 70000])], (id) => ["end", id, [null], 20],
  () => ["call", pick([2, 4, 6, 8, 10, 1]), pick(METHODS), pick([{}, { value: 1 }, [1], []]), { timeout: pick([0, 5, null]), credit: pick([0, 1, 100]), uploads: pick([null, { up: 12 }, { up: 3 }]), callbacks: pick([null, { cb: 14 }]) }],
  () => ["notify", pick([2, 4, 6, 8]), "Page.echo", {}], () => ["ack", rarely(0.9, () => pick([0, 1, 2]), () => 1000)], () => ["ping", 1], () => ["pong", 1],
];
const RARE = [() => ["goaway", { last_id: pick([0, 1, 3, 99]), grace: 1000, reconnect_after: pick([0, 10, null]) }], () => ["auth", "x"], () => ["x-other", 1], () => ["zz"], () => pick(ODD), hello];

function frame() {
  const id = pick([1, 3, 5, 7, 9, 11, 13, 2, 4, 6, ...(random() < 0.05 ? [99, 101] : [])]);
  const made = pick(random() < 0.06 ? RARE : USUAL)(id);
  if (!Array.isArray(made)) return made;
  if (random() < 0.04) made[Math.floor(random() * (made.length + 1))] = pick(ODD);
  const last = made.at(-1);
  if (random() < 0.05 && last && typeof last === "object" && Object.keys(last).length) last[pick(Object.keys(last))] = pick(ODD);
  return made;
}

let binary = false;
/** A WebSocket whose far end is made up. */
class Hostile {
  readyState = 0;
  bufferedAmount = 0;
  constructor(_, [protocol]) {
    this.protocol = random() < 0.02 ? "other" : protocol;
    setTimeout(() => {
      if (this.readyState) return;
      this.readyState = 1;
      this.onopen({});
      if (random() < 0.9) this.give([hello()]);
      this.go(1 + Math.floor(random() * 12));
    });
  }
  go(left) {
    if (this.readyState !== 1) return;
    if (!left) return void (random() < 0.7 && this.closed(pick([1000, 1001, 1006, 1011, 4000, 4001, 4010, 4501, 0, 4505])));
    if (random() < 0.01) this.message(pick(["", "{", "[]", "[[]]", "null", new ArrayBuffer(3), "[1]"]));
    else this.give(Array.from({ length: 1 + Math.floor(random() * 2) }, frame));
    setTimeout(() => this.go(left - 1));
  }
  give(batch) {
    this.message(binary ? msgpack.list(batch.map((one) => msgpack.encode(one))).slice().buffer : JSON.stringify(batch));
  }
  message(data) {
    if (this.readyState === 1) this.onmessage({ data });
  }
  send() {
    if (this.readyState !== 1) faults.push("sent on a socket that is not open");
  }
  close(code, reason) {
    closes[code] = (closes[code] ?? 0) + 1;
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) faults.push(`no browser closes with ${code}`);
    if (this.readyState > 1) return;
    this.readyState = 2;
    setTimeout(() => this.closed(code));
  }
  closed(code) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose({ code, reason: "r" });
  }
}
const within = (ms, promise) => Promise.race([promise, new Promise((_, late) => setTimeout(late, ms, new Error(`not through after ${ms} ms`)))]);

const page = { echo: ({ value }) => value, async *stream() { for (let i = 0; i < 50; i++) yield i; } };
for (let n = 0; n < Number(cases) && !faults.length; n++) {
  const began = seed;
  binary = random() < 0.4;
  const session = client.connect("ws://server/", { WebSocket: Hostile, controllers: { Page: page }, timeout: 2000, ...(binary && { codec: msgpack }), ...(random() < 0.3 && { trace() {} }) });
  const iterated = async (stream) => { for await (const _ of stream); };
  const leaving = new AbortController();
  const left = session.stream("X.left", {});
  session.call("X.left", {}, { signal: leaving.signal }).catch(() => {});
  const work = {
    call: session.call("X.a", { a: 1 }), stream: iterated(session.stream("X.b", {})), either: iterated(session.clientize("X").c({})), notify: session.notify("X.d", {}), ready: session.ready(),
    upload: session.call("X.e", { up: (async function* () { for (let i = 0; i < 100; i++) yield "x".repeat(1000); })(), cb: () => 1 }),
  };
  const over = Object.entries(work).map(([what, one]) => one.then(() => {}, (error) => void (error instanceof client.RpcError || faults.push(`${what}: ${error?.stack ?? error}`))));
  await new Promise((go) => setTimeout(go, 3));
  left.cancel();
  leaving.abort();
  await new Promise((go) => setTimeout(go, 12));
  for (const one of [session.close(), ...over]) await within(5000, one).catch((error) => faults.push(error.message));
  if (session._.wire.ids.size) faults.push(`${session._.wire.ids.size} ids are left`);
  if (faults.length) say(`seed ${began}, case ${n}, ${binary ? "msgpack" : "json"}`);
}
say(JSON.stringify({ faults, closes }));
process.exit(0);
