// One job: its head, its requests as a table and as a map, its results.

import { Live } from "./api.js";
import { Actions, stopping } from "./actions.js";
import { say } from "./dialogs.js";
import { STATUSES, duration, el, icon, jobBadge, moment, number, plain, plural, soon, stackedBar, text } from "./dom.js";
import { Drawer, facts } from "./drawer.js";
import { Grid } from "./grid.js";
import { lasted, title } from "./jobs.js";
import { Results } from "./results.js";
import { Rows } from "./rows.js";
import { Table } from "./table.js";
import { Waves } from "./waves.js";

const RATE_MS = 8000;
const POLICIES = ["concurrency", "rate", "requestTimeout", "retry", "idempotent", "abort", "gate", "startAt"];

export class JobView {
  constructor(place, id, state) {
    document.title = `Job ${id} · puppetmaster`;
    this.id = id;
    this.place = place;
    this.rows = new Rows();
    this.samples = [];
    this.drawer = null;
    const open = (requestId) => this.openDrawer(requestId);
    this.table = new Table(this.rows, open);
    this.grid = new Grid(this.rows, open);
    this.results = new Results(id);
    this.waves = new Waves(this.rows);
    this.actions = new Actions(id);
    this.draw = () => this.show();
    place.append(el("p", { class: "empty" }, "Loading …"));
    this.live = new Live(`/jobs/${id}/ws?collection=true`, {
      opened: () => { this.fresh = true; },
      frame: (job) => this.frame(job),
      gone: () => this.gone(`There is no job ${id}.`),
      state,
    });
  }

  frame(job) {
    if (job.status === "deleted") return this.gone(`Job ${this.id} was deleted.`);
    const { rows } = this;
    if (rows.first !== job.requests[0] || rows.items.length !== job.requests.length) rows.clear(job.requests);
    if (this.fresh) this.load();
    rows.put(job.collection, true);
    if (this.job && this.job.status !== job.status) say(`${title(job)} is ${job.status}. ${verdict(job)}`);
    this.job = job;
    this.sample(job);
    soon(this.draw);
    return undefined;
  }

  /** The WebSocket tells all requests too, but in small parts: pages are faster. */
  load() {
    this.fresh = false;
    const { rows } = this;
    const asked = this.asked = (this.asked ?? 0) + 1;
    rows.told.fill(0);
    rows.load(this.id, () => soon(this.draw), () => !this.live.ended && asked === this.asked).catch(() => {
      // What is missing comes over the WebSocket.
    });
  }

  sample(job) {
    const at = performance.now();
    this.samples.push([at, job.doneCount]);
    while (this.samples.length > 2 && this.samples[0][0] < at - RATE_MS) this.samples.shift();
  }

  gone(sentence) {
    this.live.end();
    this.drawer?.element.close();
    say(sentence);
    this.place.replaceChildren(el("h1", {}, sentence), el("p", {}, el("a", { href: "#/" }, "To the list of jobs")));
  }

  build() {
    this.built = true;
    this.name = el("h1");
    this.badge = el("span", { class: "state" });
    this.verdict = el("p", { class: "verdict" });
    this.bar = stackedBar();
    this.bar.classList.add("large");
    this.counts = new Map(STATUSES.map((status) => [status, this.filterChip(status)]));
    this.facts = el("div", { class: "facts-place" });
    this.about = el("p", { class: "about muted" });
    this.place.replaceChildren(
      el("p", { class: "crumbs" }, el("a", { href: "#/" }, "Jobs"), ` / ${this.id}`),
      el("section", { class: "panel job-head", "aria-label": "Job" },
        el("div", { class: "title" }, this.name, this.badge, el("span", { class: "gap" }), this.actions.element),
        this.verdict,
        this.bar,
        el("div", { class: "chips", role: "group", "aria-label": "Show requests by status" }, ...this.counts.values()),
        this.facts, this.waves.element, this.about),
      this.tabs());
    this.choose("requests");
  }

  filterChip(status) {
    const count = el("b");
    const chip = el("button", { type: "button", class: `chip s-${status}`, "aria-pressed": "false", onclick: () => {
      const { status: set } = this.rows.filter;
      if (!set.delete(status)) set.add(status);
      chip.setAttribute("aria-pressed", String(set.has(status)));
      if (this.tab === "results") this.choose("requests");
      this.rows.changed();
      this.show();
    } }, icon(status), count, ` ${status}`);
    chip.count = count;
    return chip;
  }

