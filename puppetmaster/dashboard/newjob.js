// A new job: what, to whom, under which policies; a dry run before anything is sent.

import { read, write } from "./address.js";
import { again, ofTemplate } from "./again.js";
import { Unanswered, call, newKey } from "./api.js";
import { notify, say } from "./dialogs.js";
import { el, facts, time } from "./dom.js";
import { Draft } from "./draft.js";
import { JobForm, written } from "./form.js";
import { Live } from "./live.js";
import { described } from "./policies.js";
import { foldInOrder } from "./ranges.js";
import { LABELS as WHOM } from "./to.js";
import { inZone, number, plural, seconds } from "./words.js";

const FEW = 6;
/** A press within this after a plan is shown was meant for what was there before it. */
const UNREAD_MS = 700;

export class NewJobView {
  constructor(place, state) {
    document.title = "New job · puppetmaster";
    this.plan = el("section", { class: "panel plan", "aria-label": "Dry run", tabindex: "-1", hidden: true });
    this.faults = el("div", { class: "panel faults", role: "alert", tabindex: "-1", hidden: true });
    this.hint = el("p", { class: "panel muted hint" },
      "The dry run appears here: what would be sent, to whom, in which waves. Nothing is sent before you have seen it.");
    this.origin = el("div", { class: "origin", role: "status" });
    this.form = new JobForm({ changed: () => this.changed(), submitted: () => this.dryRun(), cleared: () => this.clear() });
    this.draft = new Draft(() => this.form.values());
    place.append(
      el("div", { class: "title" }, el("h1", {}, "New job")), this.origin,
      el("div", { class: "two" }, this.form.element, el("div", { class: "side" }, this.faults, this.plan, this.hint)));
    call("GET", "/openapi.json").then(({ data }) => this.form.hint(data.components.schemas.NewJob)).catch(() => {
      // Without hints it works too.
    });
    // It shows no jobs; whether it is connected is shown here too.
    this.live = new Live("/jobs/ws", { state });
    const { parameters } = read();
    const job = parameters.get("job");
    const template = parameters.get("template");
    this.saving = parameters.get("save") === "true";
    const whom = Object.keys(WHOM).filter((name) => parameters.has(name));
    if (whom.length) this.whom(Object.fromEntries(whom.map((name) => [name, parameters.get(name)])));
    else if (/^\d+$/.test(job ?? "")) this.again(job);
    else if (/^\d+$/.test(template ?? "")) this.ofTemplate(template);
    else this.restore(Draft.found());
  }

  /** Run a job again with changes: what it was stands in the form. */
  async again(id) {
    this.tell(["Loading ", linkTo(id), " …"]);
    try {
      const { values, notes } = await again(id);
      if (this.ended) return;
      this.form.fill(values);
      this.tell(["This is ", linkTo(id), this.saving ? ". The dry run lets you save it as a template." : " again. Change what you like: a new job is made of it."], notes);
      write("new", {});
      this.changed();
    } catch (error) {
      this.tell([`Job ${id} could not be loaded. ${error.message}`]);
    }
  }

  /** The job of a template stands in the form: to be run now with changes, or to be changed. */
  async ofTemplate(id) {
    try {
      const { values, notes, template } = await ofTemplate(id);
      if (this.ended) return;
      this.template = template;
      this.form.fill(values);
      this.tell(["This is the job of ", linkToTemplate(template), ". Change what you like: the dry run lets you start it, or keep it in the template."], notes);
      this.changed();
    } catch (error) {
      this.tell([`Template ${id} could not be loaded. ${error.message}`]);
    }
  }

  /** Whom it is for was chosen elsewhere; what else was typed stays. */
  whom(values) {
    const draft = Draft.found();
    const { by, to, selector, match, except, ...typed } = draft?.values ?? {};
    this.form.fill({ ...typed, ...values });
    if (Object.values(typed).some(Boolean)) this.tell(["What you had typed stands here too, for other gateways."]);
    // From now on what is typed counts, also after a reload.
    write("new", {});
    this.changed();
  }

  restore(draft) {
    if (!draft) return;
    this.form.fill(draft.values);
    if (draft.started) this.tell([linkTo(draft.started), " was started with this. Starting it again makes another job."]);
  }

  /** Where what stands in the form comes from. */
  tell(line, notes = []) {
    this.origin.replaceChildren(el("p", {}, line), ...notes.map((note) => el("p", { class: "warning" }, note)));
  }

