// What the page says of itself: the connection, short messages, and what a screen reader is told.
import { $, h } from "./dom.js";

/** Told by screen readers when they have a moment. */
export function announce(text) {
  $("announcer").textContent = text;
}

const TOAST_MS = 8000;

/** A message that goes away by itself, or by a click. */
export function toast(text) {
  const shown = h("div", { class: "toast" }, h("span", {}, text));
  const close = h("button", { type: "button", class: "quiet small", onclick: () => shown.remove() }, "Close");
  shown.append(close);
  $("toasts").append(shown);
  setTimeout(() => shown.remove(), TOAST_MS);
}

const TEXTS = {
  none: "",
  connecting: "Connecting …",
  live: "Live",
  offline: "Offline · trying again, nothing is lost",
  catching: "Catching up …",
};

let fading = 0;

/** How the open session is followed. */
export function connection(state, missed = 0) {
  const place = $("connection");
  clearTimeout(fading);
  if (state === "caught") {
    place.dataset.state = "caught";
    place.textContent = missed ? `Caught up · ${missed} ${missed === 1 ? "event" : "events"}` : "Caught up";
    fading = setTimeout(() => connection("live"), 5000);
    return;
  }
  place.dataset.state = state;
  place.textContent = TEXTS[state];
}
