// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { waitingOf } from "../../static/js/view-queue.js";

/**
 * @param {string} name
 * @param {"enqueue" | "steer"} [policy]
 */
function queued(name, policy = "enqueue") {
  return { run_id: name, command_id: name, text: name, message_id: `msg_${name}`, policy };
}

test("one that waits can go one place up or down, as far as there is one", () => {
  const [a, b, c] = waitingOf([queued("a"), queued("b"), queued("c")], []);
  assert.deepEqual([a.earlier, a.later], [null, ["b", "a"]]);
  assert.deepEqual([b.earlier, b.later], [
    ["b", "a"],
    ["a", "c", "b"],
  ]);
  assert.deepEqual([c.earlier, c.later], [["a", "c", "b"], null]);
});

test("each says how it waits, and what is on its way cannot be moved", () => {
  const outgoing = [{ id: "c9", text: "soon", runId: null }];
  const waiting = waitingOf([queued("a"), queued("b", "steer")], outgoing);
  assert.deepEqual(
    waiting.map(({ label }) => label),
    ["Queued, number 1", "For the agent's next step, number 2", "Sending…"],
  );
  assert.deepEqual([waiting[2].earlier, waiting[2].later, waiting[2].runId], [null, null, null]);
});
