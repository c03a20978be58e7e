// wsrpc: calls and streams both ways over one WebSocket. Browsers, Node, Deno, Bun; no dependencies.
// All public parts have types; inside, frames are arrays of `any`. Ids such as CALL-5 are rules of protocol.md.
// @ts-check
/// <reference lib="esnext.disposable" preserve="true" />

/** @typedef {"cancelled"|"unknown"|"invalid_argument"|"deadline_exceeded"|"not_found"|"already_exists"|"permission_denied"|"resource_exhausted"|"failed_precondition"|"aborted"|"out_of_range"|"unimplemented"|"internal"|"unavailable"|"data_loss"|"unauthenticated"} Code */
/** @typedef {"connecting"|"open"|"lost"|"closed"} State */
/** @typedef {"block"|"latest"|"drop_oldest"|"fail"} Overflow */
/** @typedef {{code: number, reason: string}} Close */
/** @typedef {{readonly state: State, readonly since: number, readonly attempt: number, readonly nextAttemptAt?: number, readonly lastClose?: Close, readonly draining: boolean, readonly resumes: number}} Snapshot */
/**
 * @typedef {object} CallOptions
 * @property {number|null} [timeout] Milliseconds for the whole call: 30,000 for a value, none for a stream.
 * @property {number} [idleTimeout] Milliseconds that the consumer of a stream may wait for an item.
 * @property {AbortSignal} [signal] Cancels the call on both sides; it rejects with the signal's reason.
 * @property {Record<string, string>} [metadata] Travels with the call.
 * @property {string} [key] Idempotency key, for the handler.
 * @property {number} [window] Items that the far side may be ahead of the consumer, at first.
 * @property {Overflow} [overflow] The fate of items that are not taken in time; "block": the far side waits.
 * @property {boolean} [idempotent] Calling twice does no harm, so that it is made again after a lost session.
 */
/** @typedef {CallOptions & {streamFetcher?: StreamFetcher}} ClientOptions */
/** @typedef {{readonly controller: string, readonly method: string, readonly args: Record<string, any>, readonly options: CallOptions, withArgs(changed: Record<string, any>): StreamRequest}} StreamRequest */
/** @typedef {(request: StreamRequest, fetch: (request: StreamRequest) => Stream<any, any>) => AsyncIterable<any>} StreamFetcher May fetch never, once or often; nothing is sent before the first item is asked for. */
/**
 * @typedef {object} ConnectOptions
 * @property {unknown|((about: {signal: AbortSignal, attempt: number, lastClose?: Close}) => unknown)} [auth] Credentials, or a function that gives them within 10 s before each attempt. Only an RpcError `unauthenticated` or `permission_denied` from it ends the session.
 * @property {object[]|Record<string, object>} [controllers] The controllers that the server may call here.
 * @property {(method: string, args: any, ctx: CallContext) => unknown} [fallback] Answers all other methods.
 * @property {boolean} [reflection] Whether the server may ask for the names of the controllers and methods.
 * @property {Codec} [codec] JSON, or `msgpack` of wsrpc-msgpack.js.
 * @property {boolean} [reconnect] Whether to come back after a lost connection.
 * @property {number|null} [timeout] Milliseconds of a call for one value.
 * @property {Record<string, string>} [metadata] Travels with all calls.
 * @property {number} [window] Items. Credit with which streams to this side begin.
 * @property {number} [maxCalls] Calls of the server that may run here at a time.
 * @property {number} [maxValue] Bytes of the largest value taken.
 * @property {(sent: boolean, frame: any[], at: number) => void} [trace] Sees all frames, secrets blanked.
 * @property {boolean} [traceSecrets] Shows credentials and tokens as well.
 * @property {any} [WebSocket] Another implementation.
 */
/** @typedef {{session: Session, signal: AbortSignal, metadata: Record<string, string>, key?: string, lastId?: string, deadline?: number, clientize: Session["clientize"]}} CallContext `signal` fires when the call is over for its caller; `deadline` is by `performance.now()`; `clientize` is for calls made on behalf of this one. */
/** @typedef {{readonly kind: "unary"|"stream"|"notify", readonly wire?: string, readonly idempotent?: boolean, readonly tracked?: boolean, readonly bytes?: boolean, readonly timeout?: number, readonly callbacks?: Readonly<Record<string, number>>}} MethodFacts */
/**
 * The constant that `wsrpc gen ts` writes for a controller.
 * @template T
 * @typedef {{readonly name: string, readonly methods: Readonly<Record<string, MethodFacts>>, readonly _?: T}} Controller
 */
/**
 * A value that an upload parameter takes.
 * @template T
 * @typedef {AsyncIterable<T> | Generator<T, any, any> | ReadableStream<T> | ([Uint8Array] extends [T] ? Blob : never)} Upload
 */
/** @typedef {{readonly protocol: string, readonly binary: boolean, encode(value: any): any, decode(data: any): any, size(part: any): number, list(parts: any[]): any, bytes(part: any): Uint8Array, piece(bytes: Uint8Array): any, unite(pieces: any[]): any}} Codec */
/** @typedef {Record<string, (this: any, ...args: any[]) => any>} Methods */

const SAFE = Number.MAX_SAFE_INTEGER;
const KIB64 = 65536;
const PIECE = 24576; // Once more escaped, 48 KiB at most: it fits every max_batch (CHUNK-2).
const QUANTUM = 16384; // Bytes that an id may send before the next has its turn (OUT-2).
const MIB = 1048576; // Bytes of items that may wait here, and of frames kept for a resume.
const MAX_BATCH = 4 * KIB64;
const MAX_INT = 2 ** 31 - 1;
const PATIENCE = 10000; // Milliseconds for a hello, for `auth`, and for a socket that takes no byte.
const words = (/** @type {string} */ text) => new Set(text.split(" "));
const CODES = words("cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated");
// Names that frameworks, loggers and `await` look for: never methods of a client.
const RESERVED = words("then catch finally toJSON toString valueOf constructor inspect $$typeof nodeType asymmetricMatch");
const G = /** @type {any} */ (globalThis);
const now = () => performance.now();
const utf8 = new TextEncoder();
const nothing = () => {};
const same = (/** @type {any} */ one) => one;
/** @param {Methods} proto @param {any} fields @returns {any} */
const make = (proto, fields) => Object.assign(Object.create(proto), fields);

/** `instanceof` across two copies of this module. @param {any} base @param {string} name */
function brand(base, name) {
  const mark = Symbol.for(name);
  Object.defineProperty(base.prototype, mark, { value: true });
  Object.defineProperty(base, Symbol.hasInstance, { value(/** @type {any} */ x) { return this === base ? !!x?.[mark] : Function.prototype[Symbol.hasInstance].call(this, x); } });
}

/** An error of a call: raised by the other side, or by this one on its behalf. */
export class RpcError extends Error {
  /** @param {Code} code @param {string} [message] @param {unknown} [data] @param {{type?: string, errorId?: string, notStarted?: boolean, retryAfter?: number, cause?: unknown}} [more] */
  constructor(code, message = "", data = null, more = {}) {
    super(message || code, "cause" in more ? more : undefined);
    this.name = "RpcError";
    /** @type {Code} */
    this.code = code;
    this.data = data;
    /** Name of the error's class, where the far side has one. @type {string|undefined} */
    this.type = more.type;
    /** Names the entry in the far side's log. @type {string|undefined} */
    this.errorId = more.errorId;
    /** Whether the handler never began. */
    this.notStarted = !!more.notStarted;
    /** Milliseconds. A hint not to try again sooner. @type {number|undefined} */
    this.retryAfter = more.retryAfter;
  }
}
brand(RpcError, "wsrpc.RpcError");

/** @param {any} code @param {string} message @param {boolean} [notStarted] @param {any} [more] */
const failure = (code, message, notStarted, more) => new RpcError(code, message, null, { notStarted, ...more });
/** @param {string} message @param {unknown} [cause] */
const misuse = (message, cause) => failure("invalid_argument", message, false, cause && { cause });
/** The other side broke the protocol; the link closes with this code. @param {string} message @param {number} [code] */
const violation = (message, code = 4505) => Object.assign(new Error(message), { violation: code });
/** Run a function of the application; an error of it is reported like any other error of the page. @param {(...args: any[]) => void} run @param {any[]} args */
function safely(run, ...args) {
  try {
    run(...args);
  } catch (error) {
    setTimeout(() => { throw error; });
  }
}
/** A timer that may be longer than those of `setTimeout`; returns a function that ends it. @param {number} ms @param {() => void} run @param {boolean} [quiet] Keeps no process alive. */
function after(ms, run, quiet) {
  /** @type {any} */ let timer;
  const arm = () => {
    const step = Math.min(ms, MAX_INT);
    ms -= step;
    timer = setTimeout(ms > 0 ? arm : run, step);
    if (quiet) timer.unref?.();
  };
  arm();
  return () => clearTimeout(timer);
}

// --- Values

/** Base64url of bytes, as they travel in JSON. @param {Uint8Array} bytes */
export function toBase64url(bytes) {
  let s = "";
  for (let i = 0; i < bytes.length; i += 32768) s += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(s).replace(/\+/g, "-").replace(/\//g, "_");
}
/** The bytes of a base64url string. @param {string} text */
export const fromBase64url = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
/** Bytes as they come in either codec. @param {string|Uint8Array} bytes */
export const toBytes = (bytes) => (typeof bytes === "string" ? fromBase64url(bytes) : bytes);

/** Length in UTF-8. @param {string} text */
function sizeOf(text) {
  let n = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 127) n += c > 2047 && (c < 0xd800 || c > 0xdfff) ? 2 : 1;
  }
  return n;
}
/** An object of a literal, whichever window made it. @param {any} x */
function isPlain(x) {
  if (!obj(x)) return false;
  const proto = Object.getPrototypeOf(x);
  return !proto || (!Object.getPrototypeOf(proto) && Object.hasOwn(proto, "valueOf"));
}
/** @param {any} to @param {string} name @param {unknown} value */
const put = (to, name, value) => Object.defineProperty(to, name, { value, enumerable: true, configurable: true, writable: true });

