// The waves of a job in a strip, with the gates between them.

import { el, icon, number, plural } from "./dom.js";

/** The numbers of requests at which each wave ends, from what was given: `[1, "10%", "100%"]`. */
export function waveEnds(given, total) {
  const ends = given.map((one) => typeof one === "string"
    ? Math.max(1, Math.ceil(Number(((total * parseFloat(one)) / 100).toFixed(9)))) : one);
  return [...new Set([...ends.map((end) => Math.min(end, total)), total])].sort((a, b) => a - b);
}

export class Waves {
  constructor(rows) {
    this.rows = rows;
    this.strip = el("ol", { class: "waves" });
    this.element = el("section", { hidden: true, "aria-label": "Waves" }, this.strip);
  }

  update(job) {
    this.element.hidden = !job.waves;
    if (!job.waves) return;
    const said = JSON.stringify([this.rows.version, job.wave, job.gateStatus, job.status]);
    if (said === this.said) return;
    this.said = said;
    const ends = waveEnds(job.waves, job.totalCount);
    const parts = ends.flatMap((end, index) => {
      const wave = this.wave(job, index, ends[index - 1] ?? 0, end);
      return index === 0 ? [wave] : [gate(job, index), wave];
    });
    this.strip.replaceChildren(...parts);
  }

  wave(job, index, from, to) {
    let done = 0;
    let failed = 0;
    for (let at = from; at < to; at += 1) {
      const inner = this.rows.items[at]?.__request;
      if (inner?.finishedAt) done += 1;
      if (inner?.finishedAt && inner.status !== "resolved") failed += 1;
    }
    const open = job.wave ?? 1;
    const finished = done === to - from;
    const state = finished ? (failed ? "failed" : "done") : index + 1 === open ? "open" : "ahead";
    const words = { done: "done", failed: `done, ${number(failed)} failed`, open: `${number(done)} done`, ahead: "waits" };
    const meter = el("i", { class: "meter" });
    meter.style.width = `${(done / (to - from)) * 100}%`;
    return el("li", { class: `wave ${state}`, "aria-current": index + 1 === open && !job.finishedAt ? "step" : null },
      el("b", {}, `Wave ${index + 1}`), el("span", {}, plural(to - from, "request")), el("span", { class: "muted" }, words[state]), meter);
  }
}

/** The gate in front of the wave at `index`. */
function gate(job, index) {
  const open = job.wave ?? 1;
  const here = index === open ? job.gateStatus : null;
  const state = index < open ? "passed" : here ?? "ahead";
  const words = { passed: "passed", soak: "soaking", closed: "closed", ahead: "gate" };
  const { errors = 0, soak = 0 } = job.gate ?? {};
  const rule = `At most ${errors} failures, then ${soak} s of waiting`;
  return el("li", { class: `gate ${state}`, title: rule }, icon("gate"), el("span", {}, words[state]), el("span", { class: "unseen" }, `. ${rule}`));
}
