// The current call as a program. All that a server said is quoted; nothing of it is ever code.

import { jsonOf } from "./explorer-dom.js";

// Control characters, the two separators of lines, and characters that reverse text.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/;

/** One word of a POSIX shell. @param {string} text */
export function shQuote(text) {
  if (/^[A-Za-z0-9_@%+:,./=-]+$/.test(text)) return text;
  const escaped = [...text].map((c) => {
    const code = c.codePointAt(0);
    if (c === "\\" || c === "'") return "\\" + c;
    if (c === "\n") return "\\n";
    if (code === 0) return "";
    if (UNSEEN.test(c) && c.length === 1) return [...new TextEncoder().encode(c)].map((b) => "\\x" + b.toString(16).padStart(2, "0")).join("");
    return c;
  });
  // $'…' only where it is needed: bash, zsh and ksh know it.
  return [...text].some((c) => c.length === 1 && UNSEEN.test(c)) ? `$'${escaped.join("")}'` : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param {string} text @param {(code: number) => string} wide */
const escaped = (text, wide) =>
  [...text].map((c) => {
    const code = c.codePointAt(0);
    if (c === "\\" || c === '"') return "\\" + c;
    if (c === "\n") return "\\n";
    return c.length === 1 && UNSEEN.test(c) ? wide(code) : c;
  }).join("");
const u4 = (code) => "\\u" + code.toString(16).padStart(4, "0");

/** @param {any} value @returns {string} */
export function pyLiteral(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "number" || typeof value === "bigint") return number(value);
  if (value instanceof Uint8Array) return `bytes.fromhex("${[...value].map((b) => b.toString(16).padStart(2, "0")).join("")}")`;
  if (typeof value === "string") return `"${escaped(value, u4)}"`;
  if (Array.isArray(value)) return `[${value.map(pyLiteral).join(", ")}]`;
  return `{${Object.entries(value).map(([k, v]) => `${pyLiteral(k)}: ${pyLiteral(v)}`).join(", ")}}`;
}

/** @param {any} value @returns {string} */
export function jsLiteral(value) {
  if (value === null || value === undefined) return "null";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number") return number(value);
  if (value instanceof Uint8Array) return `new Uint8Array([${value.join(", ")}])`;
  if (typeof value === "string") return `"${escaped(value, u4)}"`;
  if (Array.isArray(value)) return `[${value.map(jsLiteral).join(", ")}]`;
  const entries = Object.entries(value);
  // A plain `__proto__: …` would set the prototype; in brackets it is a key.
  return entries.length ? `{ ${entries.map(([k, v]) => `${k === "__proto__" ? '["__proto__"]' : isName(k) ? k : jsLiteral(k)}: ${jsLiteral(v)}`).join(", ")} }` : "{}";
}
/** @param {number|bigint} value */
const number = (value) => (typeof value === "number" && !Number.isFinite(value) ? "0" : String(value));

/** @param {string} text */
const isName = (text) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(text);
const KEYWORDS = new Set("False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield".split(" "));
/** @param {string} text */
const isPlain = (text) => isName(text) && !KEYWORDS.has(text) && !text.startsWith("__");
/** A method as a client in JavaScript spells it, if the client makes the method's own name of that again. @param {string} name */
const spelt = (name) =>
  [name.replace(/(?!^)_([a-z])/g, (_, c) => c.toUpperCase()), name].find((one) =>
    isName(one) && !/^(__.*|then|catch|finally|toJSON|toString|valueOf|constructor|inspect|nodeType|asymmetricMatch)$/.test(one) &&
    (one.includes("_") ? one : one.replace(/[A-Z]/g, (c, i) => (i ? "_" : "") + c.toLowerCase())) === name);

/**
 * A call in three languages.
 * @param {{url: string, controller: string, name: string, kind: string, args: Record<string, any>, attached: Record<string, "upload"|"file"|"callback">}} call
 * @returns {Array<[string, string]>}
 */
export function programs({ url, controller, name, kind, args, attached }) {
  const full = `${controller}.${name}`;
  const streams = kind === "stream";
  const entries = Object.entries(args);
  const extra = Object.entries(attached);
  const pyValue = (how) => (how === "callback" ? "print_it" : how === "file" ? "pieces()" : "items()");
  const named = [...entries.map(([k, v]) => [k, pyLiteral(v)]), ...extra.map(([k, how]) => [k, pyValue(how)])];
  const inPython = named.every(([k]) => isPlain(k)) ? named.map(([k, v]) => `${k}=${v}`).join(", ") : `**{${named.map(([k, v]) => `${pyLiteral(k)}: ${v}`).join(", ")}}`;
  const pyMethod = isPlain(name) ? `api.${name}` : `getattr(api, ${pyLiteral(name)})`;
  const helpers = {
    upload: `    async def items():\n        yield ...  # one item after another\n\n`,
    file: `    async def pieces():\n        async with await anyio.open_file("your-file", "rb") as file:\n            while piece := await file.read(48 * 1024):\n                yield piece\n\n`,
    callback: `    async def print_it(*values):\n        print(*values)\n\n`,
  };
  const python =
    `import anyio\nimport wsrpc\n\n\nasync def main():\n` + [...new Set(extra.map(([, how]) => helpers[how]))].join("") +
    `    async with wsrpc.connect(${pyLiteral(url)}) as session:\n        api = session.clientize(${pyLiteral(controller)})\n` +
    (streams ? `        async for item in ${pyMethod}(${inPython}):\n            print(item)\n` : `        print(await ${pyMethod}(${inPython}))\n`) + `\n\nanyio.run(main)\n`;

  const jsValue = (how) => (how === "callback" ? "(...values) => console.log(...values)" : how === "file" ? "file /* a File or Blob */" : "(async function* () { /* yield one item after another */ })()");
  const jsKey = (k) => (k === "__proto__" ? '["__proto__"]' : isName(k) ? k : jsLiteral(k));
  const members = [...entries.map(([k, v]) => `${jsKey(k)}: ${jsLiteral(v)}`), ...extra.map(([k, how]) => `${jsKey(k)}: ${jsValue(how)}`)];
  const object = members.length ? `{ ${members.join(", ")} }` : "";
  const jsMethod = spelt(name);
  const invoke = jsMethod ? `api.${jsMethod}(${object})` : `session.${streams ? "stream" : "call"}(${jsLiteral(full)}${object && ", " + object})`;
  const script =
    `import { connect } from ${jsLiteral(url.replace(/^ws/, "http") + "wsrpc.js")};\n\nconst session = connect(${jsLiteral(url)});\n` +
    (jsMethod ? `const api = session.clientize(${jsLiteral(controller)});\n` : "") +
    (streams ? `for await (const item of ${invoke}) console.log(item);\n` : `console.log(await ${invoke});\n`) + `await session.close();\n`;

  const words = entries.map(([k, v]) => shQuote(typeof v === "string" && v !== "-" ? `${k}=${v}` : `${k}:=${jsonOf(v)}`));
  for (const [k, how] of extra) if (how !== "callback") words.push(shQuote(how === "file" ? `${k}@your-file` : `${k}:=-`));
  // After "--" nothing is an option, whatever a method or an argument is called.
  const guard = [full, ...entries.map(([k]) => k)].some((word) => word.startsWith("-")) ? ["--"] : [];
  const cli = ["wsrpc", "call", ...guard, url, full].map(shQuote).concat(words).join(" ") + "\n";
  return [["Python", python], ["JavaScript and TypeScript", script], ["Command line", cli]];
}
