// Unified diffs, a line an element. The colours are not alone in telling: each line keeps its sign.
import { clipped, exact, h } from "./dom.js";

const LONGEST = 200_000;

const kind = (line) => {
  if (line.startsWith("+++") || line.startsWith("---")) return "file";
  if (line.startsWith("@@")) return "hunk";
  if (line.startsWith("+")) return "added";
  return line.startsWith("-") ? "removed" : "same";
};

/** The lines of a diff with their colours; of one that is very long the text alone. */
export function diffLines(text) {
  const box = h("pre", { class: "diff", "tabIndex": 0 });
  if (text.length > LONGEST) return clipped(box, exact(text));
  const lines = text.replace(/\n$/, "").split("\n");
  box.append(...lines.map((line) => h("span", { class: kind(line) }, exact(line), "\n")));
  return box;
}

/** What `edit` is asked to do, before it tells what it did. */
export const replacement = (before, after) => diffLines([...signed("-", before), ...signed("+", after)].join("\n"));

export const addition = (content) => diffLines(signed("+", content).join("\n"));

const signed = (sign, text) => text.replace(/\n$/, "").split("\n").map((line) => sign + line);

/** Each file of a unified diff, folded. */
export function diffFiles(text) {
  const starts = [...text.matchAll(/^--- .*\n\+\+\+ /gm)].map((found) => found.index);
  if (!starts.length) return [diffLines(text)];
  return starts.map((start, place) => {
    const body = text.slice(start, starts[place + 1] ?? text.length);
    const [before, after] = body.split("\n", 2).map((line) => line.slice(4).split("\t")[0]);
    const name = (after === "/dev/null" ? before : after).replace(/^[ab]\//, "");
    const count = (sign) => body.split("\n").slice(2).filter((line) => line.startsWith(sign)).length;
    const summary = h(
      "summary",
      {},
      h("code", {}, exact(name)),
      h("span", { class: "plus" }, ` +${count("+")}`),
      h("span", { class: "minus" }, ` −${count("-")}`),
    );
    return h("details", { class: "file-diff", open: starts.length < 8 }, summary, diffLines(body.split("\n").slice(2).join("\n")));
  });
}
