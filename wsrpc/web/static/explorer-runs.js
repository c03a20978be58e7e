// Calls that run, and the cards that show their results.
import { RpcError } from "./wsrpc.js";
import { $, h, button, passOn, jsonOf, coloured, shown, copyButton, save, counted, writing } from "./explorer-dom.js";
import { field, masked } from "./explorer-forms.js";
import { keepFrame } from "./explorer-frames.js";

const ROWS = 1000;
const KEPT_ITEMS = 100000;
const TEXT = 200000;
const CARDS = 50;

/** Calls without an outcome, the oldest first. @type {Set<any>} */
export const live = new Set();
/** The runs by their id in the present wire session. @type {Map<number, any>} */
const byId = new Map();
let window_ = 32;

/** Sees every frame: for the pane, for the credit bar, and for the end of a stopped call's cleanup.
 * @param {boolean} sent @param {any} frame @param {number} at */
export function trace(sent, frame, at) {
  const [name, id, body] = frame;
  const run = typeof id === "number" ? byId.get(id) : undefined;
  let visible = writing(frame);
  if (name === "hello") {
    if (sent) window_ = id.window ?? window_;
    else if (!id.resumed) byId.clear();
  } else if (sent && (name === "call" || name === "notify") && typeof body === "string") {
    const begun = [...live].find((one) => one.full === body && (one.id === undefined || byId.get(one.id) !== one));
    if (begun) {
      begun.id = id;
      begun.window = begun.balance = frame[4]?.credit ?? window_;
      byId.set(id, begun);
      if (begun.secrets.length) visible = [name, id, body, masked(visible[3], begun.secrets), ...visible.slice(4)];
    }
  } else if (run) {
    if (sent && name === "chunk" && run.secrets.length) visible = [name, id, body, "••••"];
    if (sent && name === "credit") run.window = Math.max(run.window, (run.balance += body));
    else if (!sent && name === "message") run.balance -= frame[3] ? 1 + Math.floor(frame[3] / 65536) : body.length;
    else if (!sent && (name === "result" || name === "end" || name === "error")) {
      byId.delete(id);
      run.terminal?.();
    }
  }
  keepFrame(sent, visible, at);
}

/** Items that a person sends one by one. */
class ByHand {
  items = [];
  over;
  wake = () => {};
  /** @param {any} item */
  send(item) {
    this.items.push(item);
    this.wake();
  }
  /** @param {Error} [error] */
  end(error) {
    this.over ??= { error };
    this.wake();
  }
  async *[Symbol.asyncIterator]() {
    for (;;) {
      if (this.items.length) yield this.items.shift();
      else if (this.over?.error) throw this.over.error;
      else if (this.over) return;
      else await new Promise((go) => (this.wake = () => go(undefined)));
    }
  }
}

/** The text in an item, if it has any. @param {any} item */
function pieceOf(item) {
  if (typeof item === "string") return item;
  if (item === null || typeof item !== "object") return undefined;
  for (const key of ["text", "message", "token", "delta", "content"]) if (Object.hasOwn(item, key) && typeof item[key] === "string") return item[key];
  return undefined;
}

/**
 * Make a call and show its results.
 * @param {any} session
 * @param {{controller: string, name: string, method: any, args: any, options: any, secrets: any[][], uploads: Record<string, any>, callbacks: Record<string, any>, ask: (method: string, args: any) => Promise<any>, over: (run: any) => void, changed: () => void}} asked
 */
