// The list of jobs.

import { Live, call, now, queryOf } from "./api.js";
import { attempt, say } from "./dialogs.js";
import { JOB_STATUSES, age, duration, el, jobBadge, moment, number, plural, soon, stackedBar, text } from "./dom.js";

const PAGE = 25;
const RELOAD_MS = 300;

export class JobsView {
  constructor(place, state) {
    document.title = "Jobs · puppetmaster";
    this.jobs = [];
    this.cards = new Map();
    this.elsewhere = new Map();
    this.offset = 0;
    this.total = 0;
    this.wanted = { text: "", destination: "", status: new Set() };
    this.draw = () => this.show();
    place.append(
      el("div", { class: "title" }, el("h1", {}, "Jobs"), el("span", { class: "gap" }),
        el("a", { class: "button primary", href: "#/new" }, "New job")),
      this.filters(),
      this.list());
    const opened = () => {
      this.elsewhere.clear();
      this.load();
    };
    this.live = new Live("/jobs/ws", { opened, frame: (job) => this.frame(job), state });
  }

  filters() {
    const typed = (name, label, more) => el("label", { class: "field" }, el("span", {}, label),
      el("input", { type: "search", spellcheck: "false", autocomplete: "off", ...more, oninput: (event) => {
        this.wanted[name] = event.target.value.trim();
        this.offset = 0;
        this.later();
      } }));
    const chip = (status) => el("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: (event) => {
      const { status: set } = this.wanted;
      if (!set.delete(status)) set.add(status);
      event.currentTarget.setAttribute("aria-pressed", String(set.has(status)));
      this.offset = 0;
      this.load();
    } }, jobBadge({ status }));
    return el("section", { class: "filters", "aria-label": "Filters" },
      typed("text", "Name, number or resource", { placeholder: "any, press / to type", "data-filter": true }),
      typed("destination", "Destination", { placeholder: "any gateway" }),
      el("div", { class: "chips", role: "group", "aria-label": "Status of the job" }, JOB_STATUSES.map(chip)));
  }

  list() {
    this.rows = el("ol", { class: "jobs", "aria-label": "Jobs, newest first" });
    this.empty = el("p", { class: "empty" }, "Loading …");
    this.range = el("span", { role: "status" });
    this.back = el("button", { type: "button", onclick: () => this.turn(-PAGE) }, "Newer");
    this.on = el("button", { type: "button", onclick: () => this.turn(PAGE) }, "Older");
    this.pager = el("nav", { class: "pager", "aria-label": "Pages" }, this.range, el("span", { class: "gap" }), this.back, this.on);
    return el("section", { "aria-label": "List of jobs" }, this.rows, this.empty, this.pager);
  }

  turn(by) {
    this.offset = Math.max(0, this.offset + by);
    this.load();
  }

  later() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load();
    }, RELOAD_MS);
  }

  /** Read the page anew. */
  async load() {
    const number_ = this.asked = (this.asked ?? 0) + 1;
    const query = { ...this.wanted, status: [...this.wanted.status].join(","), limit: PAGE, offset: this.offset };
    await attempt(async () => {
      const { data: jobs, total } = await call("GET", `/jobs${queryOf(query)}`);
      if (number_ !== this.asked) return;
      Object.assign(this, { jobs, total });
      soon(this.draw);
    });
  }

  frame(job) {
    const at = this.jobs.findIndex((one) => one.id === job.id);
    if (job.status === "deleted" || at < 0) {
      // New, gone or of another page: which jobs are on this one is the gateway's to say.
      if (at >= 0 || this.elsewhere.get(job.id) !== job.status) this.later();
      this.elsewhere.set(job.id, job.status);
      return;
    }
    delete job.requests;
    const before = this.jobs[at];
    this.jobs[at] = job;
    if (before.status !== job.status) {
      say(`${title(job)} is ${job.status}`);
      if (this.wanted.status.size) this.later();
    }
    soon(this.draw);
  }

  show() {
    const shown = this.jobs.map((job) => {
      const card = this.cards.get(job.id) ?? jobCard();
      this.cards.set(job.id, card);
      card.update(job);
      return card;
    });
    const ids = new Set(this.jobs.map((job) => job.id));
    for (const id of this.cards.keys()) if (!ids.has(id)) this.cards.delete(id);
    if (shown.length !== this.rows.children.length || shown.some((card, index) => this.rows.children[index] !== card))
      this.rows.replaceChildren(...shown);
    const filtered = this.wanted.text || this.wanted.destination || this.wanted.status.size;
    this.empty.hidden = shown.length > 0;
    if (filtered) text(this.empty, "No job fits these filters.");
    else this.empty.replaceChildren("There are no jobs yet. ", el("a", { href: "#/new" }, "Make the first one"), ".");
    this.pager.hidden = this.total <= PAGE && this.offset === 0;
    text(this.range, this.total ? `${number(this.offset + 1)}–${number(this.offset + shown.length)} of ${plural(this.total, "job")}` : "");
    this.back.disabled = this.offset === 0;
    this.on.disabled = this.offset + PAGE >= this.total;
  }

  tick() {
    for (const job of this.jobs) this.cards.get(job.id)?.times(job);
  }

  end() {
    this.live.end();
    clearTimeout(this.timer);
  }
}

/** What a job is called. */
export function title(job) {
  return job.name ?? `Job ${job.id}`;
}

function jobCard() {
  const name = el("a", { class: "name" });
  const about = el("span", { class: "muted" });
  const badge = el("span", { class: "state" });
  const bar = stackedBar();
  const counts = el("span", { class: "counts" });
  const created = el("time", {});
  const took = el("span", {});
  const ago = el("span", { class: "muted" });
  const card = el("li", { class: "job" },
    el("div", { class: "what" }, name, about), badge,
    el("div", { class: "progress" }, bar, counts),
    el("div", { class: "times" },
      el("span", {}, el("span", { class: "unseen" }, "created "), created, ago),
      el("span", {}, el("span", { class: "unseen" }, "took "), took)));
  card.times = (job) => {
    const since = age(now() - Date.parse(job.createdAt));
    text(created, since);
    text(ago, since === "now" ? "" : " ago");
    text(took, lasted(job));
  };
  card.update = (job) => {
    name.href = `#/jobs/${job.id}`;
    text(name, title(job));
    text(about, job.name ? `#${job.id}` : "");
    created.title = moment(job.createdAt);
    created.dateTime = job.createdAt;
    const look = `${job.status} ${job.errorCount > 0}`;
    if (badge.dataset.look !== look) {
      badge.dataset.look = look;
      badge.replaceChildren(jobBadge(job));
    }
    bar.update(job.counts);
    text(counts, summary(job));
    card.times(job);
  };
  return card;
}

function summary(job) {
  const parts = [`${number(job.doneCount)} of ${number(job.totalCount)}`];
  if (job.counts.sent) parts.push(`${number(job.counts.sent)} in flight`);
  if (job.errorCount) parts.push(`${number(job.errorCount)} not resolved`);
  return parts.join(", ");
}

/** How long a job has run. */
export function lasted(job) {
  if (!job.startedAt) return "not started";
  return duration((job.finishedAt ? Date.parse(job.finishedAt) : now()) - Date.parse(job.startedAt));
}
