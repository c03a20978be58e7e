// The frames of the session, as they came and went.
import { $, h, button, jsonOf, coloured, copyButton, counted, frameOf } from "./explorer-dom.js";

const KEPT = 5000;
const SHOWN = 1500;
const UNFOLDED = 100;
const QUIET = new Set(["ack", "credit", "ping", "pong"]);
const OF_LINK = new Set(["hello", "ack", "ping", "pong", "goaway", "auth"]);

const passing = { entries: [], dropped: 0 };
/** The content of the pane: the frames of this session, or a recording. @type {{entries: any[], dropped: number}} */ let pane = passing;
let fresh = [];
const rows = $("rows");

/** @param {any[]} frame @returns {number|undefined} */
const idOf = (frame) => (OF_LINK.has(frame[0]) ? undefined : frame[1]);
/** @param {any} entry */
const textOf = (entry) => (entry.text ??= jsonOf(entry.frame));

function wanted(entry) {
  if (entry.note) return true;
  const [name] = entry.frame;
  if (QUIET.has(name) && !$("quiet").checked) return false;
  for (const word of $("filter").value.trim().toLowerCase().split(/\s+/)) {
    const [, key, value] = /^(id|name|link):(.*)$/.exec(word) ?? [];
    if (key ? String({ id: idOf(entry.frame), name, link: entry.link }[key]) !== value : word && !textOf(entry).toLowerCase().includes(word)) return false;
  }
  return true;
}

/** Keep a frame. @param {boolean} sent @param {any[]} frame @param {number} at */
export const keepFrame = (sent, frame, at) => hold({ sent, frame, at });
/** Keep a remark. @param {string} note */
export const remark = (note) => hold({ note, at: Date.now() });

function hold(entry) {
  const { entries } = passing;
  entry.before = entries.at(-1)?.at ?? entry.at;
  entries.push(entry);
  if (entries.length > KEPT) passing.dropped += entries.splice(0, KEPT / 10).length;
  if (pane !== passing) return;
  if (!fresh.length) requestAnimationFrame(paint);
  fresh.push(entry);
  // A page in the background is not painted.
  if (fresh.length > 2 * KEPT) fresh.splice(1, KEPT);
}

function paint() {
  const follow = rows.scrollHeight - rows.scrollTop - rows.clientHeight < 40;
  for (const entry of fresh.splice(0).slice(-SHOWN)) if (wanted(entry)) append(entry);
  while (rows.childElementCount > SHOWN) rows.firstElementChild.remove();
  if (!rows.querySelector("[tabindex='0']")) rows.lastElementChild?.setAttribute("tabindex", "0");
  if (follow) rows.scrollTop = rows.scrollHeight;
}

export function repaint() {
  rows.replaceChildren();
  fresh = pane.entries.slice();
  rows.scrollTop = rows.scrollHeight;
  paint();
}

function append(entry) {
  const last = rows.lastElementChild?.entry;
  // Items of one stream, one after the other, are one line.
  if (last?.frame && entry.frame?.[0] === "message" && last.frame[0] === "message" && last.sent === entry.sent && last.frame[1] === entry.frame[1] && last.link === entry.link) {
    const row = rows.lastElementChild;
    row.run.push(entry);
    if (row.run.length > UNFOLDED) row.run.shift();
    row.many += entry.frame[2]?.length ?? 1;
    row.bytes += textOf(entry).length;
    row.total.textContent = ` ×${row.many}`;
    row.size.textContent = size(row.bytes);
    fill(row);
    return;
  }
  rows.append(rowOf(entry));
}

const size = (n) => (n < 1000 ? `${n} B` : n < 1e6 ? `${(n / 1000).toFixed(1)} K` : `${(n / 1e6).toFixed(1)} M`);
const clock = (at) => new Date(at).toTimeString().slice(0, 8) + "." + String(Math.floor(at % 1000)).padStart(3, "0");
const after = (ms) => (ms < 1000 ? `+${Math.max(0, Math.round(ms))} ms` : ms < 60000 ? `+${(ms / 1000).toFixed(1)} s` : `+${Math.round(ms / 60000)} min`);

