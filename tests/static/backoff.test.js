// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CEILING_SECONDS,
  delaySeconds,
  nextAttempt,
  STEADY_SECONDS,
} from "../../static/js/backoff.js";

test("the first retry is jittered over the whole of half a second", () => {
  assert.equal(
    delaySeconds(0, () => 0),
    0,
  );
  assert.equal(
    delaySeconds(0, () => 0.999),
    0.999 * 0.5,
  );
});

test("the bound doubles with each failed try", () => {
  const bounds = [0, 1, 2, 3].map((attempt) => delaySeconds(attempt, () => 1));
  assert.deepEqual(bounds, [0.5, 1, 2, 4]);
});

test("the bound never passes the ceiling, however many tries failed", () => {
  for (const attempt of [6, 7, 50, 5000]) {
    assert.equal(
      delaySeconds(attempt, () => 1),
      CEILING_SECONDS,
    );
  }
});

test("only a stream that lived long enough starts the count anew", () => {
  assert.equal(nextAttempt(4, STEADY_SECONDS - 0.001), 4);
  assert.equal(nextAttempt(4, STEADY_SECONDS), 0);
});
