// wsrpc: calls and streams both ways over one WebSocket. Browsers, Node, Deno, Bun; no dependencies.
// The rules are those of protocol.md, whose ids stand in the comments.
// @ts-check

/** @typedef {"cancelled"|"unknown"|"invalid_argument"|"deadline_exceeded"|"not_found"|"already_exists"|"permission_denied"|"resource_exhausted"|"failed_precondition"|"aborted"|"out_of_range"|"unimplemented"|"internal"|"unavailable"|"data_loss"|"unauthenticated"} Code */
/** @typedef {"connecting"|"open"|"lost"|"closed"} State */
/** @typedef {"block"|"latest"|"drop_oldest"|"fail"} Overflow What becomes of items that the consumer does not take in time. */
/** @typedef {{code: number, reason: string}} Close */
/** @typedef {{readonly state: State, readonly since: number, readonly attempt: number, readonly nextAttemptAt?: number, readonly lastClose?: Close, readonly draining: boolean, readonly resumes: number}} Snapshot Times are those of `Date.now()`. */

/**
 * @typedef {object} CallOptions
 * @property {number|null} [timeout] Milliseconds for the whole call; 30,000 for a value and none for a stream where left out.
 * @property {number} [idleTimeout] Milliseconds that a stream may let its consumer wait for an item.
 * @property {AbortSignal} [signal] Cancels the call, on the far side too; the call rejects with its reason.
 * @property {Record<string, string>} [metadata] Travels with the call.
 * @property {string} [key] Idempotency key, for the handler.
 * @property {number} [window] Items that the far side may be ahead of the consumer, at first.
 * @property {Overflow} [overflow] `block` where left out: the far side waits.
 * @property {boolean} [idempotent] Calling twice does no harm: made again after a lost session.
 */
/** @typedef {CallOptions & {streamFetcher?: StreamFetcher}} ClientOptions */
/** @typedef {{readonly controller: string, readonly method: string, readonly args: Record<string, any>, readonly options: CallOptions, withArgs(changed: Record<string, any>): StreamRequest}} StreamRequest */
/** @typedef {(request: StreamRequest, fetch: (request: StreamRequest) => Stream<any, any>) => AsyncIterable<any>} StreamFetcher May fetch never, once or often; nothing is sent before the first item is asked for. */

/**
 * @typedef {object} ConnectOptions
 * @property {unknown|((about: {signal: AbortSignal, attempt: number, lastClose?: Close}) => unknown)} [auth] Credentials, or a function that gives them within 10 s; asked before each attempt. Only an RpcError `unauthenticated` or `permission_denied` that it throws ends the session.
 * @property {Array<object>|Record<string, object>} [controllers] What the server may call here.
 * @property {(method: string, args: any, ctx: CallContext) => unknown} [fallback] Answers every other method.
 * @property {boolean} [reflection] Whether the server may ask what there is; true where left out.
 * @property {Codec} [codec] JSON where left out; or `msgpack` of wsrpc-msgpack.js.
 * @property {boolean} [reconnect] Whether to come back after a lost connection; true where left out.
 * @property {number|null} [timeout] Milliseconds of a call for one value, 30,000 where left out; null: none.
 * @property {Record<string, string>} [metadata] Travels with each call.
 * @property {number} [window] Items. The credit with which streams to this side begin; 32.
 * @property {number} [maxCalls] Calls of the server that may run here at a time; 256.
 * @property {number} [maxValue] Bytes. The largest value taken; 16 MiB.
 * @property {(sent: boolean, frame: any[], at: number) => void} [trace] Sees every frame, credentials and tokens blanked.
 * @property {boolean} [traceSecrets] Shows those as well.
 * @property {any} [WebSocket] Another implementation.
 */
/**
 * @typedef {object} CallContext
 * @property {Session} session
 * @property {AbortSignal} signal Fires when the caller cancels, or is gone, or the time is over.
 * @property {Record<string, string>} metadata
 * @property {string} [key]
 * @property {string} [lastId] Where a reopened stream should go on.
 * @property {number} [deadline] By `performance.now()`.
 * @property {Session["clientize"]} clientize The session's, for calls made on behalf of this one.
 */
/** @typedef {{readonly kind: "unary"|"stream"|"notify", readonly wire?: string, readonly idempotent?: boolean, readonly tracked?: boolean, readonly bytes?: boolean}} MethodFacts What cannot be seen on the wire: `tracked` items are `[id, value]` there, and `bytes` are text in JSON. */
/**
 * What `wsrpc gen ts` writes for a controller.
 * @template T
 * @typedef {{readonly name: string, readonly methods: Readonly<Record<string, MethodFacts>>, readonly _?: T}} Controller
 */
/**
 * What an upload parameter takes.
 * @template T
 * @typedef {AsyncIterable<T> | Generator<T, any, any> | ReadableStream<T> | ([Uint8Array] extends [T] ? Blob : never)} Upload
 */
/** @typedef {any} Part A piece of an encoded message: a string, or bytes. */
/** @typedef {{readonly protocol: string, readonly binary: boolean, encode(value: any): Part, decode(data: any): any, size(part: Part): number, list(parts: Part[]): Part, bytes(part: Part): Uint8Array, piece(bytes: Uint8Array): Part, unite(pieces: Part[]): Part}} Codec How values become messages. */

const SAFE = Number.MAX_SAFE_INTEGER;
const KIB64 = 65536;
const PIECE = 24 * 1024; // In JSON it is escaped once more, 48 KiB at most, so that it fits every max_batch.
const QUANTUM = 16 * 1024; // Bytes that an id may send before the next one has its turn (OUT-2).
const AHEAD = 128 * 1024; // Bytes that may wait inside of the WebSocket (OUT-1).
const OUTBOX = 1024 * 1024; // Bytes of encoded items that may wait here, and of frames kept for a resume.
const MAX_BATCH = 256 * 1024;
const MAX_CREDIT = 2 ** 31 - 1;
const MAX_WAITING = 65536; // Calls that may wait for a slot or a connection, and their bytes in all:
const MAX_WAITING_BYTES = 64 * 1024 * 1024;
const MAX_METADATA = 16 * 1024;
const HELLO_TIME = 10000; // Also for `auth`, and for a socket that takes no byte (OUT-4).
const FINAL = "the session is closed";
const CODES = new Set(
  ("cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted " +
    "failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated").split(" "),
);
const OPTIONS = new Set("timeout idleTimeout signal metadata key window overflow idempotent streamFetcher".split(" "));
// Names that frameworks, loggers and `await` look for: never methods of a proxy.
const RESERVED = new Set("then catch finally toJSON toString valueOf constructor inspect $$typeof nodeType asymmetricMatch".split(" "));
const G = /** @type {any} */ (globalThis);
const now = () => performance.now();
const utf8 = new TextEncoder();
const nothing = () => {};

/** @param {symbol} brand @param {any} base @param {any} self @param {any} x */
const branded = (brand, base, self, x) => (self === base ? !!x?.[brand] : Function.prototype[Symbol.hasInstance].call(self, x));
const ERROR = Symbol.for("wsrpc.RpcError");
const STREAM = Symbol.for("wsrpc.Stream");

