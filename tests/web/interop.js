// Every method of the interop service of protocol.md, called through wsrpc.js as its users do.
// In a page, in a worker, in Node: what runs it gives the client and the server's address.

const sleep = (ms) => new Promise((go) => setTimeout(go, ms));
const short = (value) => (JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v)) ?? String(value)).slice(0, 200);

/** Seconds for one case, as in the Python driver. */
const PATIENCE = 20;

function same(a, b) {
  if (typeof a === "bigint" || typeof b === "bigint") return a == b;
  if (a instanceof Uint8Array && b instanceof Uint8Array) return a.length === b.length && a.every((x, i) => x === b[i]);
  if (Array.isArray(a) || Array.isArray(b)) return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((x, i) => same(x, b[i]));
  if (a && b && typeof a === "object" && typeof b === "object") {
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && same(a[k], b[k]));
  }
  return Object.is(a, b) || a === b;
}
function equal(actual, expected, what = "the answer") {
  if (!same(actual, expected)) throw new Error(`${what} is ${short(actual)}, not ${short(expected)}`);
}
function require(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}
async function fails(promise, code, what = "the call") {
  try {
    await promise;
  } catch (error) {
    if (code !== undefined && error?.code !== code) throw new Error(`${what} failed with ${error?.code ?? error}, not ${code}`);
    return error;
  }
  throw new Error(`${what} did not fail`);
}
const range = (n, from = 0) => Array.from({ length: n - from }, (_, i) => i + from);

const SHAPES = [
  null, true, false, 0, 1, -1, 2 ** 53 - 1, 0.5, -1.5e300, 5e-324, "", "text", 'two\nlines, a tab\t, a quote ", a backslash \\ and a nul \0',
  "ümlaut, 漢字, 👩‍🚀, \u{10ffff}", [], {}, [[], [[]], {}], { "": null, a: { b: [1, { c: true }] } }, { isError: true, reason: "x" },
  { code: "aborted", message: "no error", data: null }, ["end", 1], [1, "two", null, { three: 3.5 }], JSON.parse('{"__proto__": 1, "constructor": 2}'),
];
const CODES = "cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated".split(" ");

/** What the server may call back. */
export class Interop {
  static controllerName = "Interop";
  echo({ value }) {
    return value;
  }
  async nested({ depth }, ctx) {
    return depth === 0 ? 0 : 1 + (await ctx.clientize("Interop").nested({ depth: depth - 1 }));
  }
}

/** What `wsrpc gen ts` would write. */
const CONSTANT = { name: "Interop", methods: {
  echo: { kind: "unary" }, count: { kind: "stream" }, sleep: { kind: "unary" }, tracked: { kind: "stream", tracked: true }, failAfter: { kind: "stream", wire: "fail_after" },
  blob: { kind: "unary", bytes: true }, callBack: { kind: "unary", wire: "call_back" }, stats: { kind: "unary" }, bidiEcho: { kind: "stream", wire: "bidi_echo" }, sum: { kind: "unary" }, once: { kind: "unary" },
} };

async function* numbers(n) {
  for (let i = 0; i < n; i++) yield i;
}
async function until(at, holds, what) {
  for (const end = performance.now() + (PATIENCE / 2) * 1000; performance.now() < end; await sleep(20)) if (holds(await at.interop.stats())) return;
  throw new Error(`the server's stats never showed that ${what}`);
}
const echoed = async (at, values) => {
  for (const value of values) equal(await at.interop.echo({ value }), value);
};

