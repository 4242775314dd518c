// @ts-check
/** @file Ids that no one else will choose. */

/**
 * `crypto.randomUUID` exists only on https and on loopback; the random bytes exist everywhere.
 * @returns {string} 122 or more random bits, printable.
 */
export function newId() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