/** An error of a call: raised by the other side, or by this one on its behalf. */
export class RpcError extends Error {
  /** @param {any} x */
  static [Symbol.hasInstance](x) {
    return branded(ERROR, RpcError, this, x);
  }
  /**
   * @param {Code} code
   * @param {string} [message]
   * @param {unknown} [data]
   * @param {{type?: string, errorId?: string, notStarted?: boolean, retryAfter?: number, cause?: unknown}} [more]
   */
  constructor(code, message = "", data = undefined, more = {}) {
    super(message || code, "cause" in more ? { cause: more.cause } : undefined);
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
Object.defineProperty(RpcError.prototype, ERROR, { value: true });

/** @param {Code} code @param {string} message @param {boolean} [notStarted] @param {unknown} [cause] */
const failure = (code, message, notStarted, cause) => new RpcError(code, message, undefined, cause === undefined ? { notStarted } : { notStarted, cause });
/** @param {string} message @param {unknown} [cause] */
const misuse = (message, cause) => failure("invalid_argument", message, true, cause);

/** The other side broke the protocol; the link closes with this code. */
class Violation extends Error {
  /** @param {number} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** A timer that may be longer than the 2^31 ms of `setTimeout`; returns what ends it. @param {number} ms @param {() => void} run @param {boolean} [quiet] Keeps no process alive. */
function after(ms, run, quiet) {
  /** @type {any} */ let timer;
  const arm = () => {
    const step = Math.min(ms, MAX_CREDIT);
    ms -= step;
    timer = setTimeout(ms > 0 ? arm : run, step);
    if (quiet) timer.unref?.();
  };
  arm();
  return () => clearTimeout(timer);
}

// --- Values ----------------------------------------------------------------------------------------

/** Base64url of bytes, as they travel in JSON. @param {Uint8Array} bytes */
export function toBase64url(bytes) {
  let s = "";
  for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(s).replace(/\+/g, "-").replace(/\//g, "_");
}
/** The bytes of a base64url string. @param {string} text */
export function fromBase64url(text) {
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}
/** Bytes as they come in either codec. @param {string|Uint8Array} bytes */
export function toBytes(bytes) {
  return typeof bytes === "string" ? fromBase64url(bytes) : bytes;
}

/** Length in UTF-8. @param {string} text */
function bytesOf(text) {
  let n = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 127) n += c > 2047 && (c < 0xd800 || c > 0xdfff) ? 2 : 1;
  }
  return n;
}

/** @param {any} x An object of a literal, whichever window made it. */
function isPlain(x) {
  if (x === null || typeof x !== "object") return false;
  const proto = Object.getPrototypeOf(x);
  return proto === null || (Object.getPrototypeOf(proto) === null && Object.hasOwn(proto, "hasOwnProperty"));
}
/** @param {any} to @param {string} name @param {unknown} value */
const put = (to, name, value) => name === "__proto__" ? Object.defineProperty(to, name, { value, enumerable: true, configurable: true, writable: true }) : (to[name] = value);

/** Set while a value is cleaned that JSON.stringify would write as another one. */
let odd = false;
/** A copy of a value made of what travels (VALUE-1 to VALUE-3). @param {any} v @param {boolean} binary @param {number} [depth] @returns {any} */
function clean(v, binary, depth = 0) {
  switch (typeof v) {
    case "string":
      if (!(v.isWellFormed?.() ?? !/\p{Cs}/u.test(v))) throw new TypeError("a lone surrogate cannot travel");
      return v;
    case "number":
      if (!Number.isFinite(v)) throw new TypeError(`${v} cannot travel`);
      if (Math.abs(v) > SAFE) odd = true;
      return v;
    case "bigint":
      if (v < -(2n ** 63n) || v >= 2n ** 64n) throw new TypeError(`${v} is beyond 64 bits`);
      odd = true;
      return v;
    case "boolean": return v;
    case "undefined": return null;
    case "object": break;
    default: throw new TypeError(`a ${typeof v} cannot travel as a value`);
  }
  if (v === null) return null;
  if (v instanceof ArrayBuffer) v = new Uint8Array(v);
  if (ArrayBuffer.isView(v)) {
    const bytes = new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
    return binary ? bytes : toBase64url(bytes);
  }
  if (v instanceof Date && isNaN(+v)) throw new TypeError("an invalid Date cannot travel");
  if (typeof v.toJSON === "function") return clean(v.toJSON(), binary, depth);
  if (++depth > 100) throw new TypeError("it is nested more than 100 deep");
  if (v instanceof Set) v = [...v];
  if (Array.isArray(v)) return v.map((one) => clean(one, binary, depth));
  if (typeof v.then === "function") throw new TypeError("a promise cannot travel: await it first");
  /** @type {any} */ const made = {};
  for (const [key, one] of v instanceof Map ? v : Object.entries(v)) {
    if (one !== undefined) put(made, clean(String(key), binary), clean(one, binary, depth));
  }
  return made;
}
/** JSON with integers as they are, and floats beyond 2^64 in a form that is no integer. @param {any} v @returns {string} */
function exact(v) {
  if (typeof v === "bigint") return String(v);
  if (typeof v === "number" && Math.abs(v) > SAFE) return v >= -(2 ** 63) && v < 2 ** 64 ? String(BigInt(v)) : v.toExponential();
  if (Array.isArray(v)) return `[${v.map(exact)}]`;
  if (v === null || typeof v !== "object") return JSON.stringify(v);
  return `{${Object.entries(v).map(([k, x]) => `${JSON.stringify(k)}:${exact(x)}`)}}`;
}
/** Whether something that came is outside of the value space. @param {any} v @param {number} [depth] @returns {boolean} */
function outside(v, depth = 0) {
  if (typeof v === "number") return !Number.isFinite(v);
  if (typeof v !== "object") return v === undefined;
  if (v === null || v instanceof Uint8Array) return false;
  if (++depth > 100) return true;
  if (Array.isArray(v)) {
    for (const one of v) if (outside(one, depth)) return true;
  } else for (const key in v) if (outside(v[key], depth)) return true;
  return false;
}

/** @type {Codec} */
const json = {
  protocol: "wsrpc.v1.json",
  binary: false,
  encode: (value) => (odd ? exact(value) : JSON.stringify(value)),
  decode(data) {
    if (typeof data !== "string") throw new TypeError("not text");
    return JSON.parse(data);
  },
  size: bytesOf,
  list: (parts) => `[${parts}]`,
  bytes: (part) => utf8.encode(part),
  piece: (bytes) => new TextDecoder().decode(bytes),
  unite: (pieces) => pieces.join(""),
};

// --- The shape of frames (BATCH-3) -----------------------------------------------------------------

/** @typedef {(v: any) => boolean} Test */
/** @type {Test} */ const str = (v) => typeof v === "string";
/** @type {Test} */ const obj = (v) => v !== null && typeof v === "object" && !Array.isArray(v) && !(v instanceof Uint8Array);
/** @type {Test} */ const id = (v) => Number.isSafeInteger(v) && v > 0;
/** @param {number} [least] @param {number} [most] @returns {Test} */
const int = (least = 0, most = Infinity) => (v) => (typeof v === "bigint" || Number.isInteger(v)) && v >= least && v <= most;
/** @param {Test} test @returns {Test} */
const maybe = (test) => (v) => v == null || test(v);
/** @type {Test} */ const bool = (v) => typeof v === "boolean";
/** @param {Test} test @returns {Test} */
const every = (test) => (v) => obj(v) && Object.values(v).every(test);
/** @param {Record<string, Test>} fields @returns {Test} */
const shape = (fields) => {
  const all = Object.entries(fields);
  return (v) => obj(v) && all.every(([name, test]) => test(v[name]));
};
const ANY = () => true;
/** @param {any} v */ const isList = (v) => Array.isArray(v);
const anOptions = maybe(shape({
  timeout: maybe(int()), metadata: maybe(every(str)), credit: maybe(int()), uploads: maybe(every(id)), callbacks: maybe(every(id)),
  parent: maybe(int(-Infinity)), key: maybe(str), last_id: maybe(str),
}));
/** @type {Map<string, Test[]>} */
const SHAPES = new Map(Object.entries({
  hello: [shape({
    version: int(-Infinity), link: maybe(int(1)), token: maybe(str), received: maybe(int()), session: maybe(str), resumed: maybe(bool),
    resume_window: maybe(int()), window: maybe(int(0, MAX_CREDIT)), agent: maybe(str),
    heartbeat: maybe((v) => isList(v) && v.length > 1 && int(1000)(v[0]) && int(1000)(v[1])),
    limits: maybe(shape({ max_batch: maybe(int(KIB64)), max_calls: maybe(int(8)), max_value: maybe(int(KIB64)), max_held: maybe(int()) })),
    features: maybe((v) => isList(v) && v.every(str)),
  })],
  ack: [int()], ping: [int(0, SAFE)], pong: [int(0, SAFE)], auth: [ANY],
  goaway: [shape({ last_id: int(), grace: int(), reconnect_after: maybe(int()) })],
  call: [id, (v) => str(v) || id(v), ANY, anOptions],
  notify: [id, str, ANY, anOptions],
  message: [id, (v) => isList(v) && v.length > 0],
  result: [id, ANY],
  end: [id, maybe((v) => isList(v) && v.length === 1)],
  error: [id, shape({ code: str, message: str, type: maybe(str), error_id: maybe(str), not_started: maybe(bool), retry_after: maybe(int()) })],
  cancel: [id, maybe(str)],
  credit: [id, int(-Infinity)],
  chunk: [id, bool, ANY],
}));
const LINK = new Set("hello ack ping pong goaway auth".split(" "));
/** Where the size stands of a value that comes in chunks. @type {Record<string, number>} */
const SIZE_AT = { call: 5, notify: 5, message: 3, result: 3, end: 3, error: 3 };

/** @param {any} frame @param {Codec} codec @returns {boolean} Whether it is numbered. */
function checked(frame, codec) {
  const name = Array.isArray(frame) ? frame[0] : undefined;
  if (!str(name)) throw new Violation(4500, "no frame");
  const tests = SHAPES.get(name);
  if (!tests) {
    if (name.startsWith("x-")) return false;
    throw new Violation(4500, `there is no frame ${name.slice(0, 40)}`);
  }
  const size = frame[SIZE_AT[name]];
  let good = tests.every((test, i) => test(frame[i + 1]));
  if (good && (name === "call" || name === "notify")) {
    const args = frame[3];
    good = size == null ? (str(frame[2]) ? obj(args) : isList(args)) : args === null;
  } else if (name === "result") good &&= frame.length > 2 && (size == null || frame[2] === null);
  else if (name === "chunk") good &&= codec.binary ? frame[3] instanceof Uint8Array : str(frame[3]);
  else if (good && size != null) {
    const at = frame[2];
    good = name === "error" ? at.data == null : isList(at) && at.length === 1 && at[0] === null;
  }
  if (!good || (SIZE_AT[name] && size != null && !int(1)(size))) throw new Violation(4500, `a ${name} of a wrong shape`);
  return !LINK.has(name);
}

// --- Uploads, names --------------------------------------------------------------------------------

/** @param {any} x */
const isBlob = (x) => typeof Blob !== "undefined" && x instanceof Blob;
/** @param {any} x */
const isUpload = (x) => x !== null && typeof x === "object" &&
  (Symbol.asyncIterator in x || typeof x.getReader === "function" || isBlob(x) || (Symbol.iterator in x && typeof x.next === "function"));
/** @param {any} x @returns {any} */
function iteratorOf(x) {
  if (isBlob(x)) return slices(x);
  if (x[Symbol.asyncIterator]) return x[Symbol.asyncIterator]();
  return x.getReader ? read(x.getReader()) : x[Symbol.iterator](); // Not every Safari can iterate a ReadableStream.
}
/** @param {Blob} blob */
async function* slices(blob, step = 48 * 1024) {
  for (let at = 0; at < blob.size; at += step) yield new Uint8Array(await blob.slice(at, at + step).arrayBuffer());
}
/** @param {ReadableStreamDefaultReader<any>} reader */
async function* read(reader) {
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(nothing);
  }
}

/** `streamTokens` is `stream_tokens` on the wire. @param {string} name */
const snake = (name) => (name.includes("_") ? name : name.replace(/[A-Z]/g, (c, i) => (i ? "_" : "") + c.toLowerCase()));
/** @param {string} name */
const camel = (name) => name.replace(/(?!^)_([a-z])/g, (_, c) => c.toUpperCase());
/** @param {string} a @param {string} b How alike they are, from 0 to 1, by the pairs of letters that they share. */
function likeness(a, b) {
  const pairs = (/** @type {string} */ s) => [...`^${s.toLowerCase()}$`].map((c, i, all) => c + all[i + 1]);
  const left = pairs(a), right = pairs(b), all = left.length + right.length;
  return (2 * left.filter((p) => { const i = right.indexOf(p); if (i >= 0) right[i] = ""; return i >= 0; }).length) / all;
}

// --- Streams ---------------------------------------------------------------------------------------

/**
 * Items from the far side: `for await (const item of stream)`. Leaving the loop cancels the call.
 * @template T
 * @template [F=undefined]
 * @implements {AsyncIterableIterator<T>}
 */
export class Stream {
  /** @param {any} x */
  static [Symbol.hasInstance](x) {
    return branded(STREAM, Stream, this, x);
  }
  /** @internal @type {any[]} */ _items = [];
  /** @internal @type {Array<{resolve: (r: any) => void, reject: (e: any) => void, late?: () => void}>} */ _waiting = [];
  /** @internal @type {{error?: any}|undefined} */ _over;
  /** @internal */ _owed = 0;
  /** @internal */ _balance = 0;
  /** @internal */ _mean = 0;
  /** @internal */ _read = false;
  /** @internal */ _claimed = false;
  /** @internal @type {any} */ _unread;
  /** Items that were let go. */
  dropped = 0;
  /** What the stream ended with, once it has. @type {F|undefined} */
  final = undefined;
  /** Of a tracked stream: the id of the last item that has come. @type {string|undefined} */
  lastId = undefined;

  /** @internal @param {Owner} owner @param {number} window @param {CallOptions} [options] */
  constructor(owner, window, options = {}) {
    /** @internal */ this._owner = owner;
    /** @internal */ this._window = this._first = window;
    /** @internal */ this._overflow = options.overflow ?? "block";
    /** @internal */ this._idle = options.idleTimeout;
    if (Symbol.asyncDispose) Object.defineProperty(this, Symbol.asyncDispose, { value: () => this.return() });
  }
  /** Items that have come and wait for their consumer. */
  get lag() {
    return this._items.length;
  }
  /** Settles when the stream is over: its final value, or its error. @returns {Promise<F>} */
  get done() {
    if (!this._ended) {
      /** @internal @type {Promise<any>} */ this._ended = new Promise((resolve, reject) => {
        /** @internal */ this._end = () => (this._cause === undefined ? resolve(this.final) : reject(this._cause));
      });
      this._ended.catch(nothing);
      if (this._over) this._end?.();
    }
    return this._ended;
  }
  [Symbol.asyncIterator]() {
    if (this._claimed) throw new TypeError("a stream can be iterated over once");
    this._claimed = true;
    return this;
  }
  /** @returns {Promise<IteratorResult<T, undefined>>} */
  next() {
    this._begin();
    if (this._items.length) {
      const [value, cost] = this._items.shift();
      this._consumed(cost);
      return Promise.resolve({ done: false, value });
    }
    if (this._over) {
      const { error } = this._over;
      this._over = {};
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      /** @type {any} */ const waiter = { resolve, reject };
      if (this._idle) waiter.late = after(this._idle, () => this._owner.late("no item came within the idle timeout"));
      this._waiting.push(waiter);
      this._grant(true);
    });
  }
  /** All items that have come by then, each time: for one rendering of each. @returns {AsyncGenerator<T[], void, undefined>} */
  async *batches() {
    const iterator = this[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await iterator.next();
        if (done) return;
        const all = [value];
        for (const [more, cost] of this._items.splice(0)) {
          all.push(more);
          this._consumed(cost);
        }
        yield all;
      }
    } finally {
      this.cancel();
    }
  }
  /** Stop it, on the far side too. @returns {Promise<IteratorResult<T, undefined>>} */
  async return() {
    this.cancel();
    return { done: true, value: undefined };
  }
  /** Stop it; whoever waits for an item gets the reason, or the end. @param {unknown} [reason] */
  cancel(reason) {
    this._items = [];
    this._owner.stop(reason);
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
      pull: async (to) => {
        const { done, value } = await iterator.next();
        done ? to.close() : to.enqueue(value);
      },
      cancel: (reason) => this.cancel(reason),
    }, { highWaterMark: 0 });
  }
  /** @internal */
  _begin() {
    this._read = true;
    this._unread?.();
    this._owner.asked?.();
  }
  /** Items have come. @internal @param {any[]} items @param {number} cost Of each. @param {number} bytes Of each, about. */
  _take(items, cost, bytes) {
    this._mean += (bytes / cost - this._mean) / (this._mean ? 4 : 1);
    for (const value of items) {
      if (this._balance < 1) throw new Violation(4505, "an item beyond the credit granted"); // CREDIT-3
      this._balance -= cost;
      if (this._over || this._owner.stopped) continue;
      const waiter = this._waiting.shift();
      if (waiter) {
        waiter.late?.();
        this._consumed(cost);
        waiter.resolve({ done: false, value });
      } else this._items.push([value, cost]);
    }
    if (this._over || this._owner.stopped) return;
    if (!this._read) this._unread ??= after(10000, () => this._owner.unread(), true);
    if (this._overflow === "block") return;
    // Under the other policies the far side goes at its own pace.
    const excess = this._items.length - (this._overflow === "latest" ? 1 : this._first);
    if (excess > 0) {
      if (this._overflow === "fail") return this.cancel(failure("resource_exhausted", `the consumer fell behind by ${this._items.length} items; overflow "fail" lets ${this._first} wait (window)`));
      this.dropped += excess;
      this._items.splice(0, excess);
    }
    this._owed = Math.max(0, this._first - this._balance);
    this._grant(true);
  }
  /** @internal @param {number} cost */
  _consumed(cost) {
    if (this._overflow !== "block") return;
    this._owed += cost;
    this._grant(false);
  }
  /** Give credit back (CREDIT-4). @internal @param {boolean} hungry Whether the application waits, and nothing is there (CREDIT-5). */
  _grant(hungry) {
    if (hungry && this._balance + this._owed < 1) this._owed = 1 - this._balance;
    if (this._owed < 1 || !(this._owed * 2 >= this._window || (hungry && this._balance < 1))) return;
    this._owner.credit(() => {
      // It kept up with all that was allowed: let the far side run further ahead.
      if (this._overflow === "block" && this._balance < 1 && !this._items.length && this._window < Math.min(4096, (256 * 1024) / (this._mean || 256))) {
        this._owed += this._window || 1;
        this._window = this._window * 2 || 1;
      }
      const n = this._owed;
      this._owed = 0;
      this._balance += n;
      return n;
    });
  }
  /** The call goes out, again perhaps: what has come belongs to an earlier credit. @internal */
  _opened() {
    this._balance = this._window = this._first;
    this._owed = 0;
    for (const item of this._items) item[1] = 0;
  }
  /** @internal @param {unknown} [error] */
  _finish(error) {
    if (this._over) return;
    this._over = { error };
    /** @internal */ this._cause = error;
    this._unread?.();
    for (const waiter of this._waiting.splice(0)) {
      waiter.late?.();
      if (this._over.error === undefined) waiter.resolve({ done: true, value: undefined });
      else this._over = {}, waiter.reject(error);
    }
    this._end?.();
  }
}
Object.defineProperty(Stream.prototype, STREAM, { value: true });
/** @typedef {{stop(reason?: unknown): void, late(message: string): void, unread(): void, credit(make: () => number): void, asked?: () => void, readonly stopped: boolean}} Owner */

/** A stream that a `streamFetcher` gave. */
class Fetched extends Stream {
  /** @param {() => AsyncIterable<any>} make */
  constructor(make) {
    super(/** @type {any} */ ({ stop: () => void this.return(), asked: nothing }), 0);
    this._make = make;
  }
  /** @returns {any} */
  _source() {
    if (!this._iterator) {
      /** @type {any} */ const made = this._make();
      /** @type {any} */ this._iterator = made[Symbol.asyncIterator]();
      if (made instanceof Stream) made.done.then((final) => (this.final = /** @type {any} */ (final)), nothing);
    }
    return this._iterator;
  }
  async next() {
    try {
      const result = await this._source().next();
      if (result.done) this._finish();
      return result.done ? { done: true, value: undefined } : result;
    } catch (error) {
      this._finish(error);
      throw error;
    }
  }
  async return() {
    if (!this._over) {
      this._finish();
      await this._iterator?.return?.();
    }
    return { done: /** @type {const} */ (true), value: undefined };
  }
  cancel() {
    this.return().catch(nothing);
  }
}

