// A new job: what, to whom, under which policies; a dry run before anything is sent.

import { ApiError, Unanswered, call } from "./api.js";
import { notify, say } from "./dialogs.js";
import { el, facts, time } from "./dom.js";
import { JobForm, fieldOf, written } from "./form.js";
import { Live } from "./live.js";
import { described } from "./policies.js";
import { plural, seconds } from "./words.js";

const FEW = 6;

export class NewJobView {
  constructor(place, state) {
    document.title = "New job · puppetmaster";
    this.plan = el("section", { class: "panel plan", "aria-label": "Dry run", tabindex: "-1", hidden: true });
    this.faults = el("div", { class: "panel faults", role: "alert", tabindex: "-1", hidden: true });
    this.hint = el("p", { class: "panel muted hint" },
      "The dry run appears here: what would be sent, to whom, in which waves. Nothing is sent before you have seen it.");
    this.form = new JobForm({ changed: () => this.forget(), submitted: () => this.dryRun() });
    place.append(
      el("div", { class: "title" }, el("h1", {}, "New job")),
      el("div", { class: "two" }, this.form.element, el("div", { class: "side" }, this.faults, this.plan, this.hint)));
    call("GET", "/openapi.json").then(({ data }) => this.form.hint(data.components.schemas.NewJob)).catch(() => {
      // Without hints it works too.
    });
    // It shows no jobs; whether it is connected is shown here too.
    this.live = new Live("/jobs/ws", { state });
  }

  /** What was planned is not what stands there any more. */
  forget() {
    this.plan.hidden = true;
    this.faults.hidden = true;
    this.hint.hidden = false;
    this.asked = null;
  }

  async dryRun() {
    this.forget();
    const asked = this.asked = this.form.read();
    if (asked.faults.length) {
      this.showFaults("The job cannot be planned yet.", asked.faults);
      return;
    }
    this.form.fail([]);
    try {
      const { data } = await call("POST", "/jobs", written(asked, { dryRun: true }));
      if (this.asked === asked) this.showPlan(asked, data);
    } catch (error) {
      if (this.asked === asked) this.refused(error);
    }
  }

  /** The gateway names the places by the names of its API; here they are fields. */
  refused(error) {
    const faults = (error.errors ?? []).map(({ path, message }) => ({ field: fieldOf(path), path, message }));
    const known = error instanceof ApiError && faults.length > 0;
    this.showFaults(known ? "The gateway does not take it yet." : `${error.message} Nothing was started.`, faults);
  }

  showFaults(sentence, faults) {
    const told = this.form.fail(faults);
    this.hint.hidden = true;
    this.faults.hidden = false;
    this.faults.replaceChildren(el("h2", {}, sentence), el("ul", {}, told.map(({ field, label, message }) => el("li", {},
      field ? el("button", { type: "button", class: "link-like", onclick: () => this.form.go(field) }, label) : el("b", {}, label),
      ` ${message}`))));
    if (!told.some(({ field }) => field)) this.faults.focus();
  }

  showPlan(asked, job) {
    const { method, resource, __request: { destination: names } } = asked.item;
    const total = job.totalCount;
    const shown = names.length > 2 * FEW ? [...names.slice(0, FEW), "…", ...names.slice(-2)] : names;
    const command = `${method.toUpperCase()} ${resource}`;
    const [first] = job.requests;
    // The same key for each press of the button: it starts one job however often it is pressed.
    const key = `page-${[...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(36)).join("")}`;
    const start = el("button", {
      type: "button", class: method === "get" ? "primary" : "danger", onclick: () => this.start(asked, key, start),
    }, `Start: ${command} on ${plural(total, "gateway")}`);
    this.hint.hidden = true;
    this.plan.hidden = false;
    this.plan.replaceChildren(...[
      el("h2", {}, "Dry run"),
      el("p", {}, "Nothing was sent. It would be:"),
      el("ul", {}, job.plan.map((sentence) => el("li", {}, sentence))),
      el("p", { class: "command" }, el("b", {}, method.toUpperCase()), ` ${resource}`),
      // As the gateway read it, so that one sees what arrives.
      el("pre", { tabindex: "0", "aria-label": "Data that would be sent" }, JSON.stringify(first.data, null, 2)),
      el("p", {}, "To ", el("span", { class: "names" }, shown.map((name) => el("code", {}, name)))),
      facts([
        ["Starts", Date.parse(job.startAt) > Date.parse(job.createdAt) ? time(job.startAt) : "at once"],
        ["Answer within", seconds(first.__request.timeout)],
        ["Whole job within", job.timeout === null ? "no limit" : seconds(job.timeout)],
        ...described(job, ["startAt", "requestTimeout", "timeout"]),
      ]),
      method === "get" ? null : el("p", { class: "warning" }, "It changes something on these gateways."),
      el("div", { class: "actions" }, start),
    ].filter(Boolean));
    this.plan.focus();
    say(`Dry run: ${plural(total, "request")}`);
  }

  async start(asked, key, button) {
    button.disabled = true;
    try {
      const { data } = await call("POST", "/jobs", written(asked, { key }));
      location.hash = `#/jobs/${data.id}`;
    } catch (error) {
      button.disabled = false;
      if (error instanceof Unanswered) notify(`${error.message} Press the button again: the job is not started twice.`, "error");
      else this.refused(error);
    }
  }

  /** What holds where nothing is typed. */
  health({ limits }) {
    const field = this.form.element.querySelector("[name=requestTimeout]");
    field.placeholder = String(limits.requestTimeout);
  }

  end() {
    this.live.end();
  }
}
