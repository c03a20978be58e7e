// MessagePack for wsrpc.js: connect(url, { codec: msgpack }).
// @ts-check
const utf8 = new TextEncoder(), text8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {any} value A value in the forms that travel, as wsrpc.js gives it. @returns {Uint8Array<ArrayBuffer>} */
function encode(value) {
  let bytes = new Uint8Array(128), view = new DataView(bytes.buffer), at = 0;
  /** @param {number} n */
  const room = (n) => {
    if (at + n <= bytes.length) return;
    const wider = new Uint8Array(Math.max(bytes.length * 2, at + n));
    wider.set(bytes);
    bytes = wider;
    view = new DataView(bytes.buffer);
  };
  /** A type byte and its length. @param {number} n @param {number} fix @param {number} fixed @param {number} w8 @param {number} w16 */
  const head = (n, fix, fixed, w8, w16) => {
    room(5);
    if (n < fix) bytes[at++] = fixed | n;
    else if (n < 256 && w8) (bytes[at++] = w8), (bytes[at++] = n);
    else if (n < 65536) (bytes[at++] = w16), view.setUint16(at, n), (at += 2);
    else (bytes[at++] = w16 + 1), view.setUint32(at, n), (at += 4);
  };
  /** @param {Uint8Array} raw */
  const add = (raw) => {
    room(raw.length);
    bytes.set(raw, at);
    at += raw.length;
  };
  /** @param {any} v */
  const put = (v) => {
    room(9);
    switch (typeof v) {
      case "number":
      case "bigint":
        if (typeof v === "bigint" || (Number.isInteger(v) && v >= -(2 ** 63) && v < 2 ** 64 && !Object.is(v, -0))) {
          if (v >= 0 && v < 128) bytes[at++] = Number(v);
          else if (v < 0 && v >= -32) bytes[at++] = Number(v) & 255;
          else if (v >= 0 && v < 4294967296) (bytes[at++] = 0xce), view.setUint32(at, Number(v)), (at += 4);
          else if (v < 0 && v >= -2147483648) (bytes[at++] = 0xd2), view.setInt32(at, Number(v)), (at += 4);
          else if (v >= 0) (bytes[at++] = 0xcf), view.setBigUint64(at, BigInt(v)), (at += 8);
          else (bytes[at++] = 0xd3), view.setBigInt64(at, BigInt(v)), (at += 8);
        } else (bytes[at++] = 0xcb), view.setFloat64(at, v), (at += 8);
        return;
      case "string": {
        const raw = utf8.encode(v);
        head(raw.length, 32, 0xa0, 0xd9, 0xda);
        return add(raw);
      }
      case "boolean": bytes[at++] = v ? 0xc3 : 0xc2; return;
    }
    if (v == null) bytes[at++] = 0xc0;
    else if (v instanceof Uint8Array) head(v.length, 0, 0, 0xc4, 0xc5), add(v);
    else if (Array.isArray(v)) {
      head(v.length, 16, 0x90, 0, 0xdc);
      for (const one of v) put(one);
    } else {
      const entries = Object.entries(v);
      head(entries.length, 16, 0x80, 0, 0xde);
      for (const [key, one] of entries) put(key), put(one);
    }
  };
  put(value);
  return bytes.slice(0, at);
}

/** A value outside of the value space comes as undefined. @param {Uint8Array} bytes @returns {any} */
function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  /** @param {number} n */
  const take = (n) => {
    if ((at += n) > bytes.length) throw new RangeError("cut short");
    return at - n;
  };
  const u8 = () => bytes[take(1)], u16 = () => view.getUint16(take(2)), u32 = () => view.getUint32(take(4));
  /** @param {bigint} n */
  const whole = (n) => (n >= -9007199254740991n && n <= 9007199254740991n ? Number(n) : n);
  /** @param {number} n */
  const string = (n) => {
    const from = take(n);
    if (n < 16) {
      let s = "", i = from;
      for (; i < at && bytes[i] < 128; i++) s += String.fromCharCode(bytes[i]);
      if (i === at) return s;
    }
    try {
      return text8.decode(bytes.subarray(from, at));
    } catch {
      return undefined;
    }
  };
  /** @param {number} n */
  const bin = (n) => bytes.slice(take(n), at);
  /** @param {number} n */
  const extension = (n) => void take(n + 1);
  /** @param {number} n @param {number} d */
  const list = (n, d) => {
    if (n > bytes.length) throw new RangeError("cut short");
    const made = [];
    for (let i = 0; i < n; i++) made.push(get(d));
    return made;
  };
  /** @param {number} n @param {number} d */
  const map = (n, d) => {
    /** @type {any} */ const made = {};
    let good = true;
    for (let i = 0; i < n; i++) {
      const key = get(d), value = get(d);
      if (typeof key !== "string") good = false;
      else if (key === "__proto__") Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true });
      else made[key] = value;
    }
    return good ? made : undefined;
  };
  /** @param {number} d @returns {any} */
  const get = (d) => {
    if (d > 500) throw new RangeError("nested too deep");
    const t = u8();
    if (t < 0x80) return t;
    if (t < 0x90) return map(t & 15, d + 1);
    if (t < 0xa0) return list(t & 15, d + 1);
    if (t < 0xc0) return string(t & 31);
    if (t > 0xdf) return t - 256;
    switch (t) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return bin(u8());
      case 0xc5: return bin(u16());
      case 0xc6: return bin(u32());
      case 0xc7: return extension(u8());
      case 0xc8: return extension(u16());
      case 0xc9: return extension(u32());
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: return u8();
      case 0xcd: return u16();
      case 0xce: return u32();
      case 0xcf: return whole(view.getBigUint64(take(8)));
      case 0xd0: return view.getInt8(take(1));
      case 0xd1: return view.getInt16(take(2));
      case 0xd2: return view.getInt32(take(4));
      case 0xd3: return whole(view.getBigInt64(take(8)));
      case 0xd9: return string(u8());
      case 0xda: return string(u16());
      case 0xdb: return string(u32());
      case 0xdc: return list(u16(), d + 1);
      case 0xdd: return list(u32(), d + 1);
      case 0xde: return map(u16(), d + 1);
      case 0xdf: return map(u32(), d + 1);
    }
    if (t >= 0xd4 && t <= 0xd8) return extension(2 ** (t - 0xd4));
    throw new TypeError("0xc1 begins no value");
  };
  const value = get(0);
  if (at !== bytes.length) throw new RangeError("bytes left over");
  return value;
}

/** @param {Uint8Array[]} parts @param {number} [from] */
function unite(parts, from = 0) {
  const made = new Uint8Array(parts.reduce((n, one) => n + one.length, from));
  for (const part of parts) made.set(part, from), (from += part.length);
  return made;
}

/** For `connect(url, {codec: msgpack})`. @type {import("./wsrpc.js").Codec} */
export const msgpack = {
  protocol: "wsrpc.v1.msgpack",
  binary: true,
  encode,
  decode(data) {
    if (typeof data === "string") throw new TypeError("text");
    return decode(data instanceof Uint8Array ? data : new Uint8Array(data));
  },
  size: (part) => part.length,
  list(parts) {
    const n = parts.length;
    const made = unite(parts, n < 16 ? 1 : n < 65536 ? 3 : 5);
    if (n < 16) made[0] = 0x90 | n;
    else if (n < 65536) made.set([0xdc, n >> 8, n & 255]);
    else (made[0] = 0xdd), new DataView(made.buffer).setUint32(1, n);
    return made;
  },
  bytes: (part) => part,
  piece: (bytes) => bytes,
  unite: (pieces) => unite(pieces),
};
