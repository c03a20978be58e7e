// Forms from JSON schemas. A field reads and writes one value; `undefined` is one that is left out.
import { fromBase64url } from "./wsrpc.js";
import { h, button, passOn, parse, jsonOf } from "./explorer-dom.js";

/** A field whose text is no value. */
export class Wrong extends Error {
  /** @param {any} field @param {string} text */
  constructor(field, text) {
    super(text);
    this.field = field;
  }
}

let ids = 0;
const DEEPEST = 8;
const DOTS = "••••";
const own = (object, name) => (object && Object.hasOwn(object, name) ? object[name] : undefined);

/** The schema that a reference names, with the words beside the reference. A server may say anything, so lists are made lists here. @param {any} schema @param {any} defs @returns {any} */
export function resolve(schema, defs, steps = 20) {
  let now = schema;
  while (steps-- > 0) {
    if (now === null || typeof now !== "object") return {};
    const { $ref, ...rest } = now;
    if (typeof $ref === "string") {
      const name = decodeURIComponent($ref.split("/").pop() ?? "").replaceAll("~1", "/").replaceAll("~0", "~");
      now = { ...own(defs, name), ...rest };
    } else if (Array.isArray(rest.allOf) && rest.allOf.length === 1) {
      const { allOf, ...beside } = rest;
      now = { ...resolve(allOf[0], defs, steps), ...beside };
    } else {
      const wrong = ["enum", "anyOf", "oneOf", "required", "prefixItems", "examples"].filter((key) => !Array.isArray(now[key] ?? []));
      return { ...now, ...Object.fromEntries(wrong.map((key) => [key])) };
    }
  }
  return {};
}

/** A schema in a few words. @param {any} raw @param {any} [defs] @returns {string} */
export function typeName(raw, defs = raw?.$defs ?? {}) {
  const schema = resolve(raw, defs);
  if (schema.const !== undefined) return jsonOf(schema.const);
  if (schema.enum) return schema.enum.map((one) => jsonOf(one)).join(" | ");
  const any = schema.anyOf ?? schema.oneOf;
  if (any) return [...new Set(any.map((one) => typeName(one, defs)))].join(" | ");
  if (schema.type === "array") return schema.items ? `list of ${typeName(schema.items, defs)}` : "list";
  if (schema.type === "object") return schema.properties ? schema.title ?? "object" : schema.additionalProperties?.type ? `{name: ${typeName(schema.additionalProperties, defs)}}` : schema.title ?? "object";
  if (schema.format === "base64url") return "bytes";
  return Array.isArray(schema.type) ? schema.type.join(" | ") : schema.format ?? schema.type ?? "any JSON";
}

/** @param {any} s */
function bounds(s) {
  const between = (lo, hi, unit) =>
    lo != null && hi != null ? (lo === hi ? `${lo}${unit}` : `${lo} to ${hi}${unit}`) : lo != null ? `from ${lo}${unit}` : hi != null ? `up to ${hi}${unit}` : "";
  return [
    between(s.minimum, s.maximum, ""), s.exclusiveMinimum != null && `above ${s.exclusiveMinimum}`, s.exclusiveMaximum != null && `below ${s.exclusiveMaximum}`,
    between(s.minLength, s.maxLength, " characters"), between(s.minItems, s.maxItems, " items"), s.multipleOf != null && `multiple of ${s.multipleOf}`, s.pattern && `like ${s.pattern}`,
  ].filter(Boolean).join(" · ");
}

/**
 * @typedef {object} Field
 * @property {any} node
 * @property {any[]} path
 * @property {() => any} read
 * @property {(value: any) => void} write
 * @property {(text: string) => void} fail
 * @property {() => Field[]} inner
 */

/**
 * A field for a schema.
 * @param {string} name @param {any} raw
 * @param {{defs: any, path: any[], required?: boolean, depth?: number, changed: () => void, doc?: string}} about
 * @returns {Field}
 */
