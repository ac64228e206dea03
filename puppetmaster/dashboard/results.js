// Equal results folded into groups, and how the others differ from the largest good one.

import { call } from "./api.js";
import { el, icon, plural } from "./dom.js";

const AGAIN_MS = 2000;
const SHOWN_NAMES = 40;

export class Results {
  constructor(jobId) {
    this.jobId = jobId;
    this.element = el("div", { class: "results" }, el("p", { class: "muted" }, "Loading …"));
    this.open = new Set();
  }

  /** Look again, but not for each change of a job: folding reads all of it. */
  draw(force = false) {
    if (!this.element.isConnected || this.busy) return;
    const left = force ? 0 : (this.readAt ?? 0) + AGAIN_MS - Date.now();
    if (left > 0) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.draw(), left);
      return;
    }
    this.busy = true;
    this.load().finally(() => {
      this.busy = false;
      this.readAt = Date.now();
    });
  }

  async load() {
    try {
      const { data } = await call("GET", `/jobs/${this.jobId}/results?diff=true`);
      const said = JSON.stringify(data);
      if (said !== this.said) this.show(data);
      this.said = said;
    } catch (error) {
      this.element.replaceChildren(el("p", { class: "fault" }, error.message));
    }
  }

  show(groups) {
    this.element.replaceChildren(
      el("p", { class: "muted" }, `${plural(groups.length, "different result")}, the most frequent first.`),
      ...groups.map((group) => this.group(group)));
  }

  group(group) {
    const { result } = group.sample;
    const key = `${group.status} ${group.code} ${JSON.stringify(group.diff ?? null)}`;
    const more = group.destinations.length - SHOWN_NAMES;
    const said = result.message ?? (result.data === undefined ? "no answer" : JSON.stringify(result.data));
    const details = el("details", { open: this.open.has(key) },
      el("summary", {},
        icon("more"),
        el("b", { class: "count" }, String(group.count)),
        el("span", { class: `status s-${group.status}` }, icon(group.status), group.status),
        group.code === null || group.code === undefined ? null : el("span", { class: "code" }, String(group.code)),
        el("span", { class: "said" }, said)),
      el("h4", {}, "Gateways"),
      el("p", { class: "names" }, group.destinations.slice(0, SHOWN_NAMES).map((name) => el("code", {}, name)),
        more > 0 ? el("span", { class: "muted" }, ` and ${more} more`) : null),
      group.diff?.length ? difference(group.diff) : null,
      result.data === undefined ? null : el("h4", {}, "The answer of one of them"),
      result.data === undefined ? null : el("pre", { tabindex: "0", "aria-label": "Sample answer" }, JSON.stringify(result.data, null, 2)));
    details.addEventListener("toggle", () => this.open[details.open ? "add" : "delete"](key));
    return details;
  }

  end() {
    clearTimeout(this.timer);
  }
}

function difference(diff) {
  const value = (one, side) => (side in one ? JSON.stringify(one[side]) : "absent");
  return el("table", { class: "diff" },
    el("caption", {}, "How it differs from the most frequent good answer"),
    el("thead", {}, el("tr", {}, ["Where", "Good", "Here"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, diff.map((one) => one.message
      ? el("tr", {}, el("td", { colspan: "3" }, one.message))
      : el("tr", {}, el("th", { scope: "row" }, one.path || "the whole"), el("td", {}, value(one, "good")), el("td", {}, value(one, "here"))))));
}