/** What a method gives whose kind is not known: await it for its value, or iterate over it. */
class Reply {
  /** @param {Stream<any, any>} stream @param {() => Promise<any>} promise */
  constructor(stream, promise) {
    this._stream = stream;
    this._promise = promise;
    if (Symbol.asyncDispose) /** @type {any} */ (this)[Symbol.asyncDispose] = () => stream.return();
  }
  [Symbol.asyncIterator]() {
    return this._stream[Symbol.asyncIterator]();
  }
  /** @param {any} [ok] @param {any} [no] */
  then(ok, no) {
    return this._promise().then(ok, no);
  }
  /** @param {any} no */
  catch(no) {
    return this.then(undefined, no);
  }
  /** @param {any} run */
  finally(run) {
    return this._promise().finally(run);
  }
}
for (const name of ["next", "return", "cancel", "collect", "batches", "readable"]) {
  /** @type {any} */ (Reply.prototype)[name] = function (/** @type {any} */ argument) {
    return this._stream[name](argument);
  };
}
for (const name of ["done", "final", "lag", "dropped", "lastId"]) {
  Object.defineProperty(Reply.prototype, name, { get() { return this._stream[name]; } });
}
Object.defineProperty(Reply.prototype, STREAM, { value: true });

// --- Calls of this side ----------------------------------------------------------------------------

/** @typedef {{wire: Wire, id: number, deadline?: number}} Parent */

/** @implements {Owner} */
class Call {
  id = 0;
  /** Where it is live, once it is numbered. @type {Wire|undefined} */ wire;
  done = false;
  cancelled = false;
  streaming = false;
  delivered = false;
  /** Whether it takes a slot (SLOT-1); those of callbacks take none. */ slot = false;
  attempts = 1;
  mayHaveRun = false;
  /** @type {any} */ uploads = {};
  /** @type {any} */ callbacks = {};
  /** @type {Upstream[]} */ pumps = [];
  /** @type {number[]} */ offers = [];
  /** @type {Part} */ args;
  size = 0;
  /** What a source of an upload raised: the caller gets that, not the complaint of the far side. @type {{error: any}|undefined} */ failed;
  /** @type {(() => void)|undefined} */ timer;
  /** @type {(v?: any) => void} */ resolve = nothing;
  /** @type {(e: any) => void} */ reject = nothing;

  /** @param {Core} core @param {string|number} method @param {any} args @param {CallOptions} options @param {any} facts @param {Parent} [parent] */
  constructor(core, method, args, options, facts, parent) {
    this.core = core;
    this.method = method;
    this.kind = facts.kind;
    this.tracked = facts.tracked;
    this.bytes = facts.bytes && !core.codec.binary;
    this.parent = parent;
    /** @type {Promise<any>} */
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Nobody has to await what is iterated over; a value that nobody awaits is reported if it fails.
    if (this.kind !== "unary" && this.kind !== "notify") this.promise.catch(nothing);
    this.options = options;
    let wrong;
    try {
      this._check(args);
    } catch (error) {
      wrong = error;
      this.options = {};
    }
    const at = this.options;
    this.idempotent = facts.idempotent || facts.tracked || at.idempotent;
    /** @type {Stream<any, any>} */
    this.stream = new Stream(this, at.window ?? core.window, at);
    if (wrong) return void this.settle(wrong);
    let timeout = at.timeout;
    if (timeout === undefined && (this.kind === "unary" || this.kind === "notify")) timeout = core.timeout;
    this.deadline = timeout == null ? undefined : now() + timeout;
    if (parent?.deadline !== undefined) this.deadline = Math.min(this.deadline ?? Infinity, parent.deadline);
    const { signal } = at;
    if (signal) {
      this.onAbort = () => this.stop(signal.reason);
      if (signal.aborted) return void this.onAbort();
      signal.addEventListener("abort", this.onAbort);
    }
    if (this.deadline !== undefined) this.timer = after(Math.max(0, this.deadline - now()), () => this.late("the deadline has passed"));
  }
  /** @param {any} args */
  _check(args) {
    const { method, options, core } = this;
    if (!isPlain(options)) throw misuse(`${method}: the options are a plain object, such as {timeout: 500}`);
    for (const name of Object.keys(options)) if (!OPTIONS.has(name)) throw misuse(`${method}: there is no option ${name}; there are ${[...OPTIONS].join(", ")}`);
    const { timeout, idleTimeout, window, overflow, signal, key } = options;
    for (const [name, ms] of [["timeout", timeout], ["idleTimeout", idleTimeout]]) {
      if (ms != null && !(typeof ms === "number" && ms > 0 && ms < Infinity)) throw misuse(`${method}: ${name} is a number of milliseconds above 0${name === "timeout" ? ", or null for none" : ""}, not ${ms}`);
    }
    if (window !== undefined && !int(0, MAX_CREDIT)(window)) throw misuse(`${method}: window is a number of items, not ${window}`);
    if (overflow !== undefined && !["block", "latest", "drop_oldest", "fail"].includes(overflow)) throw misuse(`${method}: overflow is block, latest, drop_oldest or fail, not ${overflow}`);
    if (signal != null && typeof signal.addEventListener !== "function") throw misuse(`${method}: signal is an AbortSignal`);
    if (key !== undefined && !str(key)) throw misuse(`${method}: key is a string`);
    this.metadata = { ...core.options.metadata, ...options.metadata };
    let size = bytesOf(key ?? "");
    for (const [name, value] of Object.entries(this.metadata)) {
      if (!str(value)) throw misuse(`${method}: metadata.${name} is a string, not a ${typeof value}`);
      size += bytesOf(name) + bytesOf(value);
    }
    if (size > MAX_METADATA) throw failure("resource_exhausted", `${method}: metadata and key exceed ${MAX_METADATA} bytes`, true);
    if (typeof this.method === "number") {
      this.args = core.encode(args);
    } else {
      if (args !== undefined && !isPlain(args)) throw misuse(`${method} takes its arguments by name: {name: value}`);
      /** @type {any} */ const values = {};
      for (const [name, value] of Object.entries(args ?? {})) {
        if (value === undefined) continue;
        if (typeof value === "function") put(this.callbacks, name, value);
        else if (isUpload(value)) put(this.uploads, name, value);
        else {
          try {
            put(values, name, clean(value, core.codec.binary));
          } catch (error) {
            throw misuse(`${method}: argument ${name}: ${/** @type {any} */ (error).message}`, error);
          }
        }
      }
      if (Object.keys(this.callbacks).length + Object.keys(this.uploads).length > 15) throw misuse(`${method}: a call takes at most 15 uploads and callbacks`); // ID-3
      if (this.kind === "notify" && (Object.keys(this.callbacks)[0] ?? Object.keys(this.uploads)[0]) !== undefined) throw misuse(`${method}: a notification takes values alone`);
      this.args = core.encode(values);
    }
    this.size = core.codec.size(this.args);
  }
  get stopped() {
    return this.done || this.cancelled;
  }
  get begun() {
    return this.pumps.some((pump) => pump.iterator);
  }
  asked() {
    this.read = true;
  }
  unread() {
    this.core.warnUnread(String(this.method));
  }
  /** The application leaves. @param {unknown} [reason] */
  stop(reason) {
    this._leave("cancelled");
    this.settle(reason === undefined ? failure("cancelled", "the caller left", !this.wire) : reason, reason === undefined);
  }
  /** @param {string} message */
  late(message) {
    const waits = !this.wire && !this.done ? this.core.whyWaiting() : "";
    const began = !!this.wire || this.mayHaveRun;
    this._leave("deadline_exceeded");
    this.settle(failure("deadline_exceeded", `${this.method}: ${message}${waits}`, !began));
  }
  /** @param {string} reason */
  _leave(reason) {
    const { wire, id } = this;
    if (this.done || this.cancelled) return;
    if (wire) {
      this.cancelled = true;
      wire.control(id, () => (wire.calls.get(id) === this ? ["cancel", id, ...(reason === "cancelled" ? [] : [reason])] : undefined));
      wire.dropChunks(id);
    }
    for (const pump of this.pumps) pump.stop();
  }
  /** An answer that this side cannot use (CALL-8, VALUE-4). @param {Code} code @param {string} message */
  useless(code, message) {
    this._leave("cancelled");
    this.settle(failure(code, `${this.method}: ${message}`));
  }
  /** The application's side of it is over. @param {any} [error] @param {boolean} [quiet] */
  settle(error, quiet) {
    if (this.done) return;
    this.done = true;
    this.core.forget(this);
    this.timer?.();
    if (this.onAbort) this.options.signal?.removeEventListener("abort", this.onAbort);
    if (error !== undefined) this.reject(error);
    this.stream._finish(quiet ? undefined : error);
  }
  /** @param {() => number} make */
  credit(make) {
    const { wire, id } = this;
    if (this.stopped || !wire || this.crediting === wire) return;
    this.crediting = wire;
    wire.control(id, () => {
      this.crediting = undefined;
      return this.wire === wire && !this.stopped ? ["credit", id, make()] : undefined;
    });
  }
  /** The frame that opens it; its ids are taken in `commit`. @param {Wire} wire */
  frame(wire) {
    const { core, options } = this;
    const number = wire.nextId;
    let next = number;
    /** @type {any} */ const more = {};
    const row = (/** @type {string} */ kind) => {
      const names = Object.keys(/** @type {any} */ (this)[kind]);
      if (names.length) more[kind] = {};
      for (const name of names) put(more[kind], name, (next += 2));
    };
    row("uploads");
    row("callbacks");
    if (this.deadline !== undefined) more.timeout = Math.max(0, Math.ceil(this.deadline - now()));
    if (Object.keys(this.metadata ?? {}).length) more.metadata = this.metadata;
    if (options.key !== undefined) more.key = options.key;
    if (this.parent?.wire === wire && wire.serving.has(this.parent.id)) more.parent = this.parent.id;
    const name = this.kind === "notify" ? "notify" : "call";
    if (name === "call" && typeof this.method === "string") {
      if (this.stream._overflow !== "block" || options.window !== undefined) more.credit = this.stream._first;
      if (this.tracked && this.stream.lastId !== undefined) more.last_id = this.stream.lastId;
    }
    const head = core.raw([name, number, this.method]);
    const tail = core.encode(more);
    const commit = () => {
      wire.nextId = next + 2;
      this.id = number;
      this.wire = wire;
      wire.calls.set(number, this);
      this.stream._opened();
      for (const [param, offer] of Object.entries(more.callbacks ?? {})) {
        this.offers.push(/** @type {number} */ (offer));
        wire.offers.set(/** @type {number} */ (offer), { run: this.callbacks[param], live: 0, name: `${this.method}(${param}=…)` });
      }
      for (const [param, upload] of Object.entries(more.uploads ?? {})) {
        const pump = new Upstream(wire, /** @type {number} */ (upload), this, this.uploads[param]);
        this.pumps.push(pump);
        wire.uploads.set(pump.id, pump);
        pump.begin();
      }
      if (this.kind === "notify") this.sent();
    };
    return { inline: core.list([...head, this.args, tail]), value: this.args, nulled: [...head, core.null, tail], commit };
  }
  /** Nobody awaits the end of a notification. */
  sent() {
    this.resolve();
    this.settle();
  }
  /** The far side is through with it, or its session is. */
  closed() {
    const { wire } = this;
    if (!wire) return;
    wire.calls.delete(this.id);
    for (const offer of this.offers.splice(0)) wire.offers.delete(offer);
    for (const pump of this.pumps) pump.drop();
    wire.dropChunks(this.id);
    this.wire = undefined;
    if (this.slot) wire.free(this);
  }
  /** @param {any} value @returns {any} */
  _bytes(value) {
    return this.bytes && str(value) ? fromBase64url(value) : value;
  }
  /** @param {any[]} items @param {number} cost @param {number} bytes */
  onItems(items, cost, bytes) {
    const first = !this.streaming;
    this.streaming = true;
    if (this.done) return this.stream._take(items, cost, bytes);
    if (this.kind === "unary") {
      this.stream._balance -= cost * items.length;
      return this.useless("internal", "a stream came where a value was due");
    }
    if (items.some((one) => outside(one))) {
      this.stream._balance -= cost * items.length;
      return this.useless("internal", "an item is outside of the value space");
    }
    if (this.tracked) {
      if (!items.every((one) => isList(one) && one.length === 2 && str(one[0]) && one[0].length <= 1024)) return this.useless("internal", "an item of a tracked stream is no pair of an id and a value");
      this.stream.lastId = items[items.length - 1][0];
      items = items.map((one) => one[1]);
    }
    if (this.bytes) items = items.map((one) => this._bytes(one));
    this.delivered = true;
    this.attempts = 1;
    this.stream._take(items, cost, bytes);
    if (first) this.resolve(this.stream); // Whoever awaited it gets the stream, now that it is one.
  }
  /** @param {any} value */
  onResult(value) {
    if (this.streaming && !this.cancelled) throw new Violation(4505, "a result after items"); // RESULT-1
    this.closed();
    if (this.done) return;
    if (outside(value)) return this.useless("internal", "the result is outside of the value space");
    const iterated = this.kind === "stream" || this.stream._read;
    this.resolve(this._bytes(value));
    this.settle(iterated ? failure("internal", `${this.method}: a value came where a stream was due`) : undefined);
  }
  /** @param {any} final */
  onEnd(final) {
    this.closed();
    if (this.done) return;
    if (outside(final ?? null)) return this.useless("internal", "the final value is outside of the value space");
    if (this.kind === "unary") return this.settle(failure("internal", `${this.method}: a stream came where a value was due`));
    if (final) this.stream.final = final[0];
    this.resolve(this.stream);
    this.settle();
  }
  /** @param {any} error */
  onError(error) {
    const over = !this.wire?.open;
    this.closed();
    if (this.done) return;
    if (this.failed) return this.settle(this.failed.error);
    this.core.retry(this, error, over);
  }
}

