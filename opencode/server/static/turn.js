// One turn: what was asked, and the answer as it grows. Text that streams is appended, never drawn anew; when its step has
// ended it is rendered once.
import { action, clipped, h, number, seconds, time, visible } from "./dom.js";
import { rendered } from "./markdown.js";
import { ToolView } from "./tool.js";

// Of one piece of a streaming answer; a text node of this length is laid out in a moment.
const PIECE_CHARS = 3000;
// More of a streaming text is not drawn before its step ends.
const DRAWN_CHARS = 200_000;

const ENDED = new Set(["completed", "aborted", "failed"]);

/** A text or a thought of the answer. */
class Passage {
  constructor(kind, seq, then) {
    this.kind = kind;
    this.seq = seq;
    this.then = then;
    this.pieces = [];
    this.drawn = 0;
    this.text = h("div", { class: "text plain" });
    this.element = kind === "text" ? this.text : h("details", { class: "reasoning" }, h("summary", {}, "Thoughts"), this.text);
    this.open = true;
  }

  append(content) {
    this.pieces.push(content);
    if (this.drawn > DRAWN_CHARS) return;
    this.drawn += content.length;
    let shown = visible(content);
    const last = this.text.lastChild?.firstChild;
    const cut = shown.indexOf("\n");
    if (last && (last.length < PIECE_CHARS || cut < 0)) {
      last.appendData(shown);
      return;
    }
    if (last) {
      last.appendData(shown.slice(0, cut));
      shown = shown.slice(cut + 1);
    }
    this.text.append(h("div", {}, document.createTextNode(shown)));
  }

  /** Its step has ended: render it. */
  finish() {
    if (!this.open) return;
    this.open = false;
    const whole = this.pieces.join("");
    if (this.drawn > DRAWN_CHARS || whole.length > DRAWN_CHARS) {
      this.text.replaceChildren();
      clipped(this.text, visible(whole));
    }
    rendered(this.text, whole, this.then);
  }

  get content() {
    return this.pieces.join("");
  }
}

export class TurnView {
  /** `session` has `id`, and `fork(message)`, `send(text)`, `settled()` for when something has changed its height. */
  constructor(id, session) {
    this.id = id;
    this.session = session;
    this.status = "running";
    this.passages = [];
    this.tools = new Map();
    this.waiting = "";
    this.question = h("div", { class: "asked" });
    this.parts = h("div", { class: "parts" });
    this.facts = h("footer", { class: "facts" });
    this.answer = h("div", { class: "answer", hidden: true }, this.parts, this.facts);
    this.element = h("article", { class: "turn" }, this.question, this.answer);
    this.element.dataset.turn = id;
  }

  // From a message of a snapshot.

  ask({ id, content, timestamp }) {
    this.userId = id;
    this.asked = content;
    this.element.setAttribute("aria-label", `Request: ${visible(content).slice(0, 80)}`);
    const bubble = clipped(h("div", { class: "bubble" }), visible(content));
    const actions = h(
      "span",
      { class: "actions" },
      action("copy", "Copy this request", () => navigator.clipboard?.writeText(content)),
      action("fork", "Fork from this request", () => this.session.fork(this.userId)),
    );
    this.question.replaceChildren(h("header", {}, actions, h("strong", {}, "You"), time(timestamp)), bubble);
  }

  answered(message) {
    this.messageId = message.id;
    this.answer.hidden = false;
    for (const part of message.parts) {
      if (part.status === "interrupted") continue;
      if (part.type === "tool") this.addTool(part);
      else {
        this.passage(part.type, null).append(part.content);
      }
    }
    this.status = message.status;
    this.model = message.model;
    if (ENDED.has(message.status)) {
      this.end({ status: message.status, tokens: message.tokens, duration: message.duration ?? 0 });
      if (message.error) this.fail({ code: message.error, message: "" });
    } else {
      this.settle();
      this.working();
    }
  }

  // From the events of the stream.

