// Elements, JSON in colours, long values, copying. No markup is ever made of text.
import { json, toBase64url } from "./wsrpc.js";

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** An element, such as "p.hint". Attributes that begin with "on" are listeners; false and null leave one out.
 * @param {string} what @param {any} [attributes] @param {...any} children @returns {any} */
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag);
  made.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child != null && child !== false));
  return made;
}

/** A quiet button. @param {any} label @param {(event: any) => void} onclick @param {any} [more] */
export const button = (label, onclick, more) => h("button", { type: "button", class: "quiet", onclick, ...more }, label);

/** New content for an element. An element in it that had the focus passes it on to one with the same `data-name`, or in the same place.
 * @param {any} into @param {any[]} content @param {any} [otherwise] Gets the focus where nothing can have it. */
export function refill(into, content, otherwise) {
  const held = into.contains(document.activeElement) && document.activeElement;
  const able = () => [...into.querySelectorAll("a,button,input,select,textarea,summary")];
  const at = able().indexOf(held);
  into.replaceChildren(...content);
  const all = able();
  if (held) (all.find((one) => one.dataset.name && one.dataset.name === held.dataset.name) ?? all[Math.min(at, all.length - 1)] ?? otherwise).focus();
}
/** Take an element away, or hide it. If it holds the focus, it passes the focus on. @param {any} one @param {any} next @param {() => void} [away] */
export function passOn(one, next, away = () => one.remove()) {
  const held = one.contains(document.activeElement);
  away();
  if (held) next.focus();
}

/** JSON of anything that can travel, bytes as base64url.
 * @param {any} value @param {number} [indent] @returns {string} */
export const jsonOf = (value, indent) =>
  JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? toBase64url(one) : typeof one === "bigint" ? JSON.rawJSON?.(String(one)) ?? Number(one) : one), indent) ?? "null";

/** JSON in colours. @param {string} text */
export function coloured(text) {
  const into = document.createDocumentFragment();
  let from = 0;
  for (const found of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|true|false|null/g)) {
    const [all, string, colon] = found;
    const kind = colon ? "k" : string ? "s" : /\d/.test(all) ? "n" : "w";
    into.append(text.slice(from, found.index), h("span", { class: kind }, string ?? all), colon ?? "");
    from = found.index + all.length;
  }
  into.append(text.slice(from));
  return into;
}

/** @param {any} what Text, or a function that gives it. @param {string} [label] */
export function copyButton(what, label = "Copy") {
  return button(label, async ({ currentTarget: pressed }) => {
    const text = typeof what === "function" ? what() : what;
    try {
      await navigator.clipboard.writeText(text);
      pressed.textContent = "Copied";
    } catch {
      // Without TLS a browser has no clipboard for pages: the old way.
      const area = h("textarea.unseen", {}, text);
      pressed.after(area);
      area.select();
      pressed.textContent = document.execCommand("copy") ? "Copied" : "Select and copy";
      area.remove();
      pressed.focus();
    }
    setTimeout(() => (pressed.textContent = label), 1200);
  });
}

