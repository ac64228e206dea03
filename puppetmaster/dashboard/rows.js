// The requests of one job: in an array by their ids, which follow each other, and what of them is shown.

import { call } from "./api.js";
import { OPEN } from "./contract.js";
import { Steps, deciding } from "./steps.js";
import { FAILED, FAILURES, inZone, outcome } from "./words.js";

const PAGE = 2000;
/** What a gateway with several requests shows: the first of these that one of them has. */
export const WORST = [...FAILURES, ...[...OPEN].reverse(), ...FAILED.filter((status) => !FAILURES.includes(status)), "resolved"];
/** What the table is sorted by, where another order than failures first is asked for: a row's request, and the place of its first. */
const KEYS = {
  created: (_, place) => place,
  destination: (one) => one.__request.destination,
  status: (one) => WORST.indexOf(one.__request.status),
  attempts: (one) => one.__request.attempts,
  duration: (one) => took(one) ?? -1,
  result: said,
};
/** What is known of a request: nothing, that it is filtered out, or that it fits, as a failure or as another one. */
const UNSEEN = 0;
const OUT = 1;
const FITS = 2;
const FAILS = 3;

export class Rows {
  constructor() {
    this.filter = { status: new Set(), text: "" };
    this.sort = { by: null, down: false };
    /** Whether a gateway gets its requests in an order, and no more of them once one has failed. */
    this.inOrder = false;
    this.stops = false;
    this.clear([]);
  }

  clear(ids) {
    this.first = ids[0] ?? 0;
    this.items = new Array(ids.length);
    this.told = new Uint8Array(ids.length); // by the WebSocket: newer than any page
    this.loaded = 0;
    this.order = []; // places in `items` of all that are loaded, as they were sorted last
    this.commands = new Map();
    this.steps = new Steps(ids.length);
    this.changed();
  }

  /** What a job says of the order of its requests. */
  of(job) {
    this.stops = job.onFail === "stop";
    this.inOrder = this.stops || Boolean(job.waves);
  }

  /** Whether a row is a gateway with its steps; else it is a request. */
  get stepwise() {
    return this.inOrder && this.steps.several;
  }

  /** Whether all gateways are known, so that they can be counted. */
  get inGateways() {
    return this.stepwise && this.loaded === this.items.length;
  }

  /** The filter or the order is another one: all are looked at anew. */
  changed() {
    this.fit = new Uint8Array(this.items.length);
    this.keys = new Array(this.items.length);
    this.touched();
  }

  touched() {
    this.stale = true;
    this.version = (this.version ?? 0) + 1;
  }

  set(index, request) {
    this.items[index] = request;
    for (const place of this.row(index)) {
      this.fit[place] = UNSEEN;
      this.keys[place] = undefined;
    }
  }

  /** The places of all requests in the row of this one. */
  row(index) {
    return this.stepwise ? this.steps.of[index] : [index];
  }

  /** Whether this is the first request in its row. */
  leads(index) {
    return !this.stepwise || this.steps.of[index][0] === index;
  }

  /** The requests in the row of this one, in their order. */
  stepsOf({ id }) {
    return this.row(id - this.first).map((place) => this.items[place]);
  }

  /** The id of the first request in the row of this one: what stays the same while its steps go on. */
  firstOf({ id }) {
    return this.first + this.row(id - this.first)[0];
  }

  /** The rows that begin from one place to another: the requests of each. */
  between(from, to) {
    const found = [];
    for (let index = from; index < to; index += 1) {
      if (this.leads(index)) found.push(this.row(index).map((place) => this.items[place]));
    }
    return found;
  }

  put(requests, live) {
    const { stepwise } = this;
    for (const request of requests) {
      const index = request.id - this.first;
      if (index < 0 || index >= this.items.length || (!live && this.told[index])) continue;
      if (live) this.told[index] = 1;
      if (this.items[index] === undefined) {
        this.loaded += 1;
        this.order.push(index);
        const command = `${request.method.toUpperCase()} ${request.resource}`;
        this.commands.set(command, (this.commands.get(command) ?? 0) + 1);
        this.steps.add(index, request.__request.destination);
      }
      this.set(index, request);
    }
    if (this.stepwise === stepwise) this.touched();
    else this.changed();
  }

  get(id) {
    return this.items[id - this.first];
  }

