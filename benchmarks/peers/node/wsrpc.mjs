// wsrpc.js in Node against the server in Python.

import { connect } from "../../../wsrpc/web/static/wsrpc.js";
import { attend, reply } from "./process.mjs";
import { begin, works } from "./works.js";

const [url] = process.argv[2].split(" ");
const answer = await begin(connect, url);
reply({ ready: url, offers: Object.keys(works) });
await attend(answer);
