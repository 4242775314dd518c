// @ts-check
/**
 * @file The items of a conversation as they are laid out: what agents said that were called as
 * tools stands apart, below the call. Pure.
 */

import { callees } from "./path.js";
import { toolKey } from "./timeline.js";

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").NestedItem} NestedItem */
/** @typedef {Item | NestedItem} Laid */

/**
 * Questions to the human are never put away: they stay where they were asked.
 * @param {readonly Item[]} items
 * @param {number} [depth] So many agents above are laid out already.
 * @returns {Laid[]}
 */
export function grouped(items, depth = 0) {
  /** @type {Map<string, {call: string, before: number, nested: NestedItem}>} */
  const groups = new Map();
  /** @type {Laid[]} */
  const laid = [];
  for (const item of items) {
    const callee = item.kind === "approval" ? undefined : callees(item.path)[depth];
    if (callee === undefined) {
      laid.push(item);
      continue;
    }
    const { name, callId, path } = callee;
    const key = `nested:${item.runId}:${path.join("/")}`;
    const known = groups.get(key)?.nested.items ?? [];
    const nested = { kind: /** @type {const} */ ("nested"), key, name, depth };
    groups.set(key, {
      call: toolKey(item.runId, callId, path.length > 2 ? path.slice(0, -1) : null),
      before: groups.get(key)?.before ?? laid.length,
      nested: { ...nested, items: [...known, item] },
    });
  }
  if (groups.size === 0) return laid;
  /** @type {Map<number, Laid[]>} What comes before the item of a place. */
  const inserted = new Map();
  for (const { call, before, nested } of groups.values()) {
    const called = laid.findIndex(({ key }) => key === call);
    const place = called === -1 ? before : called + 1;
    inserted.set(place, [...(inserted.get(place) ?? []), nested]);
  }
  return [...laid, null].flatMap((item, place) => [
    ...(inserted.get(place) ?? []),
    ...(item === null ? [] : [item]),
  ]);
}
