// A chat with a model: tokens stream in, Stop ends its work, and it asks before it does anything.
import { connect, RpcError, SERVER } from "./server.js";

const $ = (id) => document.getElementById(id);
const name = new URLSearchParams(location.search).get("as") ?? "ann";
$("who").textContent = name;

let timer;

/** A fresh token: for each connection, and in time before the last one runs out. */
async function token() {
  const answer = await fetch(`token?as=${name}`);
  if (!answer.ok) throw new RpcError("unauthenticated", "no such user");
  const { token, expires_in } = await answer.json();
  clearTimeout(timer);
  timer = setTimeout(renew, (expires_in * 1000) / 2);
  return token;
}

async function renew() {
  await session.refreshAuth();
  $("renewed").textContent = Number($("renewed").textContent) + 1;
}

/** The methods that the server may call here. */
class Person {
  /** Resolves when the person has decided; the answer waits for as long. */
  approve({ action }, { signal }) {
    $("action").textContent = action;
    $("permit").hidden = false;
    return new Promise((resolve) => {
      const decide = (allowed) => {
        $("permit").hidden = true;
        resolve(allowed);
      };
      $("permit").onsubmit = (event) => {
        event.preventDefault();
        decide(event.submitter.value === "yes");
      };
      // The answer was stopped: no call waits for the decision any more.
      signal.addEventListener("abort", () => decide(false));
    });
  }
}

const session = connect(SERVER, { auth: token, controllers: { Person: new Person() } });
const assistant = session.clientize("Assistant");
session.subscribe(({ state }) => ($("state").textContent = state));

function message(whose, text = "") {
  const item = document.createElement("li");
  item.className = whose;
  item.textContent = text;
  $("messages").append(item);
  item.scrollIntoView();
  return item;
}

$("ask").onsubmit = async (event) => {
  event.preventDefault();
  const question = $("text").value;
  $("text").value = "";
  message("mine", question);
  const answer = message("theirs");
  const stop = new AbortController();
  $("stop").onclick = () => stop.abort();
  $("stop").hidden = !($("send").hidden = true);
  try {
    const stream = assistant.ask({ question }, { signal: stop.signal });
    for await (const { text } of stream) answer.append(text);
    const cost = document.createElement("small");
    cost.textContent = `${stream.final.tokens} tokens, ${stream.final.cents.toFixed(3)} cents`;
    answer.append(cost);
  } catch (error) {
    answer.append(stop.signal.aborted ? "— stopped" : `— ${error.message}`);
  } finally {
    $("stop").hidden = !($("send").hidden = false);
    $("text").focus();
  }
};

$("bill").onclick = async () => {
  try {
    message("theirs", JSON.stringify(await assistant.bill()));
  } catch (error) {
    message("theirs", `${error.code}: ${error.message}`);
  }
};
