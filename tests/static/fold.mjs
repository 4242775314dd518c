// @ts-check
/**
 * @file Folds logs as the page does. Each line of the input is `{events, snapshot}`; each line of the
 * output says what a page shows that saw all events, and one that came later and got the snapshot.
 */

import { createInterface } from "node:readline";

import { reduce } from "../../static/js/reduce.js";
import { fromSnapshot } from "../../static/js/snapshot.js";

/** @param {any} state */
function shown({ items, queue, status, run }) {
  return {
    status,
    run: run && { run_id: run.run_id, status: run.status },
    queue: queue.map((/** @type {any} */ { text, policy }) => [text, policy]),
    items: items
      .filter((/** @type {any} */ { kind, decision }) => kind !== "approval" || decision === null)
      // A call of a step that was cut off is seen by witnesses alone.
      .filter((/** @type {any} */ { kind, status }) => kind !== "tool" || status !== "ready")
      .map((/** @type {any} */ item) => ({
        kind: item.kind,
        text: item.text,
        messageId: item.messageId,
        runId: item.runId,
        call: item.callId,
        status: item.status,
        result: item.result,
        // Of an unknown outcome the page says the same in words of its own.
        error: item.status === "failed" ? item.error.message : undefined,
        wants: item.wants,
      })),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { events, snapshot } = JSON.parse(line);
  const nothing = { ...snapshot, run: null, queue: [], messages: [], approvals: [], usage: null };
  const empty = fromSnapshot({ ...nothing, status: "idle", open: {} });
  const witness = events.reduce(reduce, empty);
  console.log(JSON.stringify([shown(witness), shown(fromSnapshot(snapshot))]));
}
