// @ts-check
/** @file What waits for its turn: inputs in the queue, which can be moved and dropped. */

import { element, icon, setAttribute } from "./dom.js";
import { keyedList } from "./keyed.js";

/** @typedef {import("./types.js").Queued} Queued */
/** @typedef {import("./outgoing.js").Outgoing} Outgoing */

/**
 * One that waits. `earlier` and `later` are the first runs of the queue as they would be if this one
 * moved; null where it cannot. Without a `runId` it is still on its way to the server.
 * @typedef {{key: string, text: string, label: string, runId: string | null,
 *   earlier: readonly string[] | null, later: readonly string[] | null}} Waiting
 */

/**
 * @param {readonly Queued[]} queue
 * @param {number} place
 * @returns {readonly string[] | null} The first runs, with those at this place and before it swapped.
 */
function swapped(queue, place) {
  if (place <= 0 || place >= queue.length) return null;
  const runs = queue.slice(0, place + 1).map(({ run_id: runId }) => runId);
  return [...runs.slice(0, -2), runs[place], runs[place - 1]];
}

/**
 * @param {readonly Queued[]} queue
 * @param {readonly Outgoing[]} outgoing
 * @returns {Waiting[]}
 */
export function waitingOf(queue, outgoing) {
  const queued = queue.map(({ run_id: runId, message_id: key, text, policy }, index) => {
    const what = policy === "steer" ? "For the agent's next step" : "Queued";
    const ways = { earlier: swapped(queue, index), later: swapped(queue, index + 1) };
    return { key, text, runId, label: `${what}, number ${index + 1}`, ...ways };
  });
  const sending = outgoing.map(({ id: key, text }) => {
    return { key, text, runId: null, label: "Sending…", earlier: null, later: null };
  });
  return [...queued, ...sending];
}

/**
 * @param {HTMLElement} place Holds what waits, and nothing else.
 * @param {{drop: (runId: string) => void, order: (runIds: readonly string[]) => void,
 *   focus: () => void}} actions `focus` moves it to where one goes on when nothing is left.
 */
export function queueView(place, actions) {
  const show = keyedList(place, (/** @type {Waiting} */ { key }) => key, showOne);

  /** @returns {import("./keyed.js").Shown<Waiting>} */
  function showOne() {
    /** @type {Waiting | null} */
    let current = null;
    const label = element("span", { class: "waiting-label" });
    const text = element("p", { class: "message-text" });
    const earlier = button("chevron", "queue-up", () => move(current?.earlier));
    const later = button("chevron", "queue-down", () => move(current?.later));
    const drop = button("close", "queue-drop", () => {
      if (current?.runId) actions.drop(current.runId);
    });
    const node = element(
      "article",
      { class: "message message-user message-waiting" },
      element(
        "div",
        { class: "message-body" },
        text,
        element("div", { class: "waiting" }, label, earlier, later, drop),
      ),
    );
    return {
      node,
      update(one) {
        current = one;
        setAttribute(node, "data-testid", one.runId === null ? "outgoing" : "queued");
        text.textContent = one.text;
        label.textContent = one.label;
        for (const button of [earlier, later, drop]) button.hidden = one.runId === null;
        name(earlier, "Move up", one);
        name(later, "Move down", one);
        name(drop, "Remove from the queue", one);
        // Not `disabled`: whoever has just moved it to the end keeps the focus there.
        setAttribute(earlier, "aria-disabled", one.earlier === null);
        setAttribute(later, "aria-disabled", one.later === null);
      },
    };
  }

  /** @param {readonly string[] | null | undefined} order */
  function move(order) {
    if (order) actions.order(order);
  }

  return {
    /**
     * @param {readonly Queued[]} queue
     * @param {readonly Outgoing[]} outgoing
     */
    render(queue, outgoing) {
      const focused = document.activeElement;
      const mine = focused instanceof HTMLElement && place.contains(focused) ? focused : null;
      show(waitingOf(queue, outgoing));
      // An element that is moved loses the focus; one that is gone gives it on.
      if (mine?.isConnected) mine.focus({ preventScroll: true });
      else if (mine !== null) actions.focus();
    },
  };
}

/**
 * @param {string} picture
 * @param {string} testId
 * @param {() => void} click
 */
function button(picture, testId, click) {
  const attributes = { type: "button", class: `button-icon ${testId}`, "data-testid": testId };
  return element("button", { ...attributes, click }, icon(picture));
}

/**
 * @param {HTMLElement} button
 * @param {string} does
 * @param {Waiting} one
 */
function name(button, does, one) {
  setAttribute(button, "aria-label", `${does}: ${one.text}`);
  setAttribute(button, "title", does);
}
