// What requests wait for, and whether the gateways of those in flight went away. That changes without any change
// of theirs, so it is asked for now and then.

import { call } from "./api.js";
import { inZone, number, plural } from "./words.js";

const AGAIN_MS = 3000;
const MOST = 500;
const REASONS = 3;
/** Reasons that all requests of a job have that wait. */
const OF_ALL = ["paused", "start", "maintenance", "stopping", "bus", "controller", "store"];
/** Reasons that differ from one request to the next in what they name, put for many. */
const COMMON = {
  destination: "another request to the same gateway comes first",
  ourLock: "another request holds their lock",
  retry: "the last attempt failed, tried again later",
  locked: "locked by somebody else, tried again later",
  lockedThere: "locked by somebody else at the gateway, tried again later",
  lateLock: "locked by a request that was not answered in its time, tried again later",
  idUsed: "somebody else uses their message id, tried again later",
  unregistered: "the controller has just restarted and does not know their gateways yet, tried again later",
};

export class Whys {
  constructor(jobId, rows) {
    this.jobId = jobId;
    this.rows = rows;
    this.askedAt = -Infinity;
    this.fresh = [];
  }

  /** Ask about those between two ids, or, while nothing is in flight, about the first that wait. */
  async refresh(job, between, drawn) {
    if (job.finishedAt || this.busy || document.hidden) return;
    if (performance.now() - this.askedAt < AGAIN_MS) return;
    const stuck = job.counts.sent === 0;
    if (!stuck && !between) return;
    this.busy = true;
    try {
      const [from, to] = between ?? [];
      const query = stuck ? `status=pending&limit=${MOST}`
        : `limit=${Math.min(MOST, to - from + 1)}&offset=${from - this.rows.first}`;
      const { data } = await call("GET", `/jobs/${this.jobId}/requests?${query}`);
      this.rows.putWhys(data);
      if (stuck) this.fresh = data;
      drawn();
    } catch {
      // Whether anybody answers is seen elsewhere; it is asked again.
    }
    this.busy = false;
    this.askedAt = performance.now();
  }

  /** Why nothing is in flight, summed up; `end` is where the open wave ends. "" when nothing waits. */
  summary(job, end) {
    const ahead = job.totalCount - end;
    const here = job.counts.pending - ahead;
    const reasons = new Map();
    let ofAll = true;
    for (const { id, __request: inner } of this.fresh) {
      if (id - this.rows.first >= end || inner.status !== "pending" || !inner.why) continue;
      const reason = COMMON[inner.whyCode] ?? inZone(inner.why);
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      ofAll &&= OF_ALL.includes(inner.whyCode);
    }
    ofAll &&= reasons.size === 1;
    if (ofAll) reasons.set([...reasons.keys()][0], here);
    const sorted = [...reasons].sort((a, b) => b[1] - a[1]);
    const some = here > MOST && !ofAll ? `of the first ${MOST} of ${number(here)}: ` : "";
    const parts = here > 0 ? sorted.slice(0, REASONS).map(([reason, count]) => `${number(count)}: ${reason}`) : [];
    if (sorted.length > REASONS) parts.push(`${plural(sorted.length - REASONS, "more reason")}`);
    if (ahead) parts.push(`${number(ahead)}: ${job.gateStatus === "closed" ? "the gate before them is closed" : "their wave has not begun"}`);
    return parts.length ? some + parts.join("; ") : "";
  }
}
