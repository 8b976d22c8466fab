// The API document for people. All that stands on the page is text from /openapi.json, put in as text, never as HTML.

const METHODS = ["get", "post", "patch", "put", "delete"];
const main = document.querySelector("#operations");
const contents = document.querySelector("#contents");
const token = document.querySelector("#token");
const filter = document.querySelector("#filter");

/** An element with attributes and children; texts become text nodes. A function is a listener. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Markdown as far as the document has it: paragraphs, tables, `code`. */
function prose(text) {
  const found = document.createDocumentFragment();
  for (const block of text.split(/\n\s*\n/)) {
    const lines = block.trim().split("\n");
    if (lines[0].startsWith("|")) {
      const rows = lines.map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
      const row = (cells, kind) => make("tr", {}, ...cells.map((cell) => make(kind, {}, ...inline(cell))));
      found.append(make("table", {}, make("thead", {}, row(rows[0], "th")),
        make("tbody", {}, ...rows.slice(2).map((cells) => row(cells, "td")))));
    } else if (block.trim()) found.append(make("p", {}, ...inline(block)));
  }
  return found;
}

function inline(text) {
  return text.split(/(`[^`]*`)/).map((part) => (part.startsWith("`") ? make("code", {}, part.slice(1, -1)) : part));
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}

class Reference {
  constructor(api) {
    this.api = api;
  }

  resolve(node) {
    for (let depth = 0; node && node.$ref && depth < 20; depth += 1) {
      node = node.$ref.slice(2).split("/").reduce((at, key) => at[key], this.api);
    }
    return node ?? {};
  }

  /** A schema in few words: its type and bounds. */
  type(schema) {
    if (schema.$ref) return this.type(this.resolve(schema));
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((own) => JSON.stringify(own)).join(" | ");
    const parts = schema.anyOf ?? schema.oneOf;
    if (parts) return [...new Set(parts.map((part) => this.type(part)))].join(" | ");
    if (schema.allOf) return "object";
    if (schema.type === "array") return `array of ${this.type(schema.items ?? {})}`;
    const bounds = [];
    for (const [key, sign] of [["minimum", "≥"], ["maximum", "≤"], ["minLength", "length ≥"], ["maxLength", "length ≤"], ["maxItems", "items ≤"]]) {
      if (schema[key] !== undefined) bounds.push(`${sign} ${schema[key]}`);
    }
    return [schema.type ?? "any", ...bounds].join(", ");
  }

  /** Names and schemas of an object's fields, those of its parts included. */
  fields(schema) {
    const found = this.resolve(schema);
    const parts = [found, ...(found.allOf ?? []).map((part) => this.resolve(part))];
    const required = new Set(parts.flatMap((part) => part.required ?? []));
    return parts.flatMap((part) => Object.entries(part.properties ?? {}))
      .map(([name, own]) => ({ name, schema: own, required: required.has(name) }));
  }

  table(schema) {
    const fields = this.fields(schema);
    if (!fields.length) return null;
    return make("table", {}, make("thead", {}, make("tr", {}, ...["field", "type", ""].map((title) => make("th", {}, title)))),
      make("tbody", {}, ...fields.map(({ name, schema: own, required }) => {
        const meaning = own.description ?? "";
        return make("tr", {}, make("td", {}, make("code", {}, name), required ? "" : " (optional)"),
          make("td", {}, make("code", {}, this.type(own))), make("td", {}, ...inline(meaning)));
      })));
  }

  /** What the events of a stream hold, folded. */
  events(schema) {
    const found = this.resolve(schema);
    return (found.anyOf ?? []).map((part) => {
      const properties = this.resolve(part).properties;
      const data = properties.data.contentSchema;
      const meaning = this.resolve(data).description;
      return make("details", {}, make("summary", {}, make("code", {}, properties.event.const)),
        meaning ? make("p", {}, ...inline(meaning)) : null, this.table(data));
    });
  }
}

class Operation {
  constructor(reference, path, method, described) {
    Object.assign(this, { reference, path, method, described });
    this.id = described.operationId;
    this.element = this.draw();
  }

  matches(words) {
    const text = `${this.method} ${this.path} ${this.described.summary}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  draw() {
    this.body = make("div", { class: "body", id: `${this.id}-body`, hidden: true });
    this.opener = make("button", { type: "button", "aria-expanded": "false", "aria-controls": this.body.id, click: () => this.toggle() },
      make("span", { class: `method ${this.method}` }, this.method.toUpperCase()),
      make("span", { class: "path" }, this.path), make("span", { class: "summary" }, this.described.summary));
    return make("section", { id: this.id }, make("h3", {}, this.opener), this.body);
  }

  toggle(open = this.body.hidden) {
    if (open && !this.body.childNodes.length) this.fill();
    this.body.hidden = !open;
    this.opener.setAttribute("aria-expanded", String(open));
  }

  fill() {
    const { description, parameters, requestBody, responses } = this.described;
    if (description) this.body.append(prose(description));
    this.inputs = parameters.map((own) => this.parameter(own));
    const form = make("form", { submit: (event) => { event.preventDefault(); this.send(); } });
    if (this.inputs.length) form.append(make("h4", {}, "Parameters"), ...this.inputs.map((own) => own.row));
    if (requestBody) form.append(...this.requestBody(requestBody));
    this.streams = Object.values(responses).some((own) => own.content?.["text/event-stream"]);
    this.wants = this.accepts(responses);
    this.sender = make("button", { type: "submit" }, "Send");
    this.stopper = make("button", { type: "button", class: "plain", hidden: true, click: () => this.stop?.abort() }, "Stop");
    form.append(make("div", { class: "send" }, this.sender, this.stopper, this.wants));
    this.answer = make("div", { class: "answer", role: "region", "aria-label": "Answer", hidden: true });
    this.body.append(form, this.answer, make("h4", {}, "Answers"), ...this.responses(responses));
  }

  parameter(own) {
    const id = `${this.id}-${own.name}`;
    const schema = this.reference.resolve(own.schema);
    const input = make("input", { id, name: own.name, required: own.required, spellcheck: "false", autocomplete: "off",
      placeholder: schema.default == null ? "" : String(schema.default) });
    const meaning = own.description ?? schema.description;
    const said = `${this.reference.type(schema)}${own.in === "path" ? "" : `, ${own.in}`}`;
    const row = make("div", { class: "parameter" }, make("label", { for: id }, own.name), input,
      make("small", {}, said, ...(meaning ? [". ", ...inline(meaning)] : [])));
    return { own, input, row };
  }

  requestBody(described) {
    const { schema, examples } = described.content["application/json"];
    const example = Object.values(examples ?? {})[0]?.value ?? {};
    this.text = make("textarea", { id: `${this.id}-text`, spellcheck: "false" });
    this.text.value = pretty(example);
    return [make("h4", {}, make("label", { for: this.text.id }, "Body, JSON")), this.reference.table(schema) ?? "", this.text];
  }

  /** Where an operation answers in more than one way: which one is wanted. */
  accepts(responses) {
    const kinds = Object.keys(responses["200"]?.content ?? {});
    if (kinds.length < 2) return null;
    const select = make("select", { "aria-label": "Accept" }, ...kinds.map((kind) => make("option", {}, kind)));
    select.value = "text/event-stream";
    return select;
  }

  responses(responses) {
    return Object.entries(responses).map(([status, own]) => {
      const found = this.reference.resolve(own);
      const parts = Object.entries(found.content ?? {}).flatMap(([kind, content]) => this.content(kind, content));
      return make("details", {}, make("summary", {}, make("code", {}, status), " ", ...inline(found.description ?? "")), ...parts);
    });
  }

  content(kind, { schema, itemSchema, examples }) {
    const shown = Object.values(examples ?? {}).map((own) => make("pre", { tabindex: "0" }, own.serializedValue ?? pretty(own.value)));
    const described = itemSchema ? this.reference.events(itemSchema) : [this.reference.table(schema) ?? ""];
    return [make("p", {}, make("code", {}, kind)), ...described, ...shown];
  }

  address() {
    const query = new URLSearchParams();
    let path = this.path;
    for (const { own, input } of this.inputs) {
      if (own.in === "path") path = path.replace(`{${own.name}}`, encodeURIComponent(input.value));
      else if (own.in === "query" && input.value) query.set(own.name, input.value);
    }
    return query.size ? `${path}?${query}` : path;
  }

  headers() {
    const headers = {};
    if (token.value.trim()) headers.Authorization = `Bearer ${token.value.trim()}`;
    if (this.text) headers["Content-Type"] = "application/json";
    if (this.wants) headers.Accept = this.wants.value;
    for (const { own, input } of this.inputs) if (own.in === "header" && input.value) headers[own.name] = input.value;
    return headers;
  }

  async send() {
    this.stop = new AbortController();
    this.sender.disabled = true;
    this.stopper.hidden = false;
    const address = this.address();
    const pre = make("pre", { tabindex: "0", "aria-label": "Body of the answer" });
    const status = make("p", { class: "status", role: "status" }, `${this.method.toUpperCase()} ${address} …`);
    const headers = make("div", {});
    this.answer.hidden = false;
    this.answer.replaceChildren(make("h4", {}, "Answer"), status, headers, pre);
    try {
      const options = { method: this.method.toUpperCase(), headers: this.headers(), signal: this.stop.signal };
      const body = this.text?.value.trim();
      const began = performance.now();
      const response = await fetch(address, body ? { ...options, body } : options);
      status.textContent = `${response.status} ${response.statusText} · ${Math.round(performance.now() - began)} ms to the first byte`;
      status.classList.add(response.ok ? "good" : "bad");
      headers.append(make("details", {}, make("summary", {}, "Headers"),
        make("pre", {}, [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n"))));
      await this.show(response, pre);
    } catch (error) {
      const stopped = error.name === "AbortError";
      status.append(stopped ? " · stopped" : ` · ${error.message}`);
      if (!stopped) status.classList.add("bad");
    } finally {
      this.sender.disabled = false;
      this.stopper.hidden = true;
    }
  }

  /** A stream is shown as it comes, all else when it is there. */
  async show(response, pre) {
    const kind = response.headers.get("Content-Type") ?? "";
    if (!kind.startsWith("text/event-stream")) {
      const text = await response.text();
      try {
        pre.textContent = kind.startsWith("application/json") ? pretty(JSON.parse(text)) : text;
      } catch {
        pre.textContent = text;
      }
      return;
    }
    const decoder = new TextDecoder();
    for await (const chunk of pieces(response.body)) {
      const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
      pre.append(decoder.decode(chunk, { stream: true }));
      if (atEnd) pre.scrollTop = pre.scrollHeight;
    }
  }
}

async function* pieces(stream) {
  const reader = stream.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
}

function drawTools(reference, tools) {
  return Object.entries(tools ?? {}).map(([name, tool]) =>
    make("details", {}, make("summary", {}, make("code", {}, name)), prose(tool.description), reference.table(tool.arguments)));
}

function draw(api) {
  const reference = new Reference(api);
  document.querySelector("#version").textContent = api.info.version;
  const operations = [];
  const groups = new Map(api.tags.map((tag) => [tag.name, []]));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((own) => methods[own])) {
      const operation = new Operation(reference, path, method, methods[method]);
      const tag = methods[method].tags[0];
      groups.get(tag).push(operation);
      operations.push(operation);
    }
  }
  const [about, ...errors] = api.info.description.split("\n\n");
  main.replaceChildren(make("div", { class: "about" }, prose(about),
    make("details", { id: "errors" }, make("summary", {}, "Errors and their codes"), prose(errors.join("\n\n")))));
  for (const [tag, group] of groups) {
    if (!group.length) continue;
    const items = group.map((own) => make("li", {}, make("a", { href: `#${own.id}`, click: () => own.toggle(true) },
      make("span", { class: `method ${own.method}` }, own.method.toUpperCase()),
      make("span", {}, own.path.replace("/api/session/{session_id}/", "…/")))));
    const list = make("ul", {}, ...items);
    const title = make("h2", {}, tag);
    contents.append(title, list);
    const block = make("div", {}, make("h2", {}, tag), ...group.map((own) => own.element));
    group.forEach((own, place) => { own.item = items[place]; own.block = block; });
    main.append(block);
  }
  main.append(make("h2", {}, "Tools of the agent"), ...drawTools(reference, api["x-tools"]));
  main.setAttribute("aria-busy", "false");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const own of operations) own.element.hidden = own.item.hidden = !own.matches(words);
    for (const group of groups.values()) if (group.length) group[0].block.hidden = group.every((own) => own.element.hidden);
  });
  const wanted = operations.find((own) => `#${own.id}` === location.hash);
  if (wanted) {
    wanted.toggle(true);
    wanted.element.scrollIntoView();
  }
}

document.querySelector("#access").addEventListener("submit", (event) => event.preventDefault());
try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  draw(await response.json());
} catch (error) {
  main.setAttribute("aria-busy", "false");
  main.replaceChildren(make("p", { class: "bad" }, `The document could not be loaded: ${error.message}. Reload the page to try again.`));
}
