// @ts-check
/** @file The connection in sight: transport, state, cursor, and the button that cuts it. */

import { setAttribute } from "./dom.js";

/** @typedef {import("./types.js").ConnectionStatus} ConnectionStatus */
/** @typedef {import("./types.js").TransportName} TransportName */

/** @type {Record<TransportName, string>} */
const NAMES = { sse: "SSE", websocket: "WebSocket" };

/** @type {Record<ConnectionStatus["state"], string>} */
const SENTENCES = {
  connected: "Live. Events arrive as they are written.",
  connecting: "Opening a stream from the cursor.",
  reconnecting: "The run goes on; the stream comes back at the cursor.",
  offline: "No network. The stream comes back at the cursor.",
  stopped: "This stream has ended.",
};

/**
 * @param {{pill: HTMLElement, state: HTMLElement, over: HTMLElement, sentence: HTMLElement,
 *   cursor: HTMLElement, seq: HTMLElement, attempt: HTMLElement, reconnects: HTMLElement,
 *   duplicates: HTMLElement, copy: HTMLButtonElement, cut: HTMLButtonElement,
 *   transports: Record<TransportName, HTMLButtonElement>}} places
 * @param {{choose: (transport: TransportName) => void, cut: () => void,
 *   copy: (text: string) => void}} actions
 */
export function connectionView(places, actions) {
  const { transports, cut, copy, cursor } = places;
  transports.sse.addEventListener("click", () => actions.choose("sse"));
  transports.websocket.addEventListener("click", () => actions.choose("websocket"));
  cut.addEventListener("click", actions.cut);
  copy.addEventListener("click", () => actions.copy(cursor.textContent ?? ""));

  return {
    /**
     * @param {ConnectionStatus | null} connection Null while no session is open.
     * @param {TransportName} transport The chosen one.
     * @param {{cursor: string, seq: number | null} | null} position
     */
    render(connection, transport, position) {
      const state = connection?.state ?? "no session";
      setAttribute(places.pill, "data-state", connection?.state ?? "none");
      places.state.textContent = state;
      places.over.textContent = NAMES[transport];
      places.sentence.textContent =
        connection === null ? "Open a session to connect." : sentenceOf(connection);
      cursor.textContent = position?.cursor ?? "–";
      setAttribute(cursor, "title", position?.cursor);
      places.seq.textContent = String(position?.seq ?? "–");
      places.attempt.textContent = attemptOf(connection);
      places.reconnects.textContent = String(connection?.reconnects ?? 0);
      places.duplicates.textContent = String(connection?.duplicates ?? 0);
      copy.disabled = position === null;
      cut.disabled = !["connected", "connecting"].includes(connection?.state ?? "");
      for (const [name, button] of Object.entries(transports)) {
        setAttribute(button, "aria-pressed", String(name === transport));
      }
    },
  };
}

/**
 * @param {ConnectionStatus} connection
 * @returns {string}
 */
function sentenceOf({ state, reason }) {
  const sentence = SENTENCES[state];
  return reason === null ? sentence : `${reason} ${sentence}`;
}

/**
 * @param {ConnectionStatus | null} connection
 * @returns {string}
 */
function attemptOf(connection) {
  if (connection === null || connection.state === "connected") return "0";
  const { attempt, retryInSeconds } = connection;
  return retryInSeconds === null ? `${attempt}` : `${attempt}, in ${retryInSeconds.toFixed(1)} s`;
}
