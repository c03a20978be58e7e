// wsrpc.js in Node against the server in Python, spoken to as `benchmarks.peers.__main__` says.

import readline from "node:readline";
import { connect } from "../../../wsrpc/web/static/wsrpc.js";
import { begin, works } from "./works.js";

const reply = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const seconds = () => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
};

const [url] = process.argv[2].split(" ");
const answer = await begin(connect, url);
reply({ ready: url, offers: Object.keys(works) });
for await (const line of readline.createInterface({ input: process.stdin })) {
  global.gc();
  const cpu = seconds();
  try {
    const done = await answer(JSON.parse(line));
    reply({ ...done, cpu: seconds() - cpu });
  } catch (error) {
    reply({ error: `${error.name}: ${error.message}` });
  }
}
process.exit(0);
