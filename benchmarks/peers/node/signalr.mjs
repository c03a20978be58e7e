// @microsoft/signalr, WebSocket transport only, against the hub of ../dotnet.
//
// Streams and uploads are the hub's own; an upload has no flow control, as the client sends it.

import { HttpTransportType, HubConnectionBuilder, LogLevel, Subject } from "@microsoft/signalr";
import { Items, attend, reply } from "./process.mjs";
import { answering, works } from "./works.js";

const address = process.argv[2];
const hub = new HubConnectionBuilder()
  .withUrl(address, { transport: HttpTransportType.WebSockets, skipNegotiation: true })
  .configureLogging(LogLevel.Error)
  .build();
await hub.start();

const open = (method, n) => {
  const items = new Items();
  hub.stream(method, n).subscribe({ next: (item) => items.push(item), complete: () => items.end(), error: (error) => items.end(error) });
  return items;
};
const bench = {
  echo: (args) => hub.invoke("Echo", args.point),
  items: ({ n }) => open("Items", n),
  yielding: ({ n }) => open("Yielding", n),
  upload({ items }) {
    const subject = new Subject(), counted = hub.invoke("Upload", subject);
    for (const item of items) subject.next(item);
    subject.complete();
    return counted;
  },
  text: ({ value }) => hub.invoke("Text", value),
};
reply({ ready: address, offers: Object.keys(works) });
await attend(answering(bench));