/** @param {any} body @returns {RpcError} */
const received = (body) => new RpcError(CODES.has(body.code) ? body.code : "unknown", body.message, outside(body.data ?? null) ? undefined : body.data ?? undefined, {
  type: body.type ?? undefined, errorId: body.error_id ?? undefined, notStarted: body.not_started === true,
  retryAfter: body.retry_after == null ? undefined : Number(body.retry_after),
});

// --- Streams of this side --------------------------------------------------------------------------

/** A stream that this side produces: an upload, or what a handler yields. */
class Source {
  balance = 0;
  stopped = false;
  /** @type {any} */ iterator;
  /** @type {any[]} */ pending = [];
  bytes = 0;
  queued = false;
  /** @type {() => void} */ wake = nothing;
  /** @type {Promise<any>|undefined} */ returned;
  /** @param {Wire} wire @param {number} id */
  constructor(wire, id) {
    this.wire = wire;
    this.id = id;
  }
  /** @param {number} n */
  credit(n) {
    if (n < 1 || this.balance + n > MAX_CREDIT) throw new Violation(4505, `a credit of ${n}`); // CREDIT-6
    this.balance += n;
    this.wake();
  }
  /** No further item begins; the producer is closed. */
  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.clear();
    this.wake();
    try {
      this.returned = Promise.resolve(this.iterator?.return?.()).catch(nothing);
    } catch {
      // A producer that cannot even be closed has said all that it will.
    }
  }
  clear() {
    this.wire.outbox -= this.bytes;
    this.bytes = 0;
    this.pending = [];
  }
  /** Ask the producer for one item after another, as credit and room allow (CREDIT-2). @param {any} iterator @returns {Promise<any>} What it returned. */
  async pump(iterator) {
    const { wire } = this;
    this.iterator = iterator;
    for (;;) {
      while (!this.stopped && (this.balance < 1 || this.bytes >= KIB64 || wire.outbox >= OUTBOX)) {
        await new Promise((/** @type {any} */ go) => {
          this.wake = go;
          if (wire.outbox >= OUTBOX) wire.starved.add(this);
        });
      }
      if (this.stopped) return this.returned;
      const { done, value } = await iterator.next();
      if (this.stopped) return this.returned;
      if (done) return value;
      const part = wire.core.encode(value);
      const size = wire.core.codec.size(part);
      wire.mustFit(size);
      this.balance -= 1 + Math.floor(size / KIB64);
      this.pending.push([part, size]);
      this.bytes += size;
      wire.outbox += size;
      if (!this.queued) {
        this.queued = true;
        wire.push(this.id, { make: () => this._frame() });
      }
    }
  }
  /** As many items as make a good frame; a large one is alone (CHUNK-1). */
  _frame() {
    this.queued = false;
    if (!this.pending.length) return undefined;
    const { core } = this.wire;
    let n = 0, size = 0;
    do size += this.pending[n++][1]; while (n < this.pending.length && size + this.pending[n][1] <= QUANTUM);
    const head = core.raw(["message", this.id]);
    const parts = this.pending.slice(0, n).map((one) => one[0]);
    const commit = () => {
      this.pending.splice(0, n);
      this.bytes -= size;
      this.wire.unload(size);
      this.queued = this.pending.length > 0;
      this.wake();
      return this.queued;
    };
    return { inline: core.list([...head, core.list(parts)]), value: n > 1 ? undefined : parts[0], nulled: [...head, core.list([core.null])], commit };
  }
}

/** An upload of this side. */
class Upstream extends Source {
  /** @param {Wire} wire @param {number} id @param {Call} call @param {any} source */
  constructor(wire, id, call, source) {
    super(wire, id);
    this.call = call;
    this.source = source;
    this.balance = wire.peer.window;
  }
  dropped = false;
  reason = "cancelled";
  /** The call is over (UP-3). */
  drop() {
    this.dropped = true;
    this.wire.uploads.delete(this.id);
    this.stop();
    this.wire.dropChunks(this.id);
  }
  async begin() {
    /** @type {any} */ let last;
    try {
      await this.pump(iteratorOf(this.source));
      last = this.stopped ? { code: this.reason, message: "the upload was stopped" } : undefined;
    } catch (error) {
      this.clear();
      if (!this.stopped) this.call.failed ??= { error };
      last = this.wire.core.describe(error, "an upload failed", true);
    }
    if (this.dropped) return;
    const { wire, id } = this;
    wire.push(id, {
      make: () => this.dropped ? undefined : Object.assign(last ? wire.core.errorFrame(id, last) : wire.core.endFrame(id), { commit: () => void wire.uploads.delete(id) }),
    });
  }
}

// --- Calls of the other side -----------------------------------------------------------------------

/** A call that the server makes here. */
class Serving extends Source {
  /** @type {Stream<any, any>[]} */ uploads = [];
  /** @type {number[]} */ uploadIds = [];
  /** @type {Call[]} */ invocations = [];
  /** @type {string|undefined} */ cancelled;
  began = false;
  ended = false;
  abort = new AbortController();
  /** @type {(() => void)|undefined} */ timer;
  /** @type {any} */ offer;
  /** @type {number|undefined} */ deadline;

  /** @param {Wire} wire @param {string} kind @param {number} id @param {any} method @param {any} options */
  constructor(wire, kind, id, method, options) {
    super(wire, id);
    this.kind = kind;
    this.method = method;
    this.options = options;
    this.balance = Number(options.credit ?? wire.peer.window);
    if (this.balance > MAX_CREDIT) throw new Violation(4505, "a credit beyond 2^31 - 1");
    if (options.timeout != null) {
      this.deadline = now() + Number(options.timeout);
      this.timer = after(Number(options.timeout), () => this.cancel("deadline_exceeded"), true);
    }
  }
  /** @param {string} reason */
  cancel(reason) {
    if (this.cancelled || this.ended) return;
    this.cancelled = reason;
    if (!this.began) return this.refuse(/** @type {Code} */ (reason), "it was cancelled before it began", { not_started: true });
    const error = failure(/** @type {Code} */ (reason), "the caller left");
    this.abort.abort(error);
    for (const upload of this.uploads) upload._finish(error);
    this.stop();
  }
  /** Answer without a handler. @param {Code} code @param {string} message @param {any} [more] */
  refuse(code, message, more) {
    if (!this.ended) this.finish(this.wire.core.errorFrame(this.id, { code, message, ...more }));
  }
  /** Let the handler run. @param {(args: any, context: any) => any} run @param {any} args */
  async start(run, args) {
    const { wire, id, options } = this;
    const { core } = wire;
    if (this.ended) return;
    if (this.cancelled || options.timeout === 0) return this.refuse(/** @type {Code} */ (this.cancelled ?? "deadline_exceeded"), "too late to begin", { not_started: true }); // CANCEL-2, TIME-2
    this.began = true;
    const parent = { wire, id, deadline: this.deadline };
    for (const [name, target] of Object.entries(options.callbacks ?? {})) {
      put(args, name, (/** @type {any[]} */ ...positional) => this.invoke(/** @type {number} */ (target), positional, parent));
    }
    this.uploadIds.forEach((upload, i) => put(args, Object.keys(options.uploads)[i], this.uploads[i]));
    const context = {
      session: core.session, signal: this.abort.signal, metadata: options.metadata ?? {}, key: options.key ?? undefined,
      lastId: options.last_id ?? undefined, deadline: this.deadline,
      clientize: (/** @type {any} */ which, /** @type {any} */ more) => core.clientize(which, more, parent),
    };
    /** @type {any} */ let frame;
    try {
      let out = await run(args, context);
      if (out instanceof Reply) out = out._stream;
      if (out !== null && typeof out === "object" && isUpload(out) && !isBlob(out)) {
        if (this.kind === "notify" || this.offer) {
          iteratorOf(out).return?.();
          throw this.offer ? new TypeError("a callback gives one value, no stream") : failure("failed_precondition", `${this.method} is a stream: it cannot be notified`); // NOTIFY-3, CB-1
        }
        const final = await this.pump(iteratorOf(out));
        frame = core.endFrame(id, final === undefined ? undefined : core.encode(final));
      } else frame = this.kind === "notify" ? core.endFrame(id) : core.resultFrame(id, core.encode(out));
      if (frame.value !== undefined) wire.mustFit(core.codec.size(frame.value));
    } catch (error) {
      if (!this.cancelled) {
        const tooLarge = error instanceof RpcError && error.code === "resource_exhausted" && error.type === "wsrpc.size";
        frame = core.errorFrame(id, tooLarge ? { code: error.code, message: error.message } : core.describe(error, `${this.method} failed`));
      }
    }
    if (this.cancelled) frame = core.errorFrame(id, { code: this.cancelled, message: "the caller left" }); // CANCEL-3
    this.finish(frame);
  }
  /** @param {number} target @param {any[]} args @param {Parent} parent */
  invoke(target, args, parent) {
    const { wire } = this;
    const call = new Call(wire.core, target, args, {}, { kind: "unary" }, parent);
    if (this.ended) call.settle(failure("failed_precondition", "the call is over, and its callbacks with it", true));
    if (call.done) return call.promise;
    this.invocations.push(call);
    const over = () => {
      this.invocations.splice(this.invocations.indexOf(call), 1);
      this.pick();
    };
    call.promise.then(over, over);
    this.pick();
    return call.promise;
  }
  /** At most 8 invocations of a callback are live (CB-2). */
  pick() {
    /** @type {Map<any, number>} */ const live = new Map();
    for (const call of this.invocations) {
      const n = (live.get(call.method) ?? 0) + 1;
      live.set(call.method, n);
      if (n <= 8 && !call.wire && !this.wire.urgent.includes(call)) this.wire.begin(call);
    }
  }
  /** @param {any} frame */
  finish(frame) {
    const { wire, id } = this;
    if (this.ended) return;
    this.ended = true;
    this.timer?.();
    this.abort.abort(failure("cancelled", "the call is over"));
    if (this.offer) this.offer.live--;
    for (const call of [...this.invocations]) call.stop(failure("cancelled", "the call is over")); // CB-3
    for (const upload of this.uploadIds) wire.incoming.delete(upload);
    for (const upload of this.uploads) upload._finish(failure("cancelled", "the call is over"));
    const commit = () => {
      wire.serving.delete(id);
      wire.core.idle();
    };
    if (!wire.open) return commit();
    wire.push(id, { make: () => Object.assign(frame, { commit }), fail: (error) => Object.assign(wire.core.errorFrame(id, { code: "resource_exhausted", message: error.message }), { commit }) });
  }
}

/** An upload that the server sends, as the handler reads it. @implements {Owner} */
class Downstream {
  stopped = false;
  /** @param {Wire} wire @param {number} id @param {string} name */
  constructor(wire, id, name) {
    this.wire = wire;
    this.id = id;
    this.name = name;
    /** @type {Stream<any, any>} */
    this.stream = new Stream(this, wire.core.window);
    this.stream._opened();
  }
  /** @param {unknown} [reason] */
  stop(reason) {
    if (!this.stopped && this.wire.incoming.get(this.id) === this) {
      this.stopped = true;
      this.wire.control(this.id, () => (this.wire.incoming.has(this.id) ? ["cancel", this.id] : undefined));
    }
    this.stream._finish(reason);
  }
  late = nothing;
  unread = nothing;
  /** @param {() => number} make */
  credit(make) {
    if (this.crediting || this.stream._over) return;
    this.crediting = true;
    this.wire.control(this.id, () => {
      this.crediting = false;
      return this.wire.incoming.has(this.id) && !this.stopped ? ["credit", this.id, make()] : undefined;
    });
  }
}

// --- One session of the wire -----------------------------------------------------------------------

/** @typedef {{inline: Part, value?: Part, nulled?: Part[], commit?: () => any}} Frame `inline` is the whole; `nulled` its elements where the value goes in chunks. */
/** @typedef {{make: () => Frame|undefined, fail?: (error: RpcError) => Frame}} Entry */
/** @typedef {{id: number, control: Array<() => any[]|undefined>, entries: Entry[], deficit: number, bytes?: Uint8Array, at: number}} Lane */

/** A session of protocol.md: what both sides count, over one link after another. */
class Wire {
  open = true;
  up = false;
  draining = false;
  peer = { window: 0, max_calls: 8, max_batch: KIB64, max_value: KIB64, max_held: 0 };
  /** @type {string|null} */ token = null;
  resumeWindow = 0;
  link = 0;
  nextId = 1;
  peerId = 0;
  used = 0;
  sent = 0;
  acked = 0;
  received = 0;
  ackedOut = 0;
  ackDue = false;
  unacked = 0;
  unackedBytes = 0;
  outbox = 0;
  held = 0;
  heldIn = 0;
  stuck = 0;
  arrived = 0;
  pinged = -1;
  openedAt = 0;
  progress = 0;
  /** @type {Map<number, Call>} */ calls = new Map();
  /** @type {Map<number, Upstream>} */ uploads = new Map();
  /** @type {Map<number, any>} */ offers = new Map();
  /** @type {Map<number, Serving>} */ serving = new Map();
  /** @type {Map<number, Downstream>} */ incoming = new Map();
  /** @type {Map<number, any>} */ parts = new Map();
  /** @type {Call[]} Calls that may go before those of the session that wait: of handlers, of callbacks, of room for a large value. */ urgent = [];
  /** @type {Map<number, Lane>} */ lanes = new Map();
  /** @type {Lane[]} */ ring = [];
  /** @type {Lane} New calls take turns with all that goes on. */ openings = { id: 0, control: [], entries: [], deficit: QUANTUM, at: 0 };
  /** @type {Set<Source>} */ starved = new Set();
  /** @type {any[][]} */ links = [];
  /** @type {Array<[Part, number]>} */ replay = [];
  replayBytes = 0;
  /** @type {Array<() => void>} */ starts = [];
  /** @type {any} */ ws;
  /** @type {[number, number]|undefined} */ heartbeat;
  /** @type {(() => void)|undefined} */ redial;
  /** @type {(() => void)|undefined} */ heart;
  /** @type {(() => void)|undefined} */ expiry;
  /** @type {any} */ ackTimer;
  /** @type {any} */ drainTimer;