  changed() {
    this.forget();
    this.draft.changed();
  }

  clear() {
    this.template = null;
    this.form.fill({});
    this.forget();
    this.draft.forget();
    this.origin.replaceChildren();
    this.form.go("method");
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
    try {
      // Also where something is missing: what the gateway finds wrong with the rest is told at once.
      const { data } = await call("POST", "/jobs", written(asked, { dryRun: true }));
      if (this.asked !== asked) return;
      if (asked.faults.length) this.showFaults(asked.faults);
      else this.showPlan(asked, data);
    } catch (error) {
      if (this.asked === asked) this.refused(error, asked.faults);
    }
  }

  /** The gateway names the places by the names of its API; here they are fields. Of one field what is seen here goes before. */
  refused(error, known = []) {
    const there = new Set(known.map(({ field }) => field));
    const more = (error.errors ?? []).map(({ path, message }) => ({ field: this.form.fieldOf(path), path, message }))
      .filter(({ field }) => !there.has(field));
    if (known.length || more.length) this.showFaults([...known, ...more]);
    else this.showFaults([], `${error.message} Nothing was started.`);
  }

  showFaults(faults, sentence = `${faults.length === 1 ? "One thing is" : `${faults.length} things are`} missing or wrong. Nothing was sent.`) {
    const told = this.form.fail(faults);
    this.hint.hidden = true;
    this.faults.hidden = false;
    this.faults.replaceChildren(el("h2", {}, sentence), el("ul", {}, told.map(({ field, label, message }) => el("li", {},
      field ? el("button", { type: "button", class: "link-like", onclick: () => this.form.go(field) }, label) : el("b", {}, label),
      `: ${message}`))));
    if (!told.some(({ field }) => field)) this.faults.focus();
    this.faults.scrollIntoView({ block: "nearest" });
  }

  showPlan(asked, job) {
    const { method, resource } = asked.item;
    const names = namesIn(job);
    const total = job.totalCount;
    const patterns = names.length > 2 * FEW ? foldInOrder(names) : names;
    const shown = patterns.length > 2 * FEW ? [...patterns.slice(0, FEW), "…", ...patterns.slice(-2)] : patterns;
    const command = `${method.toUpperCase()} ${resource}`;
    const [first] = job.requests;
    // The same key for each press of the button: it starts one job however often it is pressed.
    const seen = { names, key: newKey() };
    const start = el("button", {
      type: "button", class: method === "get" ? "primary" : "danger", onclick: () => this.start(asked, seen, start),
    }, `Start: ${command} on ${plural(total, "gateway")}`);
    this.form.fail([]);
    this.hint.hidden = true;
    this.plan.hidden = false;
    this.plan.replaceChildren(...[
      el("h2", {}, "Dry run"),
      el("p", {}, "Nothing was sent. It would be:"),
      el("ul", {}, job.plan.map((sentence) => el("li", {}, inZone(sentence)))),
      el("p", { class: "command" }, el("b", {}, method.toUpperCase()), ` ${resource}`),
      // As the gateway read it, so that one sees what arrives.
      el("pre", { tabindex: "0", "aria-label": "Data that would be sent" }, JSON.stringify(first.data, null, 2)),
      el("p", {}, "To ", el("span", { class: "names" }, shown.map((pattern) => el("code", {}, pattern)))),
      facts([
        ["Starts", Date.parse(job.startAt) > Date.parse(job.createdAt) ? time(job.startAt) : "at once"],
        ["Answer within", seconds(first.__request.timeout)],
        ["Whole job within", job.timeout === null ? "no limit" : seconds(job.timeout)],
        ...described(job, ["startAt", "requestTimeout", "timeout"]),
      ]),
      ...this.absent(asked, job.registration),
      method === "get" ? null : el("p", { class: "warning" }, `${method.toUpperCase()} is not a read: it changes these gateways.`),
      el("div", { class: "actions" }, start),
      this.keeping(asked, job),
    ].filter(Boolean));
    this.plan.focus();
    start.disabled = true;
    setTimeout(() => { start.disabled = false; }, UNREAD_MS);
    say(`Dry run: ${plural(total, "request")}`);
  }

