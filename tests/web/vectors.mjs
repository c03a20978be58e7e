// node tests/web/vectors.mjs [--codec json|msgpack] [--write FILE]: the vectors of protocol.md, played by wsrpc.js as C against bare frames.
// --write puts what the client has written for each frame of frames.json into a file, for another implementation to read.
import { readFileSync, writeFileSync } from "node:fs";
import { isDeepStrictEqual, parseArgs } from "node:util";
import * as client from "../../wsrpc/web/static/wsrpc.js";
import { msgpack } from "../../wsrpc/web/static/wsrpc-msgpack.js";

const { values: given } = parseArgs({ options: { codec: { type: "string", default: "json" }, write: { type: "string" } } });
const text = given.codec === "json";
// Integers beyond 2^53 stay what they are, where the runtime tells how they were written.
const exact = (_, value, { source } = {}) => (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && source ? BigInt(source) : value);
const load = (name) => JSON.parse(readFileSync(new URL(`../../wsrpc/interop/vectors/${name}.json`, import.meta.url), "utf8"), exact);
const turn = () => new Promise((go) => setTimeout(go));

/** A value with its stand-ins replaced: text or bytes of pieces, repeated text. */
function expand(value) {
  if (Array.isArray(value)) return value.map(expand);
  if (value === null || typeof value !== "object") return value;
  const [key] = Object.keys(value), one = Object.keys(value).length === 1;
  if (one && key === "$text") return value[key][0].repeat(value[key][1]);
  if (one && key === "$piece") return text ? value[key][0].repeat(value[key][1]) : new TextEncoder().encode(value[key][0].repeat(value[key][1]));
  if (one && key === "bytes") return text ? Buffer.from(value[key], "hex").toString() : new Uint8Array(Buffer.from(value[key], "hex"));
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, expand(part)]));
}

/** Whether what came is what is shown: "<…>" is any value, objects may have more fields and frames more elements. */
function fits(shown, came) {
  if (typeof shown === "string" && /^<.*>$/.test(shown)) return came !== undefined;
  if (Array.isArray(shown)) return Array.isArray(came) && came.length >= shown.length && shown.every((one, i) => fits(one, came[i]));
  if (shown !== null && typeof shown === "object" && !(shown instanceof Uint8Array)) return came !== null && typeof came === "object" && Object.entries(shown).every(([key, one]) => fits(one, came[key]));
  return isDeepStrictEqual(shown, came);
}
const short = (frame) => JSON.stringify(frame, (_, v) => (typeof v === "bigint" ? String(v) : v))?.slice(0, 200);

/** The other side's end of a WebSocket that is none. */
class Far {
  readyState = 0;
  bufferedAmount = 0;
  heard = [];
  raw = [];
  constructor(_, [protocol]) {
    this.protocol = protocol;
    queueMicrotask(() => {
      this.readyState = 1;
      this.onopen?.();
    });
  }
  /** From the client. */
  send(data) {
    this.raw.push(data);
    this.heard.push(...(text ? JSON.parse(data) : msgpack.decode(data)));
  }
  close(code = 1005) {
    this.code ??= code;
    this.readyState = 3;
  }
  /** To the client: a message as it travels. */
  hand(data) {
    if (this.readyState === 1) this.onmessage({ data: data instanceof Uint8Array ? data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) : data });
  }
  say(...frames) {
    this.hand(text ? JSON.stringify(frames) : msgpack.encode(frames));
  }
}

/** Items that are pushed one by one, as an upload or what a handler yields. */
class Queue {
  items = [];
  push(item) {
    this.items.push(item);
    this.wake?.();
  }
  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (!this.items.length) await new Promise((go) => (this.wake = go));
      const { value, error, end } = this.items.shift();
      if (error) throw error;
      if (end) return value;
      yield value;
    }
  }
}
const thrown = ({ code, message, data }) => new client.RpcError(code, message, data);

