// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { afterClose } from "../../static/js/endings.js";

test("only 4400 to 4999 mean that trying again is useless", () => {
  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4008, 4399]) {
    assert.equal(afterClose(code).reconnect, true, String(code));
  }
  for (const code of [4400, 4401, 4403, 4404, 4410, 4999]) {
    assert.equal(afterClose(code).reconnect, false, String(code));
  }
});