  tabs() {
    const names = [["requests", "Requests", this.table], ["gateways", "Gateways", this.grid], ["results", "Results", this.results]];
    this.panels = new Map(names.map(([name, , part]) => [name, el("div", {
      role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, class: "tabpanel",
    }, part.element)]));
    this.buttons = new Map(names.map(([name, label]) => [name, el("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => this.choose(name),
    }, label)]));
    const list = el("div", { role: "tablist", "aria-label": "Views of the job", onkeydown: (event) => {
      const all = [...this.buttons.keys()];
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      this.choose(all[(all.indexOf(this.tab) + step + all.length) % all.length]);
      this.buttons.get(this.tab).focus();
    } }, ...this.buttons.values());
    this.found = el("span", { class: "muted found" });
    this.search = el("input", { type: "search", "data-filter": true, "aria-label": "Filter requests by destination, why or result",
      placeholder: "Filter, press /", spellcheck: "false", autocomplete: "off", oninput: () => {
        this.rows.filter.text = this.search.value.trim();
        this.rows.changed();
        this.show();
      } });
    this.tools = el("div", { class: "tools" }, this.found, this.search);
    return el("section", { class: "panel views", "aria-label": "Requests and results" },
      el("div", { class: "bar-of-tabs" }, list, this.tools), ...this.panels.values());
  }

  choose(name) {
    this.tab = name;
    for (const [key, panel] of this.panels) panel.hidden = key !== name;
    for (const [key, button] of this.buttons) {
      button.setAttribute("aria-selected", String(key === name));
      button.tabIndex = key === name ? 0 : -1;
    }
    this.tools.hidden = name === "results";
    this.show();
    if (name === "results") this.results.draw(true);
  }

  show() {
    const { job } = this;
    if (!job || this.live.ended) return;
    if (!this.built) return this.build();
    text(this.name, title(job));
    document.title = `${job.finishedAt ? "" : `${job.progress}% `}${title(job)} · puppetmaster`;
    const look = `${job.status} ${job.errorCount > 0}`;
    if (this.badge.dataset.look !== look) {
      this.badge.dataset.look = look;
      this.badge.replaceChildren(jobBadge(job));
    }
    text(this.verdict, verdict(job));
    this.bar.update(job.counts);
    for (const [status, chip] of this.counts) {
      text(chip.count, number(job.counts[status]));
      chip.classList.toggle("none", job.counts[status] === 0);
    }
    this.actions.update(job);
    this.waves.update(job);
    this.showFacts(job);
    this.table.several = this.rows.commands.size > 1;
    if (this.tab === "requests") this.table.draw();
    if (this.tab === "gateways") this.grid.draw();
    if (this.tab === "results" && this.resultsOf !== job.doneCount) this.results.draw();
    this.resultsOf = job.doneCount;
    const { loaded, items } = this.rows;
    const found = this.rows.shown().length;
    text(this.found, loaded < items.length ? `loading ${number(loaded)} of ${number(items.length)}`
      : found < loaded ? `${number(found)} of ${plural(loaded, "request")}` : plural(loaded, "request"));
    this.drawer?.draw();
    return undefined;
  }

  showFacts(job) {
    const left = job.totalCount - job.doneCount;
    const perS = this.rate(job);
    const pairs = [
      ["Done", `${number(job.doneCount)} of ${number(job.totalCount)} · ${job.progress}%`],
      ["Rate", perS ? `${number(perS)}/s` : "–"],
      job.finishedAt ? ["Ended", moment(job.finishedAt)] : ["Time left", left && perS ? `about ${duration((left / perS) * 1000)}` : "–"],
      ["Took", lasted(job)],
      ["Created", moment(job.createdAt)],
    ];
    if (!job.finishedAt) pairs.push(["In flight", `${number(job.counts.sent)}${this.window ? `, window ${number(this.window)}` : ""}`]);
    if (job.timeout !== null) pairs.push(["Job's time", duration(job.timeout * 1000)]);
    const said = JSON.stringify(pairs);
    if (said !== this.factsSaid) this.facts.replaceChildren(facts(pairs));
    this.factsSaid = said;
    const { commands } = this.rows;
    const [command] = commands.keys();
    const about = [];
    if (command) about.push(command + (commands.size > 1 ? ` and ${commands.size - 1} more` : ""));
    if (job.parent) about.push(`re-run of job ${job.parent}`);
    for (const name of POLICIES) if (job[name] !== undefined && job[name] !== null) about.push(`${name} ${plain(job[name])}`);
    text(this.about, about.join("  ·  "));
  }

  /** Requests per second: of the last seconds while it runs, of all its time afterwards. */
  rate(job) {
    if (job.finishedAt) {
      const s = (Date.parse(job.finishedAt) - Date.parse(job.startedAt)) / 1000;
      return s > 0 ? job.doneCount / s : 0;
    }
    const [[from, before], [to, after]] = [this.samples[0], this.samples.at(-1)];
    return to - from > 500 ? ((after - before) * 1000) / (to - from) : 0;
  }

  openDrawer(requestId) {
    this.drawer = new Drawer(this.rows, requestId);
    this.drawer.open(() => { this.drawer = null; });
  }

  /** What the gateway says of itself, now and then. */
  health({ counters }) {
    this.window = counters?.window;
  }

  tick() {
    if (this.job && !this.job.finishedAt) {
      this.sample(this.job);
      soon(this.draw);
    }
  }

  end() {
    this.live.end();
    this.table.end();
    this.grid.end();
    this.results.end();
    this.drawer?.element.close();
  }
}

/** What came of a job, or what it is doing, in a sentence. */
function verdict(job) {
  const { totalCount: total, errorCount: failed, finishCount: good, status, reason } = job;
  const so = `${number(good)} of ${plural(total, "request")} resolved`;
  const not = failed ? `, ${number(failed)} did not` : "";
  if (status === "resolved" && failed) return `${so}${not}.`;
  if (status === "resolved") return total === 1 ? "Its one request resolved." : `All ${number(total)} requests resolved.`;
  if (job.finishedAt) return `${so}${not}: ${reason}`;
  if (stopping(job)) return `Ending (${reason}): ${plural(job.counts.sent, "request")} still in flight.`;
  if (job.gateStatus === "closed") return `Waiting at a closed gate: ${reason ?? `wave ${job.wave} did not pass`}.`;
  if (job.gateStatus === "soak") return `Wave ${job.wave} is done, and what comes of it is awaited: ${so}${not}.`;
  if (status === "paused") return `Paused: nothing more is sent. ${so}${not} so far.`;
  if (status === "pending") return job.startAt ? `It starts at ${moment(job.startAt)}.` : "It has not started.";
  return `Running: ${so}${failed ? `, ${number(failed)} failed` : ""} so far.`;
}
