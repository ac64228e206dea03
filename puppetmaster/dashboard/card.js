// A job in the list.

import { now } from "./api.js";
import { DONE } from "./contract.js";
import { badgePlace, el, stackedBar, text } from "./dom.js";
import { age, command, duration, moment, number, tally, title, utc } from "./words.js";

const SOON_MS = 12 * 3_600_000;

/** A row of the list; `update(job)` fills it, `times(job)` goes on with the clock. */
export function jobCard() {
  const name = el("a", { class: "name" });
  const about = el("span", { class: "about muted" });
  const badge = badgePlace();
  const bar = stackedBar();
  const counts = el("span", { class: "counts" });
  const created = el("time");
  const took = el("span", { class: "took" });
  const card = el("li", { class: "job" },
    el("div", { class: "what" }, name, about), badge, bar, counts,
    el("span", { class: "created" }, el("span", { class: "unseen" }, "created "), created), took);
  card.times = (job) => {
    const since = age(now() - Date.parse(job.createdAt));
    text(created, since === "now" ? "just now" : `${since} ago`);
    text(took, lasted(job));
  };
  card.update = (job) => {
    name.href = `#/jobs/${job.id}`;
    text(name, title(job));
    text(about, [`#${job.id}`, job.name ? command(job) : ""].filter(Boolean).join(" · "));
    created.title = `created ${moment(job.createdAt)} (${utc(job.createdAt)})`;
    created.dateTime = job.createdAt;
    took.title = job.startedAt ? "" : utc(job.startAt);
    badge.update(job);
    bar.update(job.counts);
    text(counts, counted(job));
    card.times(job);
  };
  return card;
}

/** How far it is, by status. */
function counted(job) {
  const { counts, doneCount: done, totalCount: total } = job;
  const ended = tally(counts, DONE);
  if (done === total) return counts.resolved === total && total > 1 ? `all ${number(total)} resolved` : ended;
  const flight = counts.sent ? `, ${number(counts.sent)} in flight` : "";
  return `${number(done)} of ${number(total)} done${ended ? `: ${ended}` : ""}${flight}`;
}

/** How long a job has run, or when it will. */
function lasted(job) {
  if (job.finishedAt && job.startedAt) return `took ${ran(job)}`;
  if (job.startedAt) return job.status === "paused" ? `started ${ran(job)} ago` : `running for ${ran(job)}`;
  if (job.finishedAt || !job.startAt) return "not started";
  const left = Date.parse(job.startAt) - now();
  if (left <= 0) return "about to start";
  return left < SOON_MS ? `starts in ${age(Math.max(left, 5000))}` : `starts ${moment(job.startAt)}`;
}

/** From its start to its end, or to now. */
export function ran(job) {
  if (!job.startedAt) return "–";
  return duration((job.finishedAt ? Date.parse(job.finishedAt) : now()) - Date.parse(job.startedAt));
}
