// `HelloController.streamTokens` with a stream fetcher of our own: it gets the request and the
// default way to fetch it, and gives an async iterable. This one remembers whole streams.
import { connect, SERVER } from "./server.js";

let calls = 0;
const remembered = new Map();

async function* remembering(request, fetch) {
  const key = JSON.stringify([request.controller, request.method, request.args]);
  if (remembered.has(key)) {
    yield* remembered.get(key);
    return;
  }
  calls++;
  const items = [];
  for await (const item of fetch(request)) {
    items.push(item);
    yield item;
  }
  remembered.set(key, items);
}

const session = connect(SERVER);
const hello = session.clientize("HelloController", { streamFetcher: remembering });

for (const id of ["first", "again"]) {
  for await (const { message } of hello.streamTokens({ hello: "World" })) {
    document.getElementById(id).append(message);
  }
}
document.getElementById("calls").textContent = `calls that went to the server: ${calls}`;
await session.close();
