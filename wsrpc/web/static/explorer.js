// The explorer: every method of a server, tried by hand, over the same socket that programs use.
import { connect } from "./wsrpc.js";
import { $, h, button, passOn, refill, jsonOf, coloured, copyButton, exactJson, parse } from "./explorer-dom.js";
import { field, flat, masked, secrets, typeName, Wrong } from "./explorer-forms.js";
import { remark } from "./explorer-frames.js";
import { ask, look, setUp, waiting } from "./explorer-asked.js";
import { live, start, trace } from "./explorer-runs.js";
import { programs } from "./explorer-copy.js";

const HERE = `wsrpc.${location.host}${location.pathname}`;
/** A value in the browser's storage. A browser that stores nothing even refuses access to its storage. @param {any} where "local" or "session" @param {string} key @param {string|null} [value] */
function stored(where, key, value) {
  try {
    where = window[where + "Storage"];
    if (value === undefined) return where.getItem(key);
    if (value === null) where.removeItem(key);
    else where.setItem(key, value);
  } catch {
    // Storage is refused, or full: things are kept as long as the page.
  }
  return null;
}

// --- The session -----------------------------------------------------------------------------------

let credentials;
const remembered = stored("session", `${HERE}.auth`);
if (remembered !== null) credentials = parse(remembered);
let away = 0;

/** Notifications that were seen and not yet answered, by method. @type {Map<string, number>} */
const notified = new Map();
const session = (connect(".", {
  codec: exactJson,
  auth: async () => {
    const until = away - performance.now();
    if (until > 0) await new Promise((go) => setTimeout(go, until));
    return credentials ?? null;
  },
  trace: (sent, frame, at) => {
    if (!sent && frame[0] === "notify") notified.set(String(frame[2]), (notified.get(String(frame[2])) ?? 0) + 1);
    trace(sent, frame, at);
  },
  fallback: (method, args, ctx) => {
    const n = notified.get(method);
    if (n) {
      notified.set(method, n - 1);
      remark(`the server notified: ${method} ${jsonOf(args).slice(0, 200)}`);
      return null;
    }
    if (!document.hidden && matchMedia("(min-width: 821px)").matches) tab("asked");
    return ask(method, args, ctx.signal);
  },
}));

let contract;
/** The error in place of the contract. @type {any} */ let silent;
let described = "";
let resumed = 0;
let was = "";
let lateLoss = 0;

function follow() {
  const { state, lastClose, resumes, attempt } = session.snapshot;
  const dot = $("state");
  dot.dataset.state = state;
  passOn($("cut"), dot, () => ($("cut").hidden = state !== "open"));
  const words = { connecting: "connecting …", open: "open", lost: "coming back …", closed: `closed: ${lastClose?.code ?? ""} ${lastClose?.reason ?? ""}` };
  dot.textContent = words[state];
  if (state === "open") dot.append(h("i", {}, `session ${session.id.slice(0, 6)}${resumes ? ` · resumed ${resumes}×` : ""}`));
  if (state !== was) {
    const said = `${state}${state === "open" && resumes > resumed ? ": resumed" : ""}`;
    $("live").textContent = said;
    if (state === "open") remark(resumes > resumed ? "resumed: the session goes on" : `connected: session ${session.id}`);
    else if (was) remark(`connection ${state}: ${lastClose?.code ?? ""} ${lastClose?.reason ?? ""}`.trim());
    clearTimeout(lateLoss);
    if (state === "lost") lateLoss = setTimeout(notice, 600);
  }
  const first = was !== "closed" && state === "closed";
  was = state;
  resumed = resumes;
  if (state === "open" && session.id !== described) {
    described = session.id;
    describe();
  }
  if (first && lastClose?.code === 4501) askCredentials("The server wants credentials.");
  if (state !== "lost" || attempt > 1) notice();
}

