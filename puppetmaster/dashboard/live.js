// A WebSocket that comes back by itself, and notices when nobody is at its other end.

import { ApiError, call, token } from "./api.js";
import { parse } from "./json.js";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;
const CHECK_MS = 3000;
const PATIENCE_MS = 4000;
const QUIET_MS = 10_000;
const MEANWHILE_MS = 1500;

/**
 * Follows a WebSocket. `opened()` is called each time it begins anew, after a loss or a gap too: whatever
 * is shown is to be loaded then. `frame(job)` gets what follows, `gone()` says that there is no such job,
 * `same()` whether the gateway still says what is shown. `state` hears of the connection and of its health.
 */
export class Live {
  constructor(path, { opened = () => {}, frame = () => {}, gone = () => {}, same = async () => true, state }) {
    Object.assign(this, { path, opened, frame, gone, same, state });
    this.waitMs = FIRST_WAIT_MS;
    this.ended = false;
    this.socket = null;
    this.heard();
    this.checks = setInterval(() => this.check(), CHECK_MS);
    this.seen = () => this.check();
    document.addEventListener("visibilitychange", this.seen);
    this.connect();
  }

  heard() {
    this.heardAt = Date.now();
  }

  async connect() {
    // Asks for the token too, where one is needed: a refused WebSocket cannot say why.
    const answered = await this.ask();
    if (this.ended) return;
    if (!answered) {
      this.lost();
      return;
    }
    const known = token();
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, known ? ["puppetmaster", `token.${known}`] : ["puppetmaster"]);
    this.socket = socket;
    this.frameAt = performance.now();
    let seq = 0;
    socket.onopen = () => {
      this.waitMs = FIRST_WAIT_MS;
      this.heard();
      this.state({ connected: true });
      this.opened();
    };
    socket.onmessage = (event) => {
      this.heard();
      this.frameAt = performance.now();
      const job = parse(event.data);
      seq += 1;
      if (job.seq === seq) this.frame(job);
      else this.again(); // something is missing
    };
    socket.onclose = (event) => {
      if (event.code === 4404) this.gone();
      else this.lost();
    };
  }

  /** Ask how the gateway is: whether it answers. */
  async ask() {
    try {
      const { data } = await call("GET", "/system/puppetmaster", undefined, { patienceMs: PATIENCE_MS });
      this.heard();
      if (!this.ended) this.state({ health: data });
    } catch (error) {
      if (!(error instanceof ApiError)) return false;
      if (!this.ended) this.state({ trouble: error.message });
    }
    return true;
  }

  /** A process that hangs, or a network that is gone, closes no WebSocket: so it is asked now and then. */
  async check() {
    const { socket } = this;
    if (!socket || this.checking || document.hidden) return;
    this.checking = true;
    const answered = await this.ask();
    const quiet = performance.now() - this.frameAt > QUIET_MS;
    if (socket === this.socket && !answered) this.lost();
    else if (socket === this.socket && quiet) await this.compare(socket);
    this.checking = false;
  }

  /** It answers, but the WebSocket has been quiet: is that because nothing happened? */
  async compare(socket) {
    const before = this.frameAt = performance.now();
    if (await this.same().catch((error) => error.status !== 404)) return;
    await new Promise((done) => { setTimeout(done, MEANWHILE_MS); });
    if (socket === this.socket && before === this.frameAt) this.again();
  }

  lost() {
    this.drop();
    this.state({ connected: false, since: this.heardAt });
    this.later();
  }

  again() {
    this.drop();
    this.later();
  }

  later() {
    this.timer = setTimeout(() => this.connect(), this.waitMs * (0.75 + Math.random() / 2));
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
  }

  /** Let go of the WebSocket; it need not answer to that. */
  drop() {
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Closed while it opens, a browser would complain.
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket.close();
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    clearInterval(this.checks);
    document.removeEventListener("visibilitychange", this.seen);
    this.drop();
  }
}