  /** @param {Core} core */
  constructor(core) {
    this.core = core;
  }

  // Sending

  /** @param {any[]} frame */
  linkFrame(frame) {
    this.links = this.links.filter((one) => one[0] !== frame[0]); // Of pongs and acks the newest is enough.
    this.links.push(frame);
    this.wake();
  }
  /** @param {number} id @returns {Lane} */
  lane(id) {
    let lane = this.lanes.get(id);
    if (!lane) {
      lane = { id, control: [], entries: [], deficit: QUANTUM, at: 0 };
      this.lanes.set(id, lane);
      this.ring.push(lane);
    }
    this.wake();
    return lane;
  }
  /** A frame without a value, which need not wait for those with one. @param {number} id @param {() => any[]|undefined} make */
  control(id, make) {
    if (this.open) this.lane(id).control.push(make);
  }
  /** @param {number} id @param {Entry} entry Gives its frame when it is numbered. */
  push(id, entry) {
    if (this.open) this.lane(id).entries.push(entry);
  }
  /** @param {Call} call */
  begin(call) {
    this.urgent.push(call);
    this.wakeOpenings();
  }
  wakeOpenings() {
    if (!this.ring.includes(this.openings)) this.ring.push(this.openings);
    this.wake();
  }
  /** @param {Call} call */
  free(call) {
    call.slot = false;
    this.used--;
    this.wakeOpenings();
  }
  /** @param {number} n */
  unload(n) {
    this.outbox -= n;
    if (this.outbox < OUTBOX) {
      for (const source of this.starved) source.wake();
      this.starved.clear();
    }
  }
  /** What discards a value: no further piece of it. @param {number} id */
  dropChunks(id) {
    const lane = this.lanes.get(id);
    if (lane?.bytes) {
      this.held -= lane.bytes.length;
      lane.bytes = undefined;
      this.unblock();
    }
  }
  unblock() {
    for (const lane of this.lanes.values()) if (!this.ring.includes(lane)) this.ring.push(lane);
    this.wakeOpenings();
  }
  /** @param {number} size Of a value that goes out (VALUE-7, CHUNK-7). */
  mustFit(size) {
    const { max_batch, max_value, max_held } = this.peer;
    const most = max_held ? Math.max(Math.min(KIB64, max_batch) - 100, Math.min(max_value, max_held)) : max_batch - 100;
    if (size > most) throw new RpcError("resource_exhausted", `${size} bytes are more than the ${most} that the other side takes`, undefined, { type: "wsrpc.size" });
  }
  /** What goes out for a frame: whole, its head where its value goes in chunks, or nothing while there is no room. @param {Frame} frame @param {Lane} lane @returns {Part|undefined} */
  fit(frame, lane) {
    const { core, peer } = this;
    const size = core.codec.size(frame.inline);
    if (size <= Math.min(KIB64, peer.max_batch - 2)) return frame.inline;
    if (frame.value === undefined || !peer.max_held) {
      if (size + 5 <= peer.max_batch) return frame.inline;
      throw new RpcError("resource_exhausted", `${size} bytes are more than the ${peer.max_batch} that the other side takes`, undefined, { notStarted: true });
    }
    const bytes = core.codec.bytes(frame.value);
    this.mustFit(bytes.length);
    if (this.held + bytes.length > peer.max_held) return undefined; // CHUNK-6
    this.held += bytes.length;
    lane.bytes = bytes;
    lane.at = 0;
    return core.list([.../** @type {Part[]} */ (frame.nulled), ...core.raw([bytes.length])]);
  }
  /** The next frame of an id: undefined if it has none now, null if it just has to be asked again. @param {Lane} lane @returns {Part|null|undefined} */
  next(lane) {
    const { core } = this;
    if (lane === this.openings) return this.nextCall();
    const make = lane.control.shift();
    if (make) {
      const frame = make();
      return frame ? core.list(core.raw(frame)) : null;
    }
    if (lane.bytes) {
      const { bytes, at } = lane;
      let to = Math.min(bytes.length, at + PIECE);
      if (!core.codec.binary) while (to < bytes.length && (bytes[to] & 0xc0) === 0x80) to--;
      lane.at = to;
      if (to === bytes.length) this.dropChunks(lane.id);
      return core.list([...core.raw(["chunk", lane.id, to === bytes.length]), core.codec.encode(core.codec.piece(bytes.subarray(at, to)))]);
    }
    const entry = lane.entries[0];
    if (!entry) {
      this.lanes.delete(lane.id);
      return undefined;
    }
    let frame = entry.make();
    /** @type {Part|undefined} */ let part;
    try {
      part = frame && this.fit(frame, lane);
    } catch (error) {
      frame = entry.fail?.(/** @type {any} */ (error));
      part = frame?.inline;
    }
    if (frame && part === undefined) return undefined;
    if (!frame?.commit?.()) lane.entries.shift();
    return frame ? part : null;
  }
  /** @returns {Part|null|undefined} */
  nextCall() {
    const { core } = this;
    const call = this.urgent[0] ?? (!this.draining && this === core.wire && this.used < this.peer.max_calls ? core.waiting[0] : undefined);
    if (!call) return undefined;
    const queue = call === this.urgent[0] ? this.urgent : core.waiting;
    if (call.done) {
      queue.shift();
      if (call.slot) this.free(call);
      return null;
    }
    const lane = this.lane(this.nextId);
    try {
      const frame = call.frame(this);
      const part = this.fit(frame, lane);
      queue.shift();
      if (!call.slot && typeof call.method === "string") {
        call.slot = true;
        this.used++;
      }
      if (part === undefined) {
        this.urgent.push(call); // It waits for room, with its slot.
        return queue === this.urgent && this.urgent.every((one) => one.slot) ? undefined : null;
      }
      frame.commit();
      core.forget(call);
      core.sent++;
      return part;
    } catch (error) {
      queue.shift();
      if (call.slot) this.free(call);
      call.settle(error);
      return null;
    }
  }
  wake() {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.flush();
    });
  }
  flush() {
    const { ws, core, ring } = this;
    if (!this.up || ws?.readyState !== 1) return;
    for (;;) {
      if (ws.bufferedAmount > AHEAD) return this.watchDrain(ws);
      /** @type {Part[]} */ let parts = [];
      let size = 5, taken = 0;
      const add = (/** @type {Part} */ part, /** @type {number} */ n) => {
        if (size + n + 1 > KIB64) ship();
        parts.push(part);
        size += n + 1;
      };
      const ship = () => {
        if (parts.length) ws.send(core.list(parts));
        parts = [];
        size = 5;
      };
      if (this.ackDue && this.received > this.ackedOut) {
        this.ackedOut = this.received;
        this.links.push(["ack", this.received]);
      }
      this.ackDue = false;
      for (const frame of this.links.splice(0)) {
        const part = core.list(core.raw(frame));
        core.seen(true, part);
        add(part, core.codec.size(part));
      }
      while (ring.length && taken < KIB64 && (!this.replay.length || this.replayBytes < OUTBOX)) {
        const lane = ring[0];
        const part = lane.deficit > 0 ? this.next(lane) : null;
        if (part === undefined) {
          ring.shift();
          lane.deficit = QUANTUM;
          continue;
        }
        if (part !== null) {
          const n = core.codec.size(part);
          core.seen(true, part);
          this.sent++;
          this.replay.push([part, n]);
          this.replayBytes += n;
          taken += n;
          lane.deficit -= n;
          add(part, n);
        }
        if (lane.deficit <= 0) {
          lane.deficit += QUANTUM;
          ring.push(/** @type {Lane} */ (ring.shift()));
        }
      }
      if (!this.resumeWindow) {
        this.replay = []; // Nothing is ever sent again (HELLO-10).
        this.replayBytes = 0;
        this.acked = 0;
      }
      if (!parts.length) return;
      ship();
    }
  }
  /** Nothing tells when a WebSocket has room again; what comes in, acks for instance, wakes this up too, also in hidden tabs. @param {any} ws */
  watchDrain(ws) {
    if (this.drainTimer) return;
    let least = ws.bufferedAmount, since = now();
    const look = () => {
      this.drainTimer = undefined;
      if (ws !== this.ws) return;
      if (ws.bufferedAmount < least) {
        least = ws.bufferedAmount;
        since = now();
      } else if (now() - since > HELLO_TIME && !G.document?.hidden) return this.lost(ws, 4001, "the other side takes no bytes");
      if (ws.bufferedAmount > AHEAD) this.drainTimer = setTimeout(look, 5);
      else this.flush();
    };
    this.drainTimer = setTimeout(look, 5);
  }

  // The link

  async dial() {
    const { core } = this;
    this.redial?.();
    this.redial = undefined;
    core.attempt++;
    core.nextAt = undefined;
    core.tell();
    const mine = (this.dialling = {});
    /** @type {any} */ let auth;
    try {
      auth = clean(await core.credentials(), core.codec.binary);
    } catch (/** @type {any} */ error) {
      if (this.dialling !== mine || !this.open) return;
      const denied = error instanceof RpcError && (error.code === "unauthenticated" || error.code === "permission_denied");
      return this.lost(undefined, denied ? (error.code === "unauthenticated" ? 4501 : 4503) : 1006, `auth: ${error?.message ?? error}`);
    }
    if (this.dialling !== mine || !this.open) return;
    /** @type {any} */ let ws;
    try {
      ws = this.ws = new core.Socket(core.url, [core.codec.protocol]);
    } catch (error) {
      return core.shut(1006, String(error));
    }
    ws.binaryType = "arraybuffer";
    const hurry = after(HELLO_TIME, () => this.lost(ws, 4008, "no hello in time"));
    ws.onopen = () => {
      if (ws !== this.ws) return ws.close(1000);
      if (ws.protocol !== core.codec.protocol) return this.lost(ws, 4500, "the server speaks no wsrpc"); // LINK-2
      const { maxValue, maxCalls } = core;
      const hello = core.list(core.raw(["hello", {
        version: 1, link: ++this.link, token: this.token, received: this.received, auth: auth ?? null, window: core.window, agent: "wsrpc.js/0.2",
        limits: { max_batch: MAX_BATCH, max_calls: maxCalls, max_value: maxValue, max_held: 2 * maxValue },
      }]));
      core.seen(true, hello);
      ws.send(core.list([hello]));
    };
    ws.onmessage = (/** @type {any} */ event) => {
      if (ws !== this.ws) return;
      hurry();
      this.arrived = now();
      try {
        this.batch(event.data, ws);
      } catch (/** @type {any} */ error) {
        if (!(error instanceof Violation)) console.error("wsrpc: a fault in wsrpc", error);
        this.lost(ws, error instanceof Violation ? error.code : 4500, error.message);
      }
    };
    ws.onclose = (/** @type {any} */ event) => {
      hurry();
      this.lost(ws, event.code, event.reason);
    };
    // Node 20 tells of a refused connection by this event alone.
    ws.onerror = () => setTimeout(() => ws.readyState !== 1 && this.lost(ws, 1006, ""));
  }
  /** The link is gone, or has to go. @param {any} ws @param {number} code @param {string} reason */
  lost(ws, code, reason) {
    if (!this.open || ws !== this.ws) return;
    const { core } = this;
    const greeted = this.up;
    this.up = false;
    this.ws = undefined;
    this.heart?.();
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    this.unacked = this.unackedBytes = 0;
    if (ws && ws.readyState < 2) closeSocket(ws, code, reason);
    const close = { code, reason };
    if (this === core.wire) core.lastClose = close;
    const ends = !(code === 1001 || code === 1005 || code === 1006 || (code >= 1011 && code <= 1015) || (code >= 4000 && code <= 4499));
    if (ends && this === core.wire) return core.shut(code, reason);
    if (greeted) {
      // A frame that some box on the way does not let pass would break one link after another (RESUME-9).
      this.stuck = this.sent > this.acked && this.received + this.acked === this.progress ? this.stuck + 1 : 0;
      if (this.received + this.acked > this.progress || now() - this.openedAt > 15000) core.failures = 0;
      this.expiry = after(this.resumeWindow, () => core.move(this, close));
    }
    if (ends || code === 4010 || this.draining || (greeted && !this.resumeWindow) || this.stuck >= 5) return core.move(this, close, code === 4010 && !!this.token);
    core.later(this);
  }
  beat() {
    this.heart?.();
    const { ws, heartbeat, arrived } = this;
    if (!heartbeat || !ws) return;
    const [interval, timeout] = heartbeat;
    const silent = now() - arrived;
    if (silent >= interval + timeout) {
      // This side may have been asleep: what has arrived meanwhile is delivered first (HEART-2).
      return void setTimeout(() => {
        if (ws === this.ws) this.arrived === arrived ? this.lost(ws, 4002, "no sign of life") : this.beat();
      }, 50);
    }
    if (silent >= interval && this.pinged !== arrived) {
      this.pinged = arrived;
      this.linkFrame(["ping", Math.floor(now())]);
    }
    this.heart = after(silent < interval ? interval - silent : interval + timeout - silent, () => this.beat(), true);
  }

  // Receiving

  /** @param {any} data @param {any} ws */
  batch(data, ws) {
    const { core } = this;
    /** @type {any} */ let batch;
    const length = data.byteLength ?? data.length;
    if (length > MAX_BATCH) throw new Violation(4500, "a message larger than max_batch"); // 1009 is not for browsers to send.
    try {
      batch = core.codec.decode(data);
    } catch (error) {
      throw new Violation(4500, `a message that cannot be read: ${error}`);
    }
    if (!Array.isArray(batch) || !batch.length) throw new Violation(4500, "no batch");
    let numbered = 0;
    for (const frame of batch) if (checked(frame, core.codec)) numbered++;
    for (const frame of batch) {
      if (core.options.trace) core.show(false, frame);
      if (!this.up && frame[0] !== "hello") throw new Violation(4505, "a frame before the hello"); // HELLO-1
      this.take(frame, length / batch.length);
      if (ws !== this.ws) return;
    }
    if (numbered) {
      this.received += numbered;
      this.unacked += numbered;
      this.unackedBytes += length;
      if (this.unacked >= 32 || this.unackedBytes >= KIB64 || G.document?.hidden) this.ack();
      else this.ackTimer ??= setTimeout(() => this.ack(), 500);
      this.wake();
    }
    for (const start of this.starts.splice(0)) start();
  }
  ack() {
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    this.unacked = this.unackedBytes = 0;
    this.ackDue = this.resumeWindow > 0; // ACK-4
    this.wake();
  }
  /** @param {any[]} frame @param {number} bytes */
  take(frame, bytes) {
    const [name, id, body] = frame;
    switch (name) {
      case "hello": return this.greeted(id);
      case "ack": return this.acknowledged(Number(id), 4505);
      case "ping": return this.linkFrame(["pong", id]);
      case "goaway": return this.goaway(id);
      case "auth": throw new Violation(4505, "auth from the server"); // AUTH-2
      case "chunk": return this.piece(frame);
    }
    if (!SHAPES.has(name) || name === "pong") return;
    const part = this.parts.get(id);
    if (part && name !== "credit" && name !== "cancel" && name !== "error") throw new Violation(4505, `a ${name} in the middle of a value`); // CHUNK-4
    if (part && name === "error") this.forgetPart(id);
    const size = frame[SIZE_AT[name]];
    if (size != null) return this.beginPart(frame, Number(size));
    this.dispatch(frame, name, id, body, 1, bytes);
  }
  /** @param {number} id */
  forgetPart(id) {
    const part = this.parts.get(id);
    if (part?.pieces) this.heldIn -= part.size;
    this.parts.delete(id);
  }
  /** A value comes in chunks. @param {any[]} frame @param {number} size */
  beginPart(frame, size) {
    const [name, id] = frame;
    const { core } = this;
    const fits = size <= core.maxValue;
    if (fits && (this.heldIn += size) > 2 * core.maxValue) throw new Violation(4505, "more than max_held"); // CHUNK-6
    const part = { frame, size, got: 0, pieces: /** @type {Part[]|undefined} */ (fits ? [] : undefined) };
    const message = `${size} bytes are more than the ${core.maxValue} that this side takes (maxValue)`;
    if (name === "call" || name === "notify") {
      const serving = this.accept(frame, true);
      if (!fits) serving?.refuse("resource_exhausted", message, { not_started: true });
      if (!serving || serving.ended) part.pieces = undefined;
      if (fits && !part.pieces) this.heldIn -= size;
    } else {
      this.owned(id, name);
      if (!fits) {
        this.calls.get(id)?.useless("resource_exhausted", message);
        const incoming = this.incoming.get(id);
        incoming?.stop(failure("resource_exhausted", message));
      }
    }
    this.parts.set(id, part);
  }
  /** @param {any[]} frame */
  piece([, id, last, piece]) {
    const { core } = this;
    const part = this.parts.get(id);
    if (!part) {
      if (this.calls.has(id) || this.serving.has(id) || this.incoming.has(id)) throw new Violation(4505, "a chunk of nothing");
      return this.opened(id, "chunk");
    }
    const length = core.codec.size(piece);
    part.got += length;
    if (length > KIB64 || (!last && length < 16384) || part.got > part.size || (last && part.got !== part.size)) throw new Violation(4505, "a chunk of a wrong size"); // CHUNK-3
    part.pieces?.push(piece);
    if (!last) return;
    this.forgetPart(id);
    const { frame, size, pieces } = part;
    const name = frame[0];
    /** @type {any} */ let value;
    if (pieces) {
      try {
        value = core.codec.decode(core.codec.unite(pieces));
      } catch {
        value = undefined; // Outside of the value space: VALUE-4 says what follows.
      }
    }
    if (name === "call" || name === "notify") return this.serving.get(id)?.complete?.(value);
    const body = name === "message" || name === "end" ? [value] : name === "error" ? { ...frame[2], data: value } : value;
    this.dispatch(frame, name, id, body, 1 + Math.floor(size / KIB64), size);
  }
  /** An id that is not live has to be one that was (ID-5, ID-6). @param {number} id @param {string} name */
  opened(id, name) {
    if (id & 1 ? id >= this.nextId : id > this.peerId) throw new Violation(4505, `${name} on id ${id}, which nobody opened`);
  }
  /** @param {number} id @param {string} name */
  owned(id, name) {
    const call = this.calls.get(id), incoming = this.incoming.get(id);
    if (call ? (call.kind === "notify" || typeof call.method === "number" ? name === "message" || name === (call.kind === "notify" ? "result" : "end") : false) : incoming ? name === "result" : this.serving.has(id) || this.uploads.has(id) || this.offers.has(id)) {
      throw new Violation(4505, `${name} on id ${id}`);
    }
    if (!call && !incoming) this.opened(id, name);
  }
  /** @param {any[]} frame @param {string} name @param {number} id @param {any} body @param {number} cost @param {number} bytes */
  dispatch(frame, name, id, body, cost, bytes) {
    if (name === "call" || name === "notify") return void this.accept(frame, false);
    if (name === "credit" || name === "cancel") {
      const source = this.serving.get(id) ?? this.uploads.get(id);
      if (!source) {
        if (this.calls.has(id) || this.incoming.has(id) || this.offers.has(id)) throw new Violation(4505, `${name} on id ${id}`);
        this.opened(id, name);
        if (name === "credit" && body < 1) throw new Violation(4505, "a credit below 1");
      } else if (name === "credit") source.credit(Number(body));
      else {
        const reason = body === "deadline_exceeded" ? body : "cancelled";
        this.forgetPart(id);
        if (source instanceof Serving) return source.cancel(reason);
        /** @type {any} */ (source).reason = reason;
        source.stop();
        this.dropChunks(id);
      }
      return;
    }
    this.owned(id, name);
    const call = this.calls.get(id);
    if (call) {
      if (name === "message") return call.onItems(body, cost, bytes / body.length);
      if (name === "result") return call.onResult(body);
      if (name === "end") return call.onEnd(body);
      return call.onError(received(body));
    }
    const incoming = this.incoming.get(id);
    if (!incoming) return;
    if (name === "message") {
      const wrong = body.findIndex((/** @type {any} */ one) => outside(one));
      incoming.stream._take(wrong < 0 ? body : body.slice(0, wrong), cost, bytes / body.length);
      if (wrong >= 0) {
        const error = { loc: [incoming.name], msg: "outside of the value space", type: "value_error" };
        incoming.stop(new RpcError("invalid_argument", `${incoming.name}: an item is outside of the value space`, { errors: [error], total: 1 })); // UP-5
      }
      return;
    }
    this.incoming.delete(id);
    incoming.stream._finish(name === "error" ? received(body) : undefined);
  }
  /** @param {any} hello */
  greeted(hello) {
    const { core } = this;
    if (this.up) throw new Violation(4505, "a second hello");
    if (hello.version != 1) throw new Violation(4507, `version ${hello.version}`);
    const resuming = this.token !== null;
    if (resuming && !hello.resumed) throw new Violation(4010, "not resumed"); // RESUME-2
    if (!resuming) {
      const limits = hello.limits ?? {};
      this.id = hello.session ?? "";
      const max_batch = limits.max_batch ?? KIB64;
      this.peer = { window: hello.window ?? 0, max_calls: limits.max_calls ?? 8, max_batch, max_value: limits.max_value ?? max_batch, max_held: limits.max_held ?? 0 };
    } else this.acknowledged(Number(hello.received ?? 0), 4010);
    this.resumeWindow = Number(hello.resume_window ?? 0);
    this.token = this.resumeWindow ? hello.token ?? null : null;
    if (this.token === null) this.resumeWindow = 0;
    this.heartbeat = hello.heartbeat ?? undefined;
    this.expiry?.();
    this.up = true;
    this.openedAt = now();
    this.progress = this.received + this.acked;
    this.links = [];
    this.ackedOut = this.received;
    // The ack is first (ACK-1); then what was numbered goes again, with the very same bytes (RESUME-4).
    /** @type {Part[]} */ let parts = [core.list(core.raw(["ack", this.received]))];
    let size = 100;
    for (const [part, n] of this.replay) {
      if (size + n + 1 > KIB64 && parts.length) {
        this.ws.send(core.list(parts));
        parts = [];
        size = 5;
      }
      parts.push(part);
      size += n + 1;
    }
    if (parts.length) this.ws.send(core.list(parts));
    if (core.options.trace) {
      core.show(true, ["ack", this.received]);
      for (const [part] of this.replay) core.seen(true, part);
    }
    core.opened(this, resuming);
    this.beat();
    this.wakeOpenings();
  }
  /** @param {number} n @param {number} code */
  acknowledged(n, code) {
    if (n > this.sent || n < this.acked) throw new Violation(code, `an ack of ${n} out of ${this.sent}`); // ACK-3
    if (!this.resumeWindow && code === 4505) return;
    for (const [, size] of this.replay.splice(0, n - this.acked)) this.replayBytes -= size;
    this.acked = n;
    this.wake();
  }
  /** @param {any} body */
  goaway(body) {
    const first = !this.draining;
    this.draining = true;
    for (const call of [...this.calls.values()]) {
      if (call.id <= body.last_id || typeof call.method === "number" || (call.parent && call.parent.wire === this)) continue;
      call.closed(); // GOAWAY-2; what the server has not seen goes in the next session.
      if (!call.done) this.core.retry(call, failure("unavailable", "the server is draining", true), true);
    }
    if (first) this.core.drains(this, Number(body.reconnect_after ?? 0));
  }

  // What the server calls here

  /** @param {any[]} frame @param {boolean} partly Whether its arguments are still to come. @returns {Serving|undefined} */
  accept([kind, id, method, args, given], partly) {
    const { core } = this;
    const options = given ?? {};
    const uploads = Object.entries(options.uploads ?? {}), callbacks = Object.entries(options.callbacks ?? {});
    const ids = [id, ...[...uploads, ...callbacks].map((one) => one[1])];
    if (ids.some((one) => one & 1) || id <= this.peerId || ids.length > 16 || new Set(ids).size < ids.length || ids.some((one) => one < id)) throw new Violation(4505, `the server opened ids ${ids.slice(0, 20)}`); // ID-1 to ID-3
    if ((kind === "notify" || typeof method === "number") && ids.length > 1) throw new Violation(4505, "uploads or callbacks where none may be"); // NOTIFY-2, CB-1
    this.peerId = Math.max(...ids);
    const offer = this.offers.get(method);
    if (typeof method === "number" && !offer) {
      if (this.calls.has(method) || this.uploads.has(method) || !(method & 1)) throw new Violation(4505, `${method} is no callback`); // CB-4
      this.opened(method, "call");
    }
    const busy = [...this.serving.values()].filter((one) => !one.offer && !one.ended).length;
    const serving = new Serving(this, kind, id, offer ? offer.name : method, options);
    this.serving.set(id, serving);
    if (typeof method === "number") {
      if (!offer) return serving.refuse("failed_precondition", "the callback's call is over"), serving;
      if (offer.live >= 8) return serving.refuse("resource_exhausted", "8 calls of this callback run already", { not_started: true }), serving;
      offer.live++;
      serving.offer = offer;
    } else {
      if (busy >= core.maxCalls) return serving.refuse("resource_exhausted", "no slot is free", { not_started: true }), serving; // SLOT-4
      let size = bytesOf((options.key ?? "") + (options.last_id ?? ""));
      for (const [name, value] of Object.entries(options.metadata ?? {})) size += bytesOf(name + value);
      if (size > MAX_METADATA) return serving.refuse("resource_exhausted", `metadata of more than ${MAX_METADATA} bytes`), serving; // CALL-9
    }
    const run = offer ? (/** @type {any} */ list) => offer.run(...list) : core.find(method);
    if (!run) return serving.refuse("unimplemented", `there is no method ${method.slice(0, 200)} here`, { data: { near: core.near(method) } }), serving;
    for (const [name, upload] of uploads) {
      const incoming = new Downstream(this, /** @type {number} */ (upload), name);
      this.incoming.set(incoming.id, incoming);
      serving.uploads.push(incoming.stream);
      serving.uploadIds.push(incoming.id);
    }
    /** @type {any} */ (serving).complete = (/** @type {any} */ value) => {
      if (outside(value) || !(offer ? isList(value) : obj(value))) return serving.refuse("invalid_argument", "the arguments are outside of the value space", { data: { errors: [{ loc: [], msg: "outside of the value space", type: "value_error" }], total: 1 } });
      this.starts.push(() => void serving.start(run, value)); // Once the batch is taken (CANCEL-2).
    };
    if (!partly) /** @type {any} */ (serving).complete(args);
    return serving;
  }

  /** It is over for good; what it carried is told so. @param {Close} close @returns {Call[]} The calls that were live. */
  end(close) {
    this.open = this.up = false;
    this.dialling = undefined;
    for (const stop of [this.redial, this.heart, this.expiry]) stop?.();
    clearTimeout(this.ackTimer);
    clearTimeout(this.drainTimer);
    const error = failure("unavailable", `the session ended: ${close.code} ${close.reason}`);
    const live = [...this.calls.values()];
    for (const call of live) call.closed();
    for (const serving of [...this.serving.values()]) serving.cancel("cancelled");
    this.serving.clear();
    for (const one of this.incoming.values()) one.stream._finish(error);
    this.incoming.clear();
    for (const source of this.starved) source.wake();
    for (const call of this.urgent.splice(0)) {
      call.slot = false;
      if (typeof call.method === "number") call.settle(error);
      else live.push(call);
    }
    return live;
  }
}

