// Markdown as HTML, made and cleaned by the server: `POST /api/render`. Texts that are wanted together go together.
import { post } from "./api.js";

const LONGEST = 100_000;
const BATCH_CHARS = 300_000;
const BATCH = 100;
const KEPT = 500;
const known = new Map();
let waiting = [];
let timer = 0;

/** Put the rendered text into `element`, when it comes; until then, and where it cannot be rendered, it stays as it is. */
export function rendered(element, text, then = () => {}) {
  if (!text.trim() || text.length > LONGEST) return;
  if (known.has(text)) {
    show(element, known.get(text));
    then();
    return;
  }
  waiting.push({ element, text, then });
  timer ||= setTimeout(flush, 30);
}

function show(element, html) {
  if (html === null) return;
  // The only place where HTML is parsed: it comes from the server's sanitiser, and the page's policy runs no script of it.
  element.innerHTML = html;
  element.classList.add("prose");
  element.classList.remove("plain");
}

async function flush() {
  let chars = 0;
  let count = 0;
  while (count < waiting.length && count < BATCH && (count === 0 || chars + waiting[count].text.length < BATCH_CHARS)) {
    chars += waiting[count].text.length;
    count += 1;
  }
  const batch = waiting.slice(0, count);
  let waitMs = 0;
  try {
    const { html } = await post("/api/render", { texts: batch.map((own) => own.text) });
    waiting = waiting.slice(count);
    for (const [place, own] of batch.entries()) {
      keep(own.text, html[place]);
      if (own.element.isConnected) show(own.element, html[place]);
      own.then();
    }
  } catch (error) {
    // As plain text it can be read meanwhile.
    waitMs = error.retryAfterMs ?? 3000;
    if (error.status === 400 || error.status === 413) waiting = waiting.slice(count);
  }
  timer = waiting.length ? setTimeout(flush, waitMs) : 0;
}

function keep(text, html) {
  if (known.size >= KEPT) known.delete(known.keys().next().value);
  known.set(text, html);
}
