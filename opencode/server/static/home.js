// What is shown where no session is open: what this is, and something to begin with.
import { get } from "./api.js";
import { $, exact, h } from "./dom.js";

const FOR_GUIDE = [
  ["start", "Watch a guided tour: it finds and fixes a bug in the example project"],
  ["list the files", "See what is in this directory"],
  ["help", "Ask what the guide understands"],
];
const FOR_MODELS = [
  ["What does this project do?", "An overview, from its files"],
  ["Run the tests and explain what fails", "With real commands"],
  ["Find TODO comments and suggest which to do first", "A search with a judgement"],
];

export async function home(send) {
  const place = $("home");
  place.hidden = false;
  const [models, project] = await Promise.all([get("/api/models"), get("/api/project/current")]).catch(() => [null, null]);
  if (place.hidden) return;
  const isGuide = models?.default === "demo/guide";
  const cards = (isGuide ? FOR_GUIDE : FOR_MODELS).map(([request, what]) =>
    h("li", {}, h("button", { type: "button", class: "card", onclick: () => send(request) }, h("strong", {}, request), h("span", {}, what))),
  );
  const where = project && h("p", { class: "where" }, "Works in ", h("code", {}, exact(project.directory)), project.vcs?.branch ? ` on ${project.vcs.branch}` : "", ` with ${models.default}`);
  const guide = isGuide
    ? "No model is connected yet, so the built-in guide answers: no AI, a few plain requests, real tools. For a model set ANTHROPIC_API_KEY or OPENAI_API_KEY, or start Ollama."
    : "";
  place.replaceChildren(
    h("h2", {}, "What shall be done?"),
    h("p", { class: "lead" }, "Say it in plain words. The agent reads, runs and changes files in one directory, and everything it says and does is kept."),
    where ?? "",
    h("ul", { class: "cards" }, ...cards),
    guide ? h("p", { class: "hint" }, guide) : "",
  );
}
