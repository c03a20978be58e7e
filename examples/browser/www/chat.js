// A chat: tokens stream in, Stop ends the loop on the server, and the server asks before it forgets.
import { connect, SERVER } from "./server.js";

const $ = (id) => document.getElementById(id);

/** The methods that the server may call here. */
class Page {
  /** Resolves when the person has decided; the call on the server waits for as long. */
  approve({ action }, { signal }) {
    $("action").textContent = action;
    $("ask").hidden = false;
    return new Promise((resolve) => {
      const decide = (allowed) => {
        $("ask").hidden = true;
        resolve(allowed);
      };
      $("ask").onsubmit = (event) => {
        event.preventDefault();
        decide(event.submitter.value === "yes");
      };
      // The call was given up: no call waits for the answer any more.
      signal.addEventListener("abort", () => decide(false));
    });
  }
}

const session = connect(SERVER, { controllers: { Page: new Page() } });
const chat = session.clientize("Chat");
session.subscribe(({ state }) => ($("state").textContent = state));

function message(whose, text = "") {
  const item = document.createElement("li");
  item.className = whose;
  item.textContent = text;
  $("messages").append(item);
  item.scrollIntoView();
  return item;
}

$("say").onsubmit = async (event) => {
  event.preventDefault();
  const text = $("text").value;
  $("text").value = "";
  message("mine", text);
  const answer = message("theirs");
  const stop = new AbortController();
  $("stop").onclick = () => stop.abort();
  $("stop").hidden = !($("send").hidden = true);
  try {
    for await (const token of chat.say({ text }, { signal: stop.signal })) answer.append(token.message);
  } catch (error) {
    answer.append(stop.signal.aborted ? " — stopped" : ` — ${error.message}`);
  } finally {
    $("stop").hidden = !($("send").hidden = false);
    $("text").focus();
  }
};
