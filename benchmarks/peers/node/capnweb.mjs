// capnweb over WebSocket (ws), server and client, spoken to as `benchmarks.peers.__main__` says.
//
// Points are plain objects, as in the raw peer. A stream is a ReadableStream that the server
// returns, an upload one that it is given: the library's own, with its flow control. Compression is
// off, as ws has it by default. The works are those of `works.py`, with its names.

import http from "node:http";
import readline from "node:readline";
import { RpcTarget, newWebSocketRpcSession } from "capnweb";
import { WebSocket, WebSocketServer } from "ws";

// capnweb looks for the constants of the browser's class, which Node has from version 22 on.
globalThis.WebSocket ??= WebSocket;

const OUTSTANDING = 64;
const STREAMS = 100;
const MAX_SIZE = 8 * 1024 * 1024;
const LINE = "The quick brown fox jumps over the lazy dog, and 64 others look on.\n";
const TEXT = LINE.repeat(Math.ceil(1048576 / LINE.length)).slice(0, 1048576);

const point = (number) => ({ x: number, y: number * 0.5, label: `point ${number}` });
const turn = () => new Promise((resolve) => setImmediate(resolve));
const reply = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const seconds = () => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
};

function expect(got, expected) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(expected)];
  if (left !== right) {
    throw new Error(`expected ${right.slice(0, 200)}, got ${String(left).slice(0, 200)}`);
  }
}

function pointStream(n, yields) {
  let number = 0;
  return new ReadableStream({
    async pull(controller) {
      if (number === n) return controller.close();
      if (yields) await turn();
      controller.enqueue(point(number++));
    },
  });
}

class Bench extends RpcTarget {
  echo(value) {
    return value;
  }

  items(n) {
    return pointStream(n, false);
  }

  yielding(n) {
    return pointStream(n, true);
  }

  async upload(points) {
    let count = 0;
    for await (const _ of points) count++;
    return count;
  }
}

function serve() {
  const server = http.createServer();
  new WebSocketServer({ server, maxPayload: MAX_SIZE }).on("connection", (socket) => {
    newWebSocketRpcSession(socket, new Bench());
  });
  server.listen(0, "127.0.0.1", () => {
    reply({ ready: `ws://127.0.0.1:${server.address().port}` });
  });
  return (request) => {
    if (request.tidy) global.gc();
    return { cpu: seconds(), rss: process.memoryUsage.rss() };
  };
}

async function collect(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

async function drain(stream, count) {
  let received = 0;
  for await (const _ of await stream) received++;
  expect(received, count);
}

async function race(source, count) {
  const finished = [];
  const started = performance.now();
  await Promise.all(
    Array.from({ length: STREAMS }, async () => {
      await drain(source(count / STREAMS), count / STREAMS);
      finished.push(performance.now() - started);
    }),
  );
  return { fairness: finished[0] / finished.at(-1) };
}

const works = {
  async sequential(bench, count) {
    for (let number = 0; number < count; number++) await bench.echo(point(number));
  },
  async outstanding(bench, count) {
    let number = 0;
    await Promise.all(
      Array.from({ length: OUTSTANDING }, async () => {
        while (number < count) await bench.echo(point(number++));
      }),
    );
  },
  stream: (bench, count) => drain(bench.items(count), count),
  streams: (bench, count) => race((n) => bench.items(n), count),
  yielding: (bench, count) => race((n) => bench.yielding(n), count),
  async upload(bench, count) {
    expect(await bench.upload(pointStream(count, false)), count);
  },
  async text(bench, count) {
    for (let number = 0; number < count; number++) {
      expect((await bench.echo(TEXT)).length, TEXT.length);
    }
  },
  async idle(bench, count, another) {
    for (let number = 0; number < count; number++) {
      expect(await (await another()).echo(point(1)), point(1));
    }
  },
};

async function verify(bench) {
  const expected = Array.from({ length: 5 }, (_, number) => point(number));
  expect(await bench.echo(expected[3]), expected[3]);
  expect(await collect(bench.items(5)), expected);
  expect(await collect(bench.yielding(5)), expected);
  expect(await bench.upload(pointStream(7, false)), 7);
  expect(await bench.echo(TEXT), TEXT);
}

async function connect(address) {
  const sessions = [];
  const another = async () => {
    const socket = new WebSocket(address, { maxPayload: MAX_SIZE });
    await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
    const session = newWebSocketRpcSession(socket);
    sessions.push(session);
    return session;
  };
  const bench = await another();
  reply({ ready: address, offers: Object.keys(works) });
  return async (request) => {
    try {
      if (request.verify) {
        await verify(bench);
        return { verified: true };
      }
      global.gc();
      const cpu = seconds();
      const started = performance.now();
      const extras = (await works[request.work](bench, request.count, another)) ?? {};
      const wall = (performance.now() - started) / 1e3;
      return { seconds: wall, cpu: seconds() - cpu, extras };
    } catch (error) {
      return { error: `${error.name}: ${error.message}` };
    }
  };
}

const [role, address] = process.argv.slice(2);
const answer = role === "server" ? serve() : await connect(address);
for await (const line of readline.createInterface({ input: process.stdin })) {
  reply(await answer(JSON.parse(line)));
}
process.exit(0);
