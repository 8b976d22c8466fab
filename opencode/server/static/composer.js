// Where requests are typed. What is typed is kept until the server has it, over reloads and sign-ins too.
import { freshKey, post } from "./api.js";
import { $, h, visible } from "./dom.js";
import { toast } from "./status.js";

export class Composer {
  /** `on.session()` gives the id to send to, made where there is none; `on.view()` the open session. */
  constructor(on) {
    this.on = on;
    this.name = "new";
    this.sending = null;
    this.prompt = $("prompt");
    this.prompt.addEventListener("input", () => this.typed());
    this.prompt.addEventListener("keydown", (event) => this.key(event));
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    $("stop").onclick = () => this.stop();
  }

  /** Type for another session, with what was left there. */
  show(id) {
    this.name = id ?? "new";
    this.prompt.value = sessionStorage.getItem(`draft.${this.name}`) ?? "";
    $("queued").replaceChildren();
    $("queued").hidden = true;
    this.fit();
  }

  typed() {
    sessionStorage.setItem(`draft.${this.name}`, this.prompt.value);
    this.fit();
  }

  fit() {
    // Where CSS does it (`field-sizing`), this is no work.
    if (CSS.supports("field-sizing", "content")) return;
    this.prompt.style.height = "auto";
    this.prompt.style.height = `${Math.min(this.prompt.scrollHeight, 280)}px`;
  }

  key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "Escape" && this.on.view()?.running) {
      event.preventDefault();
      this.stop();
    }
  }

  async submit() {
    const text = this.prompt.value;
    if (!text.trim() || this.sending) return;
    if (await this.send(text)) {
      if (this.prompt.value === text) this.prompt.value = "";
      sessionStorage.removeItem("draft.new");
      this.typed();
    }
    this.prompt.focus();
  }

  /** Start a turn, or queue it; whether the server has it. Sent again after a failure it is still done once. */
  async send(text) {
    this.busy(true);
    // A request that may have arrived goes again with the same key.
    if (this.unsure?.text !== text || this.unsure.name !== this.name) this.unsure = { text, name: this.name, key: freshKey() };
    try {
      const id = await this.on.session(this.unsure.key);
      const body = { content: text, when_busy: "queue" };
      const { turn_id: turn } = await post(`/api/session/${id}/message`, body, { Prefer: "respond-async", "Idempotency-Key": this.unsure.key });
      this.unsure = null;
      this.queued(turn, text);
      this.on.sent(id);
      return true;
    } catch (error) {
      toast(`Not sent: ${error.message} What you typed is kept.`);
      return false;
    } finally {
      this.busy(false);
    }
  }

  busy(is) {
    this.sending = is;
    $("send").disabled = is;
    $("send").setAttribute("aria-busy", String(is));
  }

  /** While another turn runs, what waits stands above the prompt, until it begins. */
  queued(turn, text) {
    const view = this.on.view();
    if (!view?.running || view.turns.has(turn)) return;
    const entry = h("li", {}, h("span", { class: "tag" }, "next"), visible(text).slice(0, 120));
    entry.dataset.turn = turn;
    $("queued").append(entry);
    $("queued").hidden = false;
  }

  begun(turn) {
    $("queued").querySelector(`[data-turn="${turn}"]`)?.remove();
    $("queued").hidden = !$("queued").children.length;
  }

  /** Whether a turn runs that can be stopped. */
  running(is) {
    $("stop").hidden = !is;
    $("send").textContent = is ? "Queue" : "Send";
  }

  async stop() {
    $("stop").disabled = true;
    try {
      await this.on.view()?.abort();
    } catch (error) {
      toast(error.message);
    }
    $("stop").disabled = false;
  }
}