export function field(name, raw, about) {
  const { defs, path, required = true, depth = 0, changed } = about;
  let schema = resolve(raw, defs);
  let nullable = false;
  const choices = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(choices)) {
    const { anyOf, oneOf, ...beside } = schema;
    const values = choices.filter((one) => resolve(one, defs).type !== "null");
    nullable = values.length < choices.length;
    // A whole number is a number.
    if (values.every((one) => ["integer", "number"].includes(resolve(one, defs).type))) schema = { ...beside, type: values.some((one) => resolve(one, defs).type === "number") ? "number" : "integer" };
    else schema = values.length === 1 ? { ...resolve(values[0], defs), ...beside } : { ...beside, choices: values };
  } else if (Array.isArray(schema.type)) {
    const types = schema.type.filter((one) => one !== "null");
    nullable = types.length < schema.type.length;
    schema = { ...schema, type: types.length === 1 ? types[0] : undefined };
  }
  const hasDefault = schema.default !== undefined;
  const optional = !required || hasDefault;
  const id = `f${++ids}`;
  const wrong = h("div.wrong", { id: `${id}e` });
  const doc = about.doc ?? schema.description;
  const hint = doc && doc !== name ? h("div.hint", { id: `${id}h` }, doc) : null;
  const part = control({ ...about, id, name, schema, optional, nullable, changed: () => (touched(), changed()) });
  const words = [part.type, bounds(schema), required && !hasDefault && !about.quiet ? "required" : ""].filter(Boolean).join(" · ");

  // Whether there is a value, null, or nothing.
  const how = h("select.how", { "aria-label": `${name}: value, null or left out`, onchange: () => (apply(), changed()) },
    h("option", { value: "value" }, "value"), nullable && h("option", { value: "null" }, "null"), optional && h("option", { value: "out" }, hasDefault ? "default" : "left out"));
  const choosable = nullable || (optional && part.composite);
  const reset = optional && !choosable && part.clear ? button("reset", () => (part.clear(), passOn(reset, part.input, () => (reset.hidden = true)), changed()), { class: "link", "aria-label": `reset ${name}`, hidden: true }) : null;
  function touched() {
    if (reset) reset.hidden = part.empty?.() ?? false;
    if (choosable && !part.composite) how.value = part.empty?.() ? (optional ? "out" : "value") : "value";
  }
  function apply() {
    if (part.composite) {
      part.box.hidden = how.value !== "value";
      if (how.value === "value") part.build?.();
    } else if (how.value !== "value") part.clear?.();
  }
  if (choosable) how.value = optional ? "out" : "value";
  if (part.composite) {
    if (!choosable && depth < DEEPEST) part.build?.();
    else if (choosable) apply();
  } else part.input?.setAttribute("aria-describedby", [hint && `${id}h`, `${id}e`].filter(Boolean).join(" "));

  const label = part.composite ? h("span", { id: `${id}l` }, name) : schema.const !== undefined ? h("span.name", {}, name) : h("label", { for: id }, name);
  const mark = words ? h("small", {}, words) : null;
  const node = part.composite
    ? about.bare ? h("div", {}, hint, wrong, part.box) : h("fieldset.group", { "aria-describedby": `${id}e` }, h("legend", {}, label, mark, choosable && how), hint, wrong, part.box)
    : h("div.field", {}, label, h("div.with", {}, part.node, choosable && how, mark, reset), hint, wrong);
  
  const made = {
    node, path,
    inner: () => (part.inner && !(choosable && how.value !== "value") ? part.inner().map(([key, one]) => Object.assign(one, { path: key === null ? made.path : [...made.path, key] })) : []),
    read() {
      if (choosable && how.value === "out") return undefined;
      if (choosable && how.value === "null") return null;
      try {
        const value = part.read();
        if (value === undefined && !optional && !part.composite) throw new Error("This is required.");
        return value;
      } catch (error) {
        throw error instanceof Wrong ? error : new Wrong(made, error.message);
      }
    },
    write(value) {
      const empty = value === undefined || (value === null && nullable);
      const state = value === undefined ? (optional ? "out" : "value") : empty ? "null" : "value";
      if (choosable) how.value = state;
      if (part.composite && choosable) apply();
      if (empty) part.clear?.();
      else part.write(value);
      touched();
      if (choosable) how.value = state;
    },
    fail(text) {
      wrong.textContent = text;
      const at = part.input ?? node;
      if (text) at.setAttribute("aria-invalid", "true");
      else at.removeAttribute("aria-invalid");
    },
  };
  made.focus = () => (part.input ?? node.querySelector("input,select,textarea,button"))?.focus();
  return made;
}