/** A number as JSON, digit by digit, or a near number where the runtime cannot write it so. @param {any} v @param {any} [near] */
function exact(v, near) {
  const { rawJSON } = /** @type {any} */ (JSON);
  if (!rawJSON && near === undefined) throw new TypeError(`${v} cannot travel without JSON.rawJSON`);
  return rawJSON ? rawJSON(String(v)) : near;
}
/** A copy of a value in the forms that travel (VALUE-1 to 3). @param {any} v @param {boolean} binary @param {number} [depth] @returns {any} */
function clean(v, binary, depth = 0) {
  switch (typeof v) {
    case "string":
      if (!(/** @type {any} */ (v).isWellFormed?.() ?? !/\p{Cs}/u.test(v))) throw new TypeError("a lone surrogate cannot travel");
      return v;
    case "number":
      if (!Number.isFinite(v)) throw new TypeError(`${v} cannot travel`);
      if (binary || Math.abs(v) <= SAFE || Math.abs(v) >= 1e21) return v;
      return v >= -(2 ** 63) && v < 2 ** 64 ? exact(BigInt(v), v) : exact(v.toExponential());
    case "bigint":
      if (v < -(2n ** 63n) || v >= 2n ** 64n) throw new TypeError(`${v} is beyond 64 bits`);
      return binary ? v : exact(v);
    case "boolean": return v;
    case "undefined": return null;
    case "object": break;
    default: throw new TypeError(`a ${typeof v} cannot travel`);
  }
  if (v === null) return v;
  if (v instanceof ArrayBuffer) v = new Uint8Array(v);
  if (ArrayBuffer.isView(v)) {
    const bytes = new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
    return binary ? bytes : toBase64url(bytes);
  }
  if (v instanceof Date && isNaN(+v)) throw new TypeError("an invalid Date cannot travel");
  if (isFunction(v.toJSON)) return clean(v.toJSON(), binary, depth);
  if (++depth > 100) throw new TypeError("it is nested more than 100 deep");
  if (v instanceof Set) v = [...v];
  if (Array.isArray(v)) return v.map((one) => clean(one, binary, depth));
  if (isFunction(v.then) || isBlob(v)) throw new TypeError("a promise or Blob cannot travel");
  /** @type {any} */ const made = {};
  for (const [key, one] of v instanceof Map ? v : Object.entries(v)) {
    if (one === undefined) continue;
    const value = clean(one, binary, depth);
    if (key === "__proto__") put(made, key, value);
    else made[clean(String(key), binary)] = value;
  }
  return made;
}
/** Whether something that came is outside of the value space. @param {any} v @param {number} [depth] @returns {boolean} */
function outside(v, depth = 0) {
  if (typeof v === "number") return !Number.isFinite(v);
  if (typeof v !== "object") return v === undefined;
  if (v === null || v instanceof Uint8Array) return false;
  if (++depth > 100) return true;
  for (const key in v) if (outside(v[key], depth)) return true;
  return false;
}
/** The codec of `connect`, unless another one is given. @type {Codec} */
export const json = {
  protocol: "wsrpc.v1.json",
  binary: false,
  encode: JSON.stringify,
  decode(data) {
    if (!str(data)) throw new TypeError("no text");
    return JSON.parse(data);
  },
  size: sizeOf,
  list: (parts) => `[${parts}]`,
  bytes: (part) => utf8.encode(part),
  piece: (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
  unite: (pieces) => pieces.join(""),
};

// --- The shape of frames (BATCH-3)

const str = (/** @type {any} */ v) => typeof v === "string";
const isFunction = (/** @type {any} */ v) => typeof v === "function";
const obj = (/** @type {any} */ v) => v !== null && typeof v === "object" && !Array.isArray(v) && !(v instanceof Uint8Array);
const list = (/** @type {any} */ v) => Array.isArray(v);
const int = (/** @type {any} */ v, least = 0, most = Infinity) => (typeof v === "bigint" || Number.isInteger(v)) && v >= least && v <= most;
/** @type {Methods} */
const TESTS = {
  s: str, n: (v) => int(v), N: (v) => int(v, 0, SAFE), w: (v) => int(v, 0, MAX_INT), i: (v) => int(v, -Infinity), d: (v) => int(v, 1, SAFE), k: (v) => int(v, KIB64), 8: (v) => int(v, 8),
  b: (v) => typeof v === "boolean", v: () => true, m: (v) => str(v) || TESTS.d(v), I: (v) => list(v) && v.length > 0, F: (v) => list(v) && v.length === 1,
  D: (v) => obj(v) && Object.values(v).every(TESTS.d), S: (v) => obj(v) && Object.values(v).every(str), A: (v) => list(v) && v.every(str), h: (v) => list(v) && int(v[0], 1000) && int(v[1], 1000),
};
const OPTIONS = { timeout: "n?", metadata: "S?", credit: "n?", uploads: "D?", callbacks: "D?", parent: "i?", key: "s?", last_id: "s?" };
/** @type {Record<string, any>} */
const SHAPES = {
  hello: [{ version: "i", link: "d?", token: "s?", received: "n?", session: "s?", resumed: "b?", resume_window: "n?", window: "w?", agent: "s?", heartbeat: "h?", features: "A?", limits: { max_batch: "k?", max_calls: "8?", max_value: "k?", max_held: "n?" } }],
  ack: "n", ping: "N", pong: "N", auth: "v", goaway: [{ last_id: "n", grace: "n", reconnect_after: "n?" }],
  call: ["d", "m", "v", OPTIONS], notify: ["d", "s", "v", OPTIONS], message: "dI", result: "dv", end: ["d", "F?"],
  error: ["d", { code: "s", message: "s", type: "s?", error_id: "s?", not_started: "b?", retry_after: "n?" }], cancel: ["d", "s?"], credit: "di", chunk: "dbv",
};
/** @param {any} spec @param {any} v @returns {boolean} */
const fits = (spec, v) => str(spec) ? (spec[1] && v == null) || TESTS[spec[0]](v) : obj(v) ? Object.keys(spec).every((key) => fits(spec[key], v[key])) : v == null && spec !== SHAPES.hello[0] && !spec.code && !spec.grace;
const LINK = words("hello ack ping pong goaway auth");
/** The place of the size of a value that comes in chunks. @type {Record<string, number>} */
const SIZE_AT = { call: 5, notify: 5, message: 3, result: 3, end: 3, error: 3 };

/** @param {any} frame @param {Codec} codec Whether it is numbered. */
function checked(frame, codec) {
  const name = list(frame) && frame[0];
  if (!str(name)) throw violation("no frame", 4500);
  if (!Object.hasOwn(SHAPES, name)) {
    if (name.startsWith("x-")) return false;
    throw violation(`there is no frame ${name.slice(0, 40)}`, 4500);
  }
  const [, , at, args] = frame, size = frame[SIZE_AT[name]];
  let good = [...SHAPES[name]].every((spec, i) => fits(spec, frame[i + 1]));
  if (SIZE_AT[name] && size != null) good &&= int(size, 1) && (name === "error" ? at.data == null : name === "message" || name === "end" ? list(at) && at.length === 1 && at[0] === null : (name === "result" ? at : args) === null);
  else if (name === "call" || name === "notify") good &&= str(at) ? obj(args) : list(args);
  if (name === "result") good &&= frame.length > 2;
  if (name === "chunk") good &&= codec.binary ? args instanceof Uint8Array : str(args);
  if (!good) throw violation(`a ${name} of a wrong shape`, 4500);
  return !LINK.has(name);
}

// --- Uploads, names

const isBlob = (/** @type {any} */ x) => typeof Blob !== "undefined" && x instanceof Blob;
const isUpload = (/** @type {any} */ x) => x !== null && typeof x === "object" && (Symbol.asyncIterator in x || typeof x.getReader === "function" || isBlob(x) || (Symbol.iterator in x && typeof x.next === "function"));
/** @param {any} x @returns {any} */
function iteratorOf(x) {
  if (isBlob(x)) return slices(x);
  if (x[Symbol.asyncIterator]) return x[Symbol.asyncIterator]();
  return x.getReader ? read(x.getReader()) : x[Symbol.iterator](); // Not every Safari can iterate a ReadableStream.
}
/** @param {Blob} blob */
async function* slices(blob, step = 49152) {
  for (let at = 0; at < blob.size; at += step) yield new Uint8Array(await blob.slice(at, at + step).arrayBuffer());
}
/** @param {any} reader */
async function* read(reader) {
  try {
    for (let one; !(one = await reader.read()).done; ) yield one.value;
  } finally {
    reader.cancel().catch(nothing);
  }
}
/** `streamTokens` is `stream_tokens` on the wire. @param {string} name */
const snake = (name) => (name.includes("_") ? name : name.replace(/[A-Z]/g, (c, i) => (i ? "_" : "") + c.toLowerCase()));
/** @param {string} name */
const camel = (name) => name.replace(/(?!^)_([a-z])/g, (_, c) => c.toUpperCase());
/** How alike two names are, from 0 to 1, by the letters that they share in order. @param {string} a @param {string} b */
function likeness(a, b) {
  /** @type {number[]} */ let row = Array(b.length + 1).fill(0);
  for (const x of a.toLowerCase()) row = row.reduce((made, up, j) => (made.push(j ? (b[j - 1].toLowerCase() === x ? row[j - 1] + 1 : Math.max(up, made[j - 1])) : 0), made), /** @type {number[]} */ ([]));
  return (2 * row[b.length]) / (a.length + b.length);
}

// --- Streams

/**
 * Items from the far side: `for await (const item of stream)`. Leaving the loop cancels the call.
 * @template T
 * @template [F=undefined]
 * @implements {AsyncIterableIterator<T>}
 */
export class Stream {
  /** @internal @type {any} */
  _;
  /** Items that were let go. */
  dropped = 0;
  /** The value with which the stream ended, once it has ended. @type {F|undefined} */
  final = undefined;
  /** Of a tracked stream: the id of the last item that has come. @type {string|undefined} */
  lastId = undefined;

  /** @internal @param {any} owner @param {number} window @param {CallOptions} [options] */
  constructor(owner, window, options = {}) {
    this._ = make(Inbox, { stream: this, owner, window, first: window, overflow: options.overflow ?? "block", idle: options.idleTimeout, items: [], waiting: [], owed: 0, balance: window, mean: 0 });
    this._.done = new Promise((resolve, reject) => Object.assign(this._, { resolve, reject }));
    this._.done.catch(nothing);
  }
  /** Items that have come and wait for their consumer. @returns {number} */
  get lag() {
    return this._.items.length;
  }
  /** Settles when the stream is over: its final value, or its error. @returns {Promise<F>} */
  get done() {
    return this._.done;
  }
  async [Symbol.asyncDispose]() {
    await this.return();
  }
  [Symbol.asyncIterator]() {
    if (this._.claimed) throw new TypeError("a stream can be iterated over once");
    this._.claimed = true;
    return this;
  }
  /** @returns {Promise<IteratorResult<T, undefined>>} */
  next() {
    return this._.next();
  }
  /** Each time all items that have come by then, so that they can be rendered together. @returns {AsyncGenerator<T[], void, undefined>} */
  async *batches() {
    for await (const item of this) yield [item, ...this._.rest()];
  }
  /** Stop it, on the far side too. @returns {Promise<IteratorResult<T, undefined>>} */
  async return() {
    this.cancel();
    return { done: true, value: undefined };
  }
  /** Stop it; code that waits for an item gets the reason, or the end. @param {unknown} [reason] */
  cancel(reason) {
    this._.items = [];
    this._.owner.stop(reason);
  }
  /** All that is left, as an array. @returns {Promise<T[]>} */
  async collect() {
    const all = [];
    for await (const item of this) all.push(item);
    return all;
  }
  /** @returns {ReadableStream<T>} */
  readable() {
    const iterator = this[Symbol.asyncIterator]();
    return new ReadableStream({
      async pull(to) {
        const { done, value } = await iterator.next();
        done ? to.close() : to.enqueue(value);
      },
      cancel: (reason) => this.cancel(reason),
    }, { highWaterMark: 0 });
  }
}
brand(Stream, "wsrpc.Stream");

/** The inside of a stream: items `[value, cost]`, and the calls that wait for one. @type {Methods} */
const Inbox = {
  next() {
    this.read = true;
    this.unread?.();
    if (this.items.length) {
      const [value, cost] = this.items.shift();
      this.consumed(cost);
      return Promise.resolve({ done: false, value });
    }
    if (this.over) {
      const { error } = this.over;
      this.over = {};
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject, late: this.idle ? after(this.idle, () => this.owner.late("no item came within idleTimeout")) : nothing });
      this.grant(true);
    });
  },
  rest() {
    return this.items.splice(0).map((/** @type {any[]} */ [value, cost]) => (this.consumed(cost), value));
  },
  /** Items of equal cost have come. */
  take(items, cost, bytes) {
    this.mean += (bytes / cost - this.mean) / (this.mean ? 4 : 1);
    for (const value of items) {
      if (this.balance < 1) throw violation("an item beyond the credit granted"); // CREDIT-3
      this.balance -= cost;
      if (this.over || this.owner.stopped) continue;
      const waiter = this.waiting.shift();
      if (waiter) {
        waiter.late();
        this.consumed(cost);
        waiter.resolve({ done: false, value });
      } else this.items.push([value, cost]);
    }
    if (this.over || this.owner.stopped) return;
    if (!this.read) this.unread ??= after(PATIENCE, () => this.owner.unread?.(), true);
    if (this.overflow === "block") return;
    const excess = this.items.length - (this.overflow === "latest" ? 1 : this.first);
    if (excess > 0) {
      if (this.overflow === "fail") return this.stream.cancel(failure("resource_exhausted", `the consumer fell behind by ${this.items.length} items`));
      this.stream.dropped += excess;
      this.items.splice(0, excess);
    }
    this.owed = this.first - this.balance; // The far side goes at its own pace.
    this.grant(true);
  },
  consumed(cost) {
    if (this.overflow !== "block") return;
    this.owed += cost;
    this.grant();
  },
  /** Give credit back (CREDIT-4); `hungry`: the application waits, and nothing is there (CREDIT-5). */
  grant(hungry) {
    if (hungry && this.balance + this.owed < 1) this.owed = 1 - this.balance;
    if (this.owed < 1 || !(this.owed * 2 >= this.window || (hungry && this.balance < 1))) return;
    const { owner } = this, { wire, id } = owner;
    if (owner.stopped || !wire || this.crediting === wire) return;
    this.crediting = wire;
    wire.control(id, () => {
      this.crediting = undefined;
      if (owner.stopped || owner.wire !== wire || wire.ids.get(id) !== owner) return undefined;
      // It kept up with all that was allowed: let the far side run further ahead.
      if (this.overflow === "block" && this.balance * 2 <= this.window && !this.items.length && this.window < Math.min(4096, (4 * KIB64) / (this.mean || 256))) {
        this.owed += this.window || 1;
        this.window = this.window * 2 || 1;
      }
      const n = this.owed;
      this.owed = 0;
      this.balance += n;
      return ["credit", id, n];
    });
  },
  /** The call goes out, perhaps again: items that have come belong to an earlier credit. */
  opened() {
    this.balance = this.window = this.first;
    this.owed = 0;
    for (const item of this.items) item[1] = 0;
    if (this.waiting.length) this.grant(true);
  },
  finish(error) {
    if (this.over) return;
    this.over = { error };
    this.unread?.();
    for (const waiter of this.waiting.splice(0)) {
      waiter.late();
      if (this.over.error === undefined) waiter.resolve({ done: true, value: undefined });
      else this.over = {}, waiter.reject(error);
    }
    error === undefined ? this.resolve(this.stream.final) : this.reject(error);
  },
};

