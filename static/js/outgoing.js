// @ts-check
/**
 * @file What was typed and is not in the log yet. Pure.
 *
 * An input is shown as "sending" until the log has it: its `command_id` was seen in an event, or
 * its ack has come and the state knows the run that it started (a snapshot names no commands).
 */

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").ViewState} ViewState */
/** @typedef {{id: string, text: string, runId: string | null}} Outgoing */

/**
 * @param {readonly Outgoing[]} outgoing
 * @param {Frame} frame
 * @returns {readonly Outgoing[]} Without what this event brought into the log.
 */
export function withoutSeen(outgoing, frame) {
  if (!frame.type.startsWith("input.")) return outgoing;
  return outgoing.filter(({ id }) => id !== frame.command_id);
}

/**
 * @param {readonly Outgoing[]} outgoing
 * @param {ViewState | null} state
 * @returns {readonly Outgoing[]} Without what the state knows.
 */
export function withoutKnown(outgoing, state) {
  if (state === null || outgoing.length === 0) return outgoing;
  const runs = new Set(state.items.map(({ runId }) => runId));
  const queued = new Set(state.queue.map(({ command_id }) => command_id));
  return outgoing.filter(
    ({ id, runId }) => !queued.has(id) && !(runId !== null && runs.has(runId)),
  );
}
