// @ts-check
/** @file The line above the conversation. */

import { setAttribute } from "./dom.js";

/** @typedef {import("./types.js").ViewState} ViewState */

const PRODUCT = "Tidegate";

/** @type {Record<string, string>} */
const STATUS_WORDS = {
  queued: "Starting",
  running: "Running",
  stopping: "Stopping",
  interrupted: "Waiting for you",
  completed: "Done",
  failed: "Failed",
  cancelled: "Stopped",
};

const number = new Intl.NumberFormat("en");

/** @param {{title: HTMLElement, status: HTMLElement, usage: HTMLElement}} places */
export function headingView({ title, status, usage }) {
  return {
    /**
     * @param {ViewState | null} state
     * @param {boolean} isNew
     */
    render(state, isNew) {
      const first = state?.items.find((item) => item.kind === "message" && item.role === "user");
      const said = first?.kind === "message" ? first.text : "";
      const name = isNew
        ? "New session"
        : state?.title || said || (state ? "Untitled session" : "…");
      title.textContent = name;
      document.title = isNew ? PRODUCT : `${name} · ${PRODUCT}`;
      const run = state?.run ?? null;
      const stands = run?.stopping ? "stopping" : (run?.status ?? "");
      const words = state?.status === "closed" ? "Closed" : STATUS_WORDS[stands];
      setAttribute(status, "data-status", run?.status);
      status.hidden = words === undefined;
      const again = run !== null && run.attempt > 1 ? `, attempt ${run.attempt}` : "";
      status.textContent = `${words}${again}`;
      const tokens = state?.usage ?? null;
      usage.hidden = tokens === null;
      if (tokens === null) return;
      const { prompt_tokens: asked, completion_tokens: answered, total_tokens: all } = tokens;
      usage.textContent = `${number.format(all)} tokens`;
      usage.title = `${number.format(asked)} read by models, ${number.format(answered)} written`;
    },
  };
}