/** Save to a file. @param {string} name @param {any} content @param {string} type */
export function save(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const LINES = 200;

/** A value as it is shown in a result, with buttons for it. @param {any} value */
export function shown(value) {
  if (value instanceof Uint8Array) {
    return h("div.value", {}, tools(button("Save", () => save("bytes.bin", value, "application/octet-stream"))), h("pre", {}, hex(value)), h("p.hint", {}, `${value.length.toLocaleString("en")} bytes`));
  }
  const text = jsonOf(value, 2);
  const lines = text.split("\n", LINES + 1).length;
  if (lines <= LINES && text.length < 20000) return h("div.value", {}, tools(copyButton(text)), h("pre", {}, coloured(text)));
  if (typeof value === "string") {
    const pre = h("pre", { tabindex: -1 }, value.slice(0, 20000));
    const all = button(`show all ${value.length.toLocaleString("en")} characters`, () => (pre.append(value.slice(20000)), passOn(all, pre)));
    return h("div.value", {}, tools(copyButton(value)), pre, all);
  }
  return h("div.value.tree", {}, tools(copyButton(text)), branch("", value, 1));
}
/** @param {...any} buttons */
const tools = (...buttons) => h("div.tools.end", {}, buttons);

/** @param {string} key @param {any} value @param {number} open How many levels are open. @returns {any} */
function branch(key, value, open) {
  const label = key === "" ? null : h("span.k", {}, key, ": ");
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return h("div.leaf", {}, label, coloured(jsonOf(value).slice(0, 5000)));
  const entries = Object.entries(value);
  const inside = h("div.inside", { tabindex: -1 });
  const fill = (from, to) => {
    inside.append(...entries.slice(from, to).map(([name, one]) => branch(name, one, open - 1)));
    if (to < entries.length) {
      const more = button(`show all ${entries.length.toLocaleString("en")}`, () => (fill(to, entries.length), passOn(more, more.nextElementSibling.querySelector("summary") ?? inside)));
      inside.append(more);
    }
  };
  const node = h("details", { open: open > 0 }, h("summary", {}, label, Array.isArray(value) ? `[ ${entries.length} ]` : `{ ${entries.length} }`), inside);
  const first = () => inside.childElementCount || fill(0, LINES);
  node.addEventListener("toggle", first);
  if (open > 0) first();
  return node;
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, 512); at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    lines.push(`${at.toString(16).padStart(6, "0")}  ${row.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(47)}  ${row.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : "·")).join("")}`);
  }
  if (bytes.length > 512) lines.push("…");
  return lines.join("\n");
}

/** Whole numbers beyond 2^53 stay exact. @param {string} _ @param {any} value @param {any} [context] */
const exactly = (_, value, context) => (Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source) ? BigInt(context.source) : value);

/** The value as it is written: a number that a double cannot hold exactly is text. @param {string} _ @param {any} value @param {any} [context] */
const verbatim = (_, value, context) => (typeof value === "number" && context?.source && context.source !== String(value) ? JSON.rawJSON(context.source) : value);
/** A frame, its values as they are written. @param {any} read @param {any} written */
const merged = (read, written) => (Array.isArray(read) ? [...read.slice(0, 2), ...written.slice(2)] : read);
/** @param {string} text */
export const frameOf = (text) => merged(JSON.parse(text), JSON.parse(text, verbatim));

/** Frames that came or went, and their text. @type {WeakMap<any, any>} */
const writings = new WeakMap();
/** A frame as it was written. @param {any} frame */
export const writing = (frame) => writings.get(frame) ?? frame;
/** JSON in which no integer is rounded. */
export const exactJson = { ...json, decode(/** @type {string} */ text) {
  const read = JSON.parse(text, exactly);
  const written = JSON.parse(text, verbatim);
  if (Array.isArray(read)) [read, ...read].forEach((one, i) => one === Object(one) && writings.set(one, merged(one, i ? written[i - 1] : written)));
  return read;
} };

/** Text as JSON; an error says where it is wrong. @param {string} text @returns {any} */
export function parse(text) {
  try {
    return JSON.parse(text, exactly);
  } catch {
    let good = 0;
    let bad = text.length;
    // The longest beginning that could still become JSON.
    while (good < bad) {
      const middle = (good + bad + 1) >> 1;
      if (couldGoOn(text.slice(0, middle))) good = middle;
      else bad = middle - 1;
    }
    const before = text.slice(0, good).split("\n");
    const where = `line ${before.length}, column ${(before.at(-1) ?? "").length + 1}`;
    throw new Error(good === text.length ? `This JSON ends too early, at ${where}.` : `This is no JSON from ${where} on.`);
  }
}
/** @param {string} text */
function couldGoOn(text) {
  try {
    JSON.parse(text);
    return true;
  } catch (error) {
    const said = String(error);
    return /end of|unterminated|exponent part/i.test(said) || Number(/position (\d+)/.exec(said)?.[1]) >= text.length;
  }
}

/** @param {number} n @param {string} word */
export const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
