// What a job holds: what was sent, with its data, and the job as the API has it.

import { copy } from "./dialogs.js";
import { el, text } from "./dom.js";
import { folded } from "./reach.js";
import { number, plural } from "./words.js";

const MOST = 50;

export class Data {
  constructor(rows) {
    this.rows = rows;
    this.commands = el("div", { class: "commands" });
    this.json = el("pre", { tabindex: "0", "aria-label": "The job as JSON" });
    const copied = el("button", { type: "button", onclick: async () => {
      await copy(this.json.textContent, this.element);
      text(copied, "Copied");
      setTimeout(() => text(copied, "Copy as JSON"), 1500);
      copied.focus();
    } }, "Copy as JSON");
    this.element = el("div", { class: "data" },
      el("h2", {}, "What is sent"), this.commands,
      el("h2", {}, "The job"),
      el("p", { class: "muted" }, "As the API has it, without its requests."), this.json, el("div", { class: "actions" }, copied));
  }

  draw(job) {
    const { requests, collection, seq, ...own } = job;
    text(this.json, JSON.stringify(own, null, 2));
    // What is sent does not change.
    if (this.shown === this.rows.loaded) return;
    this.shown = this.rows.loaded;
    const groups = new Map();
    for (const request of this.rows.items) {
      if (!request) continue;
      const key = JSON.stringify([request.method, request.resource, request.data]);
      if (groups.has(key)) groups.get(key).push(request);
      else groups.set(key, [request]);
    }
    const all = [...groups.values()];
    const more = all.length - MOST;
    this.commands.replaceChildren(
      ...this.shown < this.rows.items.length ? [el("p", { class: "muted" }, `Loading ${number(this.shown)} of ${number(this.rows.items.length)} …`)] : [],
      ...all.slice(0, MOST).map(command),
      ...more > 0 ? [el("p", { class: "muted" }, `${plural(more, "other command is", "other commands are")} in the export.`)] : []);
  }
}

function command(requests) {
  const [{ method, resource, data }] = requests;
  const command = `${method.toUpperCase()} ${resource}`;
  return el("section", {},
    el("p", { class: "command" }, el("b", {}, method.toUpperCase()), ` ${resource}`),
    el("p", { class: "muted" }, `${plural(requests.length, "request")} to `, folded(requests)),
    el("pre", { tabindex: "0", "aria-label": `Data of ${command}` }, JSON.stringify(data, null, 2)));
}
