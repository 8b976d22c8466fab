// Making elements. Text goes in as text nodes only: nothing that a model or a file says is ever parsed as HTML here.

/** An element; `properties` are its own; attributes where these cannot be set. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") element.className = value;
    else if (key.includes("-") || key === "role" || key === "for" || key === "list") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z",
  auto: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M15 4v16M18 6v12",
  pencil: "M4 20l1-5L16 4l4 4L9 19z",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  fork: "M6 4v16M6 12c8 0 12-2 12-8M15 7l3-3 3 3",
  retry: "M4 12a8 8 0 1 0 3-6L4 8M4 3v5h5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A small button with a picture; `label` is its name. */
export function action(name, label, onclick) {
  return h("button", { type: "button", class: "action", "aria-label": label, title: label, onclick }, icon(name));
}

// Controls, bidi marks and zero-width characters: a command must not look like another one than it is.
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
// Joiners too, where nobody needs them.
const JOINERS = /[\u200c\u200d]/g;
const mark = (char) => `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

/** Prose with a sign in place of each character that would hide or reorder others. */
export const visible = (text) => text.replace(/\r\n/g, "\n").replace(UNSEEN, mark);

/** The same for code and commands, where joiners have no business either. */
export const exact = (text) => visible(text).replace(JOINERS, mark);

/** Output of a program: its colours are taken off, all else that controls a terminal is shown. */
// eslint-disable-next-line no-control-regex
export const output = (text) => exact(text.replace(/\u001b\[[0-9;]*m/g, ""));

const SHOWN = 20_000;
const FURTHER = 200_000;

/** A text into `element`; of a long one the beginning, and a button for more. */
export function clipped(element, text, shown = SHOWN) {
  if (text.length <= shown) {
    element.append(text);
    return element;
  }
  let at = shown;
  element.append(text.slice(0, at));
  const label = () => `Show more (${size(text.length - at)} left)`;
  const more = h("button", { type: "button", class: "quiet small more" }, label());
  more.onclick = () => {
    more.before(text.slice(at, at + FURTHER));
    at += FURTHER;
    if (at >= text.length) more.remove();
    else more.textContent = label();
  };
  element.append(more);
  return element;
}

const size = (chars) => (chars >= 1_000_000 ? `${(chars / 1e6).toFixed(1)} MB` : `${Math.ceil(chars / 1000)} kB`);
const NUMBER = new Intl.NumberFormat("en");
export const number = (value) => NUMBER.format(value);

export function seconds(ms) {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const whole = Math.round(ms / 1000);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** A time as people say it; the whole of it stands in the title. */
export function time(text) {
  const then = new Date(text);
  const today = then.toDateString() === new Date().toDateString();
  const options = today ? { hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric" };
  return h("time", { dateTime: text, title: then.toLocaleString("en") }, then.toLocaleString("en", options));
}
