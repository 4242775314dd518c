// @ts-check
/** @file The list of sessions. */

import { element, icon, setAttribute } from "./dom.js";
import { keyedList } from "./keyed.js";

/** @typedef {import("./types.js").SessionSummary} SessionSummary */

/** @type {Record<string, string>} */
const STATUS_WORDS = {
  idle: "Idle",
  running: "Running",
  interrupted: "Waiting for a decision",
  closed: "Closed",
};

/** @type {[number, Intl.RelativeTimeFormatUnit][]} Seconds of each unit, largest first. */
const UNITS = [
  [86_400, "day"],
  [3600, "hour"],
  [60, "minute"],
];

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

/**
 * @param {string} created RFC 3339.
 * @param {number} nowMs
 * @returns {string}
 */
export function ageOf(created, nowMs) {
  const seconds = (nowMs - Date.parse(created)) / 1000;
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [0, null];
  return unit === null ? "just now" : relative.format(-Math.floor(seconds / size), unit);
}

/**
 * @param {SessionSummary} session
 * @returns {string}
 */
export function titleOf({ title, metadata }) {
  return title || metadata?.title || "Untitled session";
}

/**
 * @param {{list: HTMLElement, empty: HTMLElement, more: HTMLElement}} places
 * @param {(session: SessionSummary) => void} remove
 */
export function sessionsView({ list, empty, more }, remove) {
  const show = keyedList(
    list,
    (/** @type {SessionSummary & {current: boolean, age: string}} */ one) => one.session_id,
    (first) => {
      const dot = element("span", { class: "dot" });
      const title = element("span", { class: "session-title" });
      const meta = element("span", { class: "session-meta" });
      const status = element("span", { class: "visually-hidden" });
      const href = `#/s/${first.session_id}`;
      const link = element("a", { href, class: "session-link" }, dot, title, meta, status);
      const bin = element(
        "button",
        { type: "button", class: "button-icon session-delete" },
        icon("bin"),
      );
      return {
        node: element("li", { class: "session", "data-session-id": first.session_id }, link, bin),
        update(session) {
          const name = titleOf(session);
          setAttribute(link, "aria-current", session.current ? "page" : null);
          setAttribute(dot, "data-status", session.status);
          setAttribute(bin, "aria-label", `Delete ${name}`);
          bin.onclick = () => remove(session);
          title.textContent = name;
          meta.textContent = `${session.agent} · ${session.age}`;
          status.textContent = STATUS_WORDS[session.status] ?? session.status;
        },
      };
    },
  );

  return {
    /**
     * @param {readonly SessionSummary[]} sessions
     * @param {string | null} current
     * @param {boolean} hasMore
     */
    render(sessions, current, hasMore) {
      const now = Date.now();
      show(
        sessions.map((session) => ({
          ...session,
          current: session.session_id === current,
          age: ageOf(session.created_at, now),
        })),
      );
      empty.hidden = sessions.length > 0;
      more.hidden = !hasMore;
    },
  };
}
