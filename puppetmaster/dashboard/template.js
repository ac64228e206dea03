// One template: what it does, when it starts, and its jobs. A schedule is saved after its next starts were seen.

import { ApiError, Maker, call, now } from "./api.js";
import { control } from "./control.js";
import { attempt, confirm, copyable, notify } from "./dialogs.js";
import { el, facts, jobBadge, rowOf, tableOf, text, time } from "./dom.js";
import { Reread } from "./live.js";
import { described } from "./policies.js";
import { became, does, when } from "./templates.js";
import { capital, inZone, moment, number, plural, sentence, tally, title } from "./words.js";

const PAGE = 25;
const AGAIN_S = 5;
const COLUMNS = { job: "Job", is: "Is", when: "When", requests: "Requests" };
/** The fields of a schedule, and what they may be where that is a choice. */
const FIELDS = {
  cron: ["Cron", null, { placeholder: "0 3 * * 1-5", class: "code" }],
  timezone: ["Time zone", null, { placeholder: "UTC", list: "zones" }],
  missed: ["A start that was missed", { skip: "is left out", run: "is made up for once" }],
  overlap: ["While a job of it runs", { skip: "nothing starts", queue: "one start waits" }],
};

export class TemplateView extends Reread {
  constructor(place, id, state) {
    super();
    document.title = `Template ${id} · puppetmaster`;
    this.id = id;
    this.maker = new Maker();
    this.name = el("h1", {}, `Template ${id}`);
    this.facts = el("div");
    this.unknown = el("p", { class: "empty" }, "Loading …");
    this.buttons = {
      run: control("Run now", { ask: () => this.askRun(), work: () => this.run(), look: "primary" }),
      on: control("Switch on", { ask: () => this.askOn(), work: () => this.turn(true) }),
      off: control("Switch off", { ask: () => this.askOff(), work: () => this.turn(false) }),
      remove: control("Delete", { name: "Delete the template", ask: () => this.askRemove(), work: () => this.remove(), needs: "admin", look: "quiet danger" }),
    };
    const { remove, ...often } = this.buttons;
    this.whole = el("div", { hidden: true },
      el("section", { class: "panel of-gateway", "aria-label": "Template" },
        el("div", { class: "title" }, this.name), this.facts,
        el("div", { class: "actions", role: "group", "aria-label": "What can be done with this template" },
          ...Object.values(often), el("a", { class: "button", href: `#/new?template=${id}` }, "Run with changes"), el("span", { class: "gap" }), remove),
        this.scheduling()),
      this.history());
    place.append(el("p", { class: "crumbs" }, el("a", { href: "#/templates" }, "Templates"), " / ", copyable(String(id), "the id of this template")), this.unknown, this.whole);
    this.follow(state, AGAIN_S);
  }

  /** The schedule, to be changed: what is typed is looked at before it is saved. */
  scheduling() {
    this.inputs = {};
    const field = ([name, [label, words, more = {}]]) => {
      const about = { id: name, name, autocomplete: "off", spellcheck: "false", "aria-describedby": "schedule-fault", oninput: () => this.typed(), ...more };
      this.inputs[name] = words ? el("select", about, Object.entries(words).map(([value, said]) => el("option", { value }, said))) : el("input", { type: "text", ...about });
      return el("div", { class: "field" }, el("label", { for: name }, label), this.inputs[name]);
    };
    this.fault = el("p", { class: "fault", id: "schedule-fault", role: "alert", hidden: true });
    this.seen = el("div", { class: "seen", role: "status" });
    this.look = control("Show the next starts", { needs: "operator", work: () => this.preview() });
    this.save = control("Save the schedule", { work: () => this.keep(), look: "primary" });
    this.none = control("Remove the schedule", { ask: () => this.askNone(), work: () => this.put(null), look: "quiet" });
    const zones = Intl.supportedValuesOf?.("timeZone") ?? [];
    return el("form", { class: "scheduling", "aria-label": "Schedule", onsubmit: (event) => {
      event.preventDefault();
      this.look.click();
    } }, el("h2", {}, "Schedule"), el("div", { class: "grid-of-fields" }, Object.entries(FIELDS).map(field)), el("datalist", { id: "zones" }, zones.map((zone) => el("option", { value: zone }))),
    el("div", { class: "actions" }, this.look, this.save, this.none), this.fault, this.seen);
  }

