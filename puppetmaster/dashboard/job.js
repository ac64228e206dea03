// One job: its head, its requests as a table and as a map, its results.

import { known, pushed, read, write } from "./address.js";
import { call } from "./api.js";
import { Data } from "./data.js";
import { notify, say } from "./dialogs.js";
import { el, search, soon, text } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Grid } from "./grid.js";
import { Head, verdict } from "./head.js";
import { Live } from "./live.js";
import { Results } from "./results.js";
import { Rows } from "./rows.js";
import { ORDERS, Table } from "./table.js";
import { Whys } from "./whys.js";
import { Timeline } from "./timeline.js";
import { STATUSES, number, plural, title } from "./words.js";

export const TABS = ["requests", "gateways", "results", "timeline", "data"];

/** What differs when something happened to a job. */
const likeness = (job) => JSON.stringify([job?.status, job?.reason, job?.wave, job?.gateStatus, job?.counts]);

export class JobView {
  constructor(place, id, { tab, parameters }, state) {
    document.title = `Job ${id} · puppetmaster`;
    this.id = id;
    this.place = place;
    this.rows = new Rows();
    this.restore(tab, parameters);
    this.whys = new Whys(id, this.rows);
    this.drawer = null;
    /** Back was pressed for the reader, and has yet to take the last request out of the address. */
    this.leaving = false;
    /** The request that was chosen while the last was on its way out. */
    this.next = null;
    const open = (requestId) => this.openDrawer(requestId);
    this.table = new Table(this.rows, open, () => this.arranged());
    this.grid = new Grid(this.rows, open);
    this.results = new Results(id);
    this.timeline = new Timeline(id);
    this.data = new Data(this.rows);
    this.draw = () => this.show();
    this.empty = el("p", { class: "empty" }, "Loading …");
    place.append(el("h1", {}, `Job ${id}`), this.empty);
    this.live = new Live(`/jobs/${id}/ws?collection=true`, {
      opened: () => { this.fresh = true; },
      polled: () => this.polled(),
      frame: (job) => this.frame(job),
      gone: () => this.gone(`There is no job ${id}.`),
      same: () => this.same(),
      state,
    });
  }

  restore(tab, parameters) {
    const { filter, sort } = this.rows;
    this.tab = TABS.includes(tab) ? tab : TABS[0];
    filter.status = new Set(known(parameters.get("status"), STATUSES));
    filter.text = parameters.get("text") ?? "";
    const order = parameters.get("sort") ?? "";
    sort.down = order.startsWith("-");
    sort.by = ORDERS.find((name) => name === order.replace("-", "")) ?? null;
    this.requested = parameters.has("request") ? Number(parameters.get("request")) : null;
  }

  address(more) {
    const { filter, sort } = this.rows;
    write(`jobs/${this.id}${this.tab === TABS[0] ? "" : `/${this.tab}`}`, {
      status: [...filter.status].join(","), text: filter.text, sort: sort.by ? `${sort.down ? "-" : ""}${sort.by}` : "",
      request: this.requested,
    }, more);
  }

  /** The address is another one: true when it is of this job, and is shown. */
  moved({ parts: [name, id, tab = TABS[0]], parameters }) {
    if (name !== "jobs" || !this.head || this.live.ended || Number(id) !== this.id || !TABS.includes(tab)) return false;
    this.restore(tab, parameters);
    const { drawer } = this;
    if (drawer && this.requested !== drawer.id) {
      this.drawer = null;
      drawer.element.close();
    }
    this.tools.querySelector("input").value = this.rows.filter.text;
    this.head.pressed();
    this.rows.changed();
    this.choose(this.tab);
    this.leaving = false;
    this.follow();
    return true;
  }

  /** Filter, order or tab are others than before. */
  arranged() {
    this.address();
    this.show();
  }

  filtered() {
    this.rows.changed();
    this.table.first();
    this.arranged();
  }

  frame(job) {
    if (job.status === "deleted") return this.gone(`Job ${this.id} was deleted.`);
    const { rows } = this;
    if (rows.first !== job.requests[0] || rows.items.length !== job.requests.length) rows.clear(job.requests);
    rows.of(job);
    if (this.fresh) this.load();
    rows.put(job.collection, true);
    if (this.job && this.job.status !== job.status) say(`${title(job)} is ${job.status}. ${verdict(job, rows)}`);
    this.job = job;
    this.head?.sample(job);
    soon(this.draw);
    return undefined;
  }

  /** There is no WebSocket: what changed is asked for. */
  async polled() {
    try {
      const { data } = await call("GET", `/jobs/${this.id}?collection=false`);
      if (this.live.ended) return;
      this.fresh ||= likeness(data) !== likeness(this.job);
      this.frame({ ...data, collection: [] });
    } catch (error) {
      if (error.status === 404) this.gone(`There is no job ${this.id}.`);
    }
  }

  /** The WebSocket tells all requests too, but in small parts: pages are faster. */
  load() {
    // Without a WebSocket it is asked for often: what is being loaded is loaded first.
    if (this.live.polling && this.loading) return;
    this.fresh = false;
    this.loading = true;
    const { rows } = this;
    const asked = this.asked = (this.asked ?? 0) + 1;
    rows.told.fill(0);
    rows.load(this.id, () => soon(this.draw), () => !this.live.ended && asked === this.asked).catch(() => {
      // What is missing comes over the WebSocket, or is asked for again.
      this.fresh = this.live.polling;
    }).finally(() => {
      if (asked === this.asked) this.loading = false;
    });
  }

  /** Whether the gateway still says what is shown. */
  async same() {
    const { data } = await call("GET", `/jobs/${this.id}?limit=0`);
    return likeness(data) === likeness(this.job);
  }

