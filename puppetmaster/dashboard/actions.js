// What can be done with a job, as buttons that are there only where they apply.

import { call } from "./api.js";
import { attempt, confirm, notify } from "./dialogs.js";
import { el, text } from "./dom.js";
import { exportCsv, exportJson } from "./export.js";
import { FAILED, plural, tally } from "./words.js";

const UNSURE = ["timeout", "unknown"];

/** Whether a job was told to end and waits for what is in flight. */
export function stopping(job) {
  return Boolean(job.ending);
}

export class Actions {
  constructor(id) {
    this.id = id;
    const button = (label, work, look = "") => el("button", { type: "button", class: look, hidden: true, onclick: work }, label);
    this.buttons = {
      pause: button("Pause", () => this.put({ status: "paused" })),
      resume: button("Resume", () => this.put({ status: "dispatching" }), "primary"),
      next: button("Next wave", () => this.put({ status: "dispatching" }), "primary"),
      cancel: button("Cancel", () => this.put({ status: "canceled" })),
      force: button("Force to end", () => this.force(), "quiet danger"),
      rerun: button("Re-run failed", () => this.rerun(), "primary"),
      json: button("↓ JSON", () => exportJson(id), "quiet"),
      csv: button("↓ CSV", () => exportCsv(id), "quiet"),
      remove: button("Delete", () => this.remove(), "danger"),
    };
    this.buttons.json.setAttribute("aria-label", "Export as JSON");
    this.buttons.csv.setAttribute("aria-label", "Export as CSV");
    this.element = el("div", { class: "actions", role: "group", "aria-label": "What can be done with this job" },
      ...Object.values(this.buttons));
  }

  update(job) {
    this.job = job;
    const open = !job.finishedAt;
    const ending = stopping(job);
    const closed = job.gateStatus === "closed";
    const shown = {
      pause: open && !ending && job.status !== "paused" && !closed,
      resume: open && !ending && !closed && (job.status === "paused" || (job.status === "pending" && Boolean(job.startAt))),
      next: open && !ending && closed,
      cancel: open && !ending,
      force: open && job.counts.sent > 0,
      rerun: !open && job.errorCount > 0,
      json: true,
      csv: true,
      remove: true,
    };
    for (const [name, button] of Object.entries(this.buttons)) button.hidden = !shown[name];
    text(this.buttons.resume, job.status === "pending" ? "Start now" : "Resume");
  }

  put(body) {
    return attempt(() => call("PUT", `/jobs/${this.id}`, body));
  }

  async force() {
    const { sent, pending } = this.job.counts;
    const yes = await confirm({
      title: "Force this job to end?",
      sentence: `${plural(sent, "request")} in flight will end as unknown at once: whether ${sent === 1 ? "it" : "they"} ran `
        + "will not be known, unless a late answer tells. "
        + (pending ? `${plural(pending, "request")} that ${pending === 1 ? "waits" : "wait"} will be canceled.` : "Nothing else waits."),
      action: "Force to end",
    });
    if (yes) await this.put({ status: "canceled", force: true });
  }

  async remove() {
    const sentence = this.job.finishedAt
      ? `The job and its ${plural(this.job.totalCount, "request")} are removed for good, results too.`
      : `It still runs: it is stopped, and then removed for good with its ${plural(this.job.totalCount, "request")}.`;
    if (!(await confirm({ title: "Delete this job?", sentence, action: "Delete" }))) return;
    if (await attempt(() => call("DELETE", `/jobs/${this.id}`))) {
      notify(`Job ${this.id} was deleted.`);
      location.hash = "#/";
    }
  }

  async rerun() {
    const { counts } = this.job;
    const status = FAILED.filter((one) => counts[one]);
    const count = status.reduce((sum, one) => sum + counts[one], 0);
    const unsure = UNSURE.some((one) => counts[one]) ? " Those that ended as timeout or unknown may have run already." : "";
    const yes = await confirm({
      title: "Run them again?",
      sentence: `A new job sends ${plural(count, "request")} again: ${tally(counts, status)}.${unsure}`,
      action: `Send ${plural(count, "request")}`,
      danger: false,
    });
    if (!yes) return;
    await attempt(async () => {
      const { data } = await call("POST", "/jobs", { rerun: { job: this.id, status } });
      location.hash = `#/jobs/${data.id}`;
    });
  }
}