  history() {
    const { table, put } = tableOf("jobs-of", COLUMNS);
    Object.assign(this, { table, rows: put });
    this.empty = el("p", { class: "empty" }, "No job was started from it, of those that are kept.");
    this.range = el("p", { class: "pager", role: "status" });
    return el("section", { "aria-label": "Its jobs, newest first" }, el("div", { class: "title" }, el("h2", {}, "Its jobs")), el("div", { class: "panel wide" }, this.table, this.empty), this.range);
  }

  async load() {
    this.seconds = 0;
    await attempt(async () => {
      try {
        const [{ data: template }, jobs] = await Promise.all([call("GET", `/templates/${this.id}`), call("GET", `/jobs?template=${this.id}&limit=${PAGE}`)]);
        if (this.ended) return;
        this.show(template);
        this.list(jobs);
      } catch (error) {
        if (error.status !== 404) throw error;
        this.whole.hidden = true;
        this.unknown.hidden = false;
        text(this.unknown, `There is no template ${this.id}.`);
      }
    });
  }

  show(template) {
    this.whole.hidden = false;
    this.unknown.hidden = true;
    document.title = `${template.name} · puppetmaster`;
    text(this.name, template.name);
    const { schedule, starts } = template;
    const shown = facts([
      ["Does", does(template.job)], ["Starts", when(template)],
      ["Next", template.nextAt ? time(template.nextAt) : "not by itself"],
      ...template.queuedAt ? [["Waits", `the start of ${moment(template.queuedAt)}, for a job to end`]] : [],
      ["Last start", became(template)],
      ["So far", tally(starts, Object.keys(starts)) || "none by its schedule"],
      // Of how many requests a percentage is taken is known when it starts.
      ...["waves", "concurrency"].filter((name) => template.job[name]).map((name) => [capital(name), String(template.job[name])]),
      ...described({ ...template.job, waves: undefined }, ["concurrency", "gate"]),
    ]);
    if (!this.facts.firstChild?.isEqualNode(shown)) this.facts.replaceChildren(shown);
    this.buttons.on.hidden = !schedule || schedule.enabled;
    this.buttons.off.hidden = !schedule || !schedule.enabled;
    this.none.hidden = !schedule;
    // What is being typed is not taken away.
    const untouched = !this.template || JSON.stringify(this.values()) === JSON.stringify(this.valuesOf(this.template));
    this.template = template;
    if (untouched) this.fill();
  }

  valuesOf({ schedule }) {
    return { cron: schedule?.cron ?? "", timezone: schedule?.timezone ?? "", missed: schedule?.missed ?? "skip", overlap: schedule?.overlap ?? "skip" };
  }