/** A stream that a `streamFetcher` gave. @extends {Stream<any, any>} */
class Fetched extends Stream {
  /** @param {() => AsyncIterable<any>} open */
  constructor(open) {
    super({ stop: () => this.return().catch(nothing) }, 0);
    this.open = open;
  }
  async next() {
    try {
      if (!this.source) {
        const made = this.open();
        /** @type {any} */ this.source = made[Symbol.asyncIterator]();
        if (made instanceof Stream) made.done.then((final) => (this.final = final), nothing);
      }
      const result = await this.source.next();
      if (result.done) this._.finish();
      return result;
    } catch (error) {
      this._.finish(error);
      throw error;
    }
  }
  /** @returns {Promise<any>} */
  async return() {
    this.open = async function* () {};
    this._.finish();
    return (await this.source?.return?.()) ?? { done: true, value: undefined };
  }
}

// --- Calls of this side

const ms = (/** @type {any} */ v) => typeof v === "number" && v > 0 && v < Infinity;
/** @type {Methods} */
const CALL_OPTIONS = {
  timeout: (v) => v === null || ms(v), idleTimeout: ms, signal: (v) => v?.addEventListener, metadata: TESTS.S, key: str, window: TESTS.w,
  overflow: (v) => /^(block|latest|drop_oldest|fail)$/.test(v), idempotent: TESTS.b,
};
/** @type {Methods} */
const CONNECT_OPTIONS = {
  timeout: CALL_OPTIONS.timeout, metadata: TESTS.S, window: TESTS.w, auth: () => true, controllers: (v) => v === Object(v), fallback: isFunction, reflection: TESTS.b,
  codec: (v) => v?.decode, reconnect: TESTS.b, maxCalls: TESTS[8], maxValue: TESTS.k, trace: isFunction, traceSecrets: TESTS.b, WebSocket: isFunction,
};
/** @param {any} options @param {string} where @param {Methods} tests @param {(message: string) => Error} [wrong] */
function checkOptions(options, where, tests, wrong = misuse) {
  if (!isPlain(options)) throw wrong(`${where}: the options are a plain object`);
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(tests, name)) throw wrong(`${where}: there is no option ${name}; there are ${Object.keys(tests)}`);
    if (value !== undefined && !tests[name](value)) throw wrong(`${where}: ${String(value)} is no ${name}`);
  }
}

/** @param {any} core @param {any} method @param {any} args @param {any} options @param {any} facts @param {any} parent */
function newCall(core, method, args, options, facts, parent) {
  const { kind } = facts;
  const call = make(Call, {
    core, method, kind, parent, options: {}, counts: facts.callbacks ?? {}, tracked: facts.tracked, bytes: facts.bytes && !core.codec.binary,
    takes: kind === "notify" ? "end error" : str(method) ? "message result end error" : "result error", uploads: {}, callbacks: {}, pumps: [], offers: [], attempts: 1, size: 0, id: 0, done: false,
  });
  call.promise = new Promise((resolve, reject) => Object.assign(call, { resolve, reject }));
  // No code has to await a call that is iterated over; the failure of a value that no code awaits is reported.
  if (kind !== "unary" && kind !== "notify") call.promise.catch(nothing);
  let wrong;
  try {
    call.prepare(args, options);
  } catch (error) {
    wrong = error;
  }
  const { timeout, signal, window, idempotent } = call.options;
  call.stream = new Stream(call, window ?? core.window, call.options);
  call.inbox = call.stream._;
  call.idempotent = idempotent || facts.idempotent || facts.tracked;
  const most = timeout !== undefined ? timeout : facts.timeout ?? (kind === "unary" || kind === "notify" ? core.timeout : null);
  call.deadline = Math.min(most == null ? Infinity : now() + most, parent?.deadline ?? Infinity);
  if (wrong) call.settle(wrong);
  else if (signal?.aborted) call.stop(signal.reason);
  else {
    call.onAbort = () => call.stop(signal.reason);
    signal?.addEventListener("abort", call.onAbort);
    if (call.deadline < Infinity) call.timer = after(Math.max(0, call.deadline - now()), () => call.late("the deadline has passed"));
  }
  return call;
}

/** @type {Methods} */
const Call = {
  prepare(args, options) {
    const { method, core } = this;
    checkOptions(options, method, CALL_OPTIONS);
    this.options = options;
    this.metadata = { ...core.options.metadata, ...options.metadata };
    if (sizeOf(Object.entries(this.metadata).join("") + (options.key ?? "")) > QUANTUM) throw failure("resource_exhausted", `${method}: metadata and key exceed ${QUANTUM} bytes`, true);
    /** @type {any} */ let values;
    if (!str(method)) values = clean(args, core.codec.binary);
    else {
      if (args !== undefined && !isPlain(args)) throw misuse(`${method} takes its arguments by name: {name: value}`);
      values = {};
      for (const [name, value] of Object.entries(args ?? {})) {
        if (value === undefined) continue;
        const kind = typeof value === "function" ? this.callbacks : isUpload(value) ? this.uploads : values;
        try {
          put(kind, name, kind === values ? clean(value, core.codec.binary) : value);
        } catch (error) {
          throw misuse(`${method}: argument ${name}: ${/** @type {any} */ (error).message}`, error);
        }
      }
      const extras = Object.keys({ ...this.callbacks, ...this.uploads }).length;
      if (extras > (this.kind === "notify" ? 0 : 15)) throw misuse(`${method}: ${extras} uploads and callbacks are more than it may carry`); // ID-3
    }
    this.args = core.codec.encode(values);
    this.size = core.codec.size(this.args);
  },
  /** The application leaves. */
  stop(reason) {
    const began = this.wire;
    this.leave("cancelled");
    this.settle(reason === undefined ? failure("cancelled", "the caller left", !began) : reason, reason === undefined);
  },
  late(message) {
    const waits = this.wire ? "" : this.core.whyWaiting();
    const began = this.wire || this.mayHaveRun;
    this.leave("deadline_exceeded");
    this.settle(failure("deadline_exceeded", `${this.method}: ${message}${waits}`, !began));
  },
  leave(reason) {
    const { wire, id } = this;
    if (this.stopped) return;
    this.stopped = true;
    if (wire) {
      wire.control(id, () => (wire.ids.get(id) === this ? ["cancel", id, reason] : undefined));
      wire.dropChunks(id);
    }
    for (const pump of this.pumps) pump.stop();
  },
  unread() {
    this.core.warnUnread(this.method);
  },
  /** An answer that this side cannot use (CALL-8, VALUE-4). */
  useless(message, code = "internal") {
    this.leave("cancelled");
    this.settle(failure(code, `${this.method}: ${message}`));
  },
  /** The application's side of it is over. */
  settle(error, quiet) {
    if (this.done) return;
    this.done = this.stopped = true;
    this.core.forget(this);
    this.timer?.();
    this.options.signal?.removeEventListener("abort", this.onAbort);
    if (error !== undefined) this.reject(error);
    this.inbox.finish(quiet ? undefined : error);
  },
  /** The frame that opens it; its ids are taken when it goes. */
  frame(wire) {
    const { core, options, kind, inbox, tracked } = this;
    const id = wire.nextId;
    let next = id;
    /** @type {any} */ const more = {};
    for (const row of ["uploads", "callbacks"]) for (const name of Object.keys(this[row])) put((more[row] ??= {}), name, (next += 2));
    if (this.deadline < Infinity) more.timeout = Math.max(0, Math.ceil(this.deadline - now()));
    if (Object.keys(this.metadata)[0]) more.metadata = this.metadata;
    if (options.key) more.key = options.key;
    if (this.parent?.wire === wire && wire.ids.has(this.parent.id)) more.parent = this.parent.id;
    if (str(this.method) && kind !== "notify") {
      if (inbox.first !== core.window) more.credit = inbox.first;
      if (tracked && this.stream.lastId !== undefined) more.last_id = this.stream.lastId;
    }
    return core.frame([kind === "notify" ? kind : "call", id, this.method], this.args, undefined, [core.encode(more)], () => {
      wire.nextId = next + 2;
      this.id = id;
      this.wire = wire;
      wire.ids.set(id, this);
      inbox.opened();
      for (const [name, offer] of Object.entries(more.callbacks ?? {})) {
        this.offers.push(offer);
        // By name alone the number of arguments is not known; a function ignores arguments that are too many.
        const run = this.callbacks[name], { [name]: least = run.length, [name]: most = Infinity } = this.counts;
        wire.ids.set(offer, { takes: "", run, least, most, live: new Set(), name: `${this.method}(${name}=…)` });
      }
      for (const [name, upload] of Object.entries(more.uploads ?? {})) {
        const pump = make(Upload, { ...source(wire, upload), call: this, balance: wire.peer.window });
        this.pumps.push(pump);
        wire.ids.set(upload, pump);
        pump.begin(this.uploads[name]);
      }
      if (kind === "notify") this.resolve(), this.settle(); // Nobody awaits its end.
    });
  },
  /** The far side has finished it, or its session has ended. */
  closed() {
    const { wire, id } = this;
    if (!wire) return;
    wire.ids.delete(id);
    for (const offer of this.offers.splice(0)) {
      for (const one of wire.ids.get(offer).live) one.drop(); // CB-3
      wire.ids.delete(offer);
    }
    for (const pump of this.pumps) pump.drop();
    wire.dropChunks(id);
    this.wire = undefined;
    if (this.slot) wire.free(this);
  },
  typed(value) {
    return this.bytes && str(value) ? fromBase64url(value) : value;
  },
  /** The awaiting code gets the stream, now that it is one. */
  isStream() {
    delete this.stream.then;
    this.resolve(this.stream);
  },
  message(items, cost, bytes) {
    const { inbox, stream, tracked, kind } = this;
    const first = !this.streaming;
    this.streaming = true;
    if (this.stopped) return inbox.take(items, cost, bytes);
    const at = kind === "unary" ? 0 : items.findIndex((/** @type {any} */ one) => outside(one) || (tracked && !(list(one) && one.length === 2 && str(one[0]) && one[0].length <= 1024)));
    if (at >= 0) {
      // Items before it are delivered, in whatever frames they came (MSG-2).
      if (at) this.message(items.slice(0, at), cost, bytes);
      items = items.slice(at);
      this.useless(kind === "unary" ? "a stream came where a value was due" : outside(items[0]) ? "an item is outside of the value space" : "an item of a tracked stream is no pair of an id and a value");
      return inbox.take(items, cost, bytes);
    }
    if (tracked) {
      stream.lastId = items[items.length - 1][0];
      items = items.map((/** @type {any} */ one) => one[1]);
    }
    this.delivered = true;
    this.attempts = 1;
    if (first) this.isStream();
    inbox.take(this.bytes ? items.map((/** @type {any} */ one) => this.typed(one)) : items, cost, bytes);
  },
  result(value) {
    if (this.streaming && !this.stopped) throw violation("a result after items"); // RESULT-1
    this.closed();
    if (this.stopped) return;
    if (outside(value)) return this.useless("the result is outside of the value space");
    this.resolve(this.typed(value));
    this.settle(this.kind === "stream" || this.inbox.read ? failure("internal", `${this.method}: a value came where a stream was due`) : undefined);
  },
  end(final) {
    this.closed();
    if (this.stopped) return;
    if (outside(final ?? null)) return this.useless("the final value is outside of the value space");
    if (this.kind === "unary") return this.useless("a stream came where a value was due");
    this.stream.final = final?.[0];
    this.isStream();
    this.settle();
  },
  error(body) {
    const error = received(body);
    this.closed();
    if (this.failed) this.settle(this.failed.error);
    this.core.retry(this, error);
  },
};

