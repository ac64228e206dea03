// The form of a new job: its fields, what is said of them while one types, and what is wrong with them.

import { METHODS } from "./contract.js";
import { el, text } from "./dom.js";
import { JsonFault, read as readJson } from "./json.js";
import { POLICIES, policies } from "./policies.js";
import { LABELS as OF_TO, To } from "./to.js";
import { sentence } from "./words.js";

const LABELS = {
  method: "Method", resource: "Resource", data: "Data", ...OF_TO, name: "Name",
  ...Object.fromEntries(POLICIES.map(({ name, label }) => [name, label])),
};

/** The field that a path of the API speaks of; undefined when there is none. */
export function fieldOf(path) {
  const inner = path.replace(/^batch\[0\]\.?/, "");
  if (/^data\b/.test(inner)) return "data";
  const [, property] = /^__(?:request\.)?destination(?:\.(\w+))?/.exec(inner) ?? [];
  if (inner.startsWith("__")) return property in OF_TO ? property : "to";
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
    this.dataSaid = el("span", { class: "said", id: "data-said", role: "status" });
    this.data.addEventListener("input", () => this.readData());
    this.element = el("form", { class: "panel new", novalidate: true, "aria-label": "New job" },
      el("fieldset", {}, el("legend", {}, LABELS.method), el("div", { class: "choices" }, METHODS.map(method)), this.place("method")),
      this.field("resource", { placeholder: "/system/time", class: "code" }),
      el("div", { class: "field" },
        el("label", { for: "data" }, LABELS.data, " ", el("span", { class: "muted" }, "JSON, may stay empty")), this.data, this.dataSaid, this.place("data")),
      (this.to = new To({ common, place: (name) => this.place(name), changed, shown: () => this.mark("to", "") })).element,
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
    this.to.dropped(this.element);
    this.readData();
    this.to.show();
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
    this.readData();
    this.to.filled();
    this.fail([]);
  }

  /** The field that stands here for a path of the API. */
  fieldOf(path) {
    const field = fieldOf(path);
    return field === "to" ? this.to.whole : field;
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
    const live = name === "data" ? this.dataFault : name === "to" ? this.to.faults.length : "";
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

  /** What the form describes, `{faults, job, item, data}`; `data` is the text as it was typed. */
  read() {
    const form = new FormData(this.element);
    const faults = [];
    const fault = (field, message) => faults.push({ field, message });
    const resource = form.get("resource").trim();
    if (!form.get("method")) fault("method", "Choose GET, POST, PUT or DELETE.");
    if (!resource.startsWith("/")) fault("resource", resource ? "It begins with /, such as /system/time." : "Say which, such as /system/time.");
    if (this.dataFault) fault("data", this.dataFault);
    const destination = this.to.read(fault);
    const given = policies(form, fault);
    const name = form.get("name").trim();
    return {
      faults,
      job: { ...(name ? { name } : {}), ...given },
      item: { method: form.get("method"), resource, __request: { destination } },
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

/** The body of POST /jobs as text: the data go as they were typed, which JSON.stringify could not promise. */
export function written({ job, item, data }, more) {
  const said = JSON.stringify(item);
  const whole = data === "" ? said : `${said.slice(0, -1)},"data":${data}}`;
  return `${JSON.stringify({ ...job, ...more, batch: [] }).slice(0, -2)}${whole}]}`;
}