/** The members of this that are objects, by name, and within each the objects under these keys: a server may say anything. @param {any} all @param {string[]} keys */
const parts = (all, key, ...more) =>
  Object.fromEntries(Object.entries(all ?? {}).filter(([, one]) => one instanceof Object && !Array.isArray(one)).map(([name, one]) => [name, key ? { ...one, [key]: parts(one[key], ...more) } : one]));

async function describe() {
  silent = undefined;
  try {
    const told = await session.call("wsrpc.reflection.describe", {}, { timeout: 15000, idempotent: true });
    contract = { controllers: parts(told?.controllers, "methods", "params") };
    if (!told?.controllers) throw new Error("no contract");
    const same = current && jsonOf(find(current.controller, current.name)) === jsonOf(current.method);
    $("url").textContent = [told.server?.name, told.server?.version, location.host].filter(Boolean).join(" ");
    showTree();
    // A form whose method has not changed stays as it is.
    if (!same) route(current && remembering());
  } catch (error) {
    silent = error;
  }
  notice();
}

async function again() {
  await session.close();
  // The session's state shows the reason why it could not be opened.
  session.reopen().catch(() => {});
}
/** One sentence and one action for each kind of trouble. */
function notice() {
  const { state, lastClose, draining } = session.snapshot;
  const none = contract && Object.values(contract.controllers).every((one) => !Object.keys(one.methods).length);
  
  let told;
  if (state === "closed" && lastClose?.code === 4501) told = ["The server does not know you: it wants credentials.", "Credentials", () => askCredentials()];
  else if (state === "closed" && lastClose?.code === 4503) told = ["The server knows you and refuses you.", "Other credentials", () => askCredentials()];
  else if (state === "closed") told = [`The session is closed: ${lastClose?.code ?? ""} ${lastClose?.reason ?? ""}`.trim() + ".", "Connect again", again];
  else if (state === "lost") told = [`The connection is lost (${lastClose?.code ?? 1006}); this page dials until it is back. Running calls go on then.`, "Begin a new session", again];
  else if (state === "connecting") told = [`Connecting to ${location.host} …`, "Dial anew", again];
  else if (silent?.code === "unimplemented" || silent?.code === "permission_denied" || silent?.code === "not_found") told = ["This server does not tell what it offers: reflection is off.", "Ask again", describe];
  else if (silent) told = [`The server did not tell what it offers: ${silent.message}`, "Ask again", describe];
  else if (draining) told = ["The server is about to stop: running calls may end, new ones go to the next session.", "Begin a new session", again];
  else if (none) told = ["This server offers no methods.", "Ask again", describe];
  $("notice").hidden = !told;
  refill($("notice"), told ? [h("p", {}, told[0]), button(told[1], told[2])] : [], $("main"));
  document.body.classList.toggle("bare", !contract);
}

// --- The top -----------------------------------------------------------------------------------------