/** The part of a field that takes the value. @param {any} about @returns {any} */
function control(about) {
  const { id, name, schema, optional, defs, depth = 0, changed, path } = about;
  const start = schema.default === undefined && !optional ? schema.examples?.[0] : undefined;
  const ghost = schema.default !== undefined && schema.default !== null ? (typeof schema.default === "string" ? schema.default : jsonOf(schema.default)) : optional ? "left out" : "";
  if (depth >= DEEPEST) return text(about, start, ghost, "JSON");
  if (schema.const !== undefined) {
    // The value tells the member of the union, so it always goes.
    return { node: h("code", { id }, jsonOf(schema.const)), type: "", read: () => schema.const, write: () => {} };
  }
  if (schema.enum) {
    const options = schema.enum;
    const words = (one) => (typeof one === "string" ? one : jsonOf(one));
    const input = h("select", { id, onchange: changed },
      optional ? h("option", { value: "" }, schema.default !== undefined ? `${words(schema.default)} (default)` : "left out") : options.length > 1 && start === undefined ? h("option", { value: "" }, "choose") : null,
      options.map((one, i) => h("option", { value: i, selected: one === start }, words(one))));
    return {
      node: input, input, type: "",
      read: () => (input.value === "" ? undefined : options[input.value]),
      write: (value) => {
        const at = options.findIndex((one) => jsonOf(one) === jsonOf(value));
        if (at < 0) throw new Error(`${jsonOf(value)} is none of ${options.map(words).join(", ")}.`);
        input.value = String(at);
      },
      clear: () => (input.value = optional || options.length > 1 ? "" : "0"), empty: () => input.value === "",
    };
  }
  if (schema.type === "boolean") {
    if (!optional || schema.default !== undefined) {
      let set = !optional;
      const input = h("input", { id, type: "checkbox", checked: schema.default === true, onchange: () => ((set = true), changed()) });
      return {
        node: input, input, type: "",
        read: () => (set ? input.checked : undefined), write: (v) => ((set = true), (input.checked = v === true)),
        clear: () => ((set = !optional), (input.checked = schema.default === true)), empty: () => !set,
      };
    }
    return control({ ...about, schema: { ...schema, type: undefined, enum: [true, false] } });
  }
  if (schema.type === "integer" || schema.type === "number") {
    const whole = schema.type === "integer";
    const input = h("input", { id, type: "text", class: "number", inputmode: whole ? "numeric" : "decimal", autocomplete: "off", value: start ?? "", placeholder: ghost, oninput: changed });
    return {
      node: input, input, type: schema.type,
      read: () => {
        const typed = input.value.trim();
        if (!typed) return undefined;
        if (whole ? !/^-?\d+$/.test(typed) : !/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(typed)) throw new Error(whole ? "This is no whole number." : "This is no number.");
        const value = Number(typed);
        return whole && !Number.isSafeInteger(value) ? BigInt(typed) : value;
      },
      write: (v) => (input.value = String(v)), clear: () => (input.value = ""), empty: () => input.value === "",
    };
  }
  if (schema.type === "string" && schema.format === "base64url") return file(about);
  if (schema.type === "string") {
    const secret = schema.format === "password" || schema.writeOnly === true;
    const input = h("input", { id, type: secret ? "password" : "text", spellcheck: "false", autocomplete: secret ? "new-password" : "off", value: start ?? "", placeholder: ghost, oninput: changed });
    return {
      node: input, input, type: secret ? "secret" : schema.format ?? "",
      read: () => (input.value === "" && optional ? undefined : input.value),
      write: (v) => {
        if (typeof v !== "string") throw new Error(`${jsonOf(v)} is no text.`);
        // A hidden value has to be typed again.
        input.value = secret && v === DOTS ? "" : v;
      },
      clear: () => (input.value = ""), empty: () => input.value === "",
    };
  }
  if (schema.choices) return union(about);
  const within = { defs, changed, depth: depth + 1 };
  if (schema.type === "object" && schema.properties) {
    let fields = [];
    let rest = {};
    const box = h("div.inside");
    const build = () => {
      if (fields.length || box.childElementCount) return;
      fields = Object.entries(schema.properties).map(([key, one]) => field(key, one, { ...within, path: [...path, key], required: (schema.required ?? []).includes(key) }));
      box.append(...fields.map((one) => one.node));
    };
    return {
      composite: true, box, build, inner: () => fields.map((one) => [one.path.at(-1), one]), type: schema.title ?? "",
      read: () => ({ ...rest, ...Object.fromEntries(fields.map((one) => [one.path.at(-1), one.read()]).filter(([, value]) => value !== undefined)) }),
      write: (value) => {
        build();
        if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error(`${jsonOf(value)} is no object.`);
        const { ...left } = value;
        for (const one of fields) one.write(own(value, String(one.path.at(-1)))), delete left[String(one.path.at(-1))];
        rest = left;
      },
      clear: () => fields.forEach((one) => one.write(undefined)),
    };
  }
  if (schema.type === "object" && schema.additionalProperties !== false && schema.additionalProperties) {
    const value = schema.additionalProperties === true ? {} : schema.additionalProperties;
    return rowsOf(about, (at) => {
      const key = h("input", { type: "text", class: "key", placeholder: "name", "aria-label": `${name}: name`, oninput: changed });
      const one = field("value", value, { ...within, path: at, quiet: true });
      return { one, key, node: h("div.pair", {}, key, one.node) };
    }, (all) => Object.fromEntries(all.map(({ one, key }) => [key.value, one.read()])), (v) => Object.entries(v));
  }
  if (schema.type === "array" && Array.isArray(schema.prefixItems) && !schema.items) {
    const properties = Object.fromEntries(schema.prefixItems.map((one, i) => [String(i), one]));
    const least = schema.minItems ?? 0;
    const part = control({ ...about, schema: { type: "object", properties, required: Object.keys(properties).filter((k) => Number(k) < least) } });
    const { read, write } = part;
    return { ...part, type: "list", inner: () => part.inner().map(([key, one]) => [Number(key), one]), read: () => Object.values(read()), write: (v) => write({ ...v }) };
  }
  if (schema.type === "array" && schema.items && !schema.prefixItems) {
    return rowsOf(about, (at, i) => {
      const one = field(String(i + 1), schema.items, { ...within, path: at, quiet: true });
      return { one, node: one.node };
    }, (all) => all.map(({ one }) => one.read()), (v) => [...v].map((one) => ["", one]));
  }
  return text(about, start, ghost, schema.type === "object" || schema.type === "array" ? `${schema.type} as JSON` : "JSON");
}

