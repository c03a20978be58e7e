// Everybody's cursor on one board: moves go out as notifications, and one stream brings the others'.
import { connect, SERVER } from "./server.js";

const $ = (id) => document.getElementById(id);
const name = new URLSearchParams(location.search).get("as") ?? `guest ${Math.ceil(Math.random() * 99)}`;
$("who").textContent = name;
const board = $("board");

const session = connect(SERVER);
session.subscribe(({ state }) => ($("state").textContent = state));

// One notification for each picture that the screen shows, however often the pointer moves.
let place = null;
board.onpointermove = ({ clientX, clientY }) => {
  if (!place) requestAnimationFrame(send);
  const { left, top, width, height } = board.getBoundingClientRect();
  const part = (n, size) => Math.max(0, Math.min(1000, Math.round((1000 * n) / size)));
  place = { x: part(clientX - left, width), y: part(clientY - top, height) };
};
function send() {
  session.notify("Board.move", { place });
  place = null;
}

const shown = new Map();
function show(id, { name, place, gone }) {
  if (gone) {
    shown.get(id)?.remove();
    shown.delete(id);
    return;
  }
  let cursor = shown.get(id);
  if (!cursor) {
    cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.textContent = name;
    cursor.dataset.name = name;
    cursor.style.color = `hsl(${[...name].reduce((sum, one) => sum + one.charCodeAt(0) * 47, 0) % 360} 60% 45%)`;
    shown.set(id, cursor);
    board.append(cursor);
  }
  cursor.hidden = !place;
  if (place) Object.assign(cursor.style, { left: `${place.x / 10}%`, top: `${place.y / 10}%` });
}

// A connection that is lost takes the cursor off the board, and the stream with it: watch again.
for (;;) {
  try {
    for await (const news of session.clientize("Board").watch({ name }))
      for (const [id, cursor] of Object.entries(news)) show(id, cursor);
  } catch (error) {
    if (session.state === "closed") break;
    console.debug("watching again after", error);
    await new Promise((go) => setTimeout(go, 500));
  }
  shown.forEach((cursor) => cursor.remove());
  shown.clear();
}
