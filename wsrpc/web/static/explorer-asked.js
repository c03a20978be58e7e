// The calls of the server to the page: each is a card, answered by hand.
import { RpcError } from "./wsrpc.js";
import { $, h, button, passOn, refill, jsonOf, coloured, parse } from "./explorer-dom.js";
import { remark } from "./explorer-frames.js";

const open = new Map();
/** Answers that are given without asking, as JSON text. @type {Map<string, string>} */
const always = new Map();
const cards = h("div");
const rules = h("div");
let told = () => {};

/** @param {() => void} tell Called whenever the calls that wait for an answer have changed. */
export function setUp(tell) {
  told = tell;
  const method = h("input", { type: "text", placeholder: "Page.confirm", "aria-label": "Method to answer", spellcheck: "false" });
  const value = h("input", { type: "text", placeholder: "answer, as JSON", "aria-label": "Answer, as JSON", spellcheck: "false" });
  const wrong = h("p.wrong", { role: "alert" });
  const add = h("form.rule", { onsubmit: (event) => {
    event.preventDefault();
    wrong.textContent = "";
    try {
      if (!/.\../.test(method.value)) throw new Error("Name a method as Controller.method.");
      parse(value.value);
      always.set(method.value, value.value);
      method.value = value.value = "";
      showRules();
    } catch (error) {
      wrong.textContent = error.message;
    }
  } }, method, value, h("button.quiet", { type: "submit" }, "Always"));
  $("asked").replaceChildren(cards, h("div.ask.plain", {}, h("h2", {}, "Answered without asking"), rules, add, wrong));
  count();
  showRules();
}

function showRules() {
  refill(rules, [...always].map(([method, value]) => h("div.rule", {}, h("code", {}, method), h("code", {}, value.slice(0, 80)), button("×", () => (always.delete(method), showRules()), { class: "quiet icon", "aria-label": `ask again for ${method}` }))), $("asked").querySelector(".rule input"));
  if (!always.size) rules.append(h("p.hint", {}, "Nothing. While this tab is open, answers set here are given at once."));
}

function count() {
  $("asks").hidden = !open.size;
  $("asks").textContent = String(open.size);
  if (!open.size) cards.replaceChildren(h("p.empty", {}, "The server asks nothing. When it calls a method of this page, the call waits here for your answer."));
  told();
}

/** The methods that wait for an answer. */
export const waiting = () => [...open.values()];
/** Go to the first card. */
export const look = () => cards.querySelector("input,textarea,button")?.focus();

/** @param {string} method @param {any} args @param {AbortSignal} [signal] @returns {Promise<any>} */
export function ask(method, args, signal) {
  const ready = always.get(method);
  if (ready !== undefined) {
    remark(`answered without asking: ${method}`);
    return Promise.resolve(parse(ready));
  }
  return new Promise((resolve, reject) => {
    const id = `a${Math.random().toString(36).slice(2)}`;
    const answer = h("textarea", { id, rows: 2, spellcheck: "false", placeholder: "JSON", "aria-describedby": `${id}e` });
    const wrong = h("p.wrong", { id: `${id}e` });
    const keep = h("input", { type: "checkbox" });
    const gone = (settle) => {
      if (!open.delete(card)) return;
      signal?.removeEventListener("abort", left);
      passOn(card, $("t-asked"));
      count();
      settle();
    };
    const left = () => gone(() => reject(signal?.reason));
    const give = (text) => {
      wrong.textContent = "";
      answer.removeAttribute("aria-invalid");
      try {
        if (!text.trim()) throw new Error("Write the answer as JSON first, such as true or \"yes\".");
        const value = parse(text);
        if (keep.checked) always.set(method, text), showRules();
        gone(() => resolve(value));
      } catch (error) {
        wrong.textContent = error.message;
        answer.setAttribute("aria-invalid", "true");
        answer.focus();
      }
    };
    const seen = Object.fromEntries(Object.entries(args ?? {}).map(([key, one]) => [key, typeof one === "function" ? "a callback" : one && typeof one === "object" && Symbol.asyncIterator in one ? "an upload" : one]));
    const stream = () => {
      // From here on the answer is a stream, each line an item.
      const items = [];
      let wake = () => {};
      let ended = false;
      const number = h("small", {}, "0 sent");
      let sent = 0;
      const send = () => {
        try {
          items.push(parse(answer.value));
          number.textContent = `${++sent} sent`;
          answer.value = wrong.textContent = "";
          wake();
        } catch (error) {
          wrong.textContent = error.message;
        }
        answer.focus();
      };
      const stop = () => ((ended = true), wake());
      signal?.removeEventListener("abort", left);
      signal?.addEventListener("abort", () => (stop(), gone(() => {})));
      buttons.replaceChildren(button("Send", send), button("End", () => (stop(), gone(() => {}))), number);
      resolve((async function* () {
        for (;;) {
          if (items.length) yield items.shift();
          else if (ended) return;
          else await new Promise((go) => (wake = () => go(undefined)));
        }
      })());
      answer.focus();
    };
    const buttons = h("div.go", {}, button("Yes", () => give("true"), { title: "true" }), button("No", () => give("false"), { title: "false" }), button("Answer", () => give(answer.value)), button("Stream", stream, { title: "Answer with items, one after the other" }),
      h("span.grow"), button("Refuse", () => gone(() => reject(new RpcError("permission_denied", "refused by hand")))));
    const card = h("div.ask", { role: "group", "aria-label": `The server calls ${method}` }, h("div", {}, "The server calls ", h("code", {}, method)), h("pre", { tabindex: 0 }, coloured(jsonOf(Array.isArray(args) || args === null || typeof args !== "object" ? args : seen, 2))),
      h("label", { for: id }, "Answer, as JSON"), answer, wrong, buttons, h("label.keep", {}, keep, " always answer this method so, in this tab"));
    if (!open.size) cards.replaceChildren();
    open.set(card, method);
    cards.append(card);
    if (signal?.aborted) return left();
    signal?.addEventListener("abort", left);
    count();
  });
}
