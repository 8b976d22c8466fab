// An open session: its snapshot, then everything after it by the stream, joined by `seq`; and the pages before it.
import { get, post } from "./api.js";
import { $, visible } from "./dom.js";
import { announce, connection, toast } from "./status.js";
import { Stream } from "./stream.js";
import { TurnView } from "./turn.js";

const PAGE = 60;
const NEAR_PX = 120;
// Of a frame, what drawing may take; the rest waits for the next one, so that typing goes first.
const DRAWING_MS = 8;
const PILE = 5000;

export class SessionView {
  /** `on` has `changed(detail)`, `turnEnded()`, `gone()` and `opened(id)`. */
  constructor(id, on) {
    this.id = id;
    this.on = on;
    this.path = `/api/session/${id}`;
    this.turns = new Map();
    this.queue = [];
    this.frame = 0;
    this.atEnd = true;
    this.closed = false;
    this.scroller = $("scroller");
    this.transcript = $("transcript");
    this.onscroll = () => this.scrolled();
    this.scroller.addEventListener("scroll", this.onscroll, { passive: true });
  }

  /** Show the end of the session and follow it from there. */
  async open() {
    const detail = await get(`${this.path}?limit=${PAGE}`);
    if (this.closed) return;
    this.detail = detail;
    this.turns.clear();
    this.transcript.replaceChildren(...this.views(detail.messages).map((own) => own.element));
    this.hasOlder(detail);
    for (const asked of detail.permissions) this.turns.get(asked.turn_id)?.on_permission_request(asked);
    this.on.changed(detail);
    this.toEnd();
    const failed = detail.messages.at(-1)?.status === "failed";
    // The last two events of a failed turn say why: `error` and `done`, which say the same twice without harm.
    this.follow(failed ? Math.max(0, detail.seq - 2) : detail.seq);
  }

  follow(after) {
    this.missed = null;
    this.stream?.close();
    this.stream = new Stream(`${this.path}/message`, after, {
      event: (event) => this.enqueue(event),
      state: (state) => this.connectionChanged(state),
      gone: () => this.on.gone(),
    });
  }

  close() {
    this.closed = true;
    this.stream?.close();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.catching);
    this.scroller.removeEventListener("scroll", this.onscroll);
    this.transcript.replaceChildren();
    $("older").hidden = true;
    $("to-end").hidden = true;
    connection("none");
  }

  connectionChanged(state) {
    clearTimeout(this.catching);
    if (state === "offline" && this.missed === null) this.missed = 0;
    if (state === "live" && this.missed !== null) {
      connection("catching");
      this.caughtUp();
      return;
    }
    connection(state);
  }

  /** What was missed comes at once; when it has come, say so. */
  caughtUp() {
    clearTimeout(this.catching);
    this.catching = setTimeout(() => {
      connection("caught", this.missed ?? 0);
      announce(`Connected again, ${this.missed} events caught up.`);
      this.missed = null;
    }, 400);
  }

  // Events.

  enqueue(event) {
    if (this.missed !== null) this.missed += 1;
    this.queue.push(event);
    // A hidden page draws no frames; what comes meanwhile must not pile up.
    if (this.queue.length > PILE) this.draw();
    else this.frame ||= document.hidden ? setTimeout(() => this.draw(), 250) : requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    if (this.closed) return;
    const until = performance.now() + DRAWING_MS;
    const touched = new Set();
    let at = 0;
    while (at < this.queue.length && (at % 50 || performance.now() < until)) {
      const view = this.apply(this.queue[at]);
      if (view) touched.add(view);
      at += 1;
    }
    this.queue.splice(0, at);
    for (const view of touched) view.commit();
    this.settled();
    if (this.queue.length) this.frame ||= requestAnimationFrame(() => this.draw());
  }

  apply(event) {
    const { name, data } = event;
    if (name === "session_deleted") return this.on.gone();
    if (name === "resync") return void this.open();
    if (name === "session_updated") {
      Object.assign(this.detail, data.changed);
      return this.on.changed(this.detail);
    }
    if (data.turn_id === undefined) return null;
    if (name === "turn_start") this.begun(data);
    const view = this.turns.get(data.turn_id);
    view?.apply(event);
    if (name === "done" && view) this.ended(view, data);
    if (name === "permission_request" || name === "permission_reply") {
      this.detail.status = name === "permission_request" ? "waiting" : "running";
      this.on.changed(this.detail);
    }
    return view;
  }

  begun(data) {
    if (!this.turns.has(data.turn_id)) {
      const view = new TurnView(data.turn_id, this);
      this.turns.set(data.turn_id, view);
      this.transcript.append(view.element);
    }
    if (data.title) this.detail.title = data.title;
    this.detail.status = "running";
    this.on.changed(this.detail, data.turn_id);
  }

  ended(view, data) {
    if (this.detail.status !== "idle") {
      const said = visible(view.content).slice(0, 300);
      announce(data.status === "completed" ? `Answer complete. ${said}` : `The turn ${data.status}.`);
    }
    this.detail.status = "idle";
    this.on.changed(this.detail);
    this.on.turnEnded();
  }

  // The transcript.

  /** Views of the turns of these messages; a turn whose answer is here already gets its question. */
  views(messages) {
    const fresh = [];
    for (const message of messages) {
      let view = this.turns.get(message.turn_id);
      if (!view) {
        view = new TurnView(message.turn_id, this);
        this.turns.set(message.turn_id, view);
        fresh.push(view);
      }
      if (message.role === "user") view.ask(message);
      else view.answered(message);
    }
    return fresh;
  }

  hasOlder({ has_older: older, messages }) {
    this.first = older ? messages[0]?.id : undefined;
    $("older").hidden = !older;
  }

  /** The page before what is shown; what is read stays where it is. */
  async loadOlder() {
    if (this.loading || !this.first) return;
    this.loading = true;
    $("older").classList.add("loading");
    try {
      const page = await get(`${this.path}?limit=${PAGE}&before=${this.first}`);
      if (this.closed) return;
      const height = this.scroller.scrollHeight;
      const top = this.scroller.scrollTop;
      this.transcript.prepend(...this.views(page.messages).map((own) => own.element));
      this.hasOlder(page);
      this.scroller.scrollTop = top + this.scroller.scrollHeight - height;
    } catch (error) {
      if (error.status !== 429) toast(error.message);
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 2000));
    } finally {
      this.loading = false;
      $("older").classList.remove("loading");
    }
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    if (this.atEnd) $("to-end").hidden = true;
    if (scrollTop < 800) this.loadOlder();
  }

  /** Something has grown: who looks at the end stays there, who reads elsewhere is told. */
  settled() {
    if (this.atEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
    else if (this.detail?.status !== "idle") $("to-end").hidden = false;
  }

  toEnd() {
    this.atEnd = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    $("to-end").hidden = true;
  }

  // What people do.

  get running() {
    return this.detail !== undefined && this.detail.status !== "idle";
  }

  async abort() {
    await post(`${this.path}/abort`);
  }

  send(text) {
    return this.on.send(text);
  }

  async fork(messageId) {
    try {
      this.on.opened((await post(`${this.path}/fork`, { message_id: messageId })).session_id);
    } catch (error) {
      toast(error.message);
    }
  }

  async forkTurn(view) {
    // The stream names the request's message only; the answer's is its turn's.
    view.messageId ??= (await get(`${this.path}/turn/${view.id}`)).message.id;
    await this.fork(view.messageId);
  }
}