$("url").textContent = location.host;
const cut = () => session.cut();
const stayAway = () => {
  away = performance.now() + 5000;
  session.cut();
};
$("cut").onclick = cut;
$("auth").onclick = () => askCredentials();
$("theme").onclick = () => {
  const root = document.documentElement;
  const dark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  stored("local", "wsrpc.theme", root.dataset.theme);
};
const theme = stored("local", "wsrpc.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
$("skip").onclick = (event) => (event.preventDefault(), $("main").focus());

const menu = $("menu");
function showMenu(on) {
  menu.hidden = !on;
  $("state").setAttribute("aria-expanded", String(on));
  if (!on) return;
  const { state } = session.snapshot;
  
  const entries = [
    ["Cut the connection", cut, state === "open"], ["Cut, and stay away for 5 s", stayAway, state === "open"], ["Close the session", () => session.close(), state !== "closed"],
    ["Begin a new session", again, true], ["Copy the session's id", () => navigator.clipboard?.writeText(session.id), !!session.id && !!navigator.clipboard], ["Credentials …", () => askCredentials(), true],
  ];
  menu.replaceChildren(...entries.filter(([, , possible]) => possible).map(([label, act]) => h("button", { type: "button", role: "menuitem", tabindex: -1, onclick: () => (showMenu(false), $("state").focus(), act()) }, label)));
  menu.firstElementChild.focus();
}
$("state").onclick = () => showMenu(menu.hidden);
menu.onkeydown = (event) => {
  const step = event.key === "ArrowDown" ? "nextElementSibling" : event.key === "ArrowUp" ? "previousElementSibling" : undefined;
  if (step) event.target[step]?.focus();
  else if (event.key === "Escape") showMenu(false), $("state").focus();
  else return;
  event.preventDefault();
  event.stopPropagation();
};
document.addEventListener("pointerdown", (event) => menu.hidden || menu.contains(event.target) || $("state").contains(event.target) || showMenu(false));

/** @param {string} title @param {...any} content */
function dialog(title, ...content) {
  const box = $("dialog");
  box.replaceChildren(h("h2", { id: "dialog-title" }, title), ...content);
  if (!box.open) box.showModal();
  return box;
}

/** @param {string} [why] */
function askCredentials(why) {
  const text = h("textarea", { id: "c", rows: 4, spellcheck: "false", autocomplete: "off" }, credentials === undefined ? "" : typeof credentials === "string" ? credentials : jsonOf(credentials));
  const keep = h("input", { type: "checkbox", checked: stored("session", `${HERE}.auth`) !== null });
  const wrong = h("p.wrong", { role: "alert" });
  const use = (event) => {
    event.preventDefault();
    const typed = text.value.trim();
    try {
      credentials = typed === "" ? undefined : /^[[{"]/.test(typed) ? parse(typed) : typed;
    } catch (error) {
      wrong.textContent = error.message;
      return;
    }
    stored("session", `${HERE}.auth`, keep.checked && credentials !== undefined ? jsonOf(credentials) : null);
    $("dialog").close();
    again();
  };
  dialog("Credentials", h("form", { onsubmit: use }, h("p", {}, why ? `${why} ` : "", "The hello's ", h("code", {}, "auth"), ": a text such as a token, or JSON. A new session begins with it."),
    h("label", { for: "c" }, "Text or JSON"), text, wrong, h("label.keep", {}, keep, " remember for this tab"),
    h("div.go", {}, h("button.primary", { type: "submit" }, "Use"), button("Cancel", () => $("dialog").close()))));
  text.focus();
}

const KEYS = [["/", "find a method"], ["↑ ↓", "through the methods, the frames, the menu"], ["Ctrl or ⌘ ↵", "call"], ["Esc", "stop the newest call of this method"], ["[ ]", "tabs on the right"], ["?", "this help"]];
const help = () => dialog("Keys", h("dl", {}, KEYS.map(([key, words]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, words)])), h("p.hint", {}, "A link to a method fills the form; it never calls by itself."), h("div.go", {}, button("Close", () => $("dialog").close())));
$("keys").onclick = help;

// --- Methods -----------------------------------------------------------------------------------------

/** @param {any} m */
function kindOf(m) {
  const up = Object.values(m.params ?? {}).some((one) => one.kind === "upload");
  return m.kind === "stream" ? (up ? "both ways" : "stream") : up ? "upload" : m.kind === "unary" ? "" : m.kind;
}
function showTree() {
  const closed = new Set([...document.querySelectorAll("#tree details:not([open])")].map((one) => (one).dataset.name));
  refill($("tree"), Object.entries(contract.controllers).map(([controller, one]) =>
    h("details", { open: !closed.has(controller), "data-name": controller }, h("summary", {}, h("h2", {}, controller), h("small", {}, Object.keys(one.methods).length)),
      Object.entries(one.methods).map(([name, method]) => h("a", { href: `#${encodeURIComponent(`${controller}.${name}`)}`, "data-name": `${controller}.${name}` }, h("span", {}, name), h("small", {}, kindOf(method)))))), $("find"));
  filter();
  markOpen();
}
/** Mark the method that is open among all. */
function markOpen() {
  for (const a of document.querySelectorAll("nav a")) {
    if (current && a.dataset.name === `${current.controller}.${current.name}`) a.setAttribute("aria-current", "page"), a.scrollIntoView({ block: "nearest" });
    else a.removeAttribute("aria-current");
  }
}
function filter() {
  const wanted = $("find").value.toLowerCase();
  for (const group of document.querySelectorAll("#tree details")) {
    let some = false;
    for (const a of group.querySelectorAll("a")) some = !(a.hidden = !a.dataset.name.toLowerCase().includes(wanted)) || some;
    group.hidden = !some;
    if (wanted && some) group.open = true;
  }
}
const links = () => ([...document.querySelectorAll("#tree details[open] a")].filter((a) => (a).checkVisibility?.() ?? true));
$("find").oninput = filter;
$("methods").onkeydown = (event) => {
  const all = links();
  const at = all.indexOf(event.target);
  if (event.key === "Enter" && event.target === $("find")) all[0]?.click();
  else if (event.key === "ArrowDown" && (at >= 0 || event.target === $("find"))) all[at + 1]?.focus();
  else if (event.key === "ArrowUp" && at >= 0) (all[at - 1] ?? $("find")).focus();
  else if (event.key === "Escape" && document.body.classList.contains("choosing")) sheet(false), $("sheet").focus();
  else return;
  event.preventDefault();
};
function sheet(on) {
  document.body.classList.toggle("choosing", on);
  $("sheet").setAttribute("aria-expanded", String(on));
  if (on) $("find").focus();
}
$("sheet").onclick = () => sheet(!document.body.classList.contains("choosing"));
$("tree").onclick = (event) => {
  if (event.target.closest("a") && document.body.classList.contains("choosing")) sheet(false), $("main").focus();
};

/** The method that is open. @type {any} */ let current;

/** The method that a link names, and perhaps its arguments. */
function fromLink() {
  const [path, given] = location.hash.slice(1).split("?");
  try {
    const name = decodeURIComponent(path);
    const at = name.lastIndexOf(".");
    return { controller: name.slice(0, at), name: name.slice(at + 1), args: given ? parse(decodeURIComponent(given)) : undefined };
  } catch {
    return { controller: "", name: "" };
  }
}
/** @param {string} controller @param {string} name */
function find(controller, name) {
  const one = Object.hasOwn(contract.controllers, controller) ? contract.controllers[controller] : undefined;
  return one && Object.hasOwn(one.methods, name) ? one.methods[name] : undefined;
}
/** Show the method of the address. @param {any} [kept] The values that the form held. */
function route(kept) {
  if (!contract) return;
  let { controller, name, args } = fromLink();
  let method = find(controller, name);
  if (!method) {
    const [first, one] = Object.entries(contract.controllers).find(([, c]) => Object.keys(c.methods).length) ?? [];
    if (!one) return void $("method").replaceChildren();
    controller = first;
    name = Object.keys(one.methods)[0];
    args = undefined;
    method = find(controller, name);
  }
  if (kept && (kept.controller !== controller || kept.name !== name)) kept = undefined;
  show(controller, name, method, kept?.args ?? args);
  if (kept?.at) flat(current.fields).find((one) => jsonOf(one.path) === kept.at)?.focus?.();
}
addEventListener("hashchange", () => (route(), ($("main").scrollTop = 0)));

/** @param {string} name @param {any} p */
function parameter(name, p) {
  if (p.kind === "value") {
    const schema = p.schema ?? {};
    const withDefault = "default" in p ? { ...schema, default: p.default } : schema;
    return field(name, withDefault, { defs: schema.$defs ?? {}, path: [name], required: p.required !== false, changed, doc: p.doc });
  }
  const id = `p-${name}`;
  const hint = (words) => h("div.hint", {}, p.doc ? `${p.doc} ` : "", words);
  const base = { path: [name], inner: () => [], write: () => {}, read: () => undefined, fail: () => {} };
  if (p.kind === "callback") return { ...base, callback: p, node: h("div.field", {}, h("span.name", {}, name), hint("A callback: its calls are shown with the result.")) };
  const wrong = h("div.wrong", { id: `${id}e` });
  if (p.schema?.format === "base64url") {
    const input = h("input", { id, type: "file", onchange: changed, "aria-describedby": `${id}e` });
    const node = h("div.field.drop", {}, h("label", { for: id }, name), h("div.with", {}, input, h("small", {}, p.required === false ? "bytes" : "bytes · required")), hint("Choose a file, or drop one here."), wrong);
    node.addEventListener("dragover", (e) => (e.preventDefault(), node.classList.add("over")));
    for (const kind of ["dragleave", "drop"]) node.addEventListener(kind, () => node.classList.remove("over"));
    node.addEventListener("drop", (e) => {
      e.preventDefault();
      if (e.dataTransfer.files.length) input.files = e.dataTransfer.files;
      changed();
    });
    const made = {
      ...base, node, how: "file", focus: () => input.focus(),
      fail: (text) => ((wrong.textContent = text), input.setAttribute("aria-invalid", String(!!text))),
      upload: () => {
        if (!input.files[0] && p.required !== false) throw new Wrong(made, "Choose a file first.");
        return input.files[0] && { file: input.files[0] };
      },
    };
    return made;
  }
  const use = h("input", { id, type: "checkbox", onchange: changed });
  return { ...base, how: "upload", upload: () => (p.required !== false || use.checked ? { schema: p.schema ?? {} } : undefined),
    node: h("div.field", {}, p.required === false ? h("label", { for: id }, name) : h("span.name", {}, name), p.required === false ? h("div.with", {}, use, h("small", {}, `stream of ${typeName(p.schema ?? {})}`)) : null, hint("Items are sent by hand, one by one, once the call runs.")) };
}

/** @param {string} controller @param {string} name @param {any} method @param {any} [args] */
function show(controller, name, method, args) {
  const fields = Object.entries(method.params ?? {}).map(([key, p]) => parameter(key, p));
  const streams = method.kind === "stream";
  const facts = [kindOf(method) || method.kind, method.idempotent && "idempotent", method.tracked && "tracked", method.deprecated && "deprecated", method.timeout && `at most ${method.timeout / 1000} s`, ...(Array.isArray(method.tags) ? method.tags : [])].filter(Boolean);
  const word = streams ? "Start" : "Call";
  const go = h("button.primary", { type: "submit" }, word);
  const another = button(`${word} another`, () => call());
  const running = h("span.running");
  const asForm = button("Form", () => toForm());
  const asJson = button("JSON", () => toJson());
  const whole = h("textarea.whole", { rows: 8, spellcheck: "false", "aria-label": "Arguments, as JSON", "aria-describedby": "whole-wrong", oninput: changed });
  const wholeWrong = h("div.wrong", { id: "whole-wrong" });
  /** The arguments as JSON, where something is wrong with them. */
  const text = {
    fail: (words) => ((wholeWrong.textContent = words), whole.setAttribute("aria-invalid", String(!!words))), focus: () => whole.focus(),
  };
  const box = h("div", {}, fields.map((one) => one.node));
  const jsonBox = h("div", { hidden: true }, whole, wholeWrong);
  const values = fields.some((one) => !one.callback && !one.how);
  const link = copyButton(() => `${location.origin}${location.pathname}#${encodeURIComponent(`${controller}.${name}`)}?${encodeURIComponent(jsonOf(current.hide(current.args())))}`, "Copy link");
  link.classList.add("wide");
  const options = optionFields(method);
  const form = h("form", { onsubmit: (event) => (event.preventDefault(), mine().length ? mine().at(-1).stop() : call()) },
    h("div.bar", {}, go, h("kbd", {}, "Ctrl ↵"), another, running, h("span.grow"), values && h("span.toggle", { role: "group", "aria-label": "Arguments as" }, asForm, asJson), link),
    box, jsonBox, options.node);
  const mine = () => [...live].filter((run) => run.full === `${controller}.${name}`);
  const asJsonNow = () => !jsonBox.hidden;
  const readForm = () => Object.fromEntries(fields.map((one) => [one.path[0], one.read()]).filter(([, value]) => value !== undefined));
  function readJson() {
    try {
      const read = whole.value.trim() ? parse(whole.value) : {};
      if (read === null || typeof read !== "object" || Array.isArray(read)) throw new Error("Arguments are one object, by name.");
      return read;
    } catch (error) {
      throw new Wrong(text, error.message);
    }
  }
  function mode(text) {
    jsonBox.hidden = !text;
    for (const one of fields) if (!one.how && !one.callback) one.node.hidden = text;
    asForm.setAttribute("aria-pressed", String(!text));
    asJson.setAttribute("aria-pressed", String(text));
    changed();
  }
  const guarded = (act) => {
    clear();
    try {
      act();
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      error.field.fail(error.message);
      error.field.focus?.();
      return false;
    }
    return true;
  };
  const clear = () => {
    for (const one of [text, ...flat(fields)]) one.fail("");
  };
  function toJson() {
    if (!asJsonNow()) guarded(() => ((whole.value = jsonOf(readForm(), 2)), mode(true)));
  }
  function toForm() {
    if (asJsonNow()) guarded(() => (fill(readJson()), mode(false)));
  }
  /** Put arguments into the form; those without a field go to the JSON. @param {any} given */
  function fill(given) {
    try {
      for (const key of Object.keys(given)) if (!fields.some((one) => one.path[0] === key && !one.how && !one.callback)) throw new Error(`There is no field ${key}.`);
      for (const one of fields) one.write(Object.hasOwn(given, one.path[0]) ? given[one.path[0]] : undefined);
    } catch (error) {
      throw new Wrong(text, error.message);
    }
  }
  current = {
    controller, name, method, fields, text, mine, guarded, clear, go, another, running, word, options,
    args: () => (asJsonNow() ? readJson() : readForm()),
    hide: (args) => masked(args, hidden(method, args)),
  };
  $("method").replaceChildren(
    h("h1", {}, h("span", {}, `${controller}.`), name),
    h("div.doc", {}, [method.doc, method.details].filter(Boolean).join("\n\n").split(/\n\s*\n/).filter(Boolean).map((text) => h("p", {}, text))),
    h("div.facts", {}, facts.map((one) => h("span", {}, one)), returns(method)), form);
  if (args !== undefined) {
    if (!guarded(() => fill(args))) (whole.value = jsonOf(args, 2)), mode(true);
    else mode(false);
  } else mode(false);
  document.title = `${name} · wsrpc`;
  markOpen();
  state();
}

/** Where a call's arguments are secret. @param {any} method @param {any} args */
const hidden = (method, args) => Object.entries(args).flatMap(([key, one]) => {
  const schema = Object.hasOwn(method.params ?? {}, key) ? method.params[key].schema ?? {} : {};
  return secrets(schema, one, schema.$defs ?? {}, [key]);
});

/** A line about the result. @param {any} method */
function returns(method) {
  const parts = [["result", "Returns"], ["item", "Items"], ["final", "Final"]].filter(([key]) => method[key]).map(([key, label]) => [label, method[key]]);
  for (const error of Array.isArray(method.errors) ? method.errors : []) parts.push([`Error ${error.type ?? error.code ?? ""}`, error.data ?? error]);
  if (!parts.length) return null;
  return h("details.returns", {}, h("summary", {}, parts.map(([label, schema], i) => [i ? " · " : "", `${label} `, h("code", {}, typeName(schema))])), parts.map(([label, schema]) => [h("h3", {}, label), h("pre", { tabindex: 0 }, coloured(jsonOf(schema, 2)))]));
}

/** The options of a call besides its arguments. @param {any} method */
function optionFields(method) {
  const streams = method.kind === "stream";
  const properties = {
    timeout: { type: "integer", minimum: 1, description: "Milliseconds until the call is given up, on both sides." },
    ...(streams && { window: { type: "integer", minimum: 1, description: "Items that the server may be ahead of this page." }, overflow: { enum: ["block", "latest", "drop_oldest", "fail"], description: "The fate of items not taken in time." } }),
    key: { type: "string", description: "Idempotency key, for the handler." },
    ...(!streams && { idempotent: { type: "boolean", default: method.idempotent === true, description: "Calling twice does no harm: repeated after a lost session." } }),
    metadata: { type: "object", additionalProperties: { type: "string" }, description: "Goes with the call, for whoever handles it." },
  };
  const one = field("options", { type: "object", properties }, { defs: {}, path: [], changed });
  const inner = one.inner();
  return { read: one.read, fields: [one], node: h("details.options", {}, h("summary", {}, "Options"), inner.map((each) => each.node)) };
}

/** Restore the typed values after the contract came anew. */
function remembering() {
  const { controller, name, fields } = current;
  const at = jsonOf(flat(fields).filter((one) => one.node.contains(document.activeElement)).at(-1)?.path);
  try {
    return { controller, name, at, args: current.args() };
  } catch {
    return { controller, name, at };
  }
}

function call() {
  if (!current) return;
  const { controller, name, method, fields, guarded, options } = current;
  let args, uploads, callbacks, chosen;
  const fine = guarded(() => {
    args = current.args();
    chosen = options.read();
    uploads = {};
    callbacks = {};
    for (const one of fields) {
      if (one.callback) callbacks[one.path[0]] = one.callback;
      const upload = one.upload?.();
      if (upload) uploads[one.path[0]] = upload;
    }
  });
  if (!fine) return;
  const entry = { at: Date.now(), method: `${controller}.${name}`, args: current.hide(args), outcome: "…" };
  remember(entry);
  const mine = current;
  start(session, {
    controller, name, method, args, uploads, callbacks, options: chosen, secrets: hidden(method, args), ask: (what, values) => (tab("asked"), ask(what, values)), changed: state,
    over: (run) => {
      entry.outcome = run.outcome;
      saveHistory();
      if (run.error?.code !== "invalid_argument" || current !== mine) return;
      const { text } = mine, blamed = [], lines = [];
      for (const { loc, msg } of Array.isArray(run.error.data?.errors) ? run.error.data.errors : []) {
        // The path of a union names the chosen member as well; the nearest field around it will do.
        let [at] = flat(fields).filter((one) => one.path.every((step, i) => step === loc?.[i])).sort((a, b) => b.path.length - a.path.length);
        if (!at || at.node.closest("[hidden]")) (at = text), lines.push(`${[loc].flat().join(".")}: ${msg}`);
        at.fail(at === text ? lines.join("\n") : String(msg));
        blamed.push(at);
      }
      blamed[0]?.focus?.();
    },
  });
}

let planned = false;
function changed() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => ((planned = false), code()));
}
/** Update the parts of the page that depend on the running calls. */
function state() {
  if (!current) return;
  const mine = current.mine();
  current.go.textContent = mine.length ? "Stop" : current.word;
  current.go.classList.toggle("stop", mine.length > 0);
  passOn(current.another, current.go, () => (current.another.hidden = !mine.length));
  current.running.textContent = live.size > 1 ? `${live.size} running` : "";
  const [asks] = waiting();
  for (const one of $("results").children) one.classList.toggle("own", one.dataset.of === `${current.controller}.${current.name}`);
  for (const run of live) refill(run.waits, asks ? [button(`waiting for your answer: ${asks} →`, () => (tab("asked"), look()), { class: "link" })] : [], current.go);
  $("banner").hidden = !asks;
  $("banner").textContent = asks ? `The server asks: ${asks} →` : "";
  code();
}
$("banner").onclick = () => (tab("asked"), $("asked").scrollIntoView(), look());

// --- The right side ----------------------------------------------------------------------------------

const tabs = [...$("tabs").children];
/** @param {string} name */
function tab(name) {
  for (const one of tabs) {
    const on = one.id === `t-${name}`;
    one.setAttribute("aria-selected", String(on));
    one.tabIndex = on ? 0 : -1;
    $(one.id.slice(2)).hidden = !on;
  }
}
function turn(step, focus = false) {
  const at = tabs.findIndex((one) => one.getAttribute("aria-selected") === "true");
  const next = tabs[(at + step + tabs.length) % tabs.length];
  tab(next.id.slice(2));
  if (focus) next.focus();
}
$("tabs").onclick = (event) => event.target.closest("button") && tab(event.target.closest("button").id.slice(2));
$("tabs").onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) event.preventDefault(), turn(step, true);
};

