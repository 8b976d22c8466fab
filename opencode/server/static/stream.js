// A session's events by one fetch at a time, from the last one seen; the numbers are the server's, so that nothing is lost
// or doubled however often the connection breaks. By fetch and not EventSource, which tells nobody why it was refused.
import { failure } from "./api.js";
import { signedIn } from "./sign_in.js";

// The server says something every 15 s.
const SILENCE_MS = 40_000;
const LONGEST_MS = 10_000;

export class Stream {
  /** `on` has `event({seq, name, data})`, `state("connecting" | "live" | "offline")` and `gone()`. */
  constructor(path, after, on) {
    this.path = path;
    this.after = after;
    this.on = on;
    this.closed = false;
    this.retryMs = 500;
    this.failures = 0;
    this.wake = () => {};
    this.reconnect = () => {
      this.abort?.abort();
      this.wake();
    };
    addEventListener("online", this.reconnect);
    addEventListener("offline", this.reconnect);
    this.run();
  }

  close() {
    this.closed = true;
    removeEventListener("online", this.reconnect);
    removeEventListener("offline", this.reconnect);
    this.reconnect();
  }

  async run() {
    this.on.state("connecting");
    while (!this.closed) {
      let waitMs = Math.min(LONGEST_MS, 500 * 2 ** this.failures);
      try {
        waitMs = (await this.once()) ?? waitMs;
      } catch {
        // The connection broke, or there was none.
      }
      if (this.closed) return;
      this.failures += 1;
      this.on.state("offline");
      await this.pause(waitMs * (0.75 + Math.random() / 2));
    }
  }

  pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** One connection, to its end; when to come back, where the server said so. */
  async once() {
    this.abort = new AbortController();
    const response = await fetch(`${this.path}?after=${this.after}`, {
      headers: { Accept: "text/event-stream", "Last-Event-ID": String(this.after) },
      signal: this.abort.signal,
    });
    if (response.status === 401) {
      await signedIn();
      return 0;
    }
    if (response.status === 404) {
      this.close();
      this.on.gone();
      return 0;
    }
    if (!response.ok) return (await failure(response)).retryAfterMs;
    this.failures = 0;
    this.on.state("live");
    await this.read(response.body.getReader());
    return this.retryMs;
  }

  async read(reader) {
    const decoder = new TextDecoder();
    let rest = "";
    let watch = 0;
    const rewatch = () => {
      clearTimeout(watch);
      watch = setTimeout(() => this.abort.abort(), SILENCE_MS);
    };
    try {
      for (;;) {
        rewatch();
        const { done, value } = await reader.read();
        if (done || this.closed) return;
        const frames = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = frames.pop();
        for (const frame of frames) this.frame(frame);
      }
    } finally {
      clearTimeout(watch);
    }
  }

  frame(frame) {
    const event = {};
    for (const line of frame.split("\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
    }
    if (event.retry) this.retryMs = Number(event.retry);
    if (event.id) this.after = Number(event.id);
    if (event.data) this.on.event({ seq: event.id ? Number(event.id) : null, name: event.event, data: JSON.parse(event.data) });
  }
}