  gone(sentence) {
    this.live.end();
    this.drawer?.element.close();
    say(sentence);
    this.place.replaceChildren(el("h1", {}, sentence), el("p", {}, el("a", { href: "#/" }, "To the list of jobs")));
  }

  build() {
    this.head = new Head(this.id, this.rows, (status) => {
      const { status: set } = this.rows.filter;
      if (!set.delete(status)) set.add(status);
      if (this.tab === "results") this.choose(TABS[0]);
      this.filtered();
      return set.has(status);
    });
    this.head.sample(this.job);
    this.place.replaceChildren(this.head.element, this.tabs());
    this.choose(this.tab);
  }

  tabs() {
    const parts = {
      requests: ["Requests", this.table], gateways: ["Gateways", this.grid], results: ["Results", this.results],
      timeline: ["Time line", this.timeline], data: ["Data", this.data],
    };
    this.panels = new Map(TABS.map((name) => [name, el("div", {
      role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, class: "tabpanel",
    }, parts[name][1].element)]));
    this.buttons = new Map(TABS.map((name) => [name, el("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => this.choose(name),
    }, parts[name][0])]));
    const list = el("div", { role: "tablist", "aria-label": "Views of the job", onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      this.choose(TABS[(TABS.indexOf(this.tab) + step + TABS.length) % TABS.length]);
      this.buttons.get(this.tab).focus();
    } }, ...this.buttons.values());
    this.found = el("span", { class: "muted found" });
    this.search = search({
      "data-filter": true, "aria-label": "Filter requests by destination, why or result", placeholder: "Filter",
      value: this.rows.filter.text,
      oninput: (event) => {
        this.rows.filter.text = event.target.value.trim();
        this.filtered();
      },
    }, "/");
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
    this.tools.hidden = ["results", "timeline", "data"].includes(name);
    this.arranged();
    if (name === "results") this.results.draw(true);
    if (name === "timeline") this.timeline.draw(this.job, true);
  }

  show() {
    const { job } = this;
    if (!job || this.live.ended) return;
    if (!this.head) {
      this.build();
      return;
    }
    this.head.update(job, { whys: this.whys, ...this.counters });
    this.table.several = this.rows.commands.size > 1;
    if (this.tab === "requests") this.table.draw();
    this.grid.waveEnds = job.waveEnds;
    if (this.tab === "gateways") this.grid.draw();
    if (this.tab === "results" && this.resultsOf !== job.doneCount) this.results.draw();
    this.resultsOf = job.doneCount;
    if (this.tab === "timeline") this.timeline.draw(job);
    if (this.tab === "data") this.data.draw(job);
    const { loaded, items } = this.rows;
    const [found, all] = this.rows.counted();
    const every = plural(all, this.rows.stepwise ? "gateway" : "request");
    text(this.found, loaded < items.length ? `loading ${number(loaded)} of ${number(items.length)}`
      : found < all ? `${number(found)} of ${every}` : every);
    this.drawer?.draw();
    this.request();
  }

  /** Open the request that the address names, as soon as it is here. */
  request() {
    const { requested, rows } = this;
    if (requested === null || this.drawer) return;
    if (rows.get(requested)) this.openDrawer(requested);
    else if (!(requested >= rows.first && requested < rows.first + rows.items.length)) {
      this.requested = null;
      this.address();
      notify(`There is no request ${requested} in this job.`, "error");
    }
  }

  openDrawer(requestId) {
    if (this.drawer || this.leaving) {
      this.next = requestId;
      return;
    }
    const drawer = this.drawer = new Drawer(this.rows, requestId, () => {
      this.requested = drawer.id;
      this.address();
    });
    if (this.requested !== requestId) {
      this.requested = requestId;
      this.address({ push: true });
    }
    drawer.open(() => this.drawer === drawer && this.closed());
  }

  /** The drawer was closed, and not by Back: so Back takes it out of the address. */
  closed() {
    this.drawer = null;
    if (this.live.ended || !read().parameters.has("request")) return;
    this.requested = null;
    this.leaving = pushed();
    if (this.leaving) {
      history.back();
      return;
    }
    this.address();
    this.follow();
  }

  /** Open what was chosen while the last request was on its way out. */
  follow() {
    const { next } = this;
    this.next = null;
    if (next !== null) this.openDrawer(next);
  }

  /** Why the gateway cannot be told anything now; "" when it can. */
  linked(why) {
    text(this.empty, why ? `Nothing can be loaded now. ${why}` : "Loading …");
  }

  /** What the gateway says of itself, now and then. */
  health({ counters }) {
    // This job tells of its own at any time, the gateway of all now and then: what others have is all that is taken.
    const others = counters.openJobs - (this.job && !this.job.finishedAt ? 1 : 0);
    const elsewhere = others > 0 ? Math.max(0, counters.inFlight - (this.job?.counts.sent ?? 0)) : 0;
    this.counters = { window: counters.window, elsewhere };
    soon(this.draw);
  }

  tick() {
    if (!this.head || this.job.finishedAt) return;
    this.head.sample(this.job);
    this.whys.refresh(this.job, this.waiting(), () => soon(this.draw));
    soon(this.draw);
  }

  /** The first and the last id of those whose reason to wait is being looked at. */
  waiting() {
    if (this.drawer) return [this.drawer.id, this.drawer.id];
    return this.tab === "requests" ? this.table.waiting() : null;
  }

  end() {
    this.live.end();
    this.table.end();
    this.grid.end();
    this.results.end();
    this.drawer?.element.close();
  }
}