/** Browsers take 1000 and 3000 to 4999 alone. @param {any} ws @param {number} code @param {string} reason */
function closeSocket(ws, code, reason) {
  try {
    ws.close(code === 1000 || code >= 3000 ? code : 4000, reason.replace(/[^ -~]/g, "?").slice(0, 120));
  } catch {
    // It is gone already.
  }
}

// --- The session -----------------------------------------------------------------------------------

/** What a session does, kept out of its public face. */
class Core {
  /** @type {State} */ state = "connecting";
  since = Date.now();
  attempt = 0;
  failures = 0;
  /** @type {number|undefined} */ nextAt;
  /** @type {Close|undefined} */ lastClose;
  /** @type {any} */ fatal;
  draining = false;
  links = 0;
  resumes = 0;
  everOpen = false;
  closedByApplication = false;
  sent = 0;
  warned = false;
  lastAuth = -Infinity;
  /** @type {Call[]} */ waiting = [];
  waitingBytes = 0;
  /** @type {Set<Call>} */ counted = new Set();
  /** @type {Set<Wire>} Sessions that drain, beside the one for new calls. */ old = new Set();
  /** @type {Map<string, any>} */ controllers = new Map();
  /** @type {Array<{resolve: () => void, reject: (e: any) => void}>} */ readiness = [];
  /** @type {Set<(s: Snapshot) => void>} */ listeners = new Set();
  /** @type {WeakMap<object, any>} */ proxies = new WeakMap();
  // All calls may spend 1,000 tokens on repeats together; below half of them nothing is repeated (RETRY-1).
  tokens = 1000;
  spentAt = now();
  spentSent = 0;
  hints = 20;
  hintedAt = 0;
  /** @type {Array<() => void>} */ idlers = [];