export const cases = [
  ["echo of every JSON shape", (at) => echoed(at, SHAPES)],
  ["echo of integers up to the edges of 64 bits", async (at) => {
    await echoed(at, [2 ** 53, -1e300]);
    // Without JSON.rawJSON such an integer cannot be written exactly, and so it does not go at all.
    if (at.codec === "json" && !JSON.rawJSON) return void (await fails(at.interop.echo({ value: 2n ** 63n }), "invalid_argument"));
    for (const value of [2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, -(2n ** 63n), 2n ** 53n + 1n]) {
      const back = await at.interop.echo({ value });
      at.codec === "msgpack" ? equal(back, value) : equal(back, Number(value));
    }
    await echoed(at, [2 ** 60, 2 ** 63, -(2 ** 63), 2 ** 64, 1e20, -1e300]);
  }],
  ["echo of a value nested 90 deep", async (at) => {
    let value = "bottom";
    for (let i = 0; i < 45; i++) value = { inner: [value] };
    await echoed(at, [value]);
  }],
  ["echo of 40 KiB of text, which every side takes", (at) => echoed(at, ["0123456789abcdef".repeat(2560), "é".repeat(20000)])],
  ["echo of large values, which go in chunks both ways", (at) => echoed(at, ["é\"\\x😀".repeat(100000), range(60000), "\u0001".repeat(30000)])],
  ["values around the size from which they go in chunks", async (at) => {
    for (const size of [65400, 65500, 65510, 65520, 65530, 65534, 65536, 65540, 131072]) equal((await at.interop.echo({ value: "x".repeat(size) })).length, size, `echo of ${size} characters`);
  }],
  ["echo of bytes", async (at) => {
    for (const bytes of [new Uint8Array(0), Uint8Array.from(range(256)), new Uint8Array(200000).fill(7)]) {
      equal(at.client.toBytes(await at.interop.echo({ value: bytes })), bytes);
      equal(at.client.toBytes((await at.interop.echo({ value: [{ b: bytes.buffer }] }))[0].b), bytes);
    }
  }],
  ["blob gives the bytes 0, 1, … 255, 0, …", async (at) => {
    for (const size of [0, 1, 2, 3, 256, 1000, 40000, 3000000]) {
      const bytes = await at.session.clientize(CONSTANT).blob({ size });
      require(bytes instanceof Uint8Array && bytes.length === size && bytes.every((b, i) => b === i % 256), `blob(${size}) gave ${bytes?.length} bytes`);
    }
  }],
  ["sleep answers null", async (at) => equal(await at.interop.sleep({ seconds: 0.01 }), null)],
  ["a slow call delays no other", async (at) => {
    const stop = new AbortController();
    const slow = range(7).map(() => at.interop.sleep({ seconds: 60 }, { signal: stop.signal }).then(null, (e) => e.name));
    await echoed(at, range(50));
    stop.abort();
    equal(await Promise.all(slow), Array(7).fill("AbortError"));
  }],
  ["a thousand calls at a time each get their own answer, however few slots there are", async (at) => equal(await Promise.all(range(1000).map((value) => at.interop.echo({ value }))), range(1000))],
  ["count streams 0 to n - 1", async (at) => {
    equal(await at.interop.count({ n: 5 }).collect(), range(5));
    equal(await at.interop.count({ n: 0 }).collect(), [], "count(0)");
    equal(await at.interop.count({ n: 3, delay: 0.01 }).collect(), range(3), "count with a delay");
    equal(await at.session.clientize(CONSTANT).count({ n: 3 }).collect(), range(3), "count by a constant");
    equal(await at.session.stream("Interop.count", { n: 3 }).collect(), range(3), "count by its full name");
  }],
  ["a stream of 10,000 items arrives whole and in order", async (at) => equal(await at.interop.count({ n: 10000 }).collect(), range(10000))],
  ["a stream of items of 200 KB is bounded by credit and arrives whole", async (at) => {
    const items = range(12).map((i) => String(i).repeat(200000 / String(i).length));
    const back = at.interop.bidiEcho({ items: (async function* () { yield* items; })() }, { window: 1 });
    let i = 0;
    for await (const item of back) require(item === items[i++], `item ${i - 1} differs`);
    equal(i, 12, "the number of items");
  }],
  ["once counts how often it has run with a key", async (at) => {
    const key = crypto.randomUUID();
    for (const n of [1, 2, 3]) equal(await at.interop.once({ key }), n);
    equal(await at.interop.once({ key: `${key}, another` }), 1);
  }],
  ["tracked streams pairs of an id and a number, from the one after the named id", async (at) => {
    const pairs = range(5).map((i) => [String(i), i]);
    equal(await at.interop.tracked({ n: 5 }).collect(), pairs);
    equal(await at.interop.tracked({ n: 5, last_id: "2" }).collect(), pairs.slice(3), "after item 2");
    const stream = at.session.clientize(CONSTANT).tracked({ n: 5 });
    equal(await stream.collect(), range(5), "the values alone");
    equal(stream.lastId, "4", "the last id");
  }],
  ["tokens streams messages", async (at) => equal(await at.interop.tokens({ n: 3 }).collect(), range(3).map((i) => ({ message: `token ${i}` })))],
  ["a hundred streams at once do not mix", (at) => Promise.all(range(100).map(async (n) => equal(await at.interop.count({ n }).collect(), range(n), `count(${n})`)))],
  ["a list that a plain method returns is one value", async (at) => equal(await at.interop.echo({ value: [1, 2, 3] }), [1, 2, 3])],
  ["awaiting a method by name gives its value or its stream", async (at) => {
    const stream = await at.interop.count({ n: 3 });
    equal(await stream.collect(), range(3));
    equal(await (await at.interop.count({ n: 0 })).collect(), []);
  }],
  ["leaving a stream early closes its generator on the far side", async (at) => {
    const before = await at.interop.stats();
    for await (const item of at.interop.forever({ delay: 0 })) if (item === 100) break;
    await until(at, (s) => s.generators_open <= before.generators_open, "the generator was closed");
  }],
  ["a producer waits for its consumer", async (at) => {
    const stream = at.interop.forever({ delay: 0 }, { window: 4 });
    equal((await stream.next()).value, 0, "the first item");
    while (stream.lag < 3) await sleep(10);
    await sleep(200);
    require(stream.lag >= 3 && stream.lag <= 4, `${stream.lag} items wait`);
    equal([(await stream.next()).value, (await stream.next()).value], [1, 2], "the items");
    stream.cancel();
  }],
  ["a stream without credit gets it from whoever waits for an item", async (at) => {
    for (const window of [0, 1]) equal(await at.interop.count({ n: 50 }, { window }).collect(), range(50), `with a window of ${window}`);
  }],
  ["all items that have come are one batch", async (at) => {
    let all = [];
    for await (const batch of at.interop.count({ n: 1000 }).batches()) all = all.concat(batch);
    equal(all, range(1000));
  }],
  ["overflow lets go of items, or ends the stream", async (at) => {
    for (const overflow of ["latest", "drop_oldest"]) {
      const stream = at.interop.forever({ delay: 0.001 }, { overflow, window: 4 });
      await stream.next();
      while (!stream.dropped) await sleep(10);
      const next = (await stream.next()).value;
      require(next > 1 && stream.dropped > 0, `${overflow}: item ${next}, ${stream.dropped} dropped`);
      stream.cancel();
    }
    const stream = at.interop.forever({ delay: 0.0005 }, { overflow: "fail", window: 8 });
    await stream.next();
    await fails(stream.done, "resource_exhausted", "the stream");
    await fails(stream.collect(), "resource_exhausted", "the stream");
  }],
  ["a cleanup that takes its time runs to its end", async (at) => {
    const before = await at.interop.stats();
    for await (const item of at.interop.slowCleanup({ seconds: 0.2 })) {
      equal(item, 0, "the first item");
      break;
    }
    await until(at, (s) => s.cleanups_begun > before.cleanups_begun, "the cleanup began");
    await until(at, (s) => s.cleanups_done === s.cleanups_begun, "the cleanup was done");
  }],
  ["closing a session cancels its handlers and lets them clean up", async (at) => {
    const before = await at.interop.stats();
    const session = at.connect();
    const streams = range(5).map(() => session.clientize("Interop").slowCleanup({ seconds: 0.05 }));
    for (const stream of streams) equal((await stream.next()).value, 0, "the first item");
    await session.close();
    await until(at, (s) => s.cleanups_done >= before.cleanups_done + 5, "five cleanups were done");
    await until(at, (s) => s.sessions <= before.sessions, "the session was gone");
  }],
  ["an error arrives with code, message and data, for each of the sixteen codes", async (at) => {
    for (const code of CODES) {
      const error = await fails(at.interop.fail({ code, message: `it was ${code}`, data: { why: [code] } }, { timeout: 5000 }), code);
      require(error instanceof at.client.RpcError && error instanceof Error, "it is no RpcError");
      equal([error.message, error.data], [`it was ${code}`, { why: [code] }]);
    }
  }],
  ["an error's data arrives as it was raised, in any shape", async (at) => {
    for (const data of SHAPES) equal((await fails(at.interop.fail({ code: "not_found", message: "", data }), "not_found")).data, data, "the data");
  }],
  ["an error after n items comes after exactly these", async (at) => {
    for (const n of [0, 1, 3, 200]) {
      const items = [];
      const error = await fails((async () => { for await (const item of at.interop.failAfter({ n, data: { reason: "tired" } })) items.push(item); })(), "aborted");
      equal([items, error.message, error.data], [range(n), `failed after ${n} items`, { reason: "tired" }]);
    }
  }],
  ["an unforeseen exception crosses as internal, with an error id", async (at) => require((await fails(at.interop.boom(), "internal")).errorId, "the error has no errorId")],
  ["a wrong argument is named", async (at) => {
    const error = await fails(at.interop.count({ n: "many" }).collect(), "invalid_argument");
    equal([error.data.errors[0].loc, error.data.total], [["n"], 1]);
  }],
  ["an unknown method is answered with near names, an unknown controller too", async (at) => {
    equal((await fails(at.interop.ehco({ value: 1 }), "unimplemented")).data.near[0], "Interop.echo");
    await fails(at.session.call("Nobody.nothing"), "unimplemented");
  }],
  ["a stream that is awaited, and a value that is iterated, fail on the caller's side", async (at) => {
    await fails(at.session.call("Interop.count", { n: 3 }), "internal");
    await fails(at.session.stream("Interop.echo", { value: 1 }).collect(), "internal");
    await fails(at.interop.echo({ value: 1 }).collect(), "internal");
    await echoed(at, ["still here"]);
  }],
  ["arguments that cannot travel reject, and nothing is sent", async (at) => {
    const loop = {};
    loop.loop = loop;
    for (const value of [NaN, Infinity, new Date(NaN), "\ud800", { a: { b: Symbol() } }, 2n ** 64n, loop, Promise.resolve(), [() => 1]]) await fails(at.interop.echo({ value }), "invalid_argument");
    for (const args of [[1], "text", 7, new Date(), null]) await fails(at.interop.echo(args), "invalid_argument");
    for (const options of [new Event("click"), { timeout: 0 }, { timeout: NaN }, { overflow: "wait" }, { timeoutMs: 5 }, { metadata: { a: 1 } }, null, 7]) await fails(at.interop.echo({ value: 1 }, options), "invalid_argument");
    await fails(at.session.clientize(CONSTANT).count({ n: NaN }).collect(), "invalid_argument");
    await fails(at.interop.echo({ value: 1 }, { metadata: { a: "x".repeat(20000) } }), "resource_exhausted");
  }],
  ["sum adds up the uploaded numbers, from every kind of source", async (at) => {
    equal(await at.interop.sum({ numbers: (function* () { yield* [1, 2, 3.5]; })() }), 6.5);
    equal(await at.interop.sum({ numbers: numbers(0) }), 0, "the sum of nothing");
    equal(await at.interop.sum({ numbers: numbers(10000) }), 49995000, "a long sum");
    equal(await at.interop.sum({ numbers: new ReadableStream({ start(to) { to.enqueue(1); to.enqueue(2); to.close(); } }) }), 3, "of a ReadableStream");
  }],
  ["bidi_echo gives each item back before the next one is sent", async (at) => {
    let to;
    const back = at.interop.bidiEcho({ items: new ReadableStream({ start: (controller) => void (to = controller) }) });
    for (const value of SHAPES) {
      to.enqueue(value);
      equal((await back.next()).value, value, "the item");
    }
    to.close();
    equal((await back.next()).done, true, "the end of the upload");
  }],
  ["bidi_echo gives 10,000 items back in order", async (at) => equal(await at.interop.bidiEcho({ items: numbers(10000) }).collect(), range(10000))],
  ["an upload of a Blob goes in slices", async (at) => {
    const pieces = await at.interop.bidiEcho({ items: new Blob([new Uint8Array(200000).fill(9)]) }).collect();
    equal(pieces.map((one) => at.client.toBytes(one).length), [49152, 49152, 49152, 49152, 3392]);
  }],
  ["an upload that fails on its way ends the call, and the source's own error is raised", async (at) => {
    const own = new RangeError("nothing left");
    require((await fails(at.interop.sum({ numbers: (async function* () { yield 1; throw own; })() }))) === own, "it is another error");
    await echoed(at, ["still here"]);
  }],
  ["an item that does not validate fails the call, and names the parameter", async (at) => {
    const error = await fails(at.interop.sum({ numbers: (async function* () { yield 1; yield "two"; for (;;) yield 3; })() }), "invalid_argument");
    equal(error.data.errors[0].loc[0], "numbers");
  }],
  ["cancelling a call with an upload ends both on both sides", async (at) => {
    const before = await at.interop.stats(), stop = new AbortController();
    let closed;
    const over = new Promise((go) => (closed = go));
    const call = at.interop.sum({ numbers: (async function* () { try { for (;;) yield 1; } finally { closed(); } })() }, { signal: stop.signal });
    await until(at, (s) => s.calls_live > before.calls_live, "the call had begun");
    stop.abort();
    equal((await fails(call)).name, "AbortError");
    await over;
    await until(at, (s) => s.calls_live <= before.calls_live, "the handler had ended");
  }],
  ["the server calls this side's echo", async (at) => {
    equal(await at.interop.callBack({ times: 0 }), []);
    equal(await at.interop.callBack({ times: 20 }), range(20));
  }],
  ["calls nest 50 deep in both directions, four at a time", async (at) => {
    equal(await at.interop.nested({ depth: 0 }), 0);
    equal(await Promise.all(range(4).map(() => at.interop.nested({ depth: 50 }))), Array(4).fill(50));
  }],
  ["progress calls a callback with 1 to n, in order", async (at) => {
    const seen = [];
    equal(await at.interop.progress({ n: 20, on_progress: (i) => void seen.push(i) }), 20);
    equal(seen, range(21, 1));
  }],
  ["an error that a callback raises comes back through the handler", async (at) => {
    const error = await fails(at.interop.progress({ n: 5, on_progress(i) { if (i === 3) throw new at.client.RpcError("out_of_range", "three is enough", i); } }), "out_of_range");
    equal(error.data, 3);
  }],
  ["cancelling a call cancels the callback that it awaits", async (at) => {
    const stop = new AbortController();
    let began;
    const awaited = new Promise((go) => (began = go));
    const call = at.interop.progress({ n: 1, on_progress: () => (began(), sleep(30)) }, { signal: stop.signal });
    await awaited;
    stop.abort();
    await fails(call);
    await echoed(at, ["still here"]);
  }],
  ["a caller that is cancelled cancels the handler", async (at) => {
    const before = await at.interop.stats(), stop = new AbortController();
    const call = at.interop.sleep({ seconds: 60 }, { signal: stop.signal });
    await until(at, (s) => s.calls_live > before.calls_live, "the call had begun");
    stop.abort(new Error("my own reason"));
    equal((await fails(call)).message, "my own reason");
    await until(at, (s) => s.calls_live <= before.calls_live, "the handler had ended");
    const never = AbortSignal.abort();
    equal((await fails(at.interop.sleep({ seconds: 60 }, { signal: never }))).name, "AbortError");
  }],
  ["a deadline ends the call on both sides", async (at) => {
    const before = await at.interop.stats();
    const error = await fails(at.interop.sleep({ seconds: 60 }, { timeout: 50 }), "deadline_exceeded");
    equal(error.notStarted, false);
    await fails(at.session.clientize("Interop", { timeout: 50 }).forever({ delay: 60 }).collect(), "deadline_exceeded");
    await until(at, (s) => s.calls_live <= before.calls_live, "the handlers had ended");
  }],
  ["a stream that pauses for longer than the idle timeout fails", async (at) => {
    await fails(at.interop.count({ n: 3, delay: 60 }, { idleTimeout: 50 }).collect(), "deadline_exceeded");
    const stream = at.interop.count({ n: 2 }, { idleTimeout: 1500 });
    for await (const _ of stream) await sleep(1600); // Its clock stands still while nobody waits.
  }],
  ["the handler knows how much time is left", async (at) => {
    const { remaining } = await at.interop.whoami({}, { timeout: 20000 });
    require(remaining > 0 && remaining <= 20, `of 20 seconds ${remaining} are left`);
    equal((await at.session.clientize("Interop").whoami({}, { timeout: null })).remaining, null);
  }],
  ["metadata reaches the handler, and that of one call not the next", async (at) => {
    equal((await at.interop.whoami({}, { metadata: { trace: "abc", ümlaut: "ß" } })).metadata, { trace: "abc", ümlaut: "ß" });
    equal((await at.interop.whoami()).metadata, {});
  }],
  ["the principal is known where credentials were given", async (at) => require(at.auth === undefined || (await at.interop.whoami()).principal !== null, "there is no principal")],
  ["stats counts this session and this call", async (at) => {
    const stats = await at.interop.stats();
    for (const name of "calls_live calls_peak generators_open cleanups_begun cleanups_done sessions detached links outbox_bytes replay_bytes frames_ignored".split(" ")) require(Number.isInteger(stats[name]) && stats[name] >= 0, `${name} is ${stats[name]}`);
    require(stats.calls_live >= 1 && stats.sessions >= 1 && stats.links >= 1, "it counts nothing");
  }],
  ["the contract describes the service, and makes a client", async (at) => {
    const contract = await at.session.call("wsrpc.reflection.describe");
    equal(contract.version, 1);
    equal(contract.controllers.Interop.methods.bidi_echo.params.items.kind, "upload");
    const interop = at.session.clientize(contract.controllers.Interop);
    equal(await interop.echo({ value: "over there" }), "over there");
    equal(await interop.count({ n: 3 }).collect(), range(3));
    equal(await interop.callBack({ times: 2 }), [0, 1]);
    require(Object.isFrozen(interop) && Object.getPrototypeOf(interop) === Object.prototype, "it is no frozen plain object");
  }],
  ["a notification is on its way at once, and frees its slot", async (at) => {
    for (let i = 0; i < 600; i++) await at.session.notify("Interop.once", { key: "notified" });
    await until(at, (s) => s.calls_live <= 1, "the notifications had ended");
  }],
  ["a stream fetcher is asked for each stream, and may fetch as it likes", async (at) => {
    const seen = [];
    const streamFetcher = async function* (request, fetch) {
      seen.push([request.controller, request.method, request.args]);
      yield "first";
      yield* fetch(request.withArgs({ n: 2 }));
      yield* fetch(request);
    };
    for (const which of ["Interop", CONSTANT]) equal(await at.session.clientize(which, { streamFetcher }).count({ n: 3 }).collect(), ["first", 0, 1, 0, 1, 2]);
    equal(seen, Array(2).fill(["Interop", "count", { n: 3 }]));
    equal(await at.session.clientize(CONSTANT, { streamFetcher }).echo({ value: 1 }), 1, "a value");
  }],
  ["a connection that is cut is resumed, and nothing is lost, doubled or out of order", async (at) => {
    const session = at.connect({ reconnect: true });
    const interop = session.clientize("Interop");
    await session.ready();
    if (!(await interop.echo({ value: true }))) return;
    const run = crypto.randomUUID();
    const all = range(100).map((i) => interop.once({ key: `${run} ${i}` }));
    const stream = interop.count({ n: 300, delay: 0.001 });
    const sum = interop.sum({ numbers: (async function* () { for (let k = 0; k < 1000; k++) { if (k === 500) session.cut(); yield k; } })() });
    setTimeout(() => session.cut(), 5);
    equal(await Promise.all(all), Array(100).fill(1));
    equal(await stream.collect(), range(300));
    equal(await sum, 499500);
    require(session.resumes > 0, "there was no resume");
    await session.close();
  }],
  ["closing a session fails its pending calls, and no stream ends as if complete", async (at) => {
    const session = at.connect();
    const stream = session.clientize("Interop").forever({ delay: 0 });
    equal((await stream.next()).value, 0);
    await session.close();
    await fails((async () => { for await (const _ of stream); })(), "unavailable");
    const error = await fails(session.clientize("Interop").echo({ value: 1 }), "cancelled");
    require(error.notStarted, "the call could not begin, and the error does not say so");
    equal(session.state, "closed");
    await session.reopen();
    equal(await session.clientize("Interop").echo({ value: 1 }), 1);
    await session.close();
  }],
  ["nothing is left behind", async (at) => {
    const session = at.connect();
    const interop = session.clientize("Interop");
    await interop.bidiEcho({ items: numbers(100) }).collect();
    await interop.callBack({ times: 3 });
    for await (const _ of interop.forever({ delay: 0 })) break;
    await interop.echo({ value: "x".repeat(300000) });
    await session.close({ drain: 5000 });
    equal(session.state, "closed");
  }],
];