/** The client, asked for the frames that C is to say. */
class Player {
  constructor(limits = {}) {
    this.calls = new Map(); // Of C's, by id: what cancels them.
    this.queues = new Map(); // Uploads of C's by id, and answers to S's calls.
    this.asked = []; // Handlers and callbacks that run, in the order in which they began.
    this.items = new Map();
    this.granted = new Map();
    this.cancelled = new Set();
    this.seen = [];
    const made = (far) => (this.far = far);
    class Mine extends Far {
      constructor(...args) {
        super(...args);
        made(this);
      }
    }
    const answer = () => new Promise((resolve, reject) => this.asked.push({ resolve, reject }));
    this.session = client.connect("ws://vectors.test/", {
      WebSocket: Mine, codec: text ? undefined : msgpack, fallback: answer, reconnect: false, traceSecrets: true,
      maxCalls: limits.max_calls, maxValue: limits.max_value, trace: (sent, frame) => sent || this.seen.push(structuredClone(frame)),
    });
    this.answer = answer;
  }
  async begin(greet) {
    while (!this.far?.heard.length) await turn();
    if (this.far.heard.shift()[0] !== "hello") throw new Error("the first frame is no hello");
    if (greet) this.far.say(["hello", { version: 1, session: "s", window: 32, limits: { max_batch: 2 ** 21, max_calls: 256 } }]);
    await turn();
  }
  async line(side, frames, anyOrder) {
    frames = expand(frames);
    if (side === "S") {
      // A call's handler runs when its turn has come; its place in the order is that of its id.
      for (const [name, id] of frames) if (name === "call" || name === "notify") this.served = [...(this.served ?? []), id];
      this.far.say(...frames);
      return void (await turn());
    }
    for (const frame of frames) {
      await this[frame[0]]?.(...frame.slice(1));
      await turn();
    }
    for (const frame of frames) await this.expect(frame, anyOrder);
  }
  /** Frames that may come at any time, and items however they are grouped. */
  absorb() {
    this.far.heard = this.far.heard.filter(([name, id, body]) => {
      if (name === "credit") this.granted.set(id, (this.granted.get(id) ?? 0) + body);
      if (name === "cancel") this.cancelled.add(id);
      if (name === "message") this.items.set(id, [...(this.items.get(id) ?? []), ...body]);
      return !/^(ack|credit|cancel|message|ping|x-.*)$/.test(name);
    });
  }
  async expect(shown, anyOrder) {
    const [name, id, body] = shown;
    for (let tries = 0; tries < 200; tries++) {
      this.absorb();
      const items = this.items.get(id) ?? [];
      if (name === "credit" && this.granted.get(id) >= body) return void this.granted.set(id, this.granted.get(id) - body);
      if (name === "cancel" && this.cancelled.delete(id)) return;
      if (name === "message" && items.length >= body.length) {
        if (!isDeepStrictEqual(items.splice(0, body.length), body)) throw new Error(`the items differ from ${short(shown)}`);
        return;
      }
      const at = /^(message|credit|cancel)$/.test(name) ? -1 : this.far.heard.findIndex((frame) => fits(shown, frame));
      const [first] = this.far.heard;
      if (first && at !== 0 && !anyOrder) throw new Error(`expected ${short(shown)}, got ${short(first)}`);
      if (at >= 0 && items.length) throw new Error(`items before ${short(shown)} that nobody expected`);
      if (at >= 0) return void this.far.heard.splice(at, 1);
      await turn();
    }
    throw new Error(`${short(shown)} was not said, but ${short(this.far.heard)}`);
  }
  call(id, method, args, options = {}) {
    const leaving = new AbortController(), all = { ...args };
    for (const [name, upload] of Object.entries(options.uploads ?? {})) this.queues.set(upload, (all[name] = new Queue()));
    for (const name of Object.keys(options.callbacks ?? {})) all[name] = this.answer;
    this.calls.set(id, leaving);
    const [controller, name] = method.split(".");
    const { timeout, credit: window, metadata, key } = options;
    // The client takes no timeout of 0; one that has passed when the frame goes is written as 0.
    const reply = this.session.clientize(controller)[name](all, { signal: leaving.signal, timeout: timeout === 0 ? 1e-9 : timeout, window, metadata, key });
    reply.then((value) => value instanceof client.Stream && value.collect().catch(() => {}), () => {});
  }
  notify(id, method, args) {
    this.session.notify(method, args).catch(() => {});
  }
  message(id, items) {
    for (const value of items) this.queues.get(id).push({ value });
  }
  end(id, final) {
    this.queues.get(id).push({ end: true, value: final?.[0] });
  }
  running(id) {
    return this.asked[this.served.indexOf(id)];
  }
  result(id, value) {
    this.running(id).resolve(value);
  }
  error(id, body) {
    this.queues.has(id) ? this.queues.get(id).push({ error: thrown(body) }) : this.running(id).reject(thrown(body));
  }
  cancel(id) {
    this.calls.get(id).abort();
  }
}

