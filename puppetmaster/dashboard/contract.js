// Made by schema/generate.py from the description of the API.

export const METHODS = ["get", "post", "put", "delete"];
export const DONE = ["resolved", "error", "timeout", "unknown", "canceled", "skipped"];
export const OPEN = ["pending", "sent"];
export const FAILURES = ["error", "timeout", "unknown"];
export const JOB_STATUSES = ["pending", "dispatching", "paused", "resolved", "canceled", "aborted", "timeout"];
export const SOURCES = {"device": "the device", "remote": "the remote bundle", "controller": "the controller", "puppetmaster": "puppetmaster itself"};
export const WAYS = {"remote": "through the remote bundle", "direct": "directly to the gateway"};
export const ROLES = ["viewer", "operator", "admin"];
export const HAPPENED = {"created": "created", "due": "its time to start has come", "started": "started: its first request was sent", "paused": "paused", "resumed": "resumed", "gateClosed": "the gate behind wave {wave} closed", "waveOpened": "wave {wave} opened", "canceled": "canceled", "aborted": "stopped: aborted", "timeout": "stopped: its time is over", "ended": "ended: {status}"};