const CALLS = `${HERE}.calls`;
let calls = [];
try {
  calls = parse(stored("local", CALLS) ?? stored("session", CALLS) ?? "[]").slice(0, 100);
} catch {
  // It is another person's: begin anew.
}
const keep = h("input", { type: "checkbox", checked: stored("local", CALLS) !== null, onchange: () => (stored(keep.checked ? "session" : "local", CALLS, null), saveHistory()) });
const past = h("ol", { id: "calls" });
const forget = button("Clear", () => ((calls = []), saveHistory()));
$("history").append(h("div.tools", {}, h("label", { title: "Without it, history ends with this tab" }, keep, " keep after this tab is closed"), h("span.grow"), forget), past);
function remember(entry) {
  calls.unshift(entry);
  calls.length = Math.min(calls.length, 100);
  saveHistory();
}
function saveHistory() {
  stored(keep.checked ? "local" : "session", CALLS, jsonOf(calls));
  refill(past, calls.map((entry) => h("li", {}, h("button", { type: "button", "data-name": entry.at, onclick: () => restore(entry) }, h("span", {}, String(entry.method)), h("time", {}, `${entry.outcome} · ${new Date(entry.at).toTimeString().slice(0, 8)}`), h("small", {}, jsonOf(entry.args).slice(0, 120))))), keep);
  passOn(forget, keep, () => (forget.hidden = !calls.length));
  if (forget.hidden) past.append(h("li.empty", {}, "No calls yet. Each call is noted here, without its result, its uploads and your credentials."));
}
function restore(entry) {
  history.pushState(null, "", `#${encodeURIComponent(entry.method)}?${encodeURIComponent(jsonOf(entry.args))}`);
  route();
}
saveHistory();