  apply({ seq, name, data }) {
    if (name === "text" || name === "reasoning") {
      this.answer.hidden = false;
      if (this.waitingIn !== undefined && this.waitingIn.kind !== name) this.commit();
      this.waitingIn ??= this.passage(name, seq);
      this.waiting += data.content;
      return;
    }
    this.commit();
    this[`on_${name}`]?.(data, seq);
  }

  /** Draw the text that has come since the last time. */
  commit() {
    if (this.waitingIn === undefined) return;
    this.waitingIn.append(this.waiting);
    this.waitingIn = undefined;
    this.waiting = "";
  }

  on_turn_start(data) {
    this.model = data.model;
    if (this.asked === undefined) this.ask({ id: data.message_id, content: data.content, timestamp: new Date().toISOString() });
    this.answer.hidden = false;
    this.working();
  }

  on_step(data) {
    this.settle();
    if (data.discards_from !== null) this.discard(data.discards_from);
  }

  on_tool_call(data) {
    this.settle();
    if (!this.tools.has(data.call_id)) this.addTool({ ...data, status: "pending" });
  }

  on_tool_output(data) {
    this.tools.get(data.call_id)?.append(data.content);
  }

  on_tool_result(data) {
    this.tools.get(data.call_id)?.finish(data.result, data.is_error);
  }

  on_permission_request(data) {
    this.tools.get(data.call_id)?.ask(data.permission_id);
    this.working("Waits for your answer");
  }

  on_permission_reply(data) {
    for (const tool of this.tools.values()) if (tool.asked === data.permission_id) tool.answered(data.response);
    this.working();
  }

  on_error(data) {
    this.settle();
    this.fail(data);
  }

  on_done(data) {
    this.end(data);
  }

  // Drawing.

  passage(kind, seq) {
    const last = this.passages.at(-1);
    if (last?.open && last.kind === kind && last.element === this.parts.lastChild) return last;
    last?.finish();
    const passage = new Passage(kind, seq, () => this.session.settled());
    this.passages.push(passage);
    this.parts.append(passage.element);
    return passage;
  }

  addTool(part) {
    this.answer.hidden = false;
    this.passages.at(-1)?.finish();
    const view = new ToolView(part, this.session.id);
    this.tools.set(part.call_id, view);
    this.parts.append(view.element);
  }

  settle() {
    this.passages.at(-1)?.finish();
  }

  /** Text and thoughts of an attempt that broke off are void. */
  discard(seq) {
    const isVoid = (own) => own.seq !== null && own.seq >= seq;
    for (const passage of this.passages.filter(isVoid)) passage.element.remove();
    this.passages = this.passages.filter((own) => !isVoid(own));
  }

  fail({ code, message }) {
    this.failure?.remove();
    this.failure = h("div", { class: "failure" }, h("strong", {}, code), message ? ` ${visible(message)}` : "");
    this.parts.append(this.failure);
  }

  working(what = "Working …") {
    this.element.classList.add("working");
    this.facts.replaceChildren(h("span", { class: "pulse", "aria-hidden": "true" }), h("span", {}, what));
  }

  end({ status, tokens, duration }) {
    this.settle();
    this.status = status;
    this.element.classList.remove("working");
    for (const tool of this.tools.values()) tool.answered(null);
    const names = { aborted: "Stopped", failed: "Failed" };
    const facts = [names[status], this.model, `${number(tokens)} tokens`, seconds(duration)].filter(Boolean);
    this.facts.replaceChildren(
      h("span", { class: "numbers" }, facts.join(" · ")),
      h(
        "span",
        { class: "actions" },
        action("copy", "Copy this answer", () => navigator.clipboard?.writeText(this.content)),
        action("retry", "Ask this again", () => this.session.send(this.asked)),
        action("fork", "Fork from this answer", () => this.session.forkTurn(this)),
      ),
    );
  }

  get content() {
    return this.passages.filter((own) => own.kind === "text").map((own) => own.content).join("\n\n");
  }

  get ended() {
    return ENDED.has(this.status);
  }
}
