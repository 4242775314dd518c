// @ts-check
/**
 * @file Server-sent events with the browser's own `EventSource`; commands go by POST.
 *
 * `EventSource` would reconnect by itself; we close it and open a new one with `after`, so that
 * when to come back is decided in one place for both transports.
 */

import { postCommand, sessionPath } from "./api.js";
import { ConnectionLost, failureOf } from "./failure.js";

/** @typedef {import("./types.js").Down} Down */

/**
 * `EventSource` hides why it was refused; the JSON form of the same page tells.
 * @param {string} sessionId
 * @param {string | null} after
 * @returns {Promise<Down>}
 */
async function askWhy(sessionId, after) {
  const query = new URLSearchParams({ after: after ?? "0", limit: "1" });
  try {
    const response = await fetch(`${sessionPath(sessionId)}/events?${query}`, {
      headers: { Accept: "application/json" },
    });
    if (response.ok) return { reconnect: true, reason: "The stream ended." };
    const failure = await failureOf(response);
    const unreadable = response.status === 400 && after !== null;
    const reconnect = unreadable || failure instanceof ConnectionLost || response.status >= 500;
    return { reconnect, reason: failure.message, forgetCursor: unreadable };
  } catch {
    return { reconnect: true, reason: "The server cannot be reached." };
  }
}

/** @type {import("./types.js").Transport} */
export function openSse({ sessionId, after, onUp, onFrame, onDown }) {
  const query = after === null ? "" : `?${new URLSearchParams({ after })}`;
  const source = new EventSource(`${sessionPath(sessionId)}/events${query}`);
  let open = true;

  function close() {
    open = false;
    source.close();
  }

  source.onopen = () => onUp();
  source.onmessage = ({ data }) => {
    // The prime frame has an id and no data; browsers do not dispatch it.
    if (open) onFrame(JSON.parse(data));
  };
  source.onerror = async () => {
    const refused = source.readyState === EventSource.CLOSED;
    source.close();
    const down = refused
      ? await askWhy(sessionId, after)
      : { reconnect: true, reason: "The connection was lost." };
    if (!open) return;
    open = false;
    onDown(down);
  };
  return { send: (command) => postCommand(sessionId, command), close };
}
