// Writes each event that npm's `eventsource` fires as a line of JSON: [lastEventId, type, data].
// One argument, as JSON: url, method, body, headers of the first request, and the names of the events.
import { EventSource } from "eventsource";

const asked = JSON.parse(process.argv[2]);
const posts = asked.method === "POST";
const given = {
  method: asked.method,
  body: posts ? JSON.stringify(asked.body) : undefined,
  headers: posts ? { ...asked.headers, "Content-Type": "application/json" } : asked.headers,
};
const source = new EventSource(asked.url, {
  // What EventSource sets itself, `Last-Event-ID` above all, goes before what was given.
  fetch: (url, own) => fetch(url, { ...own, ...given, headers: { ...given.headers, ...own.headers } }),
});
// Its pause before it reconnects does not keep Node alive.
const alive = setInterval(() => {}, 60_000);

function show(event) {
  if (event.data === undefined) {
    if (source.readyState === EventSource.CLOSED) {
      console.error(`refused: ${event.code} ${event.message}`);
      process.exitCode = 1;
      clearInterval(alive);
    }
    return; // the connection was lost: it comes back by itself
  }
  console.log(JSON.stringify([event.lastEventId, event.type, event.data]));
  if (posts && event.type === "done") {
    source.close(); // its stream ends here, and it must not post again
    clearInterval(alive);
  }
}

for (const name of asked.names) source.addEventListener(name, show);
