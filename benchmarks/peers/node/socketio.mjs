// socket.io and socket.io-client, WebSocket transport only.
//
// A call is an event with an acknowledgement. There are no streams, so they are written as its users
// write them: one event an item, marked with a stream's number, and an acknowledged event around them.
// The bound on messages is raised; all else is as the library has it by default.

import http from "node:http";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { Items, attend, reply, turn } from "./process.mjs";
import { answering, point, works } from "./works.js";

const MAX_SIZE = 8 * 1024 * 1024;

function serve() {
  const server = http.createServer();
  new Server(server, { transports: ["websocket"], maxHttpBufferSize: MAX_SIZE }).on("connection", (socket) => {
    const uploads = new Map();
    socket.on("echo", (value, done) => done(value));
    socket.on("items", (stream, n, done) => {
      for (let number = 0; number < n; number++) socket.emit("item", stream, point(number));
      done();
    });
    socket.on("yielding", async (stream, n, done) => {
      for (let number = 0; number < n; number++) {
        await turn();
        socket.emit("item", stream, point(number));
      }
      done();
    });
    socket.on("upload_item", (stream) => uploads.set(stream, (uploads.get(stream) ?? 0) + 1));
    socket.on("upload_end", (stream, done) => {
      done(uploads.get(stream) ?? 0);
      uploads.delete(stream);
    });
  });
  server.listen(0, "127.0.0.1", () => reply({ ready: `http://127.0.0.1:${server.address().port}` }));
}

async function connect(address) {
  const socket = io(address, { transports: ["websocket"], reconnection: false });
  await new Promise((resolve, reject) => socket.on("connect", resolve).on("connect_error", reject));
  const streams = new Map();
  socket.on("item", (stream, item) => streams.get(stream).push(item));
  let numbers = 0;
  const open = (event, n) => {
    const stream = numbers++, items = new Items();
    streams.set(stream, items);
    socket.emitWithAck(event, stream, n).then(() => items.end(), (error) => items.end(error)).finally(() => streams.delete(stream));
    return items;
  };
  return {
    echo: (args) => socket.emitWithAck("echo", args.point),
    items: ({ n }) => open("items", n),
    yielding: ({ n }) => open("yielding", n),
    async upload({ items }) {
      const stream = numbers++;
      for (const item of items) socket.emit("upload_item", stream, item);
      return socket.emitWithAck("upload_end", stream);
    },
    text: ({ value }) => socket.emitWithAck("echo", value),
  };
}

const [role, address] = process.argv.slice(2);
if (role === "server") {
  serve();
  await attend();
} else {
  const bench = await connect(address);
  reply({ ready: address, offers: Object.keys(works) });
  await attend(answering(bench));
}
