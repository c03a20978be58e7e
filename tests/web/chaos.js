// Work of every kind at once, for connections that break meanwhile: nothing is lost, doubled or out of order.
const sleep = (ms) => new Promise((go) => setTimeout(go, ms));
const range = (n) => Array.from({ length: n }, (_, i) => i);
const check = (holds, what) => {
  if (!holds) throw new Error(what);
};

/**
 * @param {{client: any, url: string, seconds: number, codec?: any, WebSocket?: any}} options
 * @returns {Promise<{done: Record<string, number>, bad: string[], resumes: number, sameSession: boolean, left: any}>}
 */
export async function chaos({ client, url, seconds, codec, WebSocket }) {
  const partner = {
    echo: ({ value }) => value,
    nested: async ({ depth }, ctx) => (depth ? 1 + (await ctx.clientize("Interop").nested({ depth: depth - 1 })) : 0),
  };
  const session = client.connect(url, { controllers: { Interop: partner }, ...(codec && { codec }), ...(WebSocket && { WebSocket }) });
  await session.ready();
  const id = session.id;
  const interop = session.clientize("Interop", { timeout: 120000 });
  const tracked = session.clientize({ name: "Interop", methods: { tracked: { kind: "stream", tracked: true } } });
  const end = performance.now() + seconds * 1000;
  const run = crypto.randomUUID();
  const done = {}, bad = [];
  let key = 0;
  const kinds = {
    async once() {
      const n = await interop.once({ key: `${run} ${key++}` });
      check(n === 1, `executed ${n} times`);
    },
    async stream() {
      const all = await interop.count({ n: 500, delay: 0.0005 }).collect();
      check(all.length === 500 && all.every((x, k) => x === k), `stream of ${all.length}`);
    },
    async fast() {
      let k = 0;
      for await (const token of interop.tokens({ n: 5000 })) check(token.message === `token ${k++}`, "order");
      check(k === 5000, "short");
    },
    async tracked() {
      const all = await tracked.tracked({ n: 200, delay: 0.001 }).collect();
      check(all.length === 200 && all.every((x, k) => x === k), `tracked stream of ${all.length}`);
    },
    async upload() {
      const sum = await interop.sum({ numbers: (async function* () { for (let k = 0; k < 300; k++) { yield k; if (k % 50 === 0) await sleep(3); } })() });
      check(sum === 44850, `sum ${sum}`);
    },
    async bidi() {
      const all = await interop.bidiEcho({ items: (function* () { yield* range(200); })() }).collect();
      check(all.length === 200 && all.every((x, k) => x === k), `bidi of ${all.length}`);
    },
    async big() {
      const value = Math.random().toString(36).repeat(60000);
      check((await interop.echo({ value })) === value, "a large value differs");
    },
    async cancel() {
      let k = 0;
      for await (const _ of interop.forever({ delay: 0 })) if (++k === 37) break;
    },
    async nested() {
      check((await interop.nested({ depth: 5 })) === 5, "nested");
    },
    async progress() {
      const seen = [];
      await interop.progress({ n: 20, on_progress: (k) => void seen.push(k) });
      check(seen.length === 20 && seen.every((x, k) => x === k + 1), `progress ${seen}`);
    },
  };
  await Promise.all(Object.entries(kinds).flatMap(([name, work]) => [0, 1].map(async () => {
    while (performance.now() < end && !bad.length) {
      try {
        await work();
        done[name] = (done[name] ?? 0) + 1;
      } catch (error) {
        bad.push(`${name}: ${error?.stack ?? error}`.slice(0, 400));
      }
    }
  })));
  const { resumes } = session;
  const sameSession = session.id === id;
  const result = { done, bad, resumes, sameSession };
  await session.close({ drain: 5000 });
  return result;
}
