// @ts-check
/** @file Keep a list of elements equal to a list of immutable items. */

/**
 * How one item is shown.
 * @template T
 * @typedef {{node: Element, update: (item: T) => void}} Shown
 */

/**
 * @template T
 * @param {Element} parent Holds the elements, and nothing else.
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Shown<T>} create Makes the element; `update` is called right after.
 * @returns {(items: readonly T[]) => void} Show these, in this order.
 */
export function keyedList(parent, keyOf, create) {
  /** @type {Map<string, Shown<T> & {item: T | null}>} */
  const shown = new Map();
  return (items) => {
    const keys = new Set(items.map(keyOf));
    for (const [key, { node }] of shown) {
      if (keys.has(key)) continue;
      node.remove();
      shown.delete(key);
    }
    let place = parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let one = shown.get(key);
      if (one === undefined) {
        one = { ...create(item), item: null };
        shown.set(key, one);
      }
      // Items are immutable: the same object is the same picture.
      if (one.item !== item) {
        one.update(item);
        one.item = item;
      }
      if (one.node === place) place = place.nextElementSibling;
      else parent.insertBefore(one.node, place);
    }
  };
}