/** Any value as JSON. @param {any} about @param {any} start @param {string} ghost @param {string} type */
function text({ id, changed }, start, ghost, type) {
  const input = h("textarea", { id, spellcheck: "false", rows: 2, placeholder: ghost || "JSON", oninput: changed }, start === undefined ? "" : jsonOf(start));
  return {
    node: input, input, type,
    read: () => (input.value.trim() === "" ? undefined : parse(input.value)),
    write: (v) => (input.value = jsonOf(v, 2)), clear: () => (input.value = ""), empty: () => input.value === "",
  };
}

/** Bytes: text, or the content of a file. @param {any} about */
function file({ id, name, changed, optional }) {
  let bytes;
  const input = h("input", { id, type: "text", spellcheck: "false", autocomplete: "off", placeholder: "as text", oninput: () => ((bytes = undefined), changed()) });
  const pick = h("input", { type: "file", "aria-label": `${name}: file`, onchange: async () => {
    bytes = pick.files[0] && new Uint8Array(await pick.files[0].arrayBuffer());
    if (bytes) input.value = "";
    changed();
  } });
  return {
    node: h("span.with", {}, input, pick), input, type: "bytes",
    read: () => bytes ?? (input.value === "" && optional ? undefined : new TextEncoder().encode(input.value)),
    write: (v) => {
      bytes = v instanceof Uint8Array ? v : fromBase64url(String(v));
      input.value = "";
      try {
        input.value = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
        bytes = undefined;
      } catch {
        input.placeholder = `${bytes.length} bytes`;
      }
    },
    clear: () => ((bytes = undefined), (input.value = pick.value = "")), empty: () => !bytes && input.value === "",
  };
}

/** Rows that one adds and removes. @param {any} about @param {any} make @param {any} read @param {any} parts */
function rowsOf({ name, schema, path, changed }, make, read, parts) {
  let all = [];
  const list = h("div.rows");
  // Rows stand under their numbers.
  const number = () => all.forEach((row, i) => row.key || (row.node.querySelector("label, .name, legend span").textContent = String(i + 1)));
  const add = () => {
    const row = make([...path, all.length], all.length);
    row.all = h("div.row", {}, row.node, button("×", () => {
      all = all.filter((other) => other !== row);
      passOn(row.all, more);
      number();
      changed();
    }, { class: "quiet icon", "aria-label": `remove one of ${name}` }));
    all.push(row);
    list.append(row.all);
    return row;
  };
  const more = button("Add", () => {
    const row = add();
    (row.key ?? row.node.querySelector("input,select,textarea,button"))?.focus();
    changed();
  }, { "aria-label": `add to ${name}` });
  const start = () => {
    const first = schema.examples?.[0];
    if (first !== undefined) write(first);
    else for (let n = Math.min(schema.minItems ?? 0, 20); n > 0; n--) add();
  };
  const write = (value) => {
    if (value === null || typeof value !== "object") throw new Error(`${jsonOf(value)} does not fit here.`);
    all = [];
    list.replaceChildren();
    for (const [key, one] of parts(value)) {
      const row = add();
      if (row.key) row.key.value = key;
      row.one.write(one);
    }
  };
  let built = false;
  return {
    composite: true, box: h("div.inside", {}, list, more), type: schema.type === "array" ? "list" : "by name",
    build: () => built || ((built = true), start()),
    inner: () => all.map((row, i) => [row.key ? row.key.value : i, row.one]),
    read: () => read(all), write: (v) => ((built = true), write(v)), clear: () => ((all = []), list.replaceChildren()),
  };
}