/** @param {any} body */
const received = ({ code, message, data = null, type, error_id, not_started, retry_after }) => new RpcError(CODES.has(code) ? code : "unknown", message, outside(data) ? null : data, {
  type: type ?? undefined, errorId: error_id ?? undefined, notStarted: not_started === true, retryAfter: retry_after == null ? undefined : Number(retry_after),
});

// --- Streams of this side: uploads, and the items of handlers

/** Wrong arguments, as ERROR-4 tells them. @param {any[]} loc @param {string} msg */
const invalid = (loc, msg, type = "value_error") => new RpcError("invalid_argument", msg, { errors: [{ loc, msg, type }], total: 1 });
const reasonOf = (/** @type {any} */ why) => (why === "deadline_exceeded" ? why : "cancelled");
/** @param {any} wire @param {any} id */
const source = (wire, id) => ({ takes: "credit cancel", wire, id, core: wire.core, pending: [], bytes: 0, wake: nothing });
/** @type {Methods} */
const Source = {
  credit(n) {
    n = Number(n);
    if (n < 1 || this.balance + n > MAX_INT) throw violation(`a credit of ${n}`); // CREDIT-6
    this.balance += n;
    this.wake();
  },
  /** No further item begins; the producer is closed. */
  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.clear();
    this.wake();
    this.leave();
  },
  leave() {
    this.returned = (async () => this.iterator?.return?.())().catch(nothing);
  },
  clear() {
    this.wire.unload(this.bytes);
    this.bytes = 0;
    this.pending = [];
  },
  /** Ask the producer for one item after another, as credit and room allow (CREDIT-2). */
  async pump(items) {
    const { wire, core } = this;
    const iterator = (this.iterator = iteratorOf(items));
    for (;;) {
      while (!this.stopped && (this.balance < 1 || this.bytes >= KIB64 || wire.outbox >= MIB)) {
        await new Promise((go) => {
          this.wake = go;
          wire.starved.add(this);
        });
      }
      const { done, value } = this.stopped ? { done: true, value: undefined } : await iterator.next();
      if (this.stopped) return this.returned;
      if (done) return value;
      let part, size;
      try {
        part = core.encode(value);
        size = core.codec.size(part);
        wire.mustFit(size);
      } catch (/** @type {any} */ error) {
        this.leave();
        throw this.call ? failure(error.code ?? "invalid_argument", `an item: ${error.message}`, false, { cause: error }) : error;
      }
      this.balance -= 1 + Math.floor(size / KIB64);
      this.pending.push([part, size]);
      this.bytes += size;
      wire.outbox += size;
      if (this.pending.length === 1) wire.push(this.id, () => this.items());
    }
  },
  /** As many items as make a good frame; a large one is alone (CHUNK-1). */
  items() {
    const { core, pending } = this;
    if (!pending.length) return undefined;
    let n = 0, size = 0;
    do size += pending[n++][1]; while (n < pending.length && size + pending[n][1] <= QUANTUM);
    const parts = pending.slice(0, n).map((/** @type {any} */ one) => one[0]);
    return core.frame(["message", this.id], n > 1 ? undefined : parts[0], (/** @type {any} */ value) => core.list(value ? [value] : parts), [], () => {
      pending.splice(0, n);
      this.bytes -= size;
      this.wire.unload(size);
      this.wake();
      return pending.length;
    });
  },
};
/** @type {Methods} */
const Upload = {
  ...Source,
  cancel(reason) {
    this.reason = reason;
    this.stop();
    this.wire.dropChunks(this.id);
  },
  async begin(items) {
    /** @type {any} */ let error;
    const { wire, core, id } = this;
    try {
      await this.pump(items);
      error = this.stopped && { code: reasonOf(this.reason), message: "the upload was stopped" };
    } catch (cause) {
      this.clear();
      if (!this.stopped) this.call.failed = { error: cause };
      error = core.describe(cause);
    }
    const over = () => void wire.ids.delete(id);
    wire.push(id, () => this.dropped ? undefined : error ? core.errorFrame(id, error, over) : core.frame(["end", id], undefined, undefined, [], over));
  },
  /** The call is over (UP-3). */
  drop() {
    this.dropped = true;
    this.wire.ids.delete(this.id);
    this.stop();
    this.wire.dropChunks(this.id);
  },
};

// --- Calls of the other side

/** @type {Methods} */
const Serving = {
  ...Source,
  cancel(why) {
    const reason = reasonOf(why), part = this.wire.parts.get(this.id);
    if (part) this.wire.dropPart(part);
    if (this.stopped || this.ended) return;
    this.cancelled = reason;
    if (!this.began) return this.refuse(reason, "it was cancelled before it began", { not_started: true }); // CHUNK-5, CANCEL-2
    const error = failure(reason, "the caller left");
    this.abort.abort(error);
    for (const one of this.incoming) one.stream._.finish(error);
    this.stop();
  },
  /** Nobody waits for an answer any more. */
  drop() {
    this.dropped = true;
    this.cancel("cancelled");
    this.wire.dropChunks(this.id);
    this.wire.ids.delete(this.id);
  },
  /** Answer without a handler. */
  refuse(code, message, more) {
    this.finish((/** @type {any} */ over) => this.core.errorFrame(this.id, { code, message, ...more }, over));
  },
  /** The arguments are here. */
  complete(args) {
    const { offer } = this, n = args?.length;
    const wrong = (/** @type {[any[], string, string?]} */ ...why) => this.refuse("invalid_argument", why[1], { data: invalid(...why).data });
    if (outside(args) || !(offer ? list : obj)(args)) return wrong([], "outside of the value space");
    if (offer && (n < offer.least || n > offer.most)) return wrong([Math.min(n, offer.most)], `expected ${offer.least} arguments, got ${n}`, "arguments"); // CB-5
    this.wire.starts.push(() => this.start(args)); // Once the batch is taken (CANCEL-2).
  },
  async start(args) {
    const { wire, id, options, core, kind, deadline, offer } = this;
    if (this.ended) return;
    if (options.timeout == 0) return this.refuse("deadline_exceeded", "too late to begin", { not_started: true }); // TIME-2
    this.began = true;
    const parent = { wire, id, deadline };
    for (const [name, target] of Object.entries(options.callbacks ?? {})) put(args, name, (/** @type {any[]} */ ...list) => this.invoke(target, list, parent));
    for (const one of this.incoming) put(args, one.name, one.stream);
    const context = {
      session: core.session, signal: this.abort.signal, metadata: options.metadata ?? {}, key: options.key ?? undefined, lastId: options.last_id ?? undefined, deadline,
      clientize: (/** @type {any} */ which, /** @type {any} */ more) => core.clientize(which, more, parent),
    };
    /** @type {any} */ let frame;
    try {
      let value = await this.run(args, context), head = ["result", id];
      if (isUpload(value) && !isBlob(value)) {
        if (kind === "notify" || offer) {
          iteratorOf(value).return?.();
          throw failure("failed_precondition", `${this.name} gives a stream`); // NOTIFY-3, CB-1
        }
        value = await this.pump(value);
        head = ["end", id];
      } else if (kind === "notify") value = undefined, head = ["end", id];
      if (!this.stopped) {
        const part = head[0] === "end" && value === undefined ? undefined : core.encode(value);
        if (part) wire.mustFit(core.codec.size(part));
        frame = (/** @type {any} */ over) => core.frame(head, part, head[0] === "end" ? (/** @type {any} */ one) => one && core.list([one]) : undefined, [], over);
      }
    } catch (error) {
      if (!this.stopped) {
        const body = core.describe(error, this.name);
        frame = (/** @type {any} */ over) => core.errorFrame(id, body, over);
      }
    }
    // A result or an error of a handler after a cancel counts for nothing (CANCEL-3).
    frame ? this.finish(frame) : this.refuse(this.cancelled, "the caller left");
  },
  /** Call a callback of the caller's: at most 8 at a time (CB-2). */
  invoke(target, args, parent) {
    const call = newCall(this.core, target, args, {}, { kind: "unary" }, parent);
    if (this.ended) call.settle(failure("failed_precondition", "the call is over, and its callbacks with it", true));
    if (call.done) return call.promise;
    this.invocations.add(call);
    const next = () => {
      let live = 0;
      for (const one of this.invocations) if (one.method === target && !one.done && live++ < 8 && !one.queued) one.queued = true, this.wire.begin(one);
    };
    const over = () => (this.invocations.delete(call), next());
    call.promise.then(over, over);
    next();
    return call.promise;
  },
  finish(frame) {
    const { wire, id } = this;
    if (this.ended) return;
    this.ended = true;
    this.timer?.();
    const error = failure("cancelled", "the call is over");
    this.abort.abort(error);
    this.offer?.live.delete(this);
    for (const call of [...this.invocations]) call.stop(error), call.closed(); // CB-3
    for (const one of this.incoming) one.finish(error);
    const over = () => {
      wire.ids.delete(id);
      this.core.idle();
    };
    if (this.dropped || !wire.open) over();
    else wire.push(id, () => (this.dropped ? undefined : frame(over)));
  },
};

/** An upload that the server sends, as the handler reads it. @type {Methods} */
const Incoming = {
  message(items, cost, bytes) {
    const wrong = items.findIndex((/** @type {any} */ one) => outside(one));
    this.stream._.take(wrong < 0 ? items : items.slice(0, wrong), cost, bytes);
    if (wrong >= 0) this.stop(invalid([this.name], "an item is outside of the value space")); // UP-5
  },
  end() {
    this.finish();
  },
  finish(error) {
    this.wire.ids.delete(this.id);
    this.stream._.finish(error);
  },
  error(body) {
    this.finish(received(body));
  },
  stop(reason) {
    const { wire, id } = this;
    if (!this.stopped && wire.ids.get(id) === this) {
      this.stopped = true;
      wire.control(id, () => (wire.ids.has(id) ? ["cancel", id] : undefined));
    }
    this.stream._.finish(reason);
  },
};

// --- A session of the wire: the state that both sides share, over one link after another

/** @param {any} core */
const newWire = (core) => make(Wire, {
  core, id: "", open: true, up: false, peer: { window: 0, max_calls: 8, max_batch: KIB64, max_value: KIB64, max_held: 0 }, token: null, resumeWindow: 0, link: 0, nextId: 1, peerId: 0, used: 0,
  sent: 0, acked: 0, received: 0, ackedOut: 0, unacked: 0, unackedBytes: 0, outbox: 0, held: 0, heldIn: 0, stuck: 0, arrived: 0, pinged: -1,
  ids: new Map(), parts: new Map(), lanes: new Map(), starved: new Set(),
  urgent: [], // Calls that go before those of the session: of handlers, of callbacks, and large ones that wait for room.
  ring: [], openings: { deficit: QUANTUM }, links: [], replay: [], replayBytes: 0, starts: [],
});

