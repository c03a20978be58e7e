// What a user of the client writes, with what `wsrpc gen ts` writes.
import { connect, RpcError, toBytes } from "./wsrpc.js";
import type { CallContext, CallOptions, Controller, Session, Snapshot, Stream, StreamFetcher, Upload } from "./wsrpc.js";
import { msgpack } from "./wsrpc-msgpack.js";

export interface Hello {
  greet(args: { name: string }, options?: CallOptions): Promise<string>;
  streamTokens(args: { hello: string }, options?: CallOptions): Stream<{ message: string }, number>;
  build(args: { lines: Upload<string>; on_progress?: (n: number) => void }, options?: CallOptions): Promise<string>;
  send(args: { file: Upload<Uint8Array> }, options?: CallOptions): Promise<void>;
}
export const Hello: Controller<Hello> = {
  name: "Hello",
  methods: { greet: { kind: "unary" }, streamTokens: { kind: "stream", wire: "stream_tokens" }, build: { kind: "unary" }, send: { kind: "unary" } },
};

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Equal<A, B>) => {};

export async function use(): Promise<void> {
  await using session: Session = connect("ws://127.0.0.1:1", {
    auth: async ({ signal, attempt, lastClose }: { signal: AbortSignal; attempt: number; lastClose?: { code: number } }) => (await fetch(`/token?${attempt}${lastClose?.code}`, { signal })).text(),
    codec: msgpack,
    controllers: { Page: { ask: async ({ question }: { question: string }, ctx: CallContext) => ctx.signal.aborted || question !== "" } },
    fallback: (method, args, ctx) => [method, args, ctx.metadata],
    trace: (sent, frame, at) => console.log(sent, frame[0], at),
  });
  const hello = session.clientize(Hello, { timeout: 500 });
  const greeting = await hello.greet({ name: "Ann" }, { signal: AbortSignal.timeout(5), timeout: null });
  same<typeof greeting, string>(true);
  const stream = hello.streamTokens({ hello: "w" }, { overflow: "latest", window: 4 });
  for await (const token of stream) same<typeof token, { message: string }>(true);
  for await (const tokens of stream.batches()) same<typeof tokens, { message: string }[]>(true);
  const final = await stream.done;
  same<typeof final, number>(true);
  const all = await stream.collect();
  same<typeof all, { message: string }[]>(true);
  await hello.build({ lines: (async function* () { yield "a"; })(), on_progress: (n) => void n.toFixed() });
  await hello.build({ lines: new ReadableStream<string>() });
  await hello.send({ file: new Blob([]) });
  const loose = session.clientize("Other");
  await loose.anything({ at: "all" });
  const streamFetcher: StreamFetcher = async function* (request, fetch) {
    yield* fetch(request.withArgs({ hello: request.controller }));
  };
  session.clientize(Hello, { streamFetcher });
  const stop: () => void = session.subscribe((snapshot: Snapshot) => snapshot.state === "open");
  stop();
  session.expose([new (class Page {})()]);
  await session.close({ drain: 100 });
  await session.reopen({ auth: "new" });
  try {
    await session.call("Hello.greet", { name: "Ann" });
  } catch (error) {
    if (error instanceof RpcError) same<typeof error.notStarted, boolean>(true);
  }
  const bytes = toBytes("AAAA");
  same<typeof bytes extends Uint8Array ? true : false, true>(true);
}
