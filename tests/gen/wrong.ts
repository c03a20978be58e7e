import type { Session } from "./wsrpc.js";
import { Nasty } from "./nasty.js";

export async function wrong(session: Session) {
  const nasty = session.clientize(Nasty);
  // @ts-expect-error a number
  await nasty.hello({ name: 7 });
  // @ts-expect-error unknown argument
  await nasty.hello({ nme: "x" });
  // @ts-expect-error missing
  await nasty.tree();
  // @ts-expect-error missing in a value
  await nasty.tree({ tree: {} });
  // @ts-expect-error unknown method
  await nasty.helo();
  // @ts-expect-error positional
  await nasty.hello("w");
  // @ts-expect-error discriminator
  await nasty.pets({ pet: { kind: "cow" } });
  // @ts-expect-error a dog needs a name
  await nasty.pets({ pet: { kind: "dog" } });
  // @ts-expect-error no null here
  await nasty.hello({ name: null });
  // @ts-expect-error enum
  await nasty.odd({ odd: { level: 3 } });
  // @ts-expect-error a list is no upload
  await nasty.upload({ file: [new Uint8Array(1)], on_progress: () => true });
  // @ts-expect-error items of another type
  await nasty.upload({ file: (async function* () { yield 1; })(), on_progress: () => true });
  // @ts-expect-error the callback answers a boolean
  await nasty.upload({ file: new Blob(), on_progress: () => "yes" });
  // @ts-expect-error the callback answers nothing
  await nasty.upload({ file: new Blob(), on_progress: () => true, on_end: () => 3 });
  // @ts-expect-error a stream is no promise
  nasty.streamTokens({ hello: "w" }).then(() => {});
  // @ts-expect-error a value is no stream
  for await (const _ of nasty.hello()) void _;
  // @ts-expect-error snake case
  nasty.stream_tokens({ hello: "w" });
  // @ts-expect-error overflow
  nasty.streamTokens({ hello: "w" }, { overflow: "newest" });
  // @ts-expect-error extra is forbidden by TS's excess check
  await nasty.shapes({ entry: { a: 1, z: 2 }, point: { x: 1 }, pair: [1], matrix: [], extra: { a: 1 }, strict: { userName: "" } });
}
