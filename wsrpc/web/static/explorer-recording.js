// A recording in place of the session's frames; docs/recording.md has its format. This is loaded when one is opened.
import { msgpack } from "./wsrpc-msgpack.js";

const MAGIC = "\x89WSREC\x01\n";
const MOST = 256 * 1024 * 1024; // Bytes of one block; a larger one is damage.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
/** @param {Uint8Array} bytes */
const crc = (bytes) => ~bytes.reduce((sum, byte) => CRC[(sum ^ byte) & 255] ^ (sum >>> 8), -1) >>> 0;

/** @param {Uint8Array} packed @returns {Promise<Uint8Array>} */
async function inflated(packed) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const pieces = [];
  let size = 0;
  for (let one; !(one = await reader.read()).done; pieces.push(one.value)) {
    if ((size += one.value.length) > MOST) throw new Error("too large");
  }
  const whole = new Uint8Array(size);
  for (const piece of pieces.reverse()) whole.set(piece, (size -= piece.length));
  return whole;
}

/**
 * The newest entries of a recording, as the pane of frames shows them.
 * @param {File} file
 * @param {number} most Entries to keep.
 * @param {(text: string) => any[]} frameOf Reads a frame of JSON.
 * @returns {Promise<{entries: any[], left: number}>} `left` is the number of earlier ones.
 */
export async function readRecording(file, most, frameOf) {
  const bytes = async (/** @type {number} */ from, /** @type {number} */ n) => new Uint8Array(await file.slice(from, from + n).arrayBuffer());
  if (String.fromCharCode(...(await bytes(0, 8))) !== MAGIC) throw new Error(`${file.name} is no recording.`);
  let entries = [];
  let left = 0;
  let zero = 0;
  let current = "";
  let links = 0;
  const codecs = new Map();
  const words = new TextDecoder();
  const add = (/** @type {any} */ entry) => {
    entries.push(entry);
    if (entries.length < 2 * most) return;
    left += entries.length - most;
    entries = entries.slice(-most);
  };
  const take = {
    recording: (time, _version, id, _part, started, agent) => {
      // Another process has gone on in the file, and counts connections anew.
      if (id !== current) codecs.clear();
      current = id;
      zero = started * 1000;
      add({ note: `recorded by ${agent}, ${new Date(zero).toLocaleString()}`, at: zero + time / 1000 });
    },
    link: (time, link, codec, at, remote, path) => {
      if (!codecs.has(link)) links++, add({ note: `connection ${link}: ${path}${remote ? ` with ${remote}` : ""}, ${codec}, recorded at ${at}`, at: zero + time / 1000 });
      codecs.set(link, codec);
    },
    batch: (time, link, sender, frames) => {
      for (const raw of frames) add({ raw, link, codec: codecs.get(link), sent: sender === "C", at: zero + time / 1000 });
    },
    unread: (time, link, sender, size) => add({ note: `connection ${link}: ${size} bytes of ${sender} that are no batch`, at: zero + time / 1000 }),
    close: (time, link, sender, code, reason) => add({ note: `connection ${link} ${sender ? `closed by ${sender}` : "broke"}: ${code} ${reason}`.trim(), at: zero + time / 1000 }),
    lost: (time, count) => add({ note: `${count} messages are missing here`, at: zero + time / 1000 }),
    full: (time) => add({ note: "the recording is full", at: zero + time / 1000 }),
  };
  for (let at = 8; at + 8 <= file.size; ) {
    const head = new DataView((await bytes(at, 8)).buffer);
    const size = head.getUint32(0);
    if (size > MOST || at + 8 + size > file.size) break;
    const packed = await bytes(at + 8, size);
    if (crc(packed) !== head.getUint32(4)) break;
    for (const [name, ...rest] of msgpack.decode(await inflated(packed))) if (Object.hasOwn(take, name)) take[name](...rest);
    at += 8 + size;
  }
  left += Math.max(0, entries.length - most);
  entries = entries.slice(-most);
  for (const entry of entries) {
    if (!entry.raw) continue;
    entry.frame = entry.codec === "msgpack" ? msgpack.decode(entry.raw) : frameOf(words.decode(entry.raw));
    delete entry.raw;
    if (links < 2) entry.link = undefined;
  }
  entries.forEach((entry, i) => (entry.before = (entries[i - 1] ?? entry).at));
  return { entries, left };
}