/** What came, as far as this runtime can hold it: JSON has numbers alone. */
const held = (value) => (Array.isArray(value) ? value.map(held) : typeof value === "bigint" && text ? Number(value) : value !== null && typeof value === "object" && !(value instanceof Uint8Array) ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, held(one)])) : value);

async function frame(vector) {
  const shown = held(expand(vector.frame)), player = new Player();
  const greets = shown[0] === "hello";
  await player.begin(!greets);
  const raw = Buffer.from(vector.msgpack, "hex");
  player.far.hand(text ? `[${vector.json}]` : new Uint8Array([0x91, ...raw]));
  await turn();
  const came = player.seen.at(-1);
  if (!isDeepStrictEqual(came, shown)) throw new Error(`${vector.json} was read as ${short(came)}`);
}

/** What the client writes for a frame, as a value of a call. */
async function written(vector) {
  const player = new Player();
  await player.begin(true);
  player.far.raw = [];
  player.session.notify("A.b", { frame: expand(vector.frame) }).catch(() => {});
  await turn();
  const data = player.far.raw.at(-1);
  return text ? data : Buffer.from(data).toString("hex");
}

async function refusal(vector) {
  const player = new Player(vector.limits);
  await player.begin(!vector.first);
  for (const [side, frames] of vector.before ?? []) await player.line(side, frames);
  if (player.far.code !== undefined) throw new Error(`closed with ${player.far.code} before the breach`);
  if ("json" in vector) player.far.hand(vector.json);
  else if ("msgpack" in vector) player.far.hand(new Uint8Array(Buffer.from(vector.msgpack, "hex")));
  else player.far.say(...expand(vector.send));
  await turn();
  if (player.far.code !== vector.code) throw new Error(`closed with ${player.far.code}, not with ${vector.code}`);
}

async function conversation(vector) {
  const player = new Player();
  await player.begin(true);
  for (const [n, [side, frames]] of vector.lines.entries()) {
    try {
      await player.line(side, frames, vector.any_order);
    } catch (error) {
      throw new Error(`line ${n}: ${error.message}`);
    }
    if (player.far.code !== undefined) throw new Error(`line ${n}: closed with ${player.far.code}`);
  }
  player.absorb();
  if (player.far.heard.length || [...player.items.values()].flat().length) throw new Error(`it said more: ${short([...player.far.heard, ...player.items])}`);
}

const here = (vector) => (vector.codec ?? ("json" in vector ? "json" : "msgpack" in vector ? "msgpack" : given.codec)) === given.codec;
// What cannot be read, no side takes: such a message is refused by C as it is by S.
const forC = (vector) => vector.to === "C" || (("json" in vector || "msgpack" in vector) && vector.rules.includes("BATCH-1"));
const cases = [
  ...load("frames").map((one) => [`reads ${one.json.slice(0, 60)}`, () => frame(one)]),
  ...load("refused").filter((one) => forC(one) && here(one)).map((one) => [`refuses with ${one.code}: ${one.title}`, () => refusal(one)]),
  ...load("conversations").filter((one) => (one.plays ?? ["C"]).includes("C") && here(one)).map((one) => [`a conversation: ${one.title}`, () => conversation(one)]),
];
let failed = 0;
process.on("unhandledRejection", (error) => {
  failed++;
  console.log(`FAIL unhandled: ${error?.stack ?? error}`);
});
for (const [title, run] of cases) {
  try {
    await run();
    console.log(`ok   ${title}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${title}: ${error.message}`);
  }
}
if (given.write) {
  const all = [];
  for (const one of load("frames")) all.push(await written(one));
  writeFileSync(given.write, JSON.stringify(all));
}
console.log(`${cases.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