  /** Load all of them in pages; `drawn` is called after each. Ends early when `wanted()` is false. */
  async load(jobId, drawn, wanted) {
    for (let offset = 0; offset < this.items.length; offset += PAGE) {
      const { data } = await call("GET", `/jobs/${jobId}/requests?limit=${PAGE}&offset=${offset}`);
      if (!wanted()) return;
      this.put(data, false);
      drawn();
    }
  }

  /** Take only why they are as they are: these were asked for, and may be older than what the WebSocket told. */
  putWhys(requests) {
    let changed = false;
    for (const { id, __request: fresh } of requests) {
      const known = this.get(id);
      if (known?.__request.status !== fresh.status || known.__request.why === fresh.why) continue;
      this.set(id - this.first, { ...known, __request: { ...known.__request, why: fresh.why } });
      changed = true;
    }
    if (changed) this.touched();
  }

  /** The requests in rows that fit the filter, by id. */
  fitting() {
    this.look();
    return this.found;
  }

  /** How many rows fit the filter, and how many there are. */
  counted() {
    const found = this.fitting();
    if (!this.stepwise) return [found.length, this.loaded];
    return [found.filter(({ id }) => this.leads(id - this.first)).length, this.steps.gateways.size];
  }

  /** A request for each row that fits, in the order that was asked for: of a gateway's steps the one that decides. */
  shown() {
    this.look();
    this.list ??= this.sort.by ? this.ordered() : this.failuresFirst();
    return this.list;
  }

  /** All requests of these rows, in the order of the rows. */
  each() {
    const shown = this.shown();
    this.all ??= this.stepwise ? shown.flatMap((request) => this.stepsOf(request)) : shown;
    return this.all;
  }

  look() {
    if (!this.stale) return;
    const { items, fit } = this;
    const wanted = this.filter.text.toLowerCase();
    this.found = [];
    for (let index = 0; index < items.length; index += 1) {
      if (items[index] === undefined) continue;
      if (fit[index] === UNSEEN) this.judge(this.row(index), wanted);
      if (fit[index] >= FITS) this.found.push(items[index]);
    }
    this.list = this.all = null; // sorted only where somebody wants to see it
    this.stale = false;
  }

  /** A row fits when one of its requests does. */
  judge(row, wanted) {
    const fits = row.some((place) => this.fits(this.items[place], wanted));
    const judged = !fits ? OUT : FAILURES.includes(this.decides(row[0]).__request.status) ? FAILS : FITS;
    for (const place of row) this.fit[place] = judged;
  }

  fits(request, wanted) {
    const { status } = this.filter;
    const inner = request.__request;
    if (status.size && !status.has(inner.status)) return false;
    return !wanted || inner.destination.toLowerCase().includes(wanted) || said(request).toLowerCase().includes(wanted);
  }

  /** All else as it was created; `ahead` is how many failures there are. */
  failuresFirst() {
    const failed = [];
    const rest = [];
    for (const { id } of this.found) {
      const index = id - this.first;
      if (this.leads(index)) (this.fit[index] === FAILS ? failed : rest).push(this.decides(index));
    }
    this.ahead = failed.length;
    return failed.concat(rest);
  }

  /** Few change at a time: the others are in their order already, and sorting them again is quick. */
  ordered() {
    const { fit, keys, order } = this;
    const key = KEYS[this.sort.by];
    const sign = this.sort.down ? -1 : 1;
    this.ahead = 0;
    for (const index of order) keys[index] ??= key(this.decides(index), this.row(index)[0]);
    order.sort((a, b) => (keys[a] < keys[b] ? -sign : keys[a] > keys[b] ? sign : a - b));
    return order.filter((index) => fit[index] >= FITS && this.leads(index)).map((index) => this.decides(index));
  }

  /** The request that says how the row of this one stands. */
  decides(index) {
    if (!this.stepwise) return this.items[index];
    const steps = this.row(index).map((place) => this.items[place]);
    return steps[deciding(steps)];
  }
}

/** What came back from a request, or what it waits for. */
export function said({ __request: inner }) {
  return inner.why ? inZone(inner.why) : outcome(inner.result);
}

/** Milliseconds from sent to the end, null while there is none. */
export function took(request) {
  const { sentAt, finishedAt } = request.__request;
  return sentAt && finishedAt ? Date.parse(finishedAt) - Date.parse(sentAt) : null;
}
