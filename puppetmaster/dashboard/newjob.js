// A new job: what, to whom, under which policies; a dry run before anything is sent.

import { ApiError, Live, call } from "./api.js";
import { say } from "./dialogs.js";
import { el, moment, number, plain, plural, soon, text } from "./dom.js";
import { facts } from "./drawer.js";
import { POLICIES, policies } from "./policies.js";
import { read } from "./ranges.js";
import { waveEnds } from "./waves.js";

const FEW = 6;
const SHOWN_AS_GIVEN = [
  ["concurrency", "In flight at most"], ["rate", "Sent per second"], ["retry", "Retry"], ["abort", "Abort"],
  ["idempotent", "May be sent twice"], ["gate", "Gate"],
];

export class NewJobView {
  constructor(place, state) {
    document.title = "New job · puppetmaster";
    this.plan = el("section", { class: "panel plan", "aria-label": "Dry run", tabindex: "-1", hidden: true });
    this.faults = el("div", { class: "panel faults", role: "alert", tabindex: "-1", hidden: true });
    this.form = this.makeForm();
    place.append(
      el("div", { class: "title" }, el("h1", {}, "New job")),
      el("div", { class: "two" }, this.form, el("div", { class: "side" }, this.faults, this.plan, this.hint())));
    this.readData();
    this.readDestinations();
    // It shows no jobs; whether it is connected is shown here too.
    this.live = new Live("/jobs/ws", { opened: () => {}, frame: () => {}, state });
  }

  hint() {
    this.hintText = el("p", { class: "panel muted hint" },
      "The dry run appears here: what would be sent, to whom, in which waves. Nothing is sent before you have seen it.");
    return this.hintText;
  }

  makeForm() {
    const method = (name) => el("label", { class: "choice" },
      el("input", { type: "radio", name: "method", value: name, required: true }), el("span", {}, name.toUpperCase()));
    this.dataSaid = el("span", { class: "said", id: "data-said", role: "status" });
    this.toSaid = el("div", { class: "said", id: "to-said", role: "status" });
    const area = (name, more) => el("textarea", { name, id: name, rows: "5", spellcheck: "false", class: "code", ...more });
    this.data = area("data", { "aria-describedby": "data-said", placeholder: "{}" });
    this.to = area("to", {
      required: true, "aria-describedby": "to-said to-help", placeholder: "cg-[001-200]\n00:0c:29:1c:e8:01",
    });
    this.data.addEventListener("input", () => this.readData());
    this.to.addEventListener("input", () => soon(this.reread ??= () => this.readDestinations()));
    const form = el("form", { class: "panel new", novalidate: true, "aria-label": "New job" },
      el("fieldset", {}, el("legend", {}, "Method"), el("div", { class: "choices" }, ["get", "post", "put", "delete"].map(method))),
      field("resource", "Resource", { placeholder: "/system/time", required: true, class: "code" }),
      el("div", { class: "field" },
        el("label", { for: "data" }, "Data ", el("span", { class: "muted" }, "JSON, may stay empty")), this.data, this.dataSaid),
      el("div", { class: "field" }, el("label", { for: "to" }, "Destinations"), this.to,
        el("span", { class: "muted", id: "to-help" }, "Names or ranges such as cg-[001-200], one per line or separated by commas"),
        this.toSaid),
      field("name", "Name", { maxlength: "128", placeholder: "optional, to find it again" }),
      el("details", { class: "policies" }, el("summary", {}, "Policies"),
        el("div", { class: "grid-of-fields" }, POLICIES.map(({ name, label, ...more }) => field(name, label, more)))),
      el("div", { class: "actions" }, el("button", { class: "primary" }, "Dry run")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.dryRun();
    });
    form.addEventListener("input", () => this.forget());
    return form;
  }

  /** What was planned is not what stands there any more. */
  forget() {
    this.plan.hidden = true;
    this.faults.hidden = true;
    this.hintText.hidden = false;
    this.asked = null;
  }

  readData() {
    const said = this.data.value.trim();
    let fault = "";
    this.value = {};
    try {
      if (said) this.value = JSON.parse(said);
    } catch (error) {
      fault = `This is not JSON: ${error.message}`;
    }
    this.dataFault = fault;
    this.data.setAttribute("aria-invalid", String(Boolean(fault)));
    this.dataSaid.classList.toggle("fault", Boolean(fault));
    text(this.dataSaid, fault || (said ? "Valid JSON" : "Empty: {} is sent"));
  }

  readDestinations() {
    this.destinations = read(this.to.value);
    const { names, twice, faults } = this.destinations;
    this.to.setAttribute("aria-invalid", String(faults.length > 0));
    const lines = [el("b", {}, plural(names.length, "destination"))];
    if (names.length > 1) lines.push(el("span", { class: "muted" }, ` ${names[0]} … ${names.at(-1)}`));
    if (twice.length) lines.push(el("p", { class: "warning" }, `${plural(twice.length, "duplicate")}, each taken once: ${some(twice)}`));
    for (const fault of faults.slice(0, FEW)) lines.push(el("p", { class: "fault" }, fault));
    this.toSaid.replaceChildren(...lines);
  }