function rowOf(entry) {
  if (entry.note) return Object.assign(h("li.note", { role: "treeitem", tabindex: -1 }, entry.note), { entry });
  const [name] = entry.frame;
  const id = idOf(entry.frame);
  const { link } = entry;
  const row = h("li", { role: "treeitem", tabindex: -1, class: name === "error" ? "bad" : null, "data-id": id === undefined || !link ? id : `${link}/${id}`, "aria-expanded": "false" });
  row.entry = entry;
  row.run = [entry];
  row.many = name === "message" ? entry.frame[2]?.length ?? 1 : 1;
  row.bytes = textOf(entry).length;
  row.total = h("em", {}, row.many > 1 ? ` ×${row.many}` : "");
  row.size = h("span.size", {}, size(row.bytes));
  row.body = h("code");
  row.append(
    h("time", { title: clock(entry.at) }, after(entry.at - entry.before)), h("span", { class: entry.sent ? "sent" : "came" }, h("span.unseen", {}, entry.sent ? "sent" : "received"), h("span", { "aria-hidden": "true" }, entry.sent ? "↑" : "↓")),
    h("span.name", {}, h("strong", {}, name), id === undefined ? null : h("em", {}, ` ${id}`), row.total, link ? h("em", { title: `connection ${link}` }, ` @${link}`) : null), row.body, row.size);
  fill(row);
  return row;
}

function fill(row) {
  const open = row.getAttribute("aria-expanded") === "true";
  const rest = (entry) => entry.frame.slice(idOf(entry.frame) === undefined ? 1 : 2);
  if (open) row.body.replaceChildren(...row.run.map((one) => h("pre", {}, coloured(rest(one).map((part) => jsonOf(part, 2)).join("\n").slice(0, 20000)))));
  else row.body.textContent = rest(row.run.at(-1)).map((part) => jsonOf(part).slice(0, 160)).join(" ").slice(0, 160);
}

function toggle(row) {
  if (!row?.run || getSelection()?.toString()) return;
  row.setAttribute("aria-expanded", String(row.getAttribute("aria-expanded") !== "true"));
  fill(row);
}

/** All that is kept, in the form of protocol.md's transcript. */
export function transcript() {
  const lines = pane.entries.map((entry) => (entry.note ? `# ${entry.note}` : `${entry.sent ? "C" : "S"}: [${textOf(entry)}]`));
  return (pane.dropped ? `# ${counted(pane.dropped, "earlier line")} left out\n` : "") + lines.join("\n") + "\n";
}

rows.addEventListener("click", (event) => toggle(event.target.closest("li")));
rows.addEventListener("keydown", (event) => {
  const row = event.target.closest("li");
  const next = event.key === "ArrowDown" ? row?.nextElementSibling : event.key === "ArrowUp" ? row?.previousElementSibling : undefined;
  if (event.key === "Enter" || event.key === " ") toggle(row);
  else if (next) {
    row.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  } else return;
  event.preventDefault();
});
const mark = (event) => {
  const id = event.target.closest?.("li")?.dataset.id;
  for (const one of rows.querySelectorAll(".same")) one.classList.remove("same");
  if (id !== undefined && event.type !== "mouseleave") for (const one of rows.querySelectorAll(`[data-id="${CSS.escape(id)}"]`)) one.classList.add("same");
};
for (const kind of ["mouseover", "mouseleave", "focusin"]) rows.addEventListener(kind, mark);
$("filter").addEventListener("input", repaint);
$("quiet").addEventListener("change", repaint);
$("clear").addEventListener("click", () => {
  pane.entries.length = pane.dropped = 0;
  repaint();
});
function view(at) {
  pane = at;
  leave.hidden = at === passing;
  repaint();
}
const leave = button("Live", () => (view(passing), chooser.focus()), { title: "Back to what passes here", hidden: true });
const recorded = h("input", { type: "file", accept: ".wsrec", "aria-label": "A recording", hidden: true, onchange: async () => {
  const [file] = recorded.files;
  recorded.value = "";
  if (!file) return;
  try {
    const { readRecording } = await import("./explorer-recording.js");
    const { entries, left } = await readRecording(file, KEPT, frameOf);
    view({ entries, dropped: left });
    $("live").textContent = `${file.name}: ${counted(entries.length + left, "line")}`;
  } catch (error) {
    view(passing);
    remark(`${file.name} cannot be shown: ${error.message}`);
  }
} });
const chooser = button("Open", () => recorded.click(), { title: "Show a recording, such as `wsrpc record` makes" });
$("clear").after(copyButton(transcript, "Copy all"), chooser, leave, recorded);

// The pane has any width that one likes.
const edge = $("edge");
let width = 400;
function resize(to) {
  width = Math.max(260, Math.min(to, innerWidth - 560));
  document.documentElement.style.setProperty("--side", `${width}px`);
  edge.setAttribute("aria-valuenow", String(Math.round(width)));
}
edge.addEventListener("pointerdown", (event) => {
  edge.setPointerCapture(event.pointerId);
  edge.onpointermove = (move) => resize(innerWidth - move.clientX);
});
edge.addEventListener("pointerup", () => (edge.onpointermove = null));
edge.addEventListener("keydown", (event) => {
  const step = event.key === "ArrowLeft" ? 24 : event.key === "ArrowRight" ? -24 : 0;
  if (step) event.preventDefault(), resize(width + step);
});
