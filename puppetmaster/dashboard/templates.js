// The templates: jobs that are kept, when each starts next, and what became of its last start.

import { call } from "./api.js";
import { attempt } from "./dialogs.js";
import { el, rowOf, tableOf, time } from "./dom.js";
import { Reread } from "./live.js";
import { METHODS } from "./contract.js";
import { inZone, plural } from "./words.js";

const AGAIN_S = 10;
const COLUMNS = { name: "Name", does: "Does", at: "Starts", next: "Next", last: "Last start" };

/** "POST /system/reboot to site=north": what a job in a template does. */
export function does(job) {
  const [first, ...more] = job.batch;
  const method = METHODS.includes(first.method.toLowerCase()) ? first.method.toUpperCase() : first.method;
  return `${method} ${first.resource} to ${whom(first)}${more.length ? `, and ${plural(more.length, "other command")}` : ""}`;
}

/** Whom an item is for, in words. */
function whom(item) {
  const to = item.__request?.destination ?? item.__request?.__destination ?? item.__destination;
  if (typeof to === "string") return to;
  if (Array.isArray(to)) return to.length < 4 ? to.join(", ") : plural(to.length, "gateway");
  const which = to.all ? "all known gateways" : [to.selector, to.match].filter(Boolean).join(" and ");
  return which + (to.except ? `, without ${to.except.join(", ")}` : "");
}

/** When a template starts by itself, in words. */
export function when({ schedule }) {
  if (!schedule) return "by hand";
  return `${schedule.cron} ${schedule.timezone}${schedule.enabled ? "" : ", off"}`;
}

/** What became of a template's last start. */
export function became({ lastStart, lastJob }) {
  if (lastStart) return [time(lastStart.at), ` ${lastStart.outcome}: ${inZone(lastStart.message)}`];
  return lastJob === null ? "none yet" : el("a", { href: `#/jobs/${lastJob}` }, `job ${lastJob}, by hand`);
}

export class TemplatesView extends Reread {
  constructor(place, state) {
    super();
    document.title = "Templates · puppetmaster";
    Object.assign(this, tableOf("templates-kept", COLUMNS, { hidden: true }));
    this.empty = el("p", { class: "empty" }, "Loading …");
    place.append(
      el("div", { class: "title" }, el("h1", {}, "Templates"), el("span", { class: "gap" }), el("a", { class: "button primary", href: "#/new?save=true" }, "New template")),
      el("section", { "aria-label": "List of templates" }, el("div", { class: "panel wide" }, this.table, this.empty)));
    this.follow(state, AGAIN_S);
  }

  async load() {
    this.seconds = 0;
    await attempt(async () => {
      const { data } = await call("GET", "/templates");
      if (this.ended) return;
      this.put(data.map((one) => [one.id, one]), row);
      this.table.hidden = !data.length;
      this.empty.hidden = data.length > 0;
      this.empty.textContent = "There are no templates yet: a job that is kept can be started again, by hand or by a schedule.";
    });
  }
}

function row(template) {
  const cells = {
    name: el("a", { href: `#/templates/${template.id}` }, template.name), does: does(template.job), at: when(template),
    next: template.nextAt ? time(template.nextAt) : "", last: became(template),
  };
  return rowOf(COLUMNS, "t", cells);
}