  /** The body that the form describes; throws ApiError with what is missing. */
  body() {
    this.readDestinations();
    const form = new FormData(this.form);
    const errors = [];
    const fault = (path, message) => errors.push({ path, message });
    const resource = form.get("resource").trim();
    if (!form.get("method")) fault("Method", "choose one");
    if (!resource.startsWith("/")) fault("Resource", "it begins with /");
    if (this.dataFault) fault("Data", this.dataFault);
    if (this.destinations.faults.length) fault("Destinations", this.destinations.faults[0]);
    else if (!this.destinations.names.length) fault("Destinations", "name at least one");
    const more = policies(form, fault);
    if (errors.length) throw new ApiError(400, { message: "The job cannot be planned yet.", errors });
    const item = { method: form.get("method"), resource, __request: { destination: this.destinations.names } };
    if (this.data.value.trim()) item.data = this.value;
    const name = form.get("name").trim();
    return { ...(name ? { name } : {}), ...more, batch: [item] };
  }

  async dryRun() {
    this.forget();
    try {
      const body = this.body();
      this.asked = body;
      const { data } = await call("POST", "/jobs", { ...body, dryRun: true });
      if (this.asked === body) this.showPlan(body, data);
    } catch (error) {
      this.showFaults(error);
    }
  }

  showFaults(error) {
    this.hintText.hidden = true;
    this.faults.hidden = false;
    this.faults.replaceChildren(
      el("h2", {}, error instanceof TypeError ? "puppetmaster did not answer: try again." : error.message),
      el("ul", {}, (error.errors ?? []).map((one) => el("li", {}, el("b", {}, one.path), ` ${one.message}`))));
    this.faults.focus();
  }

  showPlan(body, job) {
    const [item] = body.batch;
    const method = item.method.toUpperCase();
    const total = job.totalCount;
    const names = item.__request.destination;
    const shown = names.length > 2 * FEW ? [...names.slice(0, FEW), "…", ...names.slice(-2)] : names;
    const command = `${method} ${item.resource}`;
    const ends = body.waves ? waveEnds(body.waves, total) : null;
    // The same key for each press of the button: it starts one job however often it is pressed.
    const key = `page-${[...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(36)).join("")}`;
    const start = el("button", {
      type: "button", class: item.method === "get" ? "primary" : "danger", onclick: () => this.start({ ...body, key }, start),
    }, `Start: ${command} on ${plural(total, "gateway")}`);
    this.hintText.hidden = true;
    this.plan.hidden = false;
    this.plan.replaceChildren(...[
      el("h2", {}, "Dry run"),
      el("p", {}, "Nothing was sent. ", el("b", {}, plural(total, "request")), " would be:"),
      el("p", { class: "command" }, el("b", {}, method), ` ${item.resource}`),
      el("pre", { tabindex: "0", "aria-label": "Data that would be sent" }, JSON.stringify(item.data ?? {}, null, 2)),
      el("p", {}, "To ", el("span", { class: "names" }, shown.map((name) => el("code", {}, name)))),
      facts([
        ["Starts", body.startAt ? moment(body.startAt) : "at once"],
        ["Answer within", `${job.requests?.[0]?.__request?.timeout ?? body.requestTimeout ?? "–"} s`],
        ["Whole job", job.timeout === null ? "no limit" : `${number(job.timeout)} s`],
        ...SHOWN_AS_GIVEN.filter(([name]) => name in body).map(([name, label]) => [label, plain(body[name])]),
        ...(ends ? [["Waves", ends.map((end, index) => number(end - (ends[index - 1] ?? 0))).join(" → ")]] : []),
      ]),
      item.method === "get" ? null : el("p", { class: "warning" }, "It changes something on these gateways."),
      el("div", { class: "actions" }, start),
    ].filter(Boolean));
    this.plan.focus();
    say(`Dry run: ${plural(total, "request")}`);
  }

  async start(body, button) {
    button.disabled = true;
    try {
      const { data } = await call("POST", "/jobs", body);
      location.hash = `#/jobs/${data.id}`;
    } catch (error) {
      button.disabled = false;
      this.showFaults(error);
    }
  }

  end() {
    this.live.end();
  }
}

function field(name, label, { options, help, ...more }) {
  const input = options
    ? el("select", { name, id: name }, el("option", { value: "" }, "–"), options.map(([value, said]) => el("option", { value }, said)))
    : el("input", {
      name, id: name, type: "text", autocomplete: "off", spellcheck: "false", ...more, "aria-describedby": help ? `${name}-help` : null,
    });
  return el("div", { class: "field" }, el("label", { for: name }, label), input,
    help ? el("span", { class: "muted", id: `${name}-help` }, help) : null);
}

function some(names) {
  return names.slice(0, FEW).join(", ") + (names.length > FEW ? ` and ${names.length - FEW} more` : "");
}