/** @type {Methods} */
const Wire = {
  linkFrame(frame) {
    this.links = this.links.filter((/** @type {any} */ one) => one[0] !== frame[0]); // Of pongs the newest is enough.
    this.links.push(frame);
    this.wake();
  },
  lane(id) {
    let lane = this.lanes.get(id);
    if (!lane) this.lanes.set(id, (lane = { id, control: [], entries: [], deficit: QUANTUM }));
    return this.turn(lane);
  },
  turn(lane) {
    if (!lane.listed) this.ring.push(lane);
    lane.listed = true;
    this.wake();
    return lane;
  },
  /** A frame without a value, which need not wait for frames with one. It is made when it is numbered. */
  control(id, frame) {
    if (this.open) this.lane(id).control.push(frame);
  },
  push(id, frame) {
    if (this.open) this.lane(id).entries.push(frame);
  },
  begin(call) {
    this.urgent.push(call);
    this.turn(this.openings);
  },
  free(call) {
    call.slot = false;
    this.used--;
    this.turn(this.openings);
  },
  unload(n) {
    this.outbox -= n;
    if (this.outbox < MIB) for (const one of this.starved) one.wake();
    this.starved.clear();
  },
  /** No further piece of a value goes: the last one has gone, or the frame that discards the value. */
  dropChunks(id) {
    const lane = this.lanes.get(id);
    if (!lane?.bytes) return;
    this.held -= lane.bytes.length;
    lane.bytes = undefined;
    for (const one of this.lanes.values()) this.turn(one);
    this.turn(this.openings);
  },
  /** Whether a value of this size can ever go out (VALUE-7, CHUNK-7). */
  mustFit(size) {
    const { max_batch, max_value, max_held } = this.peer;
    const most = Math.max(Math.min(max_held ? KIB64 : Infinity, max_batch) - 100, Math.min(max_value, max_held));
    if (size > most) throw failure("resource_exhausted", `${size} bytes are more than the ${most} that the other side takes`, true, { type: TOO_LARGE });
  },
  /** The bytes that go out for a frame: all of it, or its head where its value goes in chunks; nothing while there is no room. */
  fit({ inline, value, sized }, lane) {
    const { core, peer } = this;
    const size = core.codec.size(inline);
    if (size <= Math.min(KIB64, peer.max_batch - 2) || value === undefined || (!peer.max_held && size + 5 <= peer.max_batch)) return inline;
    const bytes = core.codec.bytes(value);
    this.mustFit(peer.max_held ? bytes.length : size + 100);
    if (this.held + bytes.length > peer.max_held) return undefined; // CHUNK-6
    this.held += bytes.length;
    lane.bytes = bytes;
    lane.at = 0;
    return sized(bytes.length);
  },
  /** The next frame of an id: undefined if it has none now, null if it has to be asked again. */
  next(lane) {
    const { core } = this;
    if (lane === this.openings) return this.nextCall();
    const { control, entries, bytes, at, id } = lane;
    const frame = control.shift();
    if (frame) {
      const made = frame();
      return made ? core.list(core.raw(made)) : null;
    }
    if (bytes) {
      let to = Math.min(bytes.length, at + PIECE);
      if (!core.codec.binary) while (to < bytes.length && (bytes[to] & 0xc0) === 0x80) to--;
      lane.at = to;
      if (to === bytes.length) this.dropChunks(id);
      return core.list(core.raw(["chunk", id, to === bytes.length, core.codec.piece(bytes.subarray(at, to))]));
    }
    const made = entries[0]?.();
    const part = made && this.fit(made, lane);
    if (made && part === undefined) return undefined;
    if (!made?.commit?.()) entries.shift();
    if (made || entries.length) return made ? part : null;
    this.lanes.delete(id);
    return undefined;
  },
  nextCall() {
    const { core, urgent } = this;
    const mine = !this.draining && this === core.wire && this.used < this.peer.max_calls ? core.waiting : [];
    const queue = urgent.length ? urgent : mine;
    const call = queue.shift();
    if (!call) return undefined;
    if (!call.done) {
      try {
        const frame = call.frame(this), lane = this.lane(this.nextId);
        const part = this.fit(frame, lane);
        if (!call.slot && str(call.method)) {
          call.slot = true;
          this.used++;
        }
        if (part === undefined) {
          urgent.push(call); // It keeps its slot while it waits for room.
          return urgent.length > 1 || !mine.length ? undefined : null;
        }
        core.went(call);
        core.sent++;
        frame.commit();
        return part;
      } catch (error) {
        call.settle(error);
      }
    }
    if (call.slot) this.free(call);
    return null;
  },
  wake() {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.flush();
    });
  },
  flush() {
    const { ws, core, ring } = this;
    if (!this.up || ws?.readyState !== 1) return;
    for (;;) {
      if (ws.bufferedAmount > 2 * KIB64) return this.watchDrain(ws);
      const { add, ship } = core.writer(ws);
      let taken = 0;
      if (this.ackDue && this.received > this.ackedOut) this.links.push(["ack", (this.ackedOut = this.received)]);
      this.ackDue = false;
      for (const frame of this.links.splice(0)) add(core.list(core.raw(frame)));
      while (ring.length && taken < KIB64 && (!this.replayBytes || this.replayBytes < MIB)) {
        const lane = ring[0];
        const part = lane.deficit > 0 ? this.next(lane) : null;
        if (part === undefined) {
          ring.shift();
          lane.listed = false;
          lane.deficit = QUANTUM;
          continue;
        }
        if (part !== null) {
          const n = add(part);
          this.sent++;
          taken += n;
          lane.deficit -= n;
          if (this.resumeWindow) {
            this.replay.push([part, n]);
            this.replayBytes += n;
          }
        }
        if (lane.deficit <= 0) {
          lane.deficit += QUANTUM;
          ring.push(ring.shift());
        }
      }
      if (!ship()) return;
    }
  },
  /** No event tells that a WebSocket has room again; messages that come in wake this up too, also in hidden tabs. */
  watchDrain(ws) {
    if (this.drainTimer) return;
    let least = Infinity, since = now();
    const look = () => {
      this.drainTimer = undefined;
      if (ws !== this.ws) return;
      if (ws.bufferedAmount <= 2 * KIB64) return this.flush();
      if (ws.bufferedAmount < least) {
        least = ws.bufferedAmount;
        since = now();
      } else if (now() - since > PATIENCE && !G.document?.hidden) return this.lost(ws, 4001, "the other side takes no bytes"); // OUT-4
      this.drainTimer = setTimeout(look, 5);
    };
    this.drainTimer = setTimeout(look, 5);
  },

  async dial() {
    const { core } = this;
    this.redial?.();
    this.redial = core.nextAt = undefined;
    core.attempt++;
    core.tell();
    const mine = (this.dialling = {});
    /** @type {any} */ let auth;
    /** @type {any} */ let refused;
    try {
      auth = clean(await core.credentials(), core.codec.binary);
    } catch (error) {
      refused = error;
    }
    if (this.dialling !== mine || !this.open) return;
    if (refused) {
      const denied = refused instanceof RpcError && /^(unauth|permission)/.test(refused.code);
      if (denied) return core.shut(refused.code[0] === "u" ? 4501 : 4503, `auth: ${refused.message}`);
      return this.lost(undefined, 1006, `auth: ${refused?.message ?? refused}`);
    }
    /** @type {any} */ let ws;
    try {
      ws = this.ws = new core.Socket(core.url, [core.codec.protocol]);
    } catch (error) {
      return core.shut(1006, String(error));
    }
    ws.binaryType = "arraybuffer";
    const hurry = after(PATIENCE, () => this.lost(ws, 4008, "no hello in time"), true);
    ws.onopen = () => {
      if (ws !== this.ws) return ws.close(1000);
      core.everOpen = true;
      if (ws.protocol !== core.codec.protocol) return this.lost(ws, 4500, "the server speaks no wsrpc"); // LINK-2
      const { maxValue, maxCalls, window } = core;
      const hello = core.list(core.raw(["hello", {
        version: 1, link: ++this.link, token: this.token, received: this.received, auth: auth ?? null, window, agent: "wsrpc.js/0.2",
        limits: { max_batch: MAX_BATCH, max_calls: maxCalls, max_value: maxValue, max_held: 2 * maxValue },
      }]));
      core.seen(true, hello);
      ws.send(core.list([hello]));
    };
    ws.onmessage = (/** @type {any} */ event) => {
      if (ws !== this.ws) return;
      this.arrived = now();
      try {
        this.batch(event.data, ws);
      } catch (/** @type {any} */ error) {
        if (!error.violation) console.error("a fault in wsrpc", error);
        this.lost(ws, error.violation ?? 4500, error.message);
      }
      if (this.up) hurry();
    };
    ws.onclose = (/** @type {any} */ event) => {
      hurry();
      this.lost(ws, event.code || 1006, event.reason ?? ""); // Deno has no code for a connection that was reset.
    };
    // Node 20 tells of a refused connection by this event alone.
    ws.onerror = () => setTimeout(() => ws.readyState !== 1 && this.lost(ws, 1006, ""));
  },
  /** The link is gone, or has to go. */
  lost(ws, code, reason) {
    if (!this.open || ws !== this.ws) return;
    const { core, progress } = this;
    const greeted = this.up, counts = this.received + this.acked, close = { code, reason };
    this.quiet();
    if (ws) closeSocket(ws, code, reason);
    if (this === core.wire) core.lastClose = close;
    const ends = !/^(100[156]|101[1-5]|4[0-4]..)$/.test(code); // CLOSE-1
    // Credentials that come from a function are asked for again before they count as wrong.
    const again = !greeted && (code === 4501 || code === 4503) && typeof core.auth === "function" && core.denied++ < 2;
    if (ends && !again && this === core.wire) return core.shut(code, reason);
    if (greeted) {
      // A frame that a middlebox does not let pass would break one link after another (RESUME-9).
      this.stuck = this.sent > this.acked && counts === progress ? this.stuck + 1 : 0;
      if (counts > progress || now() - this.openedAt > 15000) core.failures = 0;
      this.expiry = after(this.resumeWindow, () => core.move(this, close));
    }
    if ((ends && !again) || (this.token && code === 4010) || (this.draining && (code === 1012 || !greeted)) || (greeted && !this.resumeWindow) || this.stuck >= 5) core.move(this, close, code === 4010);
    else core.later(this, 0);
  },
  /** No link, for now or for ever. */
  quiet() {
    this.up = false;
    this.ws = this.dialling = undefined;
    this.heart?.();
    clearTimeout(this.ackTimer);
    clearTimeout(this.drainTimer);
    this.ackTimer = this.drainTimer = undefined;
    this.unacked = this.unackedBytes = 0;
  },
  beat() {
    this.heart?.();
    const { ws, heartbeat, arrived } = this;
    if (!heartbeat || !ws) return;
    const [interval, timeout] = heartbeat, silent = now() - arrived;
    if (silent >= interval + timeout) {
      // This side may have been asleep: messages that have arrived meanwhile are delivered first (HEART-2).
      return void setTimeout(() => ws === this.ws && (this.arrived === arrived ? this.lost(ws, 4002, "no sign of life") : this.beat()), 50);
    }
    if (silent >= interval && this.pinged !== arrived) {
      this.pinged = arrived;
      this.linkFrame(["ping", Math.floor(now())]);
    }
    this.heart = after(silent < interval ? interval - silent : interval + timeout - silent, () => this.beat(), true);
  },

  batch(data, ws) {
    const { core } = this;
    const length = data.byteLength ?? data.length;
    if (length > MAX_BATCH) throw violation("a message larger than max_batch", 4500); // BROWSER-1
    /** @type {any} */ let batch;
    try {
      batch = core.codec.decode(data);
    } catch (error) {
      throw violation(`unreadable: ${error}`, 4500);
    }
    if (!list(batch) || !batch.length) throw violation("no batch", 4500);
    let numbered = 0;
    for (const frame of batch) if (checked(frame, core.codec)) numbered++;
    for (const frame of batch) {
      core.show(false, frame);
      if (!this.up && frame[0] !== "hello") throw violation("a frame before the hello"); // HELLO-1
      this.take(frame, length / batch.length);
      if (ws !== this.ws) return;
    }
    this.received += numbered;
    if (numbered && this.resumeWindow) {
      this.unacked += numbered;
      this.unackedBytes += length;
      if (this.unacked >= 32 || this.unackedBytes >= KIB64 || G.document?.hidden) this.ack();
      else this.ackTimer ??= setTimeout(() => this.ack(), 500);
    }
    this.wake();
    for (const start of this.starts.splice(0)) start();
  },
  ack() {
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    this.unacked = this.unackedBytes = 0;
    this.ackDue = true;
    this.wake();
  },
  take(frame, bytes) {
    const [name, id, body] = frame;
    switch (name) {
      case "hello": return this.greeted(id);
      case "ack": return this.acknowledged(Number(id), 4505);
      case "ping": return this.linkFrame(["pong", id]);
      case "goaway": return this.goaway(id);
      case "auth": throw violation("auth from the server"); // AUTH-2
      case "chunk": return this.piece(id, body, frame[3]);
    }
    if (!SHAPES[name] || name === "pong") return;
    const part = this.parts.get(id);
    if (part && name === "error") this.dropPart(part), this.parts.delete(id);
    else if (part && name !== "credit" && name !== "cancel") throw violation(`a ${name} in the middle of a value`); // CHUNK-4
    const size = frame[SIZE_AT[name]];
    if (size == null) this.dispatch(frame, name, id, body, 1, bytes);
    else this.beginPart(frame, name, id, Number(size));
  },
  /** The pieces of a value are held no longer; pieces that still come are counted. */
  dropPart(part) {
    if (part.pieces) this.heldIn -= part.size;
    part.pieces = undefined;
  },
  /** A value comes in chunks; an unwanted one is counted, but not held (CHUNK-6). */
  beginPart(frame, name, id, size) {
    const { maxValue } = this.core;
    const message = `${size} bytes are more than the ${maxValue} that this side takes (maxValue)`;
    /** @type {any} */ let owner;
    if (SIZE_AT[name] === 5) {
      const serving = this.accept(frame, true);
      if (size > maxValue) serving.refuse("resource_exhausted", message, { not_started: true });
      owner = !serving.ended;
    } else {
      owner = this.owner(id, name);
      if (size > maxValue) owner?.useless ? owner.useless(message, "resource_exhausted") : owner?.stop(failure("resource_exhausted", message));
      owner = owner && !owner.stopped;
    }
    if (owner && (this.heldIn += size) > 2 * maxValue) throw violation("more than max_held");
    this.parts.set(id, { frame, size, got: 0, pieces: owner ? [] : undefined });
  },
  piece(id, last, piece) {
    const { core } = this;
    const part = this.parts.get(id);
    if (!part) {
      if (this.ids.has(id)) throw violation("a chunk of nothing");
      return this.opened(id);
    }
    const n = core.codec.size(piece);
    part.got += n;
    if (n < (last ? 1 : QUANTUM) || n > KIB64 || (last ? part.got !== part.size : part.got >= part.size)) throw violation("a chunk of a wrong size"); // CHUNK-3
    part.pieces?.push(piece);
    if (!last) return;
    const { frame, size, pieces } = part;
    this.dropPart(part);
    this.parts.delete(id);
    /** @type {any} */ let value;
    try {
      if (pieces) value = core.codec.decode(core.codec.unite(pieces));
    } catch {
      // It stays undefined, which is outside of the value space (VALUE-4).
    }
    const [name, , body] = frame;
    if (SIZE_AT[name] === 5) return this.ids.get(id)?.complete(value);
    this.dispatch(frame, name, id, name === "result" ? value : name === "error" ? { ...body, data: value } : [value], 1 + Math.floor(size / KIB64), size);
  },
  /** An id that is not live has to be one that was (ID-5, ID-6). */
  opened(id) {
    if (id & 1 ? id >= this.nextId : id > this.peerId) throw violation(`a frame on id ${id}, which nobody opened`);
  },
  /** The call or stream of this frame; undefined where that is finished. */
  owner(id, name) {
    const owner = this.ids.get(id);
    if (!owner) this.opened(id);
    else if (!owner.takes.includes(name)) throw violation(`${name} on id ${id}`);
    return owner;
  },
  dispatch(frame, name, id, body, cost, bytes) {
    if (SIZE_AT[name] === 5) return void this.accept(frame);
    const owner = this.owner(id, name);
    if (owner) owner[name](body, cost, bytes / body?.length);
    else if (name === "credit" && body < 1) throw violation("a credit below 1"); // CREDIT-6
  },
  greeted(hello) {
    const { core, ws } = this;
    if (this.up) throw violation("a second hello"); // HELLO-2
    if (hello.version != 1) throw violation(`version ${hello.version}`, 4507);
    const resuming = this.token !== null;
    const code = resuming ? 4010 : 4505;
    if (resuming !== !!hello.resumed) throw violation(`resumed: ${!!hello.resumed}`, code); // RESUME-2, HELLO-12
    this.acknowledged(Number(hello.received ?? 0), code);
    if (!resuming) {
      const { max_batch = KIB64, max_value = max_batch, max_calls = 8, max_held = 0 } = JSON.parse(JSON.stringify(hello.limits ?? {}, (_, v) => (typeof v === "bigint" ? Number(v) : v ?? undefined)));
      this.id = hello.session ?? "";
      this.peer = { window: hello.window ?? 0, max_calls, max_batch, max_held, max_value: max_held ? Math.min(max_value, max_held) : max_value }; // HELLO-11
    }
    this.token = (hello.resume_window && hello.token) || null;
    this.resumeWindow = this.token === null ? 0 : Number(hello.resume_window);
    this.heartbeat = hello.heartbeat?.map(Number);
    this.expiry?.();
    this.up = true;
    this.openedAt = now();
    this.progress = this.received + this.acked;
    this.links = [];
    this.ackedOut = this.received;
    // The ack is first (ACK-1); then the numbered frames go again, with the very same bytes (RESUME-4).
    const { add, ship } = core.writer(ws);
    add(core.list(core.raw(["ack", this.received])));
    for (const [part] of this.replay) add(part);
    ship();
    core.opened(resuming);
    this.beat();
    this.turn(this.openings);
  },
  acknowledged(n, code) {
    if (n > this.sent || n < this.acked) throw violation(`an ack of ${n} out of ${this.sent}`, code); // ACK-3
    for (const [, size] of this.replay.splice(0, n - this.acked)) this.replayBytes -= size;
    this.acked = n;
    this.wake();
  },
  goaway(body) {
    const first = !this.draining;
    this.draining = true;
    for (const call of this.calls()) {
      if (call.id <= body.last_id || !str(call.method) || call.parent?.wire === this) continue; // DRAIN-2
      call.closed();
      this.core.retry(call, failure("unavailable", DRAINING, true), true); // GOAWAY-2
    }
    if (first) this.core.drains(this, Number(body.reconnect_after ?? 0));
  },
  /** A call of the server's; `partly`: its arguments are still to come. */
  accept([kind, id, method, args, given], partly) {
    const { core } = this;
    const options = given ?? {}, uploads = Object.entries(options.uploads ?? {});
    const more = [...uploads.map((one) => one[1]), ...Object.values(options.callbacks ?? {})];
    if (id & 1 || id <= this.peerId || more.length > 15 || new Set(more).size < more.length || more.some((one) => one & 1 || one <= id)) throw violation(`the server opened id ${id} wrongly`); // ID-1 to 3
    const named = str(method), offer = named ? undefined : this.ids.get(method), credit = Number(options.credit ?? this.peer.window);
    if ((more.length && (kind === "notify" || !named)) || credit > MAX_INT) throw violation(`a ${kind} with wrong options`); // NOTIFY-2, CB-1, CREDIT-6
    if (!named && (offer ? !offer.live : !(method & 1))) throw violation(`${method} is no callback`); // CB-4
    if (!named && !offer) this.opened(method);
    this.peerId = Math.max(id, ...more);
    let busy = 0;
    for (const one of this.ids.values()) if (one.invocations && !one.offer) busy++;
    const run = offer ? (/** @type {any} */ list) => offer.run(...list) : named && core.find(method);
    const serving = make(Serving, { ...source(this, id), kind, options, offer, run, name: offer ? offer.name : method, balance: credit, abort: new AbortController(), invocations: new Set(), incoming: [] });
    this.ids.set(id, serving);
    if (options.timeout != null) {
      serving.deadline = now() + Number(options.timeout);
      serving.timer = after(Number(options.timeout), () => serving.cancel("deadline_exceeded"), true);
    }
    for (const [name, upload] of uploads) {
      const incoming = make(Incoming, { takes: "message end error", wire: this, id: upload, name });
      incoming.stream = new Stream(incoming, core.window);
      this.ids.set(upload, incoming);
      serving.incoming.push(incoming);
    }
    if (!named && !offer) serving.refuse("failed_precondition", "the callback's call is over");
    else if (offer ? offer.live.size >= 8 : busy >= core.maxCalls) serving.refuse("resource_exhausted", "too many calls at a time", { not_started: true }); // CB-2, SLOT-4
    else if (sizeOf([options.key, options.last_id, ...Object.entries(options.metadata ?? {})].join("")) > 1.1 * QUANTUM) serving.refuse("resource_exhausted", "too much metadata"); // CALL-9
    else if (!run) serving.refuse("unimplemented", `there is no method ${method.slice(0, 200)} here`, { data: { near: core.near(method) } });
    else {
      offer?.live.add(serving);
      if (!partly) serving.complete(args);
    }
    return serving;
  },
  calls() {
    return [...this.ids.values()].filter((one) => one.inbox);
  },
  /** It is over for good, and its calls and streams are told so; returns the calls that were live. */
  end({ code, reason }) {
    this.quiet();
    this.open = false;
    this.redial?.();
    this.expiry?.();
    const error = failure("unavailable", `the session ended: ${code} ${reason}`);
    const live = [...this.calls(), ...this.urgent];
    for (const call of live) {
      call.closed();
      call.slot = false;
    }
    for (const one of this.ids.values()) one.invocations ? one.cancel() : one.finish?.(error);
    this.ids.clear();
    this.urgent = [];
    for (const one of this.starved) one.wake();
    return live.filter((/** @type {any} */ call) => str(call.method) || call.settle(error));
  },
};
const TOO_LARGE = "wsrpc.size";
const DRAINING = "the server is draining";

