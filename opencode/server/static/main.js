// The page: which session is open, and how its parts hear of one another.
import { call, post } from "./api.js";
import { Composer } from "./composer.js";
import { asked, changes, confirmed, keys, newSession } from "./dialogs.js";
import { $, icon, number, seconds, visible } from "./dom.js";
import { home } from "./home.js";
import { SessionView } from "./session.js";
import { Sidebar } from "./sidebar.js";
import { byLink, signOut, wasSignedIn } from "./sign_in.js";
import { toast } from "./status.js";

let view = null;

const composer = new Composer({
  view: () => view,
  session: async (key) => view?.id ?? (await post("/api/session", {}, { "Idempotency-Key": key })).session_id,
  sent: (id) => {
    if (view?.id === id) view.toEnd();
    else open(id);
    sidebar.changed();
  },
});
const sidebar = new Sidebar();

const address = (id) => (id ? `#/s/${id}` : "#/");

/** Go to a session; null: none. */
function open(id) {
  if (location.hash === address(id)) show();
  else location.hash = address(id);
}

async function show() {
  const id = location.hash.match(/^#\/s\/([\w-]+)$/)?.[1] ?? null;
  if (view?.id === id && id !== null) return;
  view?.close();
  view = null;
  sidebar.select(id);
  sidebar.closeDrawer();
  composer.show(id);
  composer.running(false);
  $("session-actions").hidden = id === null;
  $("home").hidden = true;
  if (id === null) {
    heading("OpenCode", "");
    await home((text) => composer.send(text));
    return;
  }
  heading("…", "");
  view = new SessionView(id, { changed, turnEnded: () => sidebar.changed(), gone, opened: (other) => { sidebar.changed(); open(other); }, send: (text) => composer.send(text) });
  const own = view;
  try {
    await own.open();
  } catch (error) {
    if (own !== view) return;
    if (error.status === 404) gone();
    else retry(own, error);
  }
}

/** The session could not be read: say so, and try again. */
function retry(own, error) {
  heading("Not loaded", error.message);
  setTimeout(() => own === view && own.open().catch((again) => own === view && retry(own, again)), error.retryAfterMs ?? 2000);
}

function gone() {
  toast("This session does not exist any more.");
  view?.close();
  view = null;
  sidebar.changed();
  open(null);
}

function heading(title, about) {
  $("title").textContent = title;
  $("about").textContent = about;
  document.title = title === "OpenCode" || title === "…" ? "OpenCode" : `${title} · OpenCode`;
}

function changed(detail, begun) {
  if (begun) {
    composer.begun(begun);
    sidebar.changed();
  }
  const title = visible(detail.title || "New session").replace(/\s+/g, " ");
  const folder = detail.directory.split("/").filter(Boolean).at(-1) ?? "/";
  heading(title, [detail.resolved_model, folder, detail.tools.join(", ") || "no tools"].join(" · "));
  const { input, output, turn_ms: ms } = detail.usage;
  $("about").title = `${detail.directory}\n${number(input + output)} tokens, ${seconds(ms)} in all when it was opened`;
  if (detail.status === "waiting") document.title = `(asks) ${document.title}`;
  composer.running(detail.status !== "idle");
}

// Theme: the system's, or the one chosen here.
const THEMES = ["", "light", "dark"];
function theme(next) {
  const chosen = localStorage.getItem("opencode.theme") ?? "";
  const now = next ? THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length] : chosen;
  if (now) localStorage.setItem("opencode.theme", now);
  else localStorage.removeItem("opencode.theme");
  document.documentElement.dataset.theme = now;
  $("theme").replaceChildren(icon({ "": "auto", light: "sun", dark: "moon" }[now]));
  $("theme").setAttribute("aria-label", `Theme: ${now || "as the system"}`);
  $("theme").title = $("theme").getAttribute("aria-label");
}

async function rename() {
  const title = await asked("Rename the session", "Title", view.detail?.title ?? "");
  if (title === null) return;
  await call("PATCH", view.path, { title });
  sidebar.changed();
}

async function remove() {
  const own = view;
  if (!(await confirmed("Delete this session?", "Its messages are lost, and a running turn is stopped. Files stay as they are.", "Delete"))) return;
  view = null;
  own.close();
  await call("DELETE", own.path);
  sidebar.changed();
  open(null);
}

const reported = (act) => () => Promise.resolve(act()).catch((error) => toast(error.message));

function wire() {
  $("rename").append(icon("pencil"));
  $("delete").append(icon("trash"));
  $("new-session").onclick = () => newSession((id) => { sidebar.changed(); open(id); $("prompt").focus(); });
  $("changes").onclick = () => changes(view.id);
  $("rename").onclick = reported(rename);
  $("delete").onclick = reported(remove);
  $("theme").onclick = () => theme(true);
  $("help").onclick = keys;
  $("sign-out").onclick = reported(signOut);
  $("sign-out").hidden = !wasSignedIn();
  $("to-end").onclick = () => view?.toEnd();
  $("older").firstElementChild.onclick = () => view?.loadOlder();
  document.querySelector(".skip").onclick = (event) => {
    event.preventDefault();
    $("prompt").focus();
  };
  addEventListener("keydown", shortcut);
}

function shortcut(event) {
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "k") {
    document.body.classList.contains("drawer") || getComputedStyle($("menu")).display === "none" || $("menu").click();
    $("query").select();
    $("query").focus();
  } else if (event.altKey && key === "n") $("new-session").click();
  else if (event.altKey && key === "p") $("prompt").focus();
  else return;
  event.preventDefault();
}

wire();
theme(false);
await byLink();
addEventListener("hashchange", async () => {
  await byLink();
  show();
});
sidebar.load();
await show();
$("prompt").focus({ preventScroll: true });