  values() {
    return Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]));
  }

  fill() {
    for (const [name, value] of Object.entries(this.valuesOf(this.template))) this.inputs[name].value = value;
    this.typed();
  }

  /** What was seen is not what stands there any more. */
  typed() {
    this.previewed = null;
    this.wrong("");
    this.seen.replaceChildren();
    const same = JSON.stringify(this.values()) === JSON.stringify(this.valuesOf(this.template));
    this.look.allow(this.values().cron ? "" : "Say when, such as 0 3 * * 1-5.");
    this.save.allow(same ? "The schedule is as it was." : "Look at the next starts first.");
  }

  wrong(said) {
    this.fault.hidden = !said;
    text(this.fault, said);
  }

  /** The schedule that stands in the fields; a new one is on. */
  asked() {
    const { timezone, ...values } = this.values();
    return { ...values, ...timezone ? { timezone } : {}, enabled: this.template.schedule?.enabled ?? true };
  }

  async preview() {
    const asked = this.asked();
    try {
      const { data } = await call("PUT", `/templates/${this.id}`, { schedule: asked, dryRun: true });
      if (JSON.stringify(asked) !== JSON.stringify(this.asked())) return;
      this.wrong("");
      this.previewed = asked;
      this.seen.replaceChildren(el("p", {}, "Nothing was saved. It would start at:"),
        el("ul", {}, data.nextStarts.map((at) => el("li", {}, time(at)))), el("p", {}, inZone(data.plan[0])));
      this.save.allow("");
    } catch (error) {
      this.refused(error);
    }
  }

  refused(error) {
    const faults = error instanceof ApiError ? error.errors : [];
    this.wrong(faults.length ? faults.map(({ path, message }) => `${FIELDS[path.replace("schedule.", "")]?.[0] ?? path}: ${sentence(message)}`).join(" ") : error.message);
  }

  async keep() {
    if (this.previewed) await this.put(this.previewed);
  }

  async put(schedule) {
    try {
      const { data } = await call("PUT", `/templates/${this.id}`, { schedule });
      this.template = data;
      this.fill();
      this.show(data);
      notify(schedule ? "The schedule is saved." : "The schedule is removed.");
    } catch (error) {
      this.refused(error);
    }
  }

  about(more) {
    return confirm({ about: `${this.template.name} (template ${this.id})`, pairs: [["Does", does(this.template.job)]], ...more });
  }

  askRun() {
    return this.about({ title: "Start a job of it now?", sentence: "A new job is made of it at once, beside its schedule.", action: "Start", danger: this.changes() });
  }

  /** Whether it does more than read. */
  changes() {
    return this.template.job.batch.some(({ method }) => method.toLowerCase() !== "get");
  }

  askOn() {
    const [next] = this.template.nextStarts;
    return this.about({
      title: "Switch its schedule on?", sentence: "From then on it starts by itself. It makes up for nothing that was before.", action: "Switch on", danger: this.changes(),
      pairs: [["Does", does(this.template.job)], ["Next start", next ? time(next) : "once the clock is set"]],
    });
  }

  askOff() {
    return this.about({
      title: "Switch its schedule off?", sentence: "It does not start by itself until it is switched on again. What runs goes on.", action: "Switch off",
      pairs: [["Does", does(this.template.job)], ["Would start", this.template.nextAt ? time(this.template.nextAt) : "–"]],
    });
  }

  askNone() {
    return this.about({ title: "Remove its schedule?", sentence: "It is started by hand only from then on. What runs goes on.", action: "Remove the schedule" });
  }

  askRemove() {
    return this.about({ title: "Delete this template?", sentence: "It is removed for good with its schedule. Its jobs stay.", action: "Delete" });
  }

  run() {
    return attempt(async () => {
      const job = await this.maker.make(`/templates/${this.id}/jobs`, {});
      location.hash = `#/jobs/${job.id}`;
    });
  }

  turn(enabled) {
    return this.put({ ...this.template.schedule, enabled });
  }

  async remove() {
    if (!(await attempt(() => call("DELETE", `/templates/${this.id}`)))) return;
    notify(`The template ${this.template.name} was deleted.`);
    location.hash = "#/templates";
  }

  list({ data, total }) {
    this.rows(data.map((job) => [job.id, job]), row);
    this.table.hidden = !data.length;
    this.empty.hidden = data.length > 0;
    text(this.range, total > data.length ? `The newest ${number(data.length)} of ${plural(total, "job")}` : "");
  }
}

function row(job) {
  const cells = {
    job: el("a", { href: `#/jobs/${job.id}` }, `${job.id} · ${title(job)}`), is: jobBadge(job),
    when: time(job.createdAt), requests: tally(job.counts),
  };
  return rowOf(COLUMNS, "o", cells);
}
