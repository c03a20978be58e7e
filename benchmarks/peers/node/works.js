// The works of `works.py` in JavaScript: through wsrpc.js in Node and in pages, and through others' clients.

const OUTSTANDING = 64;
const STREAMS = 100;
const LINE = "The quick brown fox jumps over the lazy dog, and 64 others look on.\n";
const TEXT = LINE.repeat(Math.ceil(1048576 / LINE.length)).slice(0, 1048576);

export const point = (number) => ({ x: number, y: number * 0.5, label: `point ${number}` });

function expect(got, expected) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(expected)];
  if (left !== right) throw new Error(`expected ${right.slice(0, 200)}, got ${String(left).slice(0, 200)}`);
}
function* points(n) {
  for (let number = 0; number < n; number++) yield point(number);
}
async function drain(stream, count) {
  let received = 0;
  for await (const _ of stream) received++;
  expect(received, count);
}
async function race(source, count) {
  const finished = [];
  const started = performance.now();
  await Promise.all(Array.from({ length: STREAMS }, async () => {
    await drain(source(count / STREAMS), count / STREAMS);
    finished.push(performance.now() - started);
  }));
  return { fairness: finished[0] / finished.at(-1) };
}

export const works = {
  async sequential(bench, count) {
    for (let number = 0; number < count; number++) await bench.echo({ point: point(number) });
  },
  async outstanding(bench, count) {
    let number = 0;
    await Promise.all(Array.from({ length: OUTSTANDING }, async () => {
      while (number < count) await bench.echo({ point: point(number++) });
    }));
  },
  stream: (bench, count) => drain(bench.items({ n: count }), count),
  streams: (bench, count) => race((n) => bench.items({ n }), count),
  yielding: (bench, count) => race((n) => bench.yielding({ n }), count),
  async upload(bench, count) {
    expect(await bench.upload({ items: points(count) }), count);
  },
  async text(bench, count) {
    for (let number = 0; number < count; number++) expect((await bench.text({ value: TEXT })).length, TEXT.length);
  },
};

export async function verify(bench) {
  const expected = [...points(5)];
  expect(await bench.echo({ point: expected[3] }), expected[3]);
  expect(await bench.items({ n: 5 }).collect(), expected);
  expect(await bench.yielding({ n: 5 }).collect(), expected);
  expect(await bench.upload({ items: points(7) }), 7);
  expect(await bench.text({ value: TEXT }), TEXT);
}

/** One connection, and the answer to each request of the harness. */
export async function begin(connect, url) {
  const session = connect(url);
  await session.ready();
  const unary = { kind: "unary" }, stream = { kind: "stream" };
  const bench = session.clientize({ name: "Bench", methods: { echo: unary, items: stream, yielding: stream, upload: unary, text: unary } });
  return answering(bench);
}

/** The answer to each request of the harness. Methods take their arguments by name; streams also have `collect`. */
export function answering(bench) {
  return async (request) => {
    if (request.verify) {
      await verify(bench);
      return { verified: true };
    }
    const started = performance.now();
    const extras = (await works[request.work](bench, request.count)) ?? {};
    return { seconds: (performance.now() - started) / 1e3, extras };
  };
}
