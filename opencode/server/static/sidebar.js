// The list of sessions, with search and pages.
import { get } from "./api.js";
import { $, h, icon, time, visible } from "./dom.js";
import { toast } from "./status.js";

const PAGE = 40;
const TYPING_MS = 250;
const REFRESH_MS = 30_000;
// What changes at about the same time is asked for once: requests are limited.
const SETTLING_MS = 300;

export class Sidebar {
  constructor() {
    this.cursor = null;
    this.selected = null;
    this.entries = [];
    this.asked = 0;
    this.typing = 0;
    // Tabs of this browser tell one another when something has changed.
    this.channel = new BroadcastChannel("opencode.sessions");
    this.channel.onmessage = () => this.soon();
    $("query").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(), TYPING_MS);
    });
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.load();
    });
    $("more-sessions").onclick = () => this.load(this.cursor);
    addEventListener("focus", () => this.load());
    setInterval(() => document.hidden || this.load(), REFRESH_MS);
    this.drawer();
  }

  /** Read the list anew, or the page at `cursor` in addition. */
  async load(cursor = null) {
    const asked = ++this.asked;
    const query = $("query").value.trim();
    const parameters = new URLSearchParams({ limit: PAGE, ...(query && { q: query }), ...(cursor && { cursor }) });
    try {
      const page = await get(`/api/sessions?${parameters}`);
      // An older answer must not overwrite a newer one.
      if (asked !== this.asked) return;
      this.entries = cursor ? [...this.entries, ...page.sessions] : page.sessions;
      this.cursor = page.next_cursor;
      this.draw(query);
    } catch (error) {
      if (error.status === 400) toast(error.message);
      if (!this.entries.length) this.say("The sessions cannot be read now.");
    }
  }

  /** Something has changed here: read it anew, in the other tabs too. */
  changed() {
    this.soon();
    this.channel.postMessage("changed");
  }

  soon() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.load(), SETTLING_MS);
  }

  select(id) {
    this.selected = id;
    for (const link of $("sessions").querySelectorAll("a")) mark(link, link.dataset.id === id);
  }

  draw(query) {
    const links = this.entries.map((session) => {
      const state = session.status === "idle" ? null : h("span", { class: `dot ${session.status}`, title: session.status, role: "img", "aria-label": session.status });
      const link = h(
        "a",
        { href: `#/s/${session.id}` },
        h("span", { class: "name" }, visible(session.title).replace(/\s+/g, " ") || "Untitled"),
        h("span", { class: "when" }, state, time(session.last_message ?? session.created_at)),
      );
      link.dataset.id = session.id;
      mark(link, session.id === this.selected);
      return h("li", {}, link);
    });
    const focused = document.activeElement?.dataset?.id;
    $("sessions").replaceChildren(...links);
    if (focused) $("sessions").querySelector(`[data-id="${focused}"]`)?.focus();
    $("more-sessions").hidden = !this.cursor;
    this.say(links.length ? "" : query ? `Nothing found for “${query}”.` : "Your sessions will stand here.");
  }

  say(text) {
    $("no-sessions").textContent = text;
    $("no-sessions").hidden = !text;
  }

  // On a phone the list is a drawer.

  drawer() {
    const narrow = matchMedia("(max-width: 800px)");
    const open = (is) => {
      document.body.classList.toggle("drawer", is);
      $("menu").setAttribute("aria-expanded", String(is));
      $("shade").hidden = !is;
      $("sidebar").inert = narrow.matches && !is;
    };
    $("menu").append(icon("menu"));
    $("menu").onclick = () => {
      open(!document.body.classList.contains("drawer"));
      $("query").focus();
    };
    $("shade").onclick = () => open(false);
    $("sidebar").addEventListener("keydown", (event) => {
      if (event.key === "Escape" && narrow.matches) {
        open(false);
        $("menu").focus();
      }
    });
    narrow.addEventListener("change", () => open(false));
    this.closeDrawer = () => open(false);
    open(false);
  }
}

function mark(link, selected) {
  if (selected) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}
