// @ts-check
/** @file The conversation: items of the session, what waits, and how the run stands. */

import { element, icon, setAttribute } from "./dom.js";
import { grouped } from "./grouped.js";
import { keyedList } from "./keyed.js";
import { showApproval } from "./view-approval.js";
import { showGraph } from "./view-graph.js";
import { showMessage, showReasoning } from "./view-message.js";
import { showNested } from "./view-nested.js";
import { queueView } from "./view-queue.js";
import { showTool } from "./view-tool.js";

/** @typedef {import("./grouped.js").Laid} Laid */
/** @typedef {import("./types.js").AgentInfo} AgentInfo */
/** @typedef {import("./types.js").GraphShape} GraphShape */
/** @typedef {import("./types.js").ViewState} ViewState */
/** @typedef {import("./outgoing.js").Outgoing} Outgoing */

/** Closer to the end than this, in pixels, a reader means to follow the text. */
const NEAR_END_PX = 48;

/**
 * @param {{log: HTMLElement, items: HTMLElement, waiting: HTMLElement, footer: HTMLElement,
 *   jump: HTMLElement}} places
 * @param {{decide: Parameters<typeof showApproval>[0], proceed: () => void,
 *   queue: Parameters<typeof queueView>[1]}} actions
 */
export function timelineView({ log, items, waiting, footer, jump }, actions) {
  let following = true;
  /** @type {Map<string, GraphShape>} */
  const shapes = new Map();
  /** @type {Set<() => void>} */
  const refreshes = new Set();
  const showItems = keyedList(items, (/** @type {Laid} */ item) => item.key, show);
  const queue = queueView(waiting, actions.queue);

  /**
   * @param {Laid} item
   * @returns {import("./keyed.js").Shown<any>}
   */
  function show(item) {
    switch (item.kind) {
      case "message":
        return showMessage(item);
      case "tool":
        return showTool();
      case "approval":
        return showApproval(actions.decide);
      case "graph":
        return showGraph((name) => shapes.get(name) ?? null, refreshes);
      case "nested":
        return showNested(show);
      default:
        return showReasoning();
    }
  }

  function follow() {
    if (items.childElementCount > 0) log.scrollTop = log.scrollHeight;
    setFollowing(true);
  }

  /** @param {boolean} now */
  function setFollowing(now) {
    following = now;
    jump.hidden = now;
  }

  log.addEventListener("scroll", () => {
    if (items.childElementCount === 0) return; // it was the page without a conversation
    setFollowing(log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX);
  });
  jump.addEventListener("click", () => {
    follow();
    log.focus({ preventScroll: true });
  });
  // The composer grows, the phone turns, a font arrives: whoever was at the end stays there.
  new ResizeObserver(() => following && follow()).observe(log);

  return {
    follow,
    /** Another session is shown: forget where the last one was scrolled to. */
    start() {
      showItems([]);
      refreshes.clear();
      queue.render([], []);
      log.scrollTop = 0;
      setFollowing(true);
    },
    /**
     * Know what graphs look like before they run.
     * @param {readonly AgentInfo[]} agents
     */
    offer(agents) {
      for (const { name, graph } of agents) if (graph !== undefined) shapes.set(name, graph);
      for (const refresh of refreshes) refresh();
    },
    /**
     * @param {ViewState} state
     * @param {readonly Outgoing[]} outgoing
     */
    render(state, outgoing) {
      showItems(grouped(state.items));
      queue.render(state.queue, outgoing);
      renderFooter(footer, state, actions.proceed);
      if (following) follow();
    },
  };
}

/**
 * How the last run stands, when its messages do not say it themselves.
 * @param {HTMLElement} footer
 * @param {ViewState} state
 * @param {() => void} proceed
 */
function renderFooter(footer, { run, items, activity, status }, proceed) {
  const busy = isBusy(items.at(-1));
  const asked = items.some((item) => item.kind === "approval" && item.decision === null);
  const words = footerWords(run?.status ?? "", run?.error?.message ?? null, activity);
  const hidden =
    words === null || status === "closed" || (run?.status === "running" && busy) || asked;
  const kind = hidden ? "none" : (run?.status ?? "none");
  const content = `${kind}:${words}`;
  if (footer.dataset.content === content) return;
  footer.dataset.content = content;
  setAttribute(footer, "data-kind", kind);
  footer.replaceChildren();
  if (hidden || words === null) return;
  const resumable = kind === "cancelled" || kind === "failed";
  footer.append(
    resumable ? icon(kind === "failed" ? "alert" : "stop") : dots(),
    element("span", { class: "footer-text" }, words),
  );
  if (!resumable) return;
  const attributes = { type: "button", class: "button-quiet", "data-testid": "continue" };
  footer.append(element("button", { ...attributes, click: proceed }, icon("play"), "Continue"));
}

/**
 * @param {import("./types.js").Item | undefined} item
 * @returns {boolean} Whether it shows by itself that the run goes on.
 */
function isBusy(item) {
  if (item?.kind === "graph") return item.nodes.some(({ status }) => status === "running");
  return item !== undefined && "status" in item && /streaming|writing|running/.test(item.status);
}

/**
 * @param {string} status
 * @param {string | null} error
 * @param {string | null} activity
 * @returns {string | null}
 */
function footerWords(status, error, activity) {
  switch (status) {
    case "queued":
      return "Starting";
    case "running":
      return activity ?? "Working";
    case "interrupted":
      return "Waiting for your decision";
    case "cancelled":
      return "Stopped.";
    case "failed":
      return error ?? "The run failed.";
    default:
      return null;
  }
}

function dots() {
  return element(
    "span",
    { class: "dots", "aria-hidden": "true" },
    element("i"),
    element("i"),
    element("i"),
  );
}
