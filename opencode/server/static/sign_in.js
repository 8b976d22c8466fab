// Coming in: by the link that the server printed, or by a token. Whatever waits for it goes on afterwards.
import { $, h } from "./dom.js";

const KNOWN = "opencode.signed-in";
let waiting = null;

/** Whether this browser has signed in, as far as it knows. */
export const wasSignedIn = () => localStorage.getItem(KNOWN) !== null;

async function login(body) {
  const response = await fetch("/api/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  localStorage.setItem(KNOWN, "1");
  $("sign-out").hidden = false;
}

/** Sign in by the code in the address, and take it out of there. */
export async function byLink() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return;
  history.replaceState(null, "", "/");
  try {
    await login({ code });
  } catch (error) {
    await signedIn(`${error.message} Start the server again for a new link, or use a token.`);
  }
}

/** Resolves when somebody has signed in; all who wait share one form. What they typed stays where it is, behind it. */
export function signedIn(note) {
  waiting ??= ask(note).finally(() => {
    waiting = null;
  });
  return waiting;
}

function ask(note) {
  const over = wasSignedIn();
  const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true, spellcheck: false });
  const wrong = h("p", { class: "wrong", role: "alert" }, note ?? "");
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "sign-in-title" }, over ? "Your sign-in has expired" : "Sign in"),
    h("p", { class: "muted" }, over
      ? "Sign in again and go on: what you typed is kept."
      : "Open the link that the server printed when it started, or enter a token."),
    h("label", { for: "token" }, "Token"),
    token,
    wrong,
    button,
  );
  const dialog = h("dialog", { id: "sign-in", "aria-labelledby": "sign-in-title" }, form);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  token.focus();
  return new Promise((resolve) => {
    const done = () => {
      removeEventListener("storage", elsewhere);
      dialog.close();
      dialog.remove();
      resolve();
    };
    // Another tab has signed in: the cookie is this one's too.
    const elsewhere = (event) => event.key === KNOWN && event.newValue && done();
    addEventListener("storage", elsewhere);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await login({ token: token.value.trim() });
        done();
      } catch (error) {
        wrong.textContent = error.message === "Failed to fetch" ? "The server cannot be reached." : error.message;
        token.select();
      }
      button.disabled = false;
    });
  });
}

/** End the sign-in here and at the server. */
export async function signOut() {
  await fetch("/api/logout", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  localStorage.removeItem(KNOWN);
  sessionStorage.clear();
  location.assign("/");
}
