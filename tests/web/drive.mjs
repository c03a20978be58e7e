// node tests/web/drive.mjs URL [--codec json|msgpack] [--auth-token TOKEN] [--ws MODULE] [--only WORDS]: the interop service through wsrpc.js.
import { parseArgs } from "node:util";
import * as client from "../../wsrpc/web/static/wsrpc.js";
import { msgpack } from "../../wsrpc/web/static/wsrpc-msgpack.js";
import { run } from "./interop.js";

const { values, positionals: [url] } = parseArgs({ allowPositionals: true, options: { codec: { type: "string", default: "json" }, "auth-token": { type: "string" }, ws: { type: "string" }, only: { type: "string", default: "" } } });
if (!url) {
  console.error("usage: node tests/web/drive.mjs ws://127.0.0.1:8765 [--codec json|msgpack] [--auth-token TOKEN] [--ws MODULE] [--only WORDS]");
  process.exit(2);
}
let WebSocket;
if (values.ws) {
  const module = await import(values.ws);
  WebSocket = module.WebSocket ?? module.default;
}
const results = await run({ client, msgpack, url, codec: values.codec, auth: values["auth-token"], WebSocket, only: values.only, say: ({ title, why }) => console.log(why ? `FAIL ${title}: ${why}` : `ok   ${title}`) });
const failed = results.filter((one) => one.why).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