  /** What keeps the job that was seen: in the template that it is of, or in a new one. */
  keeping(asked, job) {
    const { template } = this;
    const name = el("input", { type: "text", id: "template-name", name: "template-name", autocomplete: "off", maxlength: "128", value: template?.name ?? job.name ?? "" });
    const fault = el("p", { class: "fault", role: "alert", hidden: true });
    const save = el("button", { type: "button", class: this.saving ? "primary" : "" }, template ? "Keep it in the template" : "Save as template");
    save.addEventListener("click", async () => {
      save.disabled = true;
      try {
        // A time to start is of this one job: a template has a schedule.
        const { startAt, ...kept } = asked.job;
        const body = `{"name":${JSON.stringify(name.value.trim())},"job":${written({ ...asked, job: kept })}}`;
        const { data } = template ? await call("PUT", `/templates/${template.id}`, body) : await call("POST", "/templates", body);
        location.hash = `#/templates/${data.id}`;
      } catch (error) {
        save.disabled = false;
        fault.hidden = false;
        fault.textContent = [error.message, ...(error.errors ?? []).slice(1).map(({ path, message }) => `${path}: ${message}.`)].join(" ");
      }
    });
    return el("div", { class: "keeping-it" }, el("div", { class: "field" }, el("label", { for: "template-name" }, "Template"), name), el("div", { class: "actions" }, save), fault);
  }

  /** What becomes of requests to gateways that are not registered, and how to leave these out. */
  absent(asked, { notRegistered: count, names } = { notRegistered: 0 }) {
    if (!count) return [];
    const [are, them, back] = count === 1 ? ["gateway is", "it", "it is"] : ["gateways are", "them", "they are"];
    const then = asked.job.deliveryTimeout ? `waits until ${back} back` : "ends as error, and does not run";
    // Of very many the API names the first.
    const out = names.length < count ? null : el("button", { type: "button", onclick: () => this.without(names) }, `Leave ${them} out`);
    return [el("div", { class: "absent" }, el("p", { class: "warning" }, `${number(count)} ${are} not registered: what is sent to ${them} ${then}.`), out)];
  }

  async without(names) {
    this.form.to.leaveOut(names);
    this.changed();
    await this.dryRun();
  }

  /** Start what was seen: gateways that were looked for are looked for again, and others are not started. */
  async start(asked, seen, button) {
    button.disabled = true;
    try {
      if (!Array.isArray(asked.item.__request.destination) && !(await this.still(asked, seen))) return;
      const { data } = await call("POST", this.template ? `/templates/${this.template.id}/jobs` : "/jobs", written(this.beside(asked), { key: seen.key }));
      this.draft.started(data.id);
      location.hash = `#/jobs/${data.id}`;
    } catch (error) {
      button.disabled = false;
      if (error instanceof Unanswered) {
        // Perhaps it exists: with its key it is found, whoever fits now.
        seen.perhaps = true;
        notify(`${error.message} Press the button again: the job is not started twice.`, "error");
      } else this.refused(error);
    }
  }

  /** What the template has and the form has not is left out: what is started is what was seen. */
  beside(asked) {
    const without = Object.keys(this.template?.job ?? {}).filter((name) => name !== "batch" && !(name in asked.job));
    return { ...asked, job: { ...Object.fromEntries(without.map((name) => [name, null])), ...asked.job } };
  }

  /** Whether the gateways that fit are those of the dry run; else the plan is another one, and is shown. */
  async still(asked, { names, perhaps }) {
    if (perhaps) return true;
    const { data } = await call("POST", "/jobs", written(asked, { dryRun: true }));
    if (namesIn(data).join("\n") === names.join("\n")) return true;
    if (this.asked !== asked) return false;
    this.showPlan(asked, data);
    notify("Other gateways fit now than in the dry run. Nothing was started: look again.", "error");
    return false;
  }

  /** What holds where nothing is typed. */
  health({ limits }) {
    const field = this.form.element.querySelector("[name=requestTimeout]");
    field.placeholder = String(limits.requestTimeout);
  }

  end() {
    this.ended = true;
    this.draft.end();
    this.live.end();
  }
}

/** The gateways of a dry run, in the order of its requests. */
function namesIn({ requests }) {
  return requests.map((request) => request.__request.destination);
}

function linkToTemplate({ id, name }) {
  return el("a", { href: `#/templates/${id}` }, name);
}

function linkTo(id) {
  return el("a", { href: `#/jobs/${id}` }, `Job ${id}`);
}
