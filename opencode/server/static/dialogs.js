// What opens over the page: a new session, changes of files, keys, and questions before something is lost.
import { get, post } from "./api.js";
import { diffFiles } from "./diff.js";
import { h } from "./dom.js";

// API section 2.
const TOOLS = {
  bash: ["Run commands", true],
  read: ["Read files", true],
  edit: ["Change files", true],
  write: ["Write files", true],
  grep: ["Search in files", false],
  glob: ["Find by name", false],
  list: ["List directories", false],
};

let count = 0;

function open(title, ...children) {
  const name = `dialog-${(count += 1)}`;
  const close = h("button", { type: "button", class: "quiet small", onclick: () => dialog.close() }, "Close");
  const dialog = h(
    "dialog",
    { "aria-labelledby": name },
    h("header", {}, h("h2", { id: name }, title), close),
    ...children,
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A session as it is wanted: model, tools, directory. `made(id)` gets the new one. */
export async function newSession(made) {
  const model = h("select", { id: "model", disabled: true }, h("option", { value: "" }, "Loading …"));
  const directory = h("input", { id: "directory", list: "projects", autocomplete: "off", spellcheck: false, maxLength: 4096 });
  const projects = h("datalist", { id: "projects" });
  const title = h("input", { id: "new-title", maxLength: 200, autocomplete: "off", placeholder: "From the first request" });
  const rules = Object.entries(TOOLS).map(([name, [what, offered]]) => toolRow(name, what, offered));
  const note = h("p", { class: "hint", id: "model-note" });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const create = h("button", { type: "submit", class: "primary" }, "Create session");
  const form = h(
    "form",
    {},
    h("label", { for: "model" }, "Model"),
    model,
    note,
    h("label", { for: "directory" }, "Directory"),
    directory,
    projects,
    h("label", { for: "new-title" }, "Title"),
    title,
    h("fieldset", {}, h("legend", {}, "Tools"), h("div", { class: "tools" }, ...rules.map((rule) => rule.row))),
    wrong,
    h("div", { class: "buttons" }, create),
  );
  const dialog = open("New session", form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    create.disabled = true;
    try {
      const offered = rules.filter((rule) => rule.value() !== "off");
      const asked = offered.filter((rule) => rule.value() === "ask");
      const { session_id: id } = await post("/api/session", {
        ...(model.value && { model: model.value }),
        ...(directory.value.trim() && { directory: directory.value.trim() }),
        ...(title.value.trim() && { title: title.value.trim() }),
        tools: offered.map((rule) => rule.name),
        permission: Object.fromEntries(asked.map((rule) => [rule.name, "ask"])),
      });
      dialog.close();
      made(id);
    } catch (error) {
      wrong.textContent = error.message;
      create.disabled = false;
    }
  });
  try {
    await fill(model, note, directory, projects);
  } catch (error) {
    wrong.textContent = error.message;
  }
}

function toolRow(name, what, offered) {
  const select = h(
    "select",
    { id: `tool-${name}` },
    h("option", { value: "allow" }, "Allow"),
    h("option", { value: "ask" }, "Ask"),
    h("option", { value: "off" }, "Off"),
  );
  select.value = offered ? "allow" : "off";
  const label = h("label", { for: `tool-${name}` }, h("code", {}, name), h("span", { class: "muted" }, what));
  return { name, value: () => select.value, row: h("div", { class: "tool-row" }, label, select) };
}

async function fill(model, note, directory, projects) {
  const [models, current, used] = await Promise.all([get("/api/models"), get("/api/project/current"), get("/api/project")]);
  const missing = new Map(models.models.map((own) => [own.id, own.missing]));
  model.replaceChildren(
    ...models.models.map((own) => h("option", { value: own.id, selected: own.default }, own.missing ? `${own.id} (not set up)` : own.id)),
  );
  model.disabled = false;
  const explain = () => {
    note.textContent = missing.get(model.value) ?? "";
  };
  model.onchange = explain;
  explain();
  directory.value ||= current.directory;
  projects.replaceChildren(...used.projects.map((own) => h("option", { value: own.directory })));
}

/** What the session's tools have changed in files. */
export async function changes(sessionId) {
  const body = h("div", { class: "changes" }, h("p", { class: "muted" }, "Loading …"));
  open("Changes in files", body).classList.add("wide");
  try {
    const { diff } = await get(`/api/session/${sessionId}/diff`);
    const none = "The tools of this session have changed no file. What commands do to files is not listed here.";
    body.replaceChildren(...(diff ? diffFiles(diff) : [h("p", { class: "muted" }, none)]));
  } catch (error) {
    body.replaceChildren(h("p", { class: "wrong" }, error.message));
  }
}

export function keys() {
  const row = (what, ...names) => h("tr", {}, h("td", {}, ...names.flatMap((name) => [h("kbd", {}, name), " "])), h("td", {}, what));
  const rows = [
    row("send the request", "Enter"),
    row("new line", "Shift", "Enter"),
    row("stop the running turn, while typing", "Esc"),
    row("search the sessions", "Ctrl", "K"),
    row("new session", "Alt", "N"),
    row("to the prompt", "Alt", "P"),
  ];
  open("Keys", h("table", { class: "keys" }, h("tbody", {}, ...rows)));
}

/** Ask before something is lost. */
export function confirmed(title, text, yes) {
  return new Promise((resolve) => {
    const button = h("button", { type: "button", class: "danger" }, yes);
    const dialog = open(title, h("p", {}, text), h("div", { class: "buttons" }, button));
    button.onclick = () => {
      resolve(true);
      dialog.close();
    };
    dialog.addEventListener("close", () => resolve(false));
    button.focus();
  });
}

/** Ask for a line of text; null where there is none. */
export function asked(title, label, value) {
  return new Promise((resolve) => {
    const input = h("input", { id: "asked", value, maxLength: 200, autocomplete: "off" });
    const form = h("form", {}, h("label", { for: "asked" }, label), input, h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Save")));
    const dialog = open(title, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      resolve(input.value.trim() || null);
      dialog.close();
    });
    dialog.addEventListener("close", () => resolve(null));
    input.select();
  });
}

