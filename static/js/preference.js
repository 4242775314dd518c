// @ts-check
/** @file What this browser remembers of its user's choices. */

/** @typedef {import("./types.js").TransportName} TransportName */

const KEY = "tidegate.transport";

/** @returns {TransportName} The transport chosen last; SSE at first, or where nothing is kept. */
export function readTransport() {
  try {
    return localStorage.getItem(KEY) === "websocket" ? "websocket" : "sse";
  } catch {
    return "sse"; // Storage is forbidden; the choice lives as long as the page.
  }
}

/** @param {TransportName} transport */
export function rememberTransport(transport) {
  try {
    localStorage.setItem(KEY, transport);
  } catch {
    // As above.
  }
}