/** Browsers take 1000 and 3000 to 4999 alone. @param {any} ws @param {number} code @param {string} reason */
function closeSocket(ws, code, reason) {
  try {
    ws.close(code === 1000 || code >= 3000 ? code : 4000, reason.replace(/[^ -~]/g, "?").slice(0, 120));
  } catch {
    // It is gone already.
  }
}

// --- The work of a session, kept out of its public face

/** @type {Methods} */
const Core = {
  listen(how) {
    for (const name of ["online", "pageshow"]) G[how]?.(name, this.onWake);
    G[how]?.("pagehide", this.onHide);
    for (const name of ["visibilitychange", "resume"]) G.document?.[how](name, this.onWake);
  },
  begin() {
    const wire = (this.wire = newWire(this));
    this.listen("addEventListener");
    queueMicrotask(() => wire.open && wire.dial()); // A session that is closed at once opens no socket.
  },
  raw(elements) {
    return elements.map((/** @type {any} */ one) => this.codec.encode(one));
  },
  encode(value) {
    return this.codec.encode(clean(value, this.codec.binary));
  },
  list(parts) {
    return this.codec.list(parts);
  },
  /** Batches of up to 64 KiB (OUT-1). */
  writer(ws) {
    /** @type {any[]} */ let parts = [];
    let size = 5;
    const ship = () => {
      const some = parts.length;
      if (some) ws.send(this.list(parts));
      parts = [];
      size = 5;
      return some;
    };
    const add = (/** @type {any} */ part) => {
      const n = this.codec.size(part);
      if (size + n + 1 > KIB64) ship();
      this.seen(true, part);
      parts.push(part);
      size += n + 1;
      return n;
    };
    return { add, ship };
  },
  /** A frame, whole and as the head of a value in chunks; `wrap` puts the value, or null, in its place. */
  frame(head, value, wrap = same, tail, commit) {
    const first = this.raw(head), whole = wrap(value);
    const build = (/** @type {any} */ middle, /** @type {any[]} */ ...end) => this.list([...first, ...(middle === undefined ? [] : [middle]), ...tail, ...end]);
    return { inline: build(whole), value, sized: (/** @type {number} */ size) => build(wrap(this.null), ...this.raw([size])), commit };
  },
  errorFrame(id, { data, ...rest }, commit) {
    /** @type {any} */ let value;
    try {
      if (data != null) value = this.encode(data);
      if (value) this.wire.mustFit(this.codec.size(value) + 4000);
    } catch {
      value = data = undefined; // It goes without data that cannot go (VALUE-7).
    }
    return this.frame(["error", id], value, (/** @type {any} */ one) => this.encode(one === this.null || data == null ? rest : { ...rest, data }), [], commit);
  },
  /** The parts of an error that cross (ERROR-2, ERROR-3). */
  describe(error, where) {
    const { code, message, data, type, retryAfter } = error ?? G;
    if (error instanceof RpcError) return { code, message: String(message), data, ...(type && type !== TOO_LARGE && { type }), ...(int(retryAfter) && { retry_after: retryAfter }) };
    const error_id = Math.random().toString(36).slice(2);
    if (where) console.error(`wsrpc: ${where} failed (error id ${error_id})`, error);
    return { code: "internal", message: "internal error", error_id };
  },
  tell() {
    const { state, since, attempt, nextAt, lastClose, draining, resumes } = this;
    this.snapshot = Object.freeze({ state, since, attempt, ...(nextAt && { nextAttemptAt: nextAt }), ...(lastClose && { lastClose }), draining, resumes });
    Object.assign(this.session, { state, id: this.wire?.id, lastClose, links: this.links, resumes, draining, snapshot: this.snapshot });
    for (const listener of [...this.listeners]) safely(listener, this.snapshot);
    this.session.dispatchEvent(new Event("state"));
  },
  become(state) {
    if (this.state !== state) this.since = Date.now();
    this.state = state;
    if (state === "open" || state === "closed") for (const { resolve, reject } of this.readiness.splice(0)) state === "open" ? resolve() : reject(this.why());
    this.tell();
  },
  seen(sent, part) {
    if (this.options.trace) this.show(sent, this.codec.decode(this.codec.unite([part])));
  },
  show(sent, frame) {
    const { trace, traceSecrets } = this.options;
    if (!trace) return;
    const [name, body] = frame;
    if (!traceSecrets && name === "auth") frame = [name, "…"];
    if (!traceSecrets && name === "hello" && obj(body)) frame = [name, { ...body, ...(body.auth != null && { auth: "…" }), ...(body.token != null && { token: "…" }) }];
    safely(trace, sent, frame, Date.now());
  },
  error(prefix, notStarted, close) {
    const { code, reason } = close ?? this.lastClose;
    return failure(code === 4501 || code === 4503 ? "unauthenticated" : "unavailable", `the session ${prefix}: ${code} ${reason}`, notStarted);
  },
  why() {
    return this.closedByApplication ? failure("cancelled", "closed by the application", true) : this.error("is closed", true);
  },
  whyWaiting() {
    if (this.state !== "open") return "; there is no connection";
    const unread = this.wire.calls().filter((/** @type {any} */ call) => call.streaming && !call.inbox.read).length;
    return `; no slot was free: ${this.wire.used} open, ${unread} unread`;
  },
  warnUnread(method) {
    if (!this.warned) console.warn(`wsrpc: nobody reads the stream of ${method}; it holds a slot`);
    this.warned = true;
  },
  wires() {
    return [this.wire, ...this.old];
  },
  async credentials() {
    const { auth, attempt, lastClose } = this;
    if (typeof auth !== "function") return auth;
    const abort = new AbortController();
    /** @type {any} */ let stop;
    const late = new Promise((_, reject) => (stop = after(PATIENCE, () => {
      abort.abort();
      reject(new Error("no credentials within 10 s"));
    }, true)));
    this.noAuth = () => abort.abort();
    try {
      return await Promise.race([auth({ signal: abort.signal, attempt, lastClose }), late]);
    } finally {
      stop();
    }
  },
  opened(resumed) {
    this.links++;
    if (resumed) this.resumes++;
    this.attempt = this.denied = 0;
    this.lastAuth = now();
    this.become("open");
  },
  /** The next attempt to reach a server (RETRY-2), after `floor` milliseconds at least. */
  later(wire, floor) {
    const { code, reason } = this.lastClose;
    if (this.options.reconnect === false) return this.shut(code, reason);
    // A page cannot tell a server that is down from one that refuses it (BROWSER-6).
    if (!this.everOpen && this.failures >= 2) return this.shut(code, `${reason || "no connection"}: gave up after 3 attempts: ${this.url} is down, is no server of wsrpc, or refuses this page's origin (origins=)`);
    const bound = Math.min(15000, 900 * 2 ** this.failures++);
    const delay = floor ? floor + Math.random() * 1000 : Math.random() * bound;
    this.nextAt = Date.now() + delay;
    wire.redial = after(delay, () => wire.dial());
    if (G.document?.hidden && this.failures === 1 && !floor && !this.kept) wire.dial(); // BROWSER-3
    if (wire === this.wire && !this.old.size) this.become(this.links ? "lost" : "connecting");
    else this.tell();
  },
  /** A session of the wire has ended; another one takes its place. */
  move(wire, close, atOnce) {
    const live = wire.end(close);
    this.old.delete(wire);
    this.draining = this.old.size > 0;
    if (wire === this.wire) {
      this.lastClose = close;
      if (this.options.reconnect === false) this.shut(close.code, close.reason);
      else {
        const next = (this.wire = newWire(this));
        if (atOnce) this.become("lost"), next.dial();
        else this.later(next, 0);
      }
    } else this.become(this.wire.up ? "open" : "lost");
    for (const call of live) this.retry(call, this.error("ended", !call.id, close), true);
    this.idle();
  },
  /** The server wants to go: running calls go on there, and new calls begin in another session (DRAIN-4). */
  drains(wire, floor) {
    this.draining = true;
    if (this.options.reconnect === false) for (const call of this.waiting.splice(0)) this.start(call); // No other session is for them (GOAWAY-2).
    else if (wire === this.wire) {
      this.old.add(wire);
      this.wire = newWire(this);
      this.failures = 0;
      this.lastClose ??= { code: 1012, reason: DRAINING };
      return this.later(this.wire, Math.max(1, floor));
    }
    this.tell();
  },
  /** The page is back, or the network: do not wait for a timer that a hidden tab has delayed. */
  poke() {
    if (G.document?.hidden) return;
    for (const wire of this.wires()) {
      if (wire.up) wire.beat();
      else if (wire.redial) wire.dial();
    }
  },
  /** The end; resolves when the sockets are closed. */
  async shut(code, reason) {
    if (this.state === "closed") return;
    this.lastClose = { code, reason };
    this.nextAt = undefined;
    this.noAuth?.();
    this.listen("removeEventListener");
    const closing = [], failed = this.waiting.splice(0);
    for (const wire of this.wires()) {
      const { ws } = wire;
      failed.push(...wire.end(this.lastClose));
      if (!ws || ws.readyState > 2) continue;
      closing.push(new Promise((resolve) => {
        after(2000, () => resolve(0), true);
        ws.onclose = ws.onerror = resolve;
        ws.onmessage = ws.onopen = null;
      }));
      closeSocket(ws, code, reason);
    }
    this.old.clear();
    this.draining = false;
    this.become("closed");
    for (const call of failed) call.settle(this.error("ended", !call.id && !call.mayHaveRun));
    this.idle();
    await Promise.all(closing);
  },
  /** Code that waits for the last call is told. */
  idle() {
    if (this.idlers.length && !this.waiting.length && this.wires().every((/** @type {any} */ wire) => ![...wire.ids.values()].some((one) => one.takes))) for (const one of this.idlers.splice(0)) one();
  },

  call(method, args, options = {}, facts, parent) {
    const call = newCall(this, method, args, options, facts, parent);
    if (!call.done) this.start(call);
    return call;
  },
  start(call) {
    const { wire, id } = call.parent ?? {};
    if (this.state === "closed" || this.closing) return call.settle(this.why());
    if (wire?.open && wire.ids.has(id)) {
      // It never waits for a slot, lest a ring of calls waits for itself (SLOT-3).
      if (wire.used >= wire.peer.max_calls) return call.settle(failure("resource_exhausted", `${call.method}: no slot is free for a call made by a handler`, true));
      wire.used++;
      call.slot = true;
      return wire.begin(call);
    }
    if (this.wire.draining && this.options.reconnect === false) return call.settle(failure("unavailable", DRAINING, true));
    // At most 65,536 calls and 64 MiB of them may wait.
    if (this.waiting.length >= KIB64 || (this.waiting.length && this.waitingBytes + call.size > 64 * MIB)) return call.settle(failure("resource_exhausted", `${call.method}: ${this.waiting.length} calls wait already`, true));
    call.waits = true;
    this.waitingBytes += call.size;
    this.waiting.push(call);
    this.wire.turn(this.wire.openings);
  },
  /** It does not wait any more. */
  forget(call) {
    const at = call.waits ? this.waiting.indexOf(call) : -1;
    if (at >= 0) this.waiting.splice(at, 1);
    this.went(call);
  },
  went(call) {
    if (call.waits) this.waitingBytes -= call.size;
    call.waits = false;
    queueMicrotask(() => this.idle());
  },
  /** A call has failed: make it again, where that is safe (RETRY-1), or tell the application. */
  retry(call, error, moved) {
    const { code, notStarted, retryAfter } = error;
    const left = call.deadline - now();
    if (!notStarted) call.mayHaveRun = true;
    const again = () => {
      if (call.done) return;
      Object.assign(call, { id: 0, streaming: false, pumps: [] });
      this.start(call);
    };
    const repeatable = code === "unavailable" ? notStarted || call.idempotent : code === "resource_exhausted" && notStarted;
    if (repeatable && !call.done && this.state !== "closed" && !call.pumps.some((/** @type {any} */ pump) => pump.iterator) && (!call.delivered || call.tracked) && left > 0) {
      if (moved && notStarted) return again(); // It has cost the other side nothing.
      // All calls have 1,000 tokens for repeats together; below half of them nothing is repeated.
      this.tokens = Math.max(0, Math.min(1000, this.tokens + (this.sent - this.spentSent + (now() - this.spentAt) / 1000) / 10) - 1);
      this.spentSent = this.sent;
      this.spentAt = now();
      const delay = retryAfter === undefined ? Math.random() * Math.min(5000, 100 * 2 ** (call.attempts - 1)) : retryAfter + Math.random() * 100;
      if (call.attempts < 5 && this.tokens > 500 && delay < left) {
        call.attempts++;
        return void after(delay, again);
      }
    }
    if (call.mayHaveRun) error.notStarted = false;
    call.settle(error);
  },
  clientize(which, options, parent) {
    const named = str(which);
    if (!named && !(str(which?.name) && obj(which.methods))) throw new TypeError("clientize takes a controller's name or constant");
    if (options) checkOptions(options, "clientize", { ...CALL_OPTIONS, streamFetcher: isFunction });
    const cached = !options && !parent && this.clients.get(which);
    if (cached) return cached;
    const { streamFetcher: fetcher, ...common } = options ?? {};
    const controller = named ? which : which.name;
    const method = (/** @type {string} */ wire, /** @type {any} */ facts) => (/** @type {any} */ args, /** @type {any} */ more = {}) => {
      const given = isPlain(more) ? { ...common, ...more } : more;
      const plain = () => this.call(`${controller}.${wire}`, args, given, facts, parent);
      const { kind } = facts;
      if (kind === "unary" || kind === "notify") return plain().promise;
      /** @type {any} */ let stream, promise;
      if (fetcher) {
        const request = (/** @type {any} */ args) => Object.freeze({ controller, method: wire, args, options: given, withArgs: (/** @type {any} */ changed) => request({ ...args, ...changed }) });
        const fetch = (/** @type {StreamRequest} */ one) => new Fetched(() => this.call(`${one.controller}.${one.method}`, one.args, one.options, { ...facts, kind: "stream" }, parent).stream);
        stream = new Fetched(() => fetcher(request(args ?? {}), fetch));
        promise = () => plain().promise;
      } else {
        const call = plain();
        stream = call.stream;
        promise = () => call.promise;
      }
      // Its kind is not known: await it for its value, or iterate over it.
      if (!kind) for (const name of ["then", "catch", "finally"]) stream[name] = (/** @type {any[]} */ ...with_) => promise()[name](...with_);
      return stream;
    };
    /** @type {any} */ const api = {};
    if (named) {
      const made = new Map();
      return new Proxy(Object.freeze(api), {
        get: (_, name) => {
          const key = /** @type {any} */ (name);
          if (!str(key) || RESERVED.has(key) || key.startsWith("__")) return undefined;
          if (!made.has(key)) made.set(key, method(snake(key), {}));
          return made.get(key);
        },
      });
    }
    const own = Object.entries(which.methods).filter(([name]) => !RESERVED.has(name) && !name.startsWith("__"));
    for (const [name, facts] of own) api[name] = method(/** @type {any} */ (facts).wire ?? name, facts);
    // The other spelling works as well, unless it is another method's.
    for (const [name, facts] of own) {
      for (const other of [/** @type {any} */ (facts).wire ?? name, camel(name)]) if (!(other in api)) Object.defineProperty(api, other, { value: api[name] });
    }
    if (!options && !parent) this.clients.set(which, api);
    return Object.freeze(api);
  },

  expose(controllers) {
    for (const [key, one] of Object.entries(controllers)) {
      const name = list(controllers) ? one.controllerName ?? one.constructor?.controllerName ?? one.constructor?.name : key;
      if (!str(name) || /^(|Object|wsrpc.*)$/.test(name)) throw new TypeError("a controller needs a name that does not begin with wsrpc: {Name: controller}"); // REFLECT-2
      this.controllers.set(name, one);
    }
  },
  /** A getter is no method, and is not run to find that out. */
  has(controller, name) {
    for (let at = controller; name[0] !== "_" && !(name in Object.prototype) && at; at = Object.getPrototypeOf(at)) {
      const one = Object.getOwnPropertyDescriptor(at, name);
      if (one) return isFunction(one.value);
    }
    return false;
  },
  find(method) {
    const { reflection, fallback } = this.options;
    if (method === "wsrpc.reflection.describe" && reflection !== false) return (/** @type {any} */ args) => this.contract(args);
    const dot = method.lastIndexOf("."), controller = this.controllers.get(method.slice(0, dot)), name = method.slice(dot + 1);
    const found = controller && [name, camel(name)].find((one) => one && this.has(controller, one));
    if (found) return (/** @type {any} */ args, /** @type {any} */ ctx) => controller[found](args, ctx);
    return fallback && ((/** @type {any} */ args, /** @type {any} */ ctx) => fallback(method, args, ctx));
  },
  methods(controller) {
    const names = new Set();
    for (let at = controller; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
      for (const name of Object.getOwnPropertyNames(at)) if (this.has(controller, name)) names.add(name);
    }
    return [...names];
  },
  /** Names that resemble one that is not there (ERROR-5). */
  near(method) {
    this.hints = Math.min(20, this.hints + (now() - this.hintedAt) / 200);
    this.hintedAt = now();
    if (method.length > 200 || this.hints < 1) return [];
    this.hints--;
    const all = [...this.controllers].flatMap(([name, one]) => this.methods(one).map((/** @type {any} */ m) => `${name}.${snake(m)}`));
    return all.map((name) => [likeness(method, name), name]).filter(([like]) => like >= 0.6).sort((a, b) => b[0] - a[0]).slice(0, 3).map((one) => one[1]);
  },
  /** The answer to `wsrpc.reflection.describe` (REFLECT-1); JavaScript knows names, but no types. */
  contract(args) {
    for (const name in args) throw invalid([name], "no such argument"); // CALL-3
    /** @type {any} */ const controllers = {};
    for (const [name, one] of this.controllers) {
      /** @type {any} */ const methods = {};
      for (const method of this.methods(one)) {
        const text = Function.prototype.toString.call(one[method]);
        const stream = /^(async\s*)?(function\s*)?\*/.test(text);
        /** @type {any} */ const params = {};
        for (const param of /^[^(]*\(\s*\{([\w\s,$=:'".]*)\}/.exec(text)?.[1].split(",") ?? []) {
          const found = /^\s*([\w$]+)[^=]*(=?)/.exec(param);
          if (found) put(params, found[1], { kind: "value", required: !found[2], schema: {} });
        }
        put(methods, snake(method), { kind: stream ? "stream" : "unary", doc: "", params, [stream ? "item" : "result"]: {} });
      }
      put(controllers, name, { name, doc: "", methods });
    }
    return { version: 1, controllers };
  },
};

/** The conversation with one server. It outlives lost connections; a `state` event tells of each change. */
export class Session extends EventTarget {
  /** @readonly @type {State} */ state = "connecting";
  /** The state of the session: frozen, and another object after each change. Times are those of `Date.now()`. @readonly @type {Snapshot} */ snapshot = /** @type {any} */ (0);
  /** The public name of the session on the wire. @readonly @type {string} */ id = "";
  /** Why the last connection closed. @readonly @type {Close|undefined} */ lastClose;
  /** Connections so far. @readonly @type {number} */ links = 0;
  /** How often the session went on over another connection. @readonly @type {number} */ resumes = 0;
  /** Whether the server finishes its calls and then goes. @readonly @type {boolean} */ draining = false;
  /** @internal @type {any} */
  _;
  /** @internal @param {string} url @param {ConnectOptions} options @param {any} Socket */
  constructor(url, options, Socket) {
    super();
    const { codec = json, auth, window = 32, timeout = 30000, maxCalls = 256, maxValue = 16 * MIB } = options;
    const core = (this._ = make(Core, {
      session: this, url, options, Socket, codec, auth, window, timeout, maxCalls, maxValue,
      null: codec.encode(null), state: "connecting", since: Date.now(), attempt: 0, failures: 0, denied: 0, draining: false, links: 0, resumes: 0, sent: 0, lastAuth: -Infinity, tokens: 1000, spentAt: now(), spentSent: 0, hints: 20, hintedAt: 0,
      waiting: [], waitingBytes: 0, old: new Set(), controllers: new Map(), readiness: [], listeners: new Set(), clients: new WeakMap(), idlers: [],
    }));
    core.onWake = () => core.poke();
    core.onHide = (/** @type {any} */ event) => {
      // BROWSER-4: one that may come back is detached, and dials when it is shown again.
      core.kept = event.persisted;
      if (core.kept) this.cut();
      else core.shut(1000, "the page was left");
      core.kept = false;
    };
    core.expose(options.controllers ?? []);
    core.begin();
    core.tell();
    /** Calls a function with the snapshot, at once and after each change; returns a function that ends that. */
    this.subscribe = (/** @type {(snapshot: Snapshot) => void} */ listener) => {
      const one = (/** @type {Snapshot} */ snapshot) => listener(snapshot);
      core.listeners.add(one);
      one(core.snapshot);
      return () => void core.listeners.delete(one);
    };
  }
  /** Resolves when the server has let this side in; rejects when it never will. @returns {Promise<void>} */
  ready() {
    const { state, readiness } = this._;
    if (state === "closed") return Promise.reject(this._.why());
    return state === "open" ? Promise.resolve() : new Promise((resolve, reject) => readiness.push({ resolve, reject }));
  }
  /**
   * A client for a controller of the server's.
   * @template T
   * @overload
   * @param {Controller<T>} which The constant that `wsrpc gen ts` wrote.
   * @param {ClientOptions} [options]
   * @returns {T}
   */
  /**
   * @template [T=any]
   * @overload
   * @param {string} which Its name; the calls of its methods can be awaited and iterated over.
   * @param {ClientOptions} [options]
   * @returns {T}
   */
  /** @param {any} which @param {ClientOptions} [options] @returns {any} */
  clientize(which, options) {
    return this._.clientize(which, options);
  }
  /** Call by full name, for one value. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Promise<any>} */
  call(method, args, options) {
    return this._.call(method, args, options, { kind: "unary" }).promise;
  }
  /** The same for a stream. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Stream<any, any>} */
  stream(method, args, options) {
    return this._.call(method, args, options, { kind: "stream" }).stream;
  }
  /** The same without an answer; resolves when it is on its way. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Promise<void>} */
  notify(method, args, options) {
    return this._.call(method, args, options, { kind: "notify" }).promise;
  }
  /** Let the server call these. @param {object[]|Record<string, object>} controllers */
  expose(controllers) {
    this._.expose(controllers);
  }
  /** Show fresh credentials on the live connection; at most once in 2 s (AUTH-2). @returns {Promise<void>} */
  async refreshAuth() {
    const core = this._;
    const at = (core.lastAuth = Math.max(now(), core.lastAuth + 2000));
    await new Promise((go) => after(at - now(), () => go(0), true));
    const auth = clean(await core.credentials(), core.codec.binary);
    for (const wire of core.wires()) if (wire.up) wire.linkFrame(["auth", auth]);
  }
  /** Drop the connection, as a failing network would; the session goes on. */
  cut() {
    for (const wire of this._.wires()) {
      const { ws } = wire;
      if (ws) closeSocket(ws, 4000, "cut"), wire.lost(ws, 1006, "cut");
    }
  }
  /** End the session. @param {{drain?: number}} [options] Milliseconds that calls under way may still take; new ones fail. @returns {Promise<void>} */
  async close({ drain = 0 } = {}) {
    const core = this._;
    core.closedByApplication ||= core.state !== "closed";
    if (drain > 0 && core.state !== "closed") {
      core.closing = true;
      await new Promise((resolve) => {
        core.idlers.push(resolve);
        after(drain, () => resolve(0), true);
        core.idle();
      });
    }
    await core.shut(1000, "closed by the application");
  }
  [Symbol.asyncDispose]() {
    return this.close();
  }
  /** Begin anew after the end; clients and controllers stay good. @param {{auth?: ConnectOptions["auth"]}} [options] @returns {Promise<void>} As `ready` does. */
  reopen(options) {
    const core = this._;
    if (options && "auth" in options) core.auth = options.auth;
    if (core.state === "closed") {
      core.closedByApplication = core.closing = core.everOpen = false;
      core.failures = core.attempt = core.denied = 0;
      core.begin();
      core.become("connecting");
    }
    return this.ready();
  }
}

/**
 * Begin a session. It is there at once; calls wait for the connection, within their deadlines.
 * @param {string|URL} [url] `ws://host:port/path`, the same with http, or one relative to the page, such as `/rpc/`; `.` if it is left out.
 * @param {ConnectOptions} [options]
 * @returns {Session}
 * @throws {TypeError} A bad URL or option, or no WebSocket.
 */
export function connect(url = ".", options = {}) {
  if (str(/** @type {any} */ (options)?.codec)) throw new TypeError('codec: import { msgpack } from "./wsrpc-msgpack.js"');
  checkOptions(options, "connect", CONNECT_OPTIONS, TypeError);
  if (/^\[object /.test(`${url}`)) throw new TypeError('connect(url, options): the URL comes first, such as "."');
  /** @type {any} */ let at;
  try {
    at = new URL(url, G.document?.baseURI ?? G.location?.href);
  } catch {
    throw new TypeError(`${url} is no URL here`);
  }
  at.protocol = at.protocol.replace("http", "ws");
  at.hash = "";
  if (!/^wss?:/.test(at)) throw new TypeError(`${at} is no URL of a WebSocket`);
  const Socket = options.WebSocket ?? G.WebSocket;
  if (!Socket) throw new TypeError("no WebSocket; Node < 22: pass {WebSocket}");
  return new Session(at.href, options, Socket);
}