  /** @param {Session} session @param {string} url @param {ConnectOptions} options @param {any} Socket */
  constructor(session, url, options, Socket) {
    this.session = session;
    this.url = url;
    this.options = options;
    this.Socket = Socket;
    this.codec = options.codec ?? json;
    this.window = options.window ?? 32;
    this.timeout = options.timeout === undefined ? 30000 : options.timeout;
    this.maxCalls = options.maxCalls ?? 256;
    this.maxValue = options.maxValue ?? 16 * 2 ** 20;
    this.auth = options.auth;
    this.null = this.codec.encode(null);
    this.list = this.codec.list;
    this.snapshot = this.picture();
    this.expose(options.controllers ?? []);
    this.onWake = () => this.poke();
    this.onHide = (/** @type {any} */ e) => e.persisted || this.shut(1000, "the page was left");
    this.wire = new Wire(this);
    this.begin();
  }
  begin() {
    this.listen("addEventListener");
    const { wire } = this;
    queueMicrotask(() => wire.open && wire.dial()); // A session that is closed at once opens no socket.
  }
  /** @param {"addEventListener"|"removeEventListener"} how */
  listen(how) {
    for (const name of ["online", "pageshow"]) G[how]?.(name, this.onWake);
    G[how]?.("pagehide", this.onHide);
    for (const name of ["visibilitychange", "resume"]) G.document?.[how](name, this.onWake);
  }
  /** @param {any[]} elements @returns {Part[]} */
  raw(elements) {
    odd = false;
    return elements.map((one) => this.codec.encode(one));
  }
  /** @param {unknown} value @returns {Part} */
  encode(value) {
    odd = false;
    return this.codec.encode(clean(value, this.codec.binary));
  }
  /** @param {number} id @param {Part} value @returns {Frame} */
  resultFrame(id, value) {
    const head = this.raw(["result", id]);
    return { inline: this.list([...head, value]), value, nulled: [...head, this.null] };
  }
  /** @param {number} id @param {Part} [value] @returns {Frame} */
  endFrame(id, value) {
    const head = this.raw(["end", id]);
    if (value === undefined) return { inline: this.list(head) };
    return { inline: this.list([...head, this.list([value])]), value, nulled: [...head, this.list([this.null])] };
  }
  /** @param {number} id @param {any} body @returns {Frame} */
  errorFrame(id, body) {
    const head = this.raw(["error", id]);
    const { data, ...rest } = body;
    const bare = this.encode(rest);
    try {
      if (data === undefined) return { inline: this.list([...head, bare]) };
      const value = this.encode(data);
      if (this.codec.size(value) > Math.min(this.wire.peer.max_value, this.wire.peer.max_held || KIB64 - 5000)) throw 0;
      return { inline: this.list([...head, this.encode(body)]), value, nulled: [...head, this.encode({ ...rest, data: null })] };
    } catch {
      return { inline: this.list([...head, bare]) }; // It goes without data that cannot go (VALUE-7).
    }
  }
  /** What crosses of an error (ERROR-2, ERROR-3). @param {any} error @param {string} where @param {boolean} [own] Whether this side is told anyway. */
  describe(error, where, own) {
    if (error instanceof RpcError && error.type !== "wsrpc.size") {
      const { code, message, data, type, retryAfter } = error;
      return { code, message: String(message), ...(data !== undefined && { data }), ...(type && { type }), ...(int()(retryAfter) && { retry_after: retryAfter }) };
    }
    const error_id = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
    if (!own) console.error(`wsrpc: ${where} (error id ${error_id})`, error);
    return { code: "internal", message: "internal error", error_id };
  }

  // What applications see of it

  /** @returns {Snapshot} */
  picture() {
    const { state, since, attempt, nextAt, lastClose, draining, resumes } = this;
    return Object.freeze({ state, since, attempt, ...(nextAt !== undefined && { nextAttemptAt: nextAt }), ...(lastClose && { lastClose }), draining, resumes });
  }
  tell() {
    this.snapshot = this.picture();
    for (const listener of [...this.listeners]) {
      try {
        listener(this.snapshot);
      } catch (error) {
        setTimeout(() => { throw error; }); // Reported as any other of the page.
      }
    }
    this.session.dispatchEvent(new Event("state"));
  }
  /** @param {State} state */
  become(state) {
    if (this.state !== state) {
      this.state = state;
      this.since = Date.now();
    }
    if (state === "open") for (const one of this.readiness.splice(0)) one.resolve();
    if (state === "closed") for (const one of this.readiness.splice(0)) one.reject(this.why());
    this.tell();
  }
  /** @param {boolean} sent @param {Part} part */
  seen(sent, part) {
    if (this.options.trace) this.show(sent, this.codec.decode(this.codec.unite([part])));
  }
  /** @param {boolean} sent @param {any[]} frame */
  show(sent, frame) {
    if (!this.options.traceSecrets) {
      if (frame[0] === "auth") frame = ["auth", "…"];
      if (frame[0] === "hello" && obj(frame[1])) {
        const { auth, token } = frame[1];
        frame = ["hello", { ...frame[1], ...(auth != null && { auth: "…" }), ...(token != null && { token: "…" }) }];
      }
    }
    try {
      this.options.trace?.(sent, frame, Date.now());
    } catch (error) {
      console.error("wsrpc: trace failed", error);
    }
  }
  why() {
    if (this.closedByApplication) return failure("cancelled", "closed by the application", true);
    const { code, reason } = this.lastClose ?? { code: 1006, reason: "" };
    return failure(code === 4501 || code === 4503 ? "unauthenticated" : "unavailable", `${FINAL}: ${code} ${reason}`, true);
  }
  whyWaiting() {
    const { wire } = this;
    if (this.state !== "open") return `; there is no connection (${this.state})`;
    const unread = [...wire.calls.values()].filter((call) => call.streaming && !call.stream._read).length;
    return `; no slot was free: ${wire.used} open, ${unread} unread`;
  }
  /** @param {string} method */
  warnUnread(method) {
    if (!this.warned) console.warn(`wsrpc: nobody reads the stream of ${method}; it holds a slot until it is read or cancelled`);
    this.warned = true;
  }

  // Connections

  /** @returns {Promise<any>} */
  async credentials() {
    const { auth, attempt, lastClose } = this;
    if (typeof auth !== "function") return auth;
    const abort = new AbortController();
    const message = "auth gave no credentials within 10 s";
    /** @type {any} */ let stop;
    const late = new Promise((_, reject) => {
      stop = after(HELLO_TIME, () => {
        abort.abort(failure("deadline_exceeded", message));
        reject(new Error(message));
      });
    });
    try {
      return await Promise.race([auth({ signal: abort.signal, attempt, lastClose }), late]);
    } finally {
      stop();
    }
  }
  /** @param {Wire} wire @param {boolean} resumed */
  opened(wire, resumed) {
    this.everOpen = true;
    this.links++;
    if (resumed) this.resumes++;
    this.attempt = 0;
    this.lastAuth = now();
    this.become("open");
  }
  /** The next attempt to reach a server (RETRY-2). @param {Wire} wire @param {number} [floor] Milliseconds to stay away. */
  later(wire, floor = 0) {
    const { code, reason } = /** @type {Close} */ (this.lastClose);
    if (this.options.reconnect === false) return this.shut(code, reason);
    // A page cannot tell a server that is down from one that refuses it.
    if (!this.everOpen && this.failures >= 2) {
      return this.shut(code, `${reason || "no connection"}: gave up after 3 attempts; ${this.url} is down, or does not let in this page's origin (Server(origins=…))`);
    }
    const bound = Math.min(15000, 900 * 2 ** this.failures++);
    const hidden = G.document?.hidden && this.failures === 1 && !floor;
    const delay = hidden ? 0 : floor ? floor + Math.random() * 1000 : Math.random() * bound;
    this.nextAt = Date.now() + delay;
    if (hidden) queueMicrotask(() => wire.open && wire.dial());
    else wire.redial = after(delay, () => wire.dial());
    if (wire === this.wire && !this.old.size) this.become(this.everOpen ? "lost" : "connecting");
    else this.tell();
  }
  /** A session of the wire has ended; another one takes its place. @param {Wire} wire @param {Close} close @param {boolean} [atOnce] */
  move(wire, close, atOnce) {
    const current = wire === this.wire;
    if (current) this.lastClose = close;
    const live = wire.end(close);
    this.old.delete(wire);
    if (!this.old.size) this.draining = false;
    const error = () => failure("unavailable", `the session ended: ${close.code} ${close.reason}`);
    if (current) {
      if (this.options.reconnect === false) {
        this.shut(close.code, close.reason);
        for (const call of live) call.settle(error());
        return;
      }
      this.wire = new Wire(this);
      if (atOnce) {
        this.become("lost");
        const next = this.wire;
        queueMicrotask(() => next.open && next.dial());
      } else this.later(this.wire);
    } else if (!this.old.size && !this.wire.up) this.become("lost");
    else this.tell();
    for (const call of live) this.retry(call, Object.assign(error(), { notStarted: !call.id }), true);
    this.idle();
  }
  /** The server wants to go: what runs goes on there, and new calls begin in another session (DRAIN-4). @param {Wire} wire @param {number} floor */
  drains(wire, floor) {
    if (wire !== this.wire) return;
    this.draining = true;
    if (this.options.reconnect === false) return this.tell();
    this.old.add(wire);
    this.wire = new Wire(this);
    this.failures = 0;
    this.lastClose ??= { code: 1012, reason: "the server is draining" };
    this.later(this.wire, Math.max(1, floor));
  }
  /** The page is back, or the network: do not wait for a timer that a hidden tab has delayed. */
  poke() {
    if (G.document?.hidden) return;
    for (const wire of [this.wire, ...this.old]) {
      if (wire.up) wire.beat();
      else if (wire.redial) {
        this.failures = 0;
        wire.dial();
      }
    }
  }
  /** @param {number} code @param {string} reason @returns {Promise<void>} When the sockets are closed. */
  shut(code, reason) {
    if (this.state === "closed") return Promise.resolve();
    const close = { code, reason };
    this.lastClose = close;
    this.nextAt = undefined;
    this.listen("removeEventListener");
    const error = () => failure(code === 4501 || code === 4503 ? "unauthenticated" : "unavailable", `the session ended: ${code} ${reason}`);
    const closing = [];
    for (const wire of [this.wire, ...this.old]) {
      const { ws } = wire;
      wire.ws = undefined;
      const live = wire.end(close);
      if (ws && ws.readyState < 3) {
        closing.push(new Promise((/** @type {any} */ resolve) => {
          const stop = after(2000, resolve, true);
          ws.onclose = ws.onerror = () => (stop(), resolve());
          ws.onmessage = ws.onopen = null;
        }));
        closeSocket(ws, code, reason);
      }
      for (const call of live) call.settle(Object.assign(error(), { notStarted: !call.id && !call.mayHaveRun }));
    }
    this.old.clear();
    const waiting = this.waiting.splice(0);
    this.become("closed");
    for (const call of waiting) call.settle(Object.assign(error(), { notStarted: !call.mayHaveRun }));
    this.idle();
    return Promise.all(closing).then(nothing);
  }
  /** Whoever waits for the last call is told. */
  idle() {
    if (this.idlers.length && !this.waiting.length && [this.wire, ...this.old].every((wire) => !wire.calls.size && !wire.serving.size)) {
      for (const one of this.idlers.splice(0)) one();
    }
  }

  // Calls

