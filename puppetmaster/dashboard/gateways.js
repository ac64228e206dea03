// The gateways that are known: which there are, whether they are there, how each did lately; which of them a job is for.

import { pageIn, write } from "./address.js";
import { ApiError, call, queryOf } from "./api.js";
import { attempt } from "./dialogs.js";
import { el, pageWithin, pagerOf, rowOf, search, status, tableOf, text } from "./dom.js";
import { checked, hashOf, labelled, presence, seen } from "./gateway.js";
import { Reread } from "./live.js";
import { fold } from "./ranges.js";
import { number } from "./words.js";

const PAGE = 50;
const RELOAD_MS = 300;
/** Presence and results change by themselves: so often they are read anew. */
const AGAIN_S = 10;
const COLUMNS = { gateway: "Gateway", is: "Is", seen: "Last seen", last: "Last result", labels: "Labels", note: "Note" };
/** Values of the filter by registration. */
const REGISTERED = { "": "any", true: "registered", false: "not registered", unknown: "not known" };
/** The names of those that are ticked, on all pages; they stay so until this page is loaded anew. */
const ticked = new Set();

/** A link that looks like a button leads to `href`; where there is none it is disabled, and says why. */
function offer(link, href, why) {
  if (href) link.setAttribute("href", href);
  else link.removeAttribute("href");
  link.title = href ? "" : why;
  link.setAttribute("aria-disabled", String(!href));
}

export class GatewaysView extends Reread {
  constructor(place, given, state) {
    super();
    document.title = "Gateways · puppetmaster";
    this.page = pageIn(given);
    this.wanted = {
      match: given.get("match") ?? "", selector: given.get("selector") ?? "",
      registered: Object.keys(REGISTERED).find((value) => value === given.get("registered")) ?? "",
    };
    this.data = [];
    this.forAll = el("a", { class: "button primary", role: "link" });
    this.forTicked = el("a", { class: "button", role: "link" });
    place.append(
      el("div", { class: "title" }, el("h1", {}, "Gateways"), el("span", { class: "gap" }), el("div", { class: "actions whom-for" }, this.forTicked, this.forAll)),
      this.filters(), this.list());
    this.address();
    this.ticks();
    this.follow(state, AGAIN_S);
  }

