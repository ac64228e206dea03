// The time line of a job: what has happened to it, and who did it.

import { call } from "./api.js";
import { HAPPENED } from "./contract.js";
import { el, soon, text, time } from "./dom.js";
import { capital, moment, plural } from "./words.js";

/** What differs when something may have happened. */
const likeness = (job) => JSON.stringify([job.status, job.reason, job.wave, job.gateStatus, job.ending, job.startedAt]);

export class Timeline {
  constructor(id) {
    this.id = id;
    this.list = el("ol", { class: "events", "aria-label": "What has happened, the oldest first" });
    this.empty = el("p", { class: "muted" }, "Loading …");
    this.element = el("div", { class: "data" }, this.empty, this.list);
  }

  /** Show it; `again`: also when nothing seems to have happened. */
  draw(job, again = false) {
    const now = likeness(job);
    if (!again && now === this.shown) return;
    this.shown = now;
    this.load();
  }

  async load() {
    const asked = this.asked = (this.asked ?? 0) + 1;
    try {
      const { data } = await call("GET", `/jobs/${this.id}/events`);
      if (asked === this.asked) soon(() => this.show(data));
    } catch (error) {
      if (asked !== this.asked) return;
      this.shown = null;
      text(this.empty, error.message);
      this.empty.hidden = false;
    }
  }

  show(events) {
    text(this.empty, "An earlier version ran this job, and kept nothing of it.");
    this.empty.hidden = events.length > 0;
    const lines = [];
    events.forEach((event, place) => {
      const missing = event.number - (events[place - 1]?.number ?? event.number - 1) - 1;
      if (missing) lines.push(el("li", { class: "muted" }, `${plural(missing, "event")} between are not kept`));
      lines.push(line(event));
    });
    this.list.replaceChildren(...lines);
  }
}

function line({ at, event, by, status, wave, why }) {
  const what = (HAPPENED[event] ?? event).replace("{wave}", wave).replace("{status}", status);
  return el("li", {}, el("b", {}, capital(what)), by === "puppetmaster" ? "" : ` by ${by}`,
    why ? el("div", {}, capital(why)) : null, el("div", { class: "when" }, time(at, moment(at, 3))));
}
