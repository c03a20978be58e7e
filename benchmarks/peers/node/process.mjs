// One process of a peer, spoken to as `benchmarks.peers.__main__` says.

import readline from "node:readline";

export const reply = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
export const turn = () => new Promise((resolve) => setImmediate(resolve));
const seconds = () => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
};

/** A server: tells CPU time and memory. */
const stated = ({ tidy }) => {
  if (tidy) global.gc();
  return { cpu: seconds(), rss: process.memoryUsage.rss() };
};

/** Answer until standard input ends. @param answer Of a client: does what a request says. */
export async function attend(answer) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (!answer) {
      reply(stated(request));
      continue;
    }
    global.gc();
    const cpu = seconds();
    try {
      const done = await answer(request);
      reply({ ...done, cpu: seconds() - cpu });
    } catch (error) {
      reply({ error: `${error.name}: ${error.message}` });
    }
  }
  process.exit(0);
}

/** Items that are pushed, to be iterated over once. */
export class Items {
  #items = [];
  #over;
  #wake = () => {};

  push(item) {
    this.#items.push(item);
    this.#wake();
  }
  end(error) {
    this.#over = { error };
    this.#wake();
  }
  async *[Symbol.asyncIterator]() {
    for (;;) {
      for (const item of this.#items.splice(0)) yield item;
      if (this.#items.length) continue;
      if (this.#over?.error) throw this.#over.error;
      if (this.#over) return;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }
  async collect() {
    const all = [];
    for await (const item of this) all.push(item);
    return all;
  }
}