/**
 * Run every case on a session of its own.
 * @returns {Promise<Array<{title: string, why: string|null, ms: number}>>}
 */
export async function run({ client, codec = "json", msgpack, url, auth, WebSocket, only = "", say = () => {} }) {
  const results = [];
  const fixed = { reconnect: false, controllers: [new Interop()], ...(codec === "msgpack" && { codec: msgpack }), ...(auth !== undefined && { auth }), ...(WebSocket && { WebSocket }) };
  for (const [title, test] of cases) {
    if (!title.includes(only)) continue;
    const began = performance.now();
    const opened = [];
    const connect = (options = {}) => {
      const session = client.connect(url, { ...fixed, ...options });
      opened.push(session);
      return session;
    };
    const session = connect();
    const at = { client, codec, auth, session, connect, interop: session.clientize("Interop") };
    let why = null, timer;
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not through after ${PATIENCE} s`)), PATIENCE * 1000)));
    try {
      await Promise.race([test(at), late]);
    } catch (error) {
      why = String(error?.stack ?? error).slice(0, 500);
    }
    clearTimeout(timer);
    await Promise.all(opened.map((one) => one.close()));
    const result = { title, why, ms: Math.round(performance.now() - began) };
    results.push(result);
    say(result);
  }
  return results;
}
