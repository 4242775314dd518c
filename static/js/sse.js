// @ts-check
/**
 * @file Server-sent events with `fetch`; commands go by POST.
 *
 * The browser's own `EventSource` hides what a client has to know: the comments that show that a
 * quiet stream is alive, the status and the `Retry-After` of a refusal, and when it comes back.
 */

import { postCommand, sessionPath } from "./api.js";
import { BROKEN, afterAnswer } from "./endings.js";
import { eventStreamDecoder } from "./event-stream.js";
import { problemOf } from "./failure.js";

/** @typedef {import("./types.js").Down} Down */
/** @typedef {import("./types.js").Listener} Listener */

/** A comment comes at least this often, in seconds (PROTOCOL.md, sse.keepalive). */
const HEARTBEAT_SECONDS = 15;

/**
 * @param {Listener} listener
 * @param {AbortSignal} signal
 * @returns {Promise<Down>} How the stream ended.
 */
async function listen({ sessionId, after, onUp, onAlive, onRetry, onFrame }, signal) {
  const query = after === null ? "" : `?${new URLSearchParams({ after })}`;
  const response = await fetch(`${sessionPath(sessionId)}/events${query}`, {
    headers: { Accept: "text/event-stream" },
    cache: "no-store",
    signal,
  });
  if (response.status !== 200 || response.body === null) {
    return afterAnswer(await problemOf(response), after !== null);
  }
  onUp(HEARTBEAT_SECONDS);
  const decode = eventStreamDecoder();
  const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await pieces.read();
    if (done) return BROKEN;
    onAlive();
    for (const { data, retryMs } of decode(value)) {
      if (retryMs !== null) onRetry(retryMs / 1000);
      if (data !== null) onFrame(JSON.parse(data));
    }
  }
}

/** @type {import("./types.js").Transport} */
export function openSse(listener) {
  const abort = new AbortController();
  listen(listener, abort.signal)
    .catch(() => BROKEN)
    .then((down) => abort.signal.aborted || listener.onDown(down));
  return {
    send: (command) => postCommand(listener.sessionId, command),
    probe: () => {}, // the server shows by itself that it is there
    close: () => abort.abort(),
  };
}
