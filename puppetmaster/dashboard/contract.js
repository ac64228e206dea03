// Made by schema/generate.py from the description of the API.

export const METHODS = ["get", "post", "put", "delete"];
export const DONE = ["resolved", "error", "timeout", "unknown", "canceled", "skipped"];
export const OPEN = ["pending", "sent"];
export const FAILURES = ["error", "timeout", "unknown"];
export const UNANSWERED = ["timeout", "unknown"];
export const JOB_STATUSES = ["pending", "dispatching", "paused", "resolved", "canceled", "aborted", "timeout"];
export const SOURCES = {"device": "the device", "remote": "the remote bundle", "controller": "the controller", "puppetmaster": "puppetmaster itself"};
export const WAYS = {"remote": "through the remote bundle", "direct": "directly to the gateway"};
export const POLICIES = {"timeout": {"form": "number", "seconds": true}, "requestTimeout": {"form": "number", "seconds": true}, "deliveryTimeout": {"form": "pause", "default": 0, "seconds": true}, "concurrency": {"form": "share"}, "rate": {"form": "number"}, "retry.attempts": {"form": "count", "default": 1}, "retry.on": {"form": "choices", "default": ["timeout", "error"]}, "retry.delay": {"form": "pause", "default": 5, "seconds": true}, "retry.factor": {"form": "number", "default": 2}, "retry.maxDelay": {"form": "pause", "default": 300, "seconds": true}, "idempotent": {"form": "flag"}, "onFail": {"form": "choice", "words": ["continue", "stop"]}, "abort.errors": {"form": "share"}, "abort.after": {"form": "count"}, "waves": {"form": "shares"}, "gate.errors": {"form": "share", "default": 0}, "gate.soak": {"form": "pause", "default": 0, "seconds": true}, "gate.onFail": {"form": "choice", "default": "pause", "words": ["abort", "pause"]}, "maintenance.cron": {"form": "text"}, "maintenance.duration": {"form": "number", "seconds": true}, "maintenance.timezone": {"form": "text", "default": "UTC"}, "startAt": {"form": "time"}, "notify": {"form": "names"}, "rerun.job": {"form": "count"}, "rerun.status": {"form": "choices", "default": ["error", "timeout", "unknown", "skipped", "canceled"]}};
export const ROLES = ["viewer", "operator", "admin"];
export const HAPPENED = {"created": "created", "due": "its time to start has come", "started": "started: its first request was sent", "paused": "paused", "resumed": "resumed", "gateClosed": "the gate behind wave {wave} closed", "waveOpened": "wave {wave} opened", "canceled": "canceled", "aborted": "stopped: aborted", "timeout": "stopped: its time is over", "ended": "ended: {status}"};
