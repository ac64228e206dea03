// The form of a new job: its fields, what is said of them while one types, and what is wrong with them.

import { METHODS } from "./contract.js";
import { el, soon, text } from "./dom.js";
import { JsonFault, read as readJson } from "./json.js";
import { POLICIES, policies } from "./policies.js";
import { read } from "./ranges.js";
import { plural, sentence } from "./words.js";

const FEW = 6;
const MOST_BYTES = 5_000_000;
const LABELS = {
  method: "Method", resource: "Resource", data: "Data", to: "Destinations", name: "Name",
  ...Object.fromEntries(POLICIES.map(({ name, label }) => [name, label])),
};

/** The field that a path of the API speaks of; undefined when there is none. */
export function fieldOf(path) {
  const inner = path.replace(/^batch\[0\]\.?/, "");
  if (/^data\b/.test(inner)) return "data";
  if (/^(__request|__destination)\b/.test(inner)) return "to";
  if (inner in LABELS) return inner;
  const group = path.split(/[.[]/)[0];
  return Object.keys(LABELS).find((name) => name === group || name.startsWith(`${group}.`));
}

export class JobForm {
  constructor({ changed, submitted, cleared }) {
    this.places = new Map();
    const method = (name) => el("label", { class: "choice" },
      el("input", { type: "radio", name: "method", value: name, required: true, "aria-describedby": "method-fault" }),
      el("span", {}, name.toUpperCase()));
    this.data = el("textarea", { ...common("data", "data-said"), rows: "5", class: "code", placeholder: "{}" });
    this.to = el("textarea", {
      ...common("to", "to-help", "to-said"), rows: "5", class: "code", placeholder: "cg-[001-200]\n00:0c:29:1c:e8:01",
    });
    this.dataSaid = el("span", { class: "said", id: "data-said", role: "status" });
    this.toSaid = el("div", { class: "said", id: "to-said", role: "status" });
    this.data.addEventListener("input", () => this.readData());
    this.to.addEventListener("input", () => soon(this.reread ??= () => this.readDestinations()));
    this.file = el("input", { type: "file", hidden: true, multiple: true });
    this.fileSaid = el("span", { role: "status" });
    this.file.addEventListener("change", () => this.take(this.file.files));
    this.element = el("form", { class: "panel new", novalidate: true, "aria-label": "New job" },
      el("fieldset", {}, el("legend", {}, LABELS.method), el("div", { class: "choices" }, METHODS.map(method)), this.place("method")),
      this.field("resource", { placeholder: "/system/time", class: "code" }),
      el("div", { class: "field" },
        el("label", { for: "data" }, LABELS.data, " ", el("span", { class: "muted" }, "JSON, may stay empty")), this.data, this.dataSaid, this.place("data")),
      el("div", { class: "field" }, el("label", { for: "to" }, LABELS.to), this.to,
        el("span", { class: "muted", id: "to-help" }, "Names or ranges such as cg-[001-200], one per line or separated by commas"),
        el("span", { class: "muted of-file" }, el("button", { type: "button", onclick: () => this.file.click() }, "Add a file"), this.file,
          el("span", {}, "or drop one here."), this.fileSaid),
        this.toSaid, this.place("to")),
      this.field("name", { placeholder: "optional, to find it again" }),
      this.policies = el("details", { class: "policies" }, el("summary", {}, "Policies"),
        el("div", { class: "grid-of-fields" }, POLICIES.map(({ name, ...more }) => this.field(name, more)))),
      el("div", { class: "actions" }, el("button", { class: "primary" }, "Dry run"),
        el("button", { type: "button", class: "quiet", onclick: () => cleared() }, "Clear the form")));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      submitted();
    });
    this.element.addEventListener("input", (event) => {
      this.mark(event.target.name, "");
      changed();
    });
    this.changed = changed;
    this.dropped();
    this.readData();
    this.readDestinations();
  }

  /** A file may be dropped anywhere in the form: beside it, a browser would leave the page. */
  dropped() {
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.element.classList.toggle("over", event.type === "dragover");
    };
    for (const name of ["dragover", "dragleave", "drop"]) this.element.addEventListener(name, over);
    this.element.addEventListener("drop", (event) => this.take(event.dataTransfer?.files ?? []));
  }

  /** Add the destinations in these files to those that are there. */
  async take(files) {
    for (const file of [...files]) {
      const said = file.size > MOST_BYTES ? null : await file.text().catch(() => null);
      if (said === null || said.includes("\0")) {
        text(this.fileSaid, `${file.name} was not read: expected a text with the names of gateways, at most 5 MB.`);
        continue;
      }
      const before = this.to.value.trimEnd();
      this.to.value = before + (before && "\n") + said.trim();
      this.readDestinations();
      text(this.fileSaid, `${plural(read(said).names.length, "destination")} from ${file.name}.`);
      this.changed();
    }
    this.file.value = "";
  }

  /** What stands in the fields, by their names. */
  values() {
    return Object.fromEntries(new FormData(this.element));
  }

  fill(values) {
    this.element.reset();
    const { elements } = this.element;
    for (const name of Object.keys(LABELS)) if (values[name]) elements[name].value = values[name];
    this.policies.open = POLICIES.some(({ name }) => values[name]);
    text(this.fileSaid, "");
    this.readData();
    this.readDestinations();
    this.fail([]);
  }

  field(name, { options, label = LABELS[name], ...more }) {
    const help = el("span", { class: "muted", id: `${name}-help`, hidden: true });
    const described = common(name, help.id);
    const input = options
      ? el("select", described, el("option", { value: "" }, "–"), options.map(([value, said]) => el("option", { value }, said)))
      : el("input", { type: "text", ...described, ...more });
    return el("div", { class: "field" }, el("label", { for: name }, label), input,
      help, this.place(name));
  }

  /** What the API says of a new job: what the fields mean, and what holds while nothing stands in them. */
  hint(schema) {
    this.element.elements.name.maxLength = property(schema, "name").maxLength;
    for (const { name } of POLICIES) {
      const { description, default: without } = property(schema, name);
      const help = this.element.querySelector(`[id="${name}-help"]`);
      text(help, description);
      help.hidden = false;
      if (without !== undefined) this.element.elements[name].placeholder = String(without);
    }
  }

  /** Where it is said what is wrong with a field. */
  place(name) {
    const place = el("span", { class: "fault", id: `${name}-fault`, hidden: true });
    this.places.set(name, place);
    return place;
  }

  /** Say what is wrong with a field, "" for nothing. */
  mark(name, said) {
    const place = this.places.get(name);
    if (!place) return;
    // What is said of data and destinations while one types stands there already.
    const live = name === "data" ? this.dataFault : name === "to" ? this.destinations?.faults.length : "";
    text(place, said);
    place.hidden = !said || Boolean(live);
    for (const input of this.element.querySelectorAll(`[name="${name}"]`)) input.setAttribute("aria-invalid", String(Boolean(said || live)));
  }

  /** Say all faults at their fields, and go to the first of these; they are returned with the fields' labels. */
  fail(faults) {
    for (const name of this.places.keys())
      this.mark(name, faults.filter((fault) => fault.field === name).map((fault) => sentence(fault.message)).join(" "));
    const first = [...this.places.keys()].find((name) => faults.some((fault) => fault.field === name));
    if (POLICIES.some(({ name }) => faults.some((fault) => fault.field === name))) this.policies.open = true;
    if (first) this.go(first);
    return faults.map(({ field, path, message }) => ({ field, label: LABELS[field] ?? path, message: sentence(message) }));
  }

  go(name) {
    this.element.querySelector(`[name="${name}"]`).focus();
  }

  readData() {
    const said = this.data.value.trim();
    const faults = [];
    try {
      if (said) readJson(this.data.value, (fault) => faults.push(fault));
    } catch (error) {
      faults.unshift(error instanceof JsonFault ? new JsonFault(`This is not JSON: ${error.message}`, error.at)
        : new JsonFault("It is nested too deeply", 0));
    }
    const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : "";
    this.dataFault = faults.length ? `${where(this.data.value, faults[0].at)}${faults[0].message}${more}.` : "";
    this.mark("data", "");
    this.dataSaid.classList.toggle("fault", Boolean(this.dataFault));
    text(this.dataSaid, this.dataFault || (said ? "Valid JSON" : "Empty: {} is sent"));
  }

  readDestinations() {
    this.destinations = read(this.to.value);
    const { names, twice, faults } = this.destinations;
    this.mark("to", "");
    const lines = [el("b", {}, plural(names.length, "destination"))];
    if (names.length > 1) lines.push(el("span", { class: "muted" }, ` ${names[0]} … ${names.at(-1)}`));
    if (twice.length) lines.push(el("p", { class: "warning" }, `${plural(twice.length, "duplicate")}, each taken once: ${some(twice)}`));
    for (const fault of faults.slice(0, FEW)) lines.push(el("p", { class: "fault" }, fault));
    this.toSaid.replaceChildren(...lines);
  }

  /** What the form describes, `{faults, job, item, data}`; `data` is the text as it was typed. */
  read() {
    this.readDestinations();
    const form = new FormData(this.element);
    const faults = [];
    const fault = (field, message) => faults.push({ field, message });
    const resource = form.get("resource").trim();
    const { names, faults: unread } = this.destinations;
    if (!form.get("method")) fault("method", "Choose GET, POST, PUT or DELETE.");
    if (!resource.startsWith("/")) fault("resource", resource ? "It begins with /, such as /system/time." : "Say which, such as /system/time.");
    if (this.dataFault) fault("data", this.dataFault);
    for (const one of unread.slice(0, FEW)) fault("to", one);
    if (!names.length && !unread.length) fault("to", "Name at least one gateway.");
    const given = policies(form, fault);
    const name = form.get("name").trim();
    return {
      faults,
      job: { ...(name ? { name } : {}), ...given },
      item: { method: form.get("method"), resource, __request: { destination: names } },
      data: this.dataFault ? "" : this.data.value.trim(),
    };
  }
}

/** What a schema says of the property at a path such as `gate.errors`; what null stands for is left out. */
function property(schema, path) {
  return path.split(".").reduce(({ properties }, name) => {
    const found = properties[name];
    return { ...found.anyOf?.[0], ...found };
  }, schema);
}

/** The attributes that all fields have. */
function common(name, ...more) {
  return { name, id: name, autocomplete: "off", spellcheck: "false", "aria-describedby": [...more, `${name}-fault`].join(" ") };
}

function where(said, at) {
  const lines = said.slice(0, at).split("\n");
  return `Line ${lines.length}, column ${lines.at(-1).length + 1}: `;
}

function some(names) {
  return names.slice(0, FEW).join(", ") + (names.length > FEW ? ` and ${names.length - FEW} more` : "");
}

/** The body of POST /jobs as text: the data go as they were typed, which JSON.stringify could not promise. */
export function written({ job, item, data }, more) {
  const said = JSON.stringify(item);
  const whole = data === "" ? said : `${said.slice(0, -1)},"data":${data}}`;
  return `${JSON.stringify({ ...job, ...more, batch: [] }).slice(0, -2)}${whole}]}`;
}
