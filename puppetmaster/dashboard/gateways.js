// The gateways that are known: which there are, whether they are there, and how each did lately.

import { write } from "./address.js";
import { ApiError, call, queryOf } from "./api.js";
import { attempt } from "./dialogs.js";
import { el, search, status, text } from "./dom.js";
import { Live } from "./live.js";
import { number, plural } from "./words.js";

const PAGE = 50;
const RELOAD_MS = 300;
/** Presence and results change by themselves: so often they are read anew. */
const AGAIN_S = 10;
const COLUMNS = ["Gateway", "Is", "Last result", "Labels", "Note"];

export class GatewaysView {
  constructor(place, given, state) {
    document.title = "Gateways · puppetmaster";
    this.page = Math.max(1, Math.floor(Number(given.get("page"))) || 1);
    this.wanted = { match: given.get("match") ?? "", selector: given.get("selector") ?? "" };
    this.seconds = 0;
    this.make = el("a", { class: "button primary" }, "New job for these");
    place.append(
      el("div", { class: "title" }, el("h1", {}, "Gateways"), el("span", { class: "gap" }), this.make), this.filters(), this.list());
    this.address();
    this.live = new Live("/jobs/ws", { opened: () => this.load(), state });
  }

  filters() {
    const typed = (name, label, key, more) => el("label", { class: "field" }, el("span", {}, label),
      search({ value: this.wanted[name], ...more, oninput: (event) => {
        this.wanted[name] = event.target.value.trim();
        this.page = 1;
        this.address();
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.load(), RELOAD_MS);
      } }, key));
    this.fault = el("p", { class: "warning", role: "alert", hidden: true });
    return el("section", { class: "filters of-gateways", "aria-label": "Filters" },
      typed("match", "Name", "/", { placeholder: "cg-1*", "data-filter": true }),
      typed("selector", "Labels", "", { placeholder: "site=north,!retired" }), this.fault);
  }

  list() {
    this.rows = el("tbody");
    this.table = el("table", { class: "gateways-known" },
      el("thead", {}, el("tr", {}, COLUMNS.map((name) => el("th", { scope: "col" }, name)))), this.rows);
    this.empty = el("p", { class: "empty" }, "Loading …");
    this.range = el("span", { role: "status" });
    this.back = el("button", { type: "button", onclick: () => this.turn(-1) }, "Before");
    this.on = el("button", { type: "button", onclick: () => this.turn(1) }, "Next");
    this.pager = el("nav", { class: "pager", "aria-label": "Pages" }, this.range, el("span", { class: "gap" }), this.back, this.on);
    return el("section", { "aria-label": "List of gateways" }, el("div", { class: "panel wide" }, this.table, this.empty), this.pager);
  }

  address(more) {
    write("gateways", { ...this.wanted, page: this.page > 1 ? this.page : "" }, more);
    this.make.href = `#/new${queryOf({ gateways: "known", ...this.wanted })}`;
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
        if (asked === this.asked && !this.ended) this.show(found, "");
      } catch (error) {
        // What is typed may be half of a selector.
        if (!(error instanceof ApiError) || error.status !== 400) throw error;
        if (asked === this.asked && !this.ended) this.show({ data: [], total: 0 }, error.message);
      }
    });
  }

  show({ data, total }, fault) {
    this.fault.hidden = !fault;
    text(this.fault, fault);
    this.rows.replaceChildren(...data.map(row));
    this.table.hidden = !data.length;
    this.empty.hidden = data.length > 0 || Boolean(fault);
    const filtered = Object.values(this.wanted).some(Boolean);
    text(this.empty, filtered ? "No gateway fits." : "No gateway is known yet: each is that was put here, or that a job went to.");
    this.make.hidden = !data.length;
    const offset = (this.page - 1) * PAGE;
    text(this.range, total ? `${number(Math.min(offset + 1, total))}–${number(offset + data.length)} of ${plural(total, "gateway")}` : "");
    this.back.disabled = this.page === 1;
    this.on.disabled = offset + PAGE >= total;
  }

  tick() {
    this.seconds += 1;
    if (this.seconds >= AGAIN_S && document.visibilityState === "visible") this.load();
  }

  end() {
    this.ended = true;
    this.live.end();
    clearTimeout(this.timer);
  }
}

function row({ name, labels, note, connected, registered, lastResult }) {
  const words = [{ true: "connected", false: "away" }[connected], { true: "registered", false: "not registered" }[registered]];
  const last = lastResult && [status(lastResult.status), lastResult.code === null ? "" : ` ${lastResult.code}`];
  const cells = [
    el("a", { href: `#/${queryOf({ destination: name })}`, title: "To its jobs" }, name),
    words.filter(Boolean).join(", "),
    last ?? "",
    Object.entries(labels).sort().map(([key, value]) => el("code", { class: "label" }, value ? `${key}=${value}` : key)),
    note ?? "",
  ];
  return el("tr", {}, cells.map((cell) => el("td", {}, ...[cell].flat())));
}

/** The names of the gateways that fit. */
export async function namesOf({ match, selector }) {
  const names = [];
  for (let offset = 0, total = 1; offset < total; offset += 5000) {
    const found = await call("GET", `/gateways${queryOf({ match, selector, limit: 5000, offset })}`);
    total = found.total;
    names.push(...found.data.map(({ name }) => name));
  }
  return names;
}