/** One of several schemas. @param {any} about */
function union({ id, name, schema, defs, path, depth = 0, changed }) {
  const tag = schema.discriminator?.propertyName;
  const titles = schema.choices.map((raw, i) => {
    const one = resolve(raw, defs);
    const mark = tag && own(own(one, "properties"), tag);
    return mark?.const !== undefined ? String(mark.const) : one.title ?? (typeName(raw, defs) || `choice ${i + 1}`);
  });
  let chosen;
  const inside = h("div");
  const choose = (i) => {
    which.value = String(i);
    chosen = field(titles[i], schema.choices[i], { defs, path, depth: depth + 1, changed, quiet: true, bare: true });
    inside.replaceChildren(chosen.node);
  };
  const which = h("select", { id, "aria-label": `${name}: which`, onchange: () => (choose(Number(which.value)), changed()) }, titles.map((one, i) => h("option", { value: i }, one)));
  return {
    composite: true, box: h("div.inside", {}, which, inside), type: "one of", build: () => chosen || choose(0),
    inner: () => (chosen ? [[null, chosen]] : []), read: () => (chosen || choose(0), chosen.read()),
    write: (value) => {
      // The first schema that takes the value is chosen; a discriminator decides at once.
      const order = schema.choices.map((_, i) => i).sort((a, b) => fits(b) - fits(a));
      function fits(i) {
        const one = resolve(schema.choices[i], defs);
        const kind = value === null ? "null" : Array.isArray(value) ? "array" : typeof value === "bigint" ? "integer" : typeof value;
        const same = one.type === kind || (kind === "number" && one.type === "integer");
        const marked = Object.entries(one.properties ?? {}).some(([key, p]) => p.const !== undefined && own(value, key) === p.const);
        return (same ? 1 : 0) + (marked ? 4 : 0) + (same && kind === "object" && (one.required ?? []).every((key) => Object.hasOwn(value, key)) ? 2 : 0);
      }
      choose(order[0]);
      chosen.write(value);
    },
    clear: () => chosen?.write(undefined),
  };
}

/** All fields and those inside them. @param {any[]} fields @returns {any[]} */
export const flat = (fields) => fields.flatMap((one) => [one, ...flat(one.inner())]);

/** The paths of values that must not be shown again, by their schemas.
 * @param {any} raw @param {any} value @param {any} defs @param {any[]} path @returns {any[][]} */
export function secrets(raw, value, defs, path) {
  const schema = resolve(raw, defs);
  if (value == null) return [];
  if (schema.format === "password" || schema.writeOnly === true) return [path];
  const found = ["anyOf", "oneOf", "allOf"].flatMap((key) => (Array.isArray(schema[key]) ? schema[key] : [])).flatMap((one) => secrets(one, value, defs, path));
  if (typeof value !== "object" || path.length > 100) return found;
  for (const [key, one] of Object.entries(value)) {
    const inner = Array.isArray(value) ? own(schema.prefixItems, key) ?? schema.items : own(schema.properties, key) ?? schema.additionalProperties;
    if (inner) found.push(...secrets(inner, one, defs, [...path, Array.isArray(value) ? Number(key) : key]));
  }
  return found;
}

/** A copy in which secrets are dots. @param {any} args @param {any[][]} paths @returns {any} */
export function masked(args, paths) {
  let out = args;
  for (const [first, ...rest] of paths) {
    if (out === null || typeof out !== "object" || !Object.hasOwn(out, first)) continue;
    out = Array.isArray(out) ? [...out] : { ...out };
    out[first] = rest.length ? masked(out[first], [rest]) : DOTS;
  }
  return out;
}
