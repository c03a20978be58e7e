// Charts of the same prices: a quick viewer, a slow one, and late ones. Each is a stream of its own.
/* global uPlot */
import { connect, SERVER } from "./server.js";

const $ = (id) => document.getElementById(id);
const session = connect(SERVER);
session.subscribe(({ state }) => ($("state").textContent = state));
// One item is under way at a time: all prices that come meanwhile are in the next one.
const market = session.clientize("Market", { window: 1 });

const COLOURS = ["#1f6b57", "#b4552d", "#4a5bb0"];
const KEPT = 600;

/** A chart, and how it came about. @param {string} name @param {number} pause Milliseconds to look at each item. */
async function view(name, pause) {
  const figure = $("views").appendChild(document.createElement("figure"));
  figure.id = name;
  const caption = figure.appendChild(document.createElement("figcaption"));
  const symbols = await market.symbols();
  const series = symbols.map((label, n) => ({ label, stroke: COLOURS[n], value: (_, cents) => (cents == null ? "-" : (cents / 100).toFixed(2)) }));
  const axes = [{}, { values: (_, all) => all.map((cents) => (cents / 100).toFixed(0)) }];
  const chart = new uPlot({ width: 320, height: 220, scales: { x: { time: false } }, series: [{ label: "number" }, ...series], axes }, [[], ...symbols.map(() => [])], figure);
  let data = chart.data.map(() => []);
  let items = 0;
  let began = 0;
  for await (const { first, cents } of market.watch()) {
    items += 1;
    began ||= cents.length;
    data[0].push(...cents.map((_, n) => first + n));
    symbols.forEach((_, n) => data[n + 1].push(...cents.map((row) => row[n])));
    data = data.map((column) => column.slice(-KEPT));
    chart.setData(data);
    const last = data[0].at(-1);
    caption.textContent = `${name}: at price ${last}, in ${items} items; the first had ${began}`;
    Object.assign(figure.dataset, { last, items, began });
    if (pause) await new Promise((go) => setTimeout(go, pause));
  }
}

view("quick", 0);
view("slow", 1000);
let others = 0;
$("late").onclick = () => view(`late-${++others}`, 0);
