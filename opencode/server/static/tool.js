// A tool call: folded, with its live output, its result, and the question where it needs a yes.
import { post } from "./api.js";
import { addition, diffLines, replacement } from "./diff.js";
import { clipped, exact, h, output } from "./dom.js";
import { announce, toast } from "./status.js";

// Of live output the end counts.
const LIVE_CHARS = 20_000;
const STATES = { pending: "waiting", running: "running", completed: "done", error: "failed", asking: "needs a yes" };

export class ToolView {
  /** `part` is the call as a message holds it. */
  constructor(part, sessionId) {
    this.part = part;
    this.sessionId = sessionId;
    this.state = h("span", { class: "state" });
    this.body = h("div", { class: "body" });
    const summary = h(
      "summary",
      {},
      h("span", { class: "tool-name" }, part.tool),
      h("code", { class: "gist" }, exact(gist(part.tool, part.params)).slice(0, 300)),
      this.state,
    );
    this.details = h("details", { class: "tool" }, summary, this.body);
    this.question = h("div", { class: "question", hidden: true });
    this.element = h("div", { class: "call" }, this.details, this.question);
    this.drawn = false;
    this.live = null;
    this.buffer = "";
    this.asked = null;
    this.details.addEventListener("toggle", () => this.details.open && this.draw());
    this.show(part.status);
    if (part.result !== undefined) this.finish(part.result, part.status === "error");
  }

  show(status) {
    this.element.dataset.state = status;
    this.state.textContent = STATES[status] ?? status;
  }

  /** The inside, when it is first looked at: a long transcript has many that nobody opens. */
  draw() {
    if (this.drawn) return;
    this.drawn = true;
    if (this.part.result === undefined) {
      this.body.append(request(this.part));
      this.drawLive();
    } else this.drawResult();
  }

  drawResult() {
    const came = result(this.part);
    // What an edit did says better what was asked for than the request does.
    this.body.replaceChildren(...(came.classList.contains("done-edit") ? [came] : [request(this.part), came]));
  }

  drawLive() {
    if (this.part.tool !== "bash" && !this.buffer) return;
    this.text = document.createTextNode(output(this.buffer));
    this.live = h("pre", { class: "output", tabIndex: 0, role: "group", "aria-label": "Output" }, this.text);
    this.body.append(this.live);
  }

  /** A further piece of live output. */
  append(content) {
    this.show("running");
    this.buffer = (this.buffer + content).slice(-LIVE_CHARS);
    if (!this.drawn) return;
    if (!this.live) this.drawLive();
    const atEnd = this.live.scrollHeight - this.live.scrollTop - this.live.clientHeight < 40;
    this.text.data = output(this.buffer);
    if (atEnd) this.live.scrollTop = this.live.scrollHeight;
  }

  finish(text, isError) {
    this.part = { ...this.part, result: text };
    this.answered(null);
    this.show(isError ? "error" : "completed");
    this.live = null;
    if (this.drawn) this.drawResult();
  }

  /** Ask for a yes or no. */
  ask(permissionId) {
    if (this.asked === permissionId) return;
    this.asked = permissionId;
    this.show("asking");
    const { tool, params } = this.part;
    const button = (response, label, kind = "") => h("button", { type: "button", class: kind, onclick: () => this.answer(permissionId, response) }, label);
    const name = `permission-${permissionId}`;
    this.question.replaceChildren(
      h("p", { id: name }, h("strong", {}, `May ${tool} do this?`)),
      request({ tool, params }, true),
      h(
        "div",
        { class: "buttons" },
        button("once", "Allow once", "primary"),
        button("always", tool === "bash" ? "Always this" : `Always ${tool}`),
        button("reject", "Reject", "danger"),
      ),
    );
    this.question.setAttribute("role", "group");
    this.question.setAttribute("aria-labelledby", name);
    this.question.hidden = false;
    announce(`Permission needed: ${tool} ${exact(gist(tool, params)).slice(0, 200)}`);
  }

  async answer(permissionId, response) {
    for (const button of this.question.querySelectorAll("button")) button.disabled = true;
    try {
      await post(`/api/session/${this.sessionId}/permission/${permissionId}`, { response });
    } catch (error) {
      if (error.code !== "PERMISSION_ANSWERED") toast(error.message);
      for (const button of this.question.querySelectorAll("button")) button.disabled = false;
    }
  }

  /** The question is answered, here or elsewhere; null: its turn is over. */
  answered(response) {
    if (this.asked === null) return;
    this.asked = null;
    this.question.hidden = true;
    this.question.replaceChildren();
    if (response !== null) this.show(response === "reject" ? "error" : "running");
  }
}

/** What a call is about, in a line. */
function gist(tool, params) {
  if (typeof params !== "object" || params === null) return "";
  const value = params.command ?? params.path ?? params.pattern ?? "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.split("\n")[0] || (tool === "list" ? "." : "");
}

/** What a call asks for; with `whole` nothing of it is left out, since somebody is to say yes to it. */
function request({ tool, params }, whole = false) {
  const known = { bash: ["command"], edit: ["path", "old_string", "new_string"], write: ["path", "content"] }[tool];
  const text = (name) => typeof params?.[name] === "string";
  const plain = h("pre", { class: "request", tabIndex: 0 });
  if (!known?.every(text) || (whole && Object.keys(params).some((name) => !known.includes(name)))) {
    return clipped(plain, exact(JSON.stringify(params, null, 2)), whole ? Infinity : undefined);
  }
  if (tool === "bash") return clipped(plain, exact(`$ ${params.command}`), whole ? Infinity : undefined);
  const change = tool === "edit" ? replacement(params.old_string, params.new_string) : addition(params.content);
  return h("div", {}, h("p", { class: "path" }, h("code", {}, exact(params.path))), change);
}

function result({ tool, result: text, params }) {
  if (tool === "edit" && /^@@ /m.test(text)) {
    const start = text.search(/^@@ /m);
    return h("div", { class: "done-edit" }, h("p", { class: "path muted" }, exact(text.slice(0, start).trim())), diffLines(text.slice(start)));
  }
  const label = tool === "read" && typeof params?.path === "string" ? `Content of ${params.path}` : "Result";
  return clipped(h("pre", { class: "output", tabIndex: 0, role: "group", "aria-label": label }), output(text) || "(no output)");
}