export function start(session, { controller, name, method, args, options, secrets, uploads, callbacks, ask, over, changed }) {
  const streams = method.kind === "stream";
  const began = performance.now();
  const since = (digits = 2) => ((performance.now() - began) / 1000).toFixed(digits);
  const abort = new AbortController();
  
  const run = { controller, name, full: `${controller}.${name}`, secrets, id: undefined, balance: 0, window: 1, outcome: "…", items: 0 };

  const what = h("span.what", {}, streams ? "streaming" : "waiting");
  const time = h("span", {}, "0.00 s");
  const count = h("span");
  const level = h("b");
  const credit = h("span.credit", { title: "How many items the server may still run ahead" }, "credit", h("i", {}, level));
  let paused = false;
  let goOn = () => {};
  const pause = button("Pause", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    what.textContent = paused ? "paused" : "streaming";
    if (!paused) goOn();
  });
  const stop = button("Stop", () => run.stop());
  const head = h("div.top", {}, what, h("code.of", {}, name), time, count, streams && credit, h("span.grow"), streams && pause, stop);
  const waits = h("div.waits");
  const senders = h("div.senders");
  const list = h("ol.items");
  const text = h("div.text");
  const scroller = h("div.scroller", { tabindex: 0, role: "region", "aria-label": `Items of ${name}`, hidden: true }, text, list);
  const asText = button("Text", () => mode(true));
  const asItems = button("Items", () => mode(false));
  const toggle = h("span.toggle", { role: "group", "aria-label": "Show", hidden: true }, asText, asItems);
  count.after(toggle);
  const body = h("div");
  run.card = h("section.out.live", { "data-of": run.full, "aria-label": `${streams ? "Stream" : "Call"} ${name}` }, head, waits, senders, scroller, body);
  run.waits = waits;
  text.hidden = true;
  function mode(words) {
    text.hidden = !words;
    list.hidden = words;
    asText.setAttribute("aria-pressed", String(words));
    asItems.setAttribute("aria-pressed", String(!words));
    scroller.scrollTop = scroller.scrollHeight;
  }
  $("results").prepend(run.card);
  const finished = $("results").querySelectorAll(".out:not(.live)");
  for (let i = CARDS; i < finished.length; i++) finished[i].remove();

  // --- Items, painted once a frame.
  let rows = [];
  let words = "";
  let wordsShown = 0;
  const lines = [];
  function paint() {
    const follow = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
    list.append(...rows.splice(0).slice(-ROWS).map(([label, value]) => h("li", {}, h("time", {}, label), h("code", {}, coloured(jsonOf(value).slice(0, 2000))))));
    while (list.childElementCount > ROWS) list.firstElementChild.remove();
    if (words) {
      wordsShown += words.length;
      text.append(words);
      words = "";
      while (wordsShown > TEXT && text.childNodes.length > 1) wordsShown -= text.firstChild.length, text.firstChild.remove();
    }
    count.textContent = streams || run.items ? counted(run.items, "item") : "";
    scroller.hidden = false;
    if (follow) scroller.scrollTop = scroller.scrollHeight;
  }
  const add = (label, value) => {
    if (!rows.length) requestAnimationFrame(paint);
    rows.push([label, value]);
    if (rows.length > 2 * ROWS) rows.splice(0, ROWS);
  };

  // --- Attachments of the call.
  const travelling = { ...args };
  const hands = [];
  for (const [key, upload] of Object.entries(uploads)) {
    if (upload.file) {
      travelling[key] = upload.file;
      continue;
    }
    const hand = (travelling[key] = new ByHand());
    hands.push(hand);
    const one = field(key, upload.schema, { defs: upload.schema.$defs ?? {}, path: [], changed: () => {}, quiet: true });
    let sent = 0;
    const send = () => {
      one.fail("");
      try {
        hand.send(one.read());
        number.textContent = `${++sent} sent`;
        one.focus();
      } catch (error) {
        error.field.fail(error.message);
      }
    };
    const number = h("small", {}, "0 sent");
    const done = (word, error) => {
      hand.end(error);
      passOn(sender, stop, () => sender.replaceChildren(h("small", {}, `${key}: ${word} after ${counted(sent, "item")}`)));
    };
    const sender = h("form.sender", { "aria-label": `Upload ${key}`, onkeydown: (e) => e.key === "Enter" && !e.shiftKey && !e.ctrlKey && e.target.tagName === "TEXTAREA" && (e.preventDefault(), send()), onsubmit: (e) => (e.preventDefault(), send()) }, one.node,
      h("div.go", {}, h("button.quiet", { type: "submit" }, "Send"), button("End", () => done("ended", undefined), { title: "No more items come: the method sees the end" }),
        button("Fail", () => done("failed", new RpcError("aborted", "the upload was failed by hand")), { title: "The method sees an error" }), number));
    senders.append(sender);
  }
  for (const [key, callback] of Object.entries(callbacks)) {
    travelling[key] = (...values) => {
      add(since(), { [key]: values.length === 1 ? values[0] : values });
      const answer = callback.result?.type;
      return callback.result && answer !== "null" ? ask(`${key} (a callback of ${name})`, values.length === 1 ? values[0] : values) : null;
    };
  }

  const tick = setInterval(() => {
    time.textContent = `${since()} s`;
    level.style.width = `${Math.max(0, Math.min(1, run.balance / run.window)) * 100}%`;
    count.textContent = run.items || streams ? counted(run.items, "item") : "";
  }, 100);
  let cleaned = "stopped";
  run.stop = () => {
    if (!live.has(run)) return;
    const at = performance.now();
    run.terminal = () => {
      cleaned = `stopped, cleaned up after ${Math.round(performance.now() - at)} ms`;
      if (!live.has(run)) what.textContent = cleaned;
    };
    abort.abort(new RpcError("cancelled", "stopped by hand"));
    goOn();
  };
  const end = (word, outcome) => {
    clearInterval(tick);
    if (rows.length) paint();
    live.delete(run);
    run.outcome = outcome;
    what.textContent = word;
    time.textContent = `${since()} s`;
    run.card.classList.remove("live");
    for (const hand of hands) hand.end();
    const dismiss = button("×", () => {
      passOn(run.card, run.card.nextElementSibling?.querySelector(".top > button") ?? $("main"));
    }, { class: "quiet icon", "aria-label": `Dismiss the result of ${name}` });
    head.append(...(lines.length ? [button("Download", () => save(`${name}.ndjson`, lines.join("\n") + "\n", "application/x-ndjson"), { title: lines.length < run.items ? `the first ${lines.length} items` : "all items, one a line" })] : []), dismiss);
    for (const one of [pause, stop, credit, senders, waits]) passOn(one, dismiss);
    $("live").textContent = `${name}: ${word}, ${since(1)} seconds`;
    over(run);
    changed();
  };

  async function drive() {
    const facts = { kind: method.kind, wire: name, tracked: method.tracked, idempotent: method.idempotent, timeout: method.timeout || undefined, bytes: (method.item ?? method.result)?.format === "base64url" };
    // The method gets a name of our own: the server's may be `then`.
    const { make } = session.clientize({ name: controller, methods: { make: facts } });
    try {
      if (streams) {
        const stream = make(travelling, { timeout: null, ...options, signal: abort.signal });
        for await (const item of stream) {
          run.items++;
          add(since(), item);
          if (lines.length < KEPT_ITEMS) lines.push(jsonOf(item));
          const piece = pieceOf(item);
          if (piece !== undefined) {
            if (toggle.hidden) toggle.hidden = false, mode(true);
            words = (words + piece).slice(-TEXT);
          }
          if (paused) await new Promise((go) => (goOn = () => go(undefined)));
          if (abort.signal.aborted) break;
        }
        if (abort.signal.aborted) throw abort.signal.reason;
        if (stream.dropped) body.append(h("p.hint", {}, `${counted(stream.dropped, "item")} let go, as the policy says`));
        if (stream.final !== undefined) body.append(h("h3", {}, "Final"), shown(stream.final));
        end("ended", counted(run.items, "item"));
      } else {
        const value = await make(travelling, { ...options, signal: abort.signal });
        if (method.kind === "notify") return end("sent", "sent");
        body.append(shown(value ?? null));
        end("result", "result");
      }
    } catch (problem) {
      const error = problem;
      run.error = error;
      if (abort.signal.aborted) return end(cleaned, "stopped");
      run.card.classList.add("bad");
      const more = [error.errorId && `error id ${error.errorId}`, error.notStarted && "it had not begun", error.retryAfter && `try again after ${error.retryAfter} ms`].filter(Boolean).join(" · ");
      body.append(h("div.value", {}, h("div.tools.end", {}, copyButton(`${error.code ?? error.name}: ${error.message}${more && ` (${more})`}`)), h("pre", {}, error.message)), more ? h("p.hint", {}, more) : "");
      if (error.data != null) body.append(shown(error.data));
      end(error.code ?? error.name, error.code ?? error.name);
    }
  }
  live.add(run);
  drive();
  changed();
  return run;
}
