import { connect, RpcError, type Session, type Stream } from "./wsrpc.js";
import { Nasty, type Tree, type Cat, type Dog, type OddInput } from "./nasty.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <T extends true>(_?: T) => {};

export async function right(session: Session, file: File, odd: OddInput) {
  const nasty = session.clientize(Nasty);
  is<Equal<typeof nasty, Nasty>>();
  const byName = session.clientize<Nasty>("Nasty", { timeout: 500 });
  is<Equal<typeof byName, Nasty>>();
  const greeting = await nasty.hello({ name: "w" });
  is<Equal<typeof greeting, string>>();
  await nasty.hello(); await nasty.hello({}, { signal: AbortSignal.timeout(5) });
  for await (const t of nasty.streamTokens({ hello: "w" })) is<Equal<typeof t, string>>();
  const stream = nasty.withFinal({ n: 1 });
  for await (const td of stream) { is<Equal<typeof td.a, number>>(); is<Equal<typeof td.b, string | undefined>>(); }
  is<Equal<typeof stream.final, Tree | undefined>>();
  const pet = await nasty.pets({ pet: { kind: "dog", name: "Rex" }, many: null });
  if (pet === null) return;
  is<Equal<typeof pet, Cat | Dog>>();
  switch (pet.kind) {
    case "cat": is<Equal<typeof pet.lives, number>>(); break;
    case "dog": is<Equal<typeof pet.tricks, string[]>>(); break;
    default: { const never: never = pet; void never; }
  }
  const tree = await nasty.tree({ tree: { value: 1, children: [{ value: 2 }] } });
  is<Equal<typeof tree.children, Tree[]>>();
  const page = await nasty.page({ size: 3 });
  is<Equal<(typeof page)["items"][number], Cat>>(); is<Equal<typeof page.next, string | null>>();
  const out = await nasty.odd({ odd: { ...odd, when: new Date(), blob: new Uint8Array(3), uniq: new Set([1]), by_color: { "dark blue": 2 }, lit: true } });
  is<Equal<typeof out.when, string>>(); is<Equal<typeof out.money, string>>(); is<Equal<typeof out.fixed, [number, string]>>();
  is<Equal<typeof out.level, 1 | 2>>(); is<Equal<typeof out.either, number | string | null>>(); is<Equal<typeof out.by_color, Partial<Record<"red" | "dark blue", number>>>>();
  await nasty.upload({ file, on_progress: (n, color) => { is<Equal<typeof n, number>>(); is<Equal<typeof color, "red" | "dark blue">>(); return n > 3; } });
  await nasty.upload({ file: file.stream(), on_progress: async () => true, on_end: async () => {}, more: (async function* () { yield { kind: "cat" as const }; })() });
  for await (const piece of nasty.download({ path: "x" })) is<Equal<typeof piece, Uint8Array<ArrayBufferLike>>>();
  for await (const cat of nasty.feed()) is<Equal<typeof cat, Cat>>();
  is<Equal<ReturnType<typeof nasty.feed>, Stream<Cat>>>();
  const strict = await nasty.shapes({ entry: { a: 1 }, point: { x: 1 }, pair: [1], matrix: [[1]], extra: { a: 1, b: "more" }, strict: { userName: "x" } });
  is<Equal<typeof strict.userName, string>>();
  try { await nasty.hello(); } catch (e) {
    if (e instanceof RpcError && e.code === "not_found") is<Equal<typeof e.data, unknown>>();
  }
  const any = session.clientize("Whatever"); await any.whatever({ x: 1 });
  await using s = connect("ws://x"); void s;
}