  /** @param {string} method @param {any} args @param {any} options @param {any} facts @param {Parent} [parent] @returns {Call} */
  call(method, args, options = {}, facts, parent) {
    const call = new Call(this, method, args, options, facts, parent);
    if (!call.done) this.start(call);
    return call;
  }
  /** @param {Call} call */
  start(call) {
    const parent = call.parent?.wire;
    if (this.state === "closed" || this.closing) return call.settle(this.closing ? failure("cancelled", "closed by the application", true) : this.why());
    if (parent?.open && parent.serving.has(/** @type {Parent} */ (call.parent).id)) {
      // It never waits for a slot, lest a ring of calls waits for itself (SLOT-3).
      if (parent.used >= parent.peer.max_calls) return call.settle(failure("resource_exhausted", `${call.method}: no slot is free for a call made by a handler`, true));
      parent.used++;
      call.slot = true;
      return parent.begin(call);
    }
    if (this.waiting.length >= MAX_WAITING || this.waitingBytes + call.size > MAX_WAITING_BYTES + MAX_BATCH) {
      return call.settle(failure("resource_exhausted", `${call.method}: ${this.waiting.length} calls of ${this.waitingBytes} bytes wait already`, true));
    }
    this.counted.add(call);
    this.waitingBytes += call.size;
    this.waiting.push(call);
    this.wire.wakeOpenings();
  }
  /** It does not wait any more. @param {Call} call */
  forget(call) {
    if (this.counted.delete(call)) this.waitingBytes -= call.size;
    if (this.idlers.length) queueMicrotask(() => this.idle());
  }
  /** A call has failed: make it again, where that is safe (RETRY-1), or tell the application. @param {Call} call @param {RpcError} error @param {boolean} moved Whether the session that failed it is over. */
  retry(call, error, moved) {
    if (call.done) return;
    const { code, notStarted } = error;
    const repeatable = code === "unavailable" ? notStarted || call.idempotent : code === "resource_exhausted" && notStarted;
    const left = (call.deadline ?? Infinity) - now();
    const again = () => {
      if (call.done) return;
      call.id = 0;
      call.cancelled = call.streaming = false;
      call.pumps = [];
      this.start(call);
    };
    if (!notStarted) call.mayHaveRun = true;
    if (repeatable && this.state !== "closed" && !call.begun && (!call.delivered || call.tracked) && left > 0) {
      if (moved && notStarted) return again(); // It has cost the other side nothing.
      this.tokens = Math.max(0, Math.min(1000, this.tokens + (this.sent - this.spentSent + (now() - this.spentAt) / 1000) / 10) - 1);
      this.spentSent = this.sent;
      this.spentAt = now();
      const delay = error.retryAfter === undefined ? Math.random() * Math.min(5000, 100 * 2 ** (call.attempts - 1)) : error.retryAfter + Math.random() * 100;
      if (call.attempts < 5 && this.tokens > 500 && delay < left) {
        call.attempts++;
        return void after(delay, again);
      }
    }
    if (call.mayHaveRun) error.notStarted = false;
    call.settle(error);
  }
  /** @param {any} which @param {ClientOptions} [options] @param {Parent} [parent] @returns {any} */
  clientize(which, options, parent) {
    const known = typeof which === "string" ? undefined : which;
    if (known ? !(str(known.name) && obj(known.methods)) : !str(which)) throw new TypeError("clientize takes a controller's name, or what `wsrpc gen ts` wrote for it");
    const cached = known && !options && !parent && this.proxies.get(known);
    if (cached) return cached;
    const { streamFetcher: fetcher, ...common } = options ?? {};
    const controller = known ? known.name : which;
    const method = (/** @type {string} */ wire, /** @type {any} */ facts) => (/** @type {any} */ args, /** @type {any} */ more) => {
      const given = more === undefined ? common : isPlain(more) ? { ...common, ...more } : more;
      const plain = () => this.call(`${controller}.${wire}`, args, given, facts, parent);
      const { kind } = facts;
      if (kind === "unary" || kind === "notify") return plain().promise;
      if (!fetcher) {
        const call = plain();
        return kind ? call.stream : new Reply(call.stream, () => call.promise);
      }
      const fetch = (/** @type {StreamRequest} */ asked) => {
        /** @type {Call} */ let call;
        return new Fetched(() => (call ??= this.call(`${asked.controller}.${asked.method}`, asked.args, asked.options, { ...facts, kind: "stream" }, parent)).stream);
      };
      const request = (/** @type {any} */ now) => Object.freeze({ controller, method: wire, args: now, options: given, withArgs: (/** @type {any} */ changed) => request({ ...now, ...changed }) });
      const stream = new Fetched(() => fetcher(request(args ?? {}), fetch));
      return kind ? stream : new Reply(stream, () => plain().promise);
    };
    if (!known) {
      /** @type {Map<string, any>} */ const made = new Map();
      return new Proxy(Object.freeze(Object.create(null)), {
        get: (_, name) => {
          if (!str(name) || RESERVED.has(/** @type {string} */ (name)) || /** @type {string} */ (name).startsWith("__")) return undefined;
          const key = /** @type {string} */ (name);
          if (!made.has(key)) made.set(key, method(snake(key), {}));
          return made.get(key);
        },
      });
    }
    /** @type {any} */ const api = {};
    for (const [name, facts] of Object.entries(known.methods)) {
      if (RESERVED.has(name) || name.startsWith("__")) continue;
      const wire = /** @type {any} */ (facts).wire ?? name;
      api[name] = method(wire, facts);
      // The other spelling works as well, unless it is another method's.
      for (const other of [wire, camel(wire)]) if (!Object.hasOwn(known.methods, other) && !RESERVED.has(other)) Object.defineProperty(api, other, { value: api[name] });
    }
    Object.freeze(api);
    if (!options && !parent) this.proxies.set(known, api);
    return api;
  }

  // Controllers of this side

  /** @param {any} controllers */
  expose(controllers) {
    for (const [key, one] of Object.entries(controllers)) {
      const name = Array.isArray(controllers) ? one.controllerName ?? one.constructor?.controllerName ?? one.constructor?.name : key;
      if (!str(name) || !name || name === "Object") throw new TypeError("a controller needs a name: a class, `controllerName`, or {Name: controller}");
      if (name.startsWith("wsrpc")) throw new TypeError(`${name}: names that begin with wsrpc are reserved`); // REFLECT-2
      this.controllers.set(name, one);
    }
  }
  /** @param {any} controller @param {string} name */
  has(controller, name) {
    return !name.startsWith("_") && name !== "constructor" && !(name in Object.prototype) && typeof controller[name] === "function";
  }
  /** @param {string} method @returns {((args: any, ctx: any) => any)|undefined} */
  find(method) {
    if (method === "wsrpc.reflection.describe" && this.options.reflection !== false) return () => this.contract();
    const dot = method.lastIndexOf(".");
    const controller = this.controllers.get(method.slice(0, dot));
    const name = method.slice(dot + 1);
    const found = controller && dot > 0 && [name, camel(name)].find((one) => this.has(controller, one));
    if (found) return (args, ctx) => controller[found](args, ctx);
    const { fallback } = this.options;
    return fallback && ((args, ctx) => fallback(method, args, ctx));
  }
  /** The names of a controller's methods. @param {any} controller */
  methods(controller) {
    const names = new Set();
    for (let at = controller; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
      for (const name of Object.getOwnPropertyNames(at)) if (!Object.getOwnPropertyDescriptor(at, name)?.get && this.has(controller, name)) names.add(name);
    }
    return /** @type {string[]} */ ([...names]);
  }
  /** Names that resemble one that is not there (ERROR-5). @param {string} method */
  near(method) {
    this.hints = Math.min(20, this.hints + ((now() - this.hintedAt) / 1000) * 5);
    this.hintedAt = now();
    if (method.length > 200 || this.hints < 1) return [];
    this.hints--;
    const all = [...this.controllers].flatMap(([name, one]) => this.methods(one).map((m) => `${name}.${snake(m)}`));
    return all.map((name) => ({ name, like: likeness(method, name) })).filter((one) => one.like >= 0.6).sort((a, b) => b.like - a.like).slice(0, 3).map((one) => one.name);
  }
  /** What `wsrpc.reflection.describe` answers (REFLECT-1); JavaScript knows names, but no types. */
  contract() {
    /** @type {any} */ const controllers = {};
    for (const [name, one] of this.controllers) {
      /** @type {any} */ const methods = {};
      for (const method of this.methods(one)) {
        const text = Function.prototype.toString.call(one[method]);
        /** @type {any} */ const params = {};
        for (const param of /^[^(]*\(\s*\{([\w\s,$=:'".]*)\}/.exec(text)?.[1].split(",") ?? []) {
          const found = /^\s*([\w$]+)\s*(:[^=]*)?(=)?/.exec(param);
          if (found) put(params, found[1], { kind: "value", required: !found[3], schema: {} });
        }
        const stream = /^(async\s*)?(function\s*)?\*/.test(text);
        put(methods, snake(method), { kind: stream ? "stream" : "unary", doc: "", params, [stream ? "item" : "result"]: {} });
      }
      put(controllers, name, { name, doc: "", methods });
    }
    return { version: 1, controllers };
  }
}

/**
 * The conversation with one server. It outlives lost connections; `state` events tell of each change.
 */
export class Session extends EventTarget {
  /** @internal @type {Core} */ _core;

  /** @internal @param {string} url @param {ConnectOptions} options @param {any} Socket */
  constructor(url, options, Socket) {
    super();
    this._core = new Core(this, url, options, Socket);
    /** Calls a function with the snapshot at once and after each change; returns what ends that. */
    this.subscribe = (/** @type {(snapshot: Snapshot) => void} */ listener) => {
      const one = (/** @type {Snapshot} */ snapshot) => listener(snapshot);
      this._core.listeners.add(one);
      one(this._core.snapshot);
      return () => void this._core.listeners.delete(one);
    };
    if (Symbol.asyncDispose) Object.defineProperty(this, Symbol.asyncDispose, { value: () => this.close() });
  }
  /** @returns {State} */
  get state() {
    return this._core.state;
  }
  /** How things are: frozen, and another object after each change. */
  get snapshot() {
    return this._core.snapshot;
  }
  /** The public name of the session on the wire. @returns {string} */
  get id() {
    return this._core.wire.id ?? "";
  }
  /** Why the last connection closed. */
  get lastClose() {
    return this._core.lastClose;
  }
  /** Connections so far. */
  get links() {
    return this._core.links;
  }
  /** How often the session went on over another connection. */
  get resumes() {
    return this._core.resumes;
  }
  /** Whether the server finishes what it has and then goes. */
  get draining() {
    return this._core.draining;
  }
  /** Resolves when the server has let this side in; rejects when it never will. @returns {Promise<void>} */
  ready() {
    const core = this._core;
    if (core.state === "open") return Promise.resolve();
    if (core.state === "closed") return Promise.reject(core.why());
    return new Promise((resolve, reject) => core.readiness.push({ resolve, reject }));
  }
  /**
   * A client for a controller of the server's.
   * @template T
   * @overload
   * @param {Controller<T>} which What `wsrpc gen ts` wrote.
   * @param {ClientOptions} [options]
   * @returns {T}
   */
  /**
   * @template [T=any]
   * @overload
   * @param {string} which Its name; what its methods give can be awaited and iterated over.
   * @param {ClientOptions} [options]
   * @returns {T}
   */
  /** @param {any} which @param {ClientOptions} [options] @returns {any} */
  clientize(which, options) {
    return this._core.clientize(which, options);
  }
  /** Call by full name, for one value. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Promise<any>} */
  call(method, args, options) {
    return this._core.call(method, args, options, { kind: "unary" }).promise;
  }
  /** Call by full name, for a stream. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Stream<any, any>} */
  stream(method, args, options) {
    return this._core.call(method, args, options, { kind: "stream" }).stream;
  }
  /** Call by full name without awaiting an answer; resolves when it is on its way. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Promise<void>} */
  notify(method, args, options) {
    return this._core.call(method, args, options, { kind: "notify" }).promise;
  }
  /** Let the server call these. @param {Array<object>|Record<string, object>} controllers */
  expose(controllers) {
    this._core.expose(controllers);
  }
  /** Show fresh credentials on the live connection, once in 2 s at most. @returns {Promise<void>} */
  async refreshAuth() {
    const core = this._core;
    const wait = core.lastAuth + 2000 - now();
    core.lastAuth = Math.max(now(), core.lastAuth + 2000);
    if (wait > 0) await new Promise((/** @type {any} */ go) => after(wait, go, true));
    const auth = clean(await core.credentials(), core.codec.binary);
    for (const wire of [core.wire, ...core.old]) if (wire.up) wire.linkFrame(["auth", auth ?? null]);
  }
  /** Drop the connection, as a failing network would; the session goes on. */
  cut() {
    for (const wire of [this._core.wire, ...this._core.old]) {
      const { ws } = wire;
      if (!ws) continue;
      closeSocket(ws, 4000, "cut");
      wire.lost(ws, 1006, "cut");
    }
  }
  /** End the session. @param {{drain?: number}} [options] Milliseconds that calls under way may still take; new ones fail meanwhile. @returns {Promise<void>} */
  async close({ drain = 0 } = {}) {
    const core = this._core;
    core.closedByApplication ||= core.state !== "closed";
    if (drain > 0 && core.state !== "closed") {
      core.closing = true;
      await new Promise((/** @type {any} */ resolve) => {
        core.idlers.push(resolve);
        after(drain, resolve, true);
        core.idle();
      });
    }
    await core.shut(1000, "closed by the application");
  }
  /** Begin anew after the end; clients and controllers stay good. @param {{auth?: ConnectOptions["auth"]}} [options] @returns {Promise<void>} As `ready` does. */
  reopen(options) {
    const core = this._core;
    if (options && "auth" in options) core.auth = options.auth;
    if (core.state === "closed") {
      core.wire = new Wire(core);
      core.closedByApplication = core.closing = core.everOpen = core.draining = false;
      core.failures = core.attempt = 0;
      core.become("connecting");
      core.begin();
    }
    return this.ready();
  }
}

/**
 * Begin a session. It is there at once; calls wait for the connection, within their deadlines.
 * @param {string|URL} [url] `ws://host:port/path` or the same with http; in a page of the server's own, nothing.
 * @param {ConnectOptions} [options]
 * @returns {Session}
 * @throws {TypeError} A bad URL or option, or no WebSocket.
 */
export function connect(url = ".", options = {}) {
  if (!isPlain(options)) throw new TypeError("the options are a plain object");
  const base = G.document?.baseURI ?? G.location?.href;
  /** @type {URL} */ let at;
  try {
    at = new URL(url, base);
  } catch {
    throw new TypeError(`${url} is no URL${base ? "" : ", and there is no page that it could be relative to"}`);
  }
  at.protocol = at.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(at.protocol)) throw new TypeError(`${at.protocol} is none of ws, wss, http and https`);
  at.hash = "";
  const Socket = options.WebSocket ?? G.WebSocket;
  if (!Socket) throw new TypeError("there is no WebSocket here; Node < 22: pass {WebSocket}, for instance that of the package ws");
  if (options.codec !== undefined && typeof options.codec?.decode !== "function") throw new TypeError('codec is an object: import { msgpack } from "./wsrpc-msgpack.js"');
  return new Session(at.href, options, Socket);
}
