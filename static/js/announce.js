// @ts-check
/** @file What a screen reader is told: changes of the run and the connection, not every word. */

/** @typedef {import("./types.js").ViewState} ViewState */
/** @typedef {import("./types.js").ConnectionStatus} ConnectionStatus */

/** @type {Record<string, string>} */
const RUN_WORDS = {
  running: "The agent is answering.",
  interrupted: "The agent waits for your approval.",
  cancelled: "The answer was stopped.",
  failed: "The run failed.",
};

/** @type {Partial<Record<ConnectionStatus["state"], string>>} */
const CONNECTION_WORDS = {
  reconnecting: "The connection was lost. Reconnecting.",
  offline: "You are offline.",
  stopped: "The connection has ended.",
};

/** @param {HTMLElement} region A polite live region. */
export function announcer(region) {
  let run = "";
  let connection = "";
  return {
    /**
     * @param {ViewState | null} state
     * @param {ConnectionStatus | null} status
     */
    render(state, status) {
      const runNow = state?.run ? `${state.run.run_id} ${state.run.status}` : "";
      if (runNow !== run) {
        run = runNow;
        const answer = state?.items.findLast((item) => item.kind === "message");
        const done = answer?.kind === "message" ? `Answer complete: ${answer.text}` : "";
        const ended = state?.run?.status ?? "";
        region.textContent = ended === "completed" ? done : (RUN_WORDS[ended] ?? "");
      }
      if (status !== null && status.state !== connection) {
        const words = CONNECTION_WORDS[status.state];
        if (words !== undefined) region.textContent = words;
        connection = status.state;
      }
    },
  };
}