/** The content of the pane of code. */
let coded = "";
function code() {
  if (!current) return;
  let args = {};
  try {
    args = current.hide(current.args());
  } catch {
    // The form does not hold a call yet: show it without arguments.
  }
  const attached = {};
  for (const one of current.fields) if (one.callback) attached[one.path[0]] = "callback"; else if (one.how) attached[one.path[0]] = one.how;
  const url = location.origin.replace(/^http/, "ws") + location.pathname;
  const made = programs({ url, controller: current.controller, name: current.name, kind: current.method.kind, args, attached });
  if (jsonOf(made) === coded) return;
  coded = jsonOf(made);
  refill($("code"), made.flatMap(([label, text]) => [h("h2", {}, label, copyButton(text)), h("pre", {}, text)]));
}

setUp(state);
document.addEventListener("keydown", (event) => {
  const at = event.target;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName) && at.type !== "checkbox";
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("dialog").open && !$("asked").contains(at)) call();
  else if (event.key === "Escape" && !$("dialog").open && current?.mine().length) current.mine().at(-1).stop();
  else if (typing || event.ctrlKey || event.metaKey || event.altKey || $("dialog").open) return;
  else if (event.key === "/") document.body.classList.contains("choosing") || sheet(matchMedia("(max-width: 820px)").matches), $("find").focus();
  else if (event.key === "[") turn(-1);
  else if (event.key === "]") turn(1);
  else if (event.key === "?") help();
  else return;
  event.preventDefault();
});
session.subscribe(follow);