  filters() {
    const taken = (name) => (event) => {
      this.wanted[name] = event.target.value.trim();
      this.page = 1;
      this.address();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), RELOAD_MS);
    };
    const typed = (name, label, key, more) => el("label", { class: "field" }, el("span", {}, label),
      search({ value: this.wanted[name], ...more, oninput: taken(name) }, key));
    this.fault = el("p", { class: "warning", role: "alert", hidden: true });
    return el("section", { class: "filters of-gateways", "aria-label": "Filters" },
      typed("match", "Name", "/", { placeholder: "cg-1*", "data-filter": true }),
      typed("selector", "Labels", "", { placeholder: "site=north,!retired" }),
      el("label", { class: "field" }, el("span", {}, "Registered"), el("select", { onchange: taken("registered") },
        Object.entries(REGISTERED).map(([value, said]) => el("option", { value, selected: value === this.wanted.registered }, said)))), this.fault);
  }

  list() {
    this.every = el("input", { type: "checkbox", "aria-label": "All on this page", onchange: () => this.tickAll() });
    const head = el("th", { class: "tick", scope: "col", role: "columnheader" }, this.every);
    Object.assign(this, tableOf("gateways-known", COLUMNS, { first: [head] }));
    this.empty = el("p", { class: "empty" }, "Loading …");
    this.untick = el("button", { type: "button", class: "quiet", onclick: () => this.choose(false, [...ticked]) }, "Untick all");
    this.pager = pagerOf((by) => this.turn(by), ["Before", "Next"], this.untick);
    return el("section", { "aria-label": "List of gateways" }, el("div", { class: "panel wide" }, this.table, this.empty), this.pager);
  }

  address(more) {
    write("gateways", { ...this.wanted, page: this.page > 1 ? this.page : "" }, more);
    this.offerAll("");
  }

  /** A job for all that fit; `empty`: why there is none that does, "" where there is. */
  offerAll(empty) {
    const { registered, ...wanted } = this.wanted;
    const filtered = Object.values(this.wanted).some(Boolean);
    const why = empty || (registered && "A job looks for labels and names, not for what is registered: tick those that are meant.");
    text(this.forAll, filtered ? "New job for all that fit" : "New job for all");
    offer(this.forAll, why ? "" : `#/new${queryOf(filtered ? { by: "fit", ...wanted } : { by: "all" })}`, why);
  }

  turn(by) {
    this.page = Math.max(1, this.page + by);
    this.address({ push: true });
    this.load();
    scrollTo(0, 0);
  }

  async load() {
    const asked = this.asked = (this.asked ?? 0) + 1;
    this.seconds = 0;
    await attempt(async () => {
      try {
        const found = await call("GET", `/gateways${queryOf({ ...this.wanted, limit: PAGE, offset: (this.page - 1) * PAGE })}`);
        if (asked !== this.asked || this.ended) return;
        const page = pageWithin(this.page, PAGE, found.total);
        if (page !== this.page) {
          this.page = page;
          this.address();
          this.load();
        } else this.show(found, "");
      } catch (error) {
        // What is typed may be half of a selector.
        if (!(error instanceof ApiError) || error.status !== 400) throw error;
        if (asked === this.asked && !this.ended) this.show({ data: [], total: 0 }, error.message);
      }
    });
  }

  show({ data, total }, fault) {
    this.data = data;
    this.fault.hidden = !fault;
    text(this.fault, fault);
    this.put(data.map((one) => [one.name, one]), (one) => this.row(one));
    this.table.hidden = !data.length;
    this.empty.hidden = data.length > 0 || Boolean(fault);
    const filtered = Object.values(this.wanted).some(Boolean);
    text(this.empty, filtered ? "No gateway fits." : "No gateway is known yet: each is that was put here, that a job went to, or that registers.");
    this.offerAll(data.length ? "" : fault || this.empty.textContent);
    this.pager.show({ page: this.page, size: PAGE, shown: data.length, total, what: "gateway" });
    this.ticks();
  }

  row({ name, labels, note, lastResult, ...known }) {
    const box = el("input", {
      type: "checkbox", "aria-label": `Tick ${name}`, "data-name": name, onchange: () => this.choose(box.checked, [name]),
    });
    const last = lastResult && [status(lastResult.status), lastResult.code === null ? "" : ` ${lastResult.code}`];
    const cells = {
      gateway: el("a", { href: hashOf(name) }, name), is: known.checkedAt ? el("span", { title: checked(known) }, presence(known)) : presence(known),
      seen: seen(known), last,
      labels: Object.entries(labels).sort().map((label) => el("code", { class: "label" }, labelled(label))),
      note: note && el("span", { class: "brief", title: note }, note),
    };
    return rowOf(COLUMNS, "g", cells, el("td", { class: "tick", role: "cell" }, box));
  }

  tickAll() {
    this.choose(this.every.checked, this.data.map(({ name }) => name));
  }

  choose(on, names) {
    for (const name of names) ticked[on ? "add" : "delete"](name);
    this.ticks();
  }

  /** Show what is ticked. */
  ticks() {
    for (const box of this.table.querySelectorAll("input[data-name]")) box.checked = ticked.has(box.dataset.name);
    const here = this.data.filter(({ name }) => ticked.has(name)).length;
    this.every.checked = here > 0 && here === this.data.length;
    this.every.indeterminate = here > 0 && here < this.data.length;
    this.untick.hidden = !ticked.size;
    text(this.forTicked, ticked.size ? `New job for ${number(ticked.size)} ticked` : "New job for the ticked");
    offer(this.forTicked, ticked.size && `#/new${queryOf({ to: fold(ticked).join(",") })}`, "None is ticked.");
  }

  end() {
    super.end();
    clearTimeout(this.timer);
  }
}
