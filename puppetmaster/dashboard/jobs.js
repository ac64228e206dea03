// The list of jobs.

import { known, list, pageIn, write } from "./address.js";
import { call, queryOf } from "./api.js";
import { jobCard } from "./card.js";
import { attempt, say } from "./dialogs.js";
import { el, jobBadge, pageWithin, pagerOf, search, soon, text } from "./dom.js";
import { Live } from "./live.js";
import { JOB_STATUSES, failures, title } from "./words.js";

const PAGE = 25;
const RELOAD_MS = 300;

export class JobsView {
  constructor(place, given, state) {
    document.title = "Jobs · puppetmaster";
    this.jobs = [];
    this.cards = new Map();
    this.elsewhere = new Map();
    this.total = 0;
    this.page = pageIn(given);
    this.wanted = {
      text: given.get("text") ?? "",
      destination: given.get("destination") ?? "",
      status: new Set(known(given.get("status"), JOB_STATUSES)),
      failed: given.get("failed") === "true",
    };
    this.draw = () => this.show();
    this.address();
    place.append(
      el("div", { class: "title" }, el("h1", {}, "Jobs"), el("span", { class: "gap" }),
        el("a", { class: "button primary", href: "#/new" }, "New job")),
      this.filters(),
      this.list());
    const opened = () => {
      this.elsewhere.clear();
      this.load();
    };
    this.live = new Live("/jobs/ws", { opened, frame: (job) => this.frame(job), same: () => this.same(), state });
  }

  filters() {
    const typed = (name, label, key, more) => el("label", { class: "field" }, el("span", {}, label),
      search({ value: this.wanted[name], ...more, oninput: (event) => {
        this.wanted[name] = event.target.value.trim();
        this.first();
        this.later();
      } }, key));
    // `turn` changes what is wanted, and says whether the chip is pressed now.
    const chip = (pressed, turn, ...inside) => el("button", { type: "button", class: "chip", "aria-pressed": String(pressed),
      onclick: (event) => {
        event.currentTarget.setAttribute("aria-pressed", String(turn()));
        this.first();
        this.load();
      } }, ...inside);
    const { status: set } = this.wanted;
    const turned = (status) => !set.delete(status) && Boolean(set.add(status));
    return el("section", { class: "filters", "aria-label": "Filters" },
      typed("text", "Name, number or resource", "/", { placeholder: "any", "data-filter": true }),
      typed("destination", "Destination", "", { placeholder: "any gateway" }),
      el("div", { class: "chips", role: "group", "aria-label": "Status of the job" },
        JOB_STATUSES.map((status) => chip(set.has(status), () => turned(status), jobBadge({ status }))),
        chip(this.wanted.failed, () => (this.wanted.failed = !this.wanted.failed), "with failures")));
  }

  list() {
    this.rows = el("ol", { class: "jobs", "aria-label": "Jobs, newest first" });
    this.empty = el("p", { class: "empty" }, "Loading …");
    this.pager = pagerOf((by) => this.turn(by), ["Newer", "Older"]);
    return el("section", { "aria-label": "List of jobs" }, this.rows, this.empty, this.pager);
  }

  /** What is wanted, as the address and the API say it. */
  filter() {
    const { text: words, destination, status, failed } = this.wanted;
    return { text: words, destination, status: [...status].join(","), failed: failed ? "true" : "" };
  }

  address(more) {
    list.hash = write("", { ...this.filter(), page: this.page > 1 ? this.page : "" }, more);
  }

  first() {
    this.page = 1;
    this.address();
  }

  turn(by) {
    this.page = Math.max(1, this.page + by);
    this.address({ push: true });
    this.load();
    scrollTo(0, 0);
  }

  later() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load();
    }, RELOAD_MS);
  }

  ask() {
    return call("GET", `/jobs${queryOf({ ...this.filter(), limit: PAGE, offset: (this.page - 1) * PAGE })}`);
  }

  /** Read the page anew. */
  async load() {
    const asked = this.asked = (this.asked ?? 0) + 1;
    await attempt(async () => {
      const { data: jobs, total } = await this.ask();
      if (asked !== this.asked || this.live.ended) return;
      const page = pageWithin(this.page, PAGE, total);
      if (page !== this.page) {
        this.page = page;
        this.address();
        this.load();
        return;
      }
      Object.assign(this, { jobs, total, loaded: true });
      soon(this.draw);
    });
  }

  /** Whether the gateway still says what is shown. */
  async same() {
    const likeness = (jobs) => JSON.stringify(jobs.map((job) => [job.id, job.status, job.counts]));
    return likeness((await this.ask()).data) === likeness(this.jobs);
  }

  frame(job) {
    const at = this.jobs.findIndex((one) => one.id === job.id);
    if (job.status === "deleted" || at < 0) {
      // New, gone or of another page: which jobs are on this one is the gateway's to say.
      if (at >= 0 || this.elsewhere.get(job.id) !== kind(job)) this.later();
      this.elsewhere.set(job.id, kind(job));
      return;
    }
    delete job.requests;
    const before = this.jobs[at];
    this.jobs[at] = job;
    if (before.status !== job.status) say(`${title(job)} is ${job.status}`);
    if (kind(before) !== kind(job) && (this.wanted.status.size || this.wanted.failed)) this.later();
    soon(this.draw);
  }

  show() {
    if (!this.loaded) return;
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
    const filtered = Object.values(this.filter()).some(Boolean);
    this.empty.hidden = shown.length > 0;
    if (filtered) text(this.empty, "No job fits these filters.");
    else this.empty.replaceChildren("There are no jobs yet. ", el("a", { href: "#/new" }, "Make the first one"), ".");
    this.pager.hidden = this.total <= PAGE && this.page === 1;
    this.pager.show({ page: this.page, size: PAGE, shown: shown.length, total: this.total, what: "job" });
  }

  tick() {
    for (const job of this.jobs) this.cards.get(job.id)?.times(job);
  }

  end() {
    this.live.end();
    clearTimeout(this.timer);
  }
}

/** What the filters by status look at. */
function kind(job) {
  return `${job.status} ${failures(job.counts) > 0}`;
}
