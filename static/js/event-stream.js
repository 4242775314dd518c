// @ts-check
/** @file The event stream format of the HTML standard, 9.2, as far as the streams use it. Pure. */

/**
 * What one blank line ended: its data lines, joined, and its `retry:` field; null what it has not.
 * @typedef {{data: string | null, retryMs: number | null}} StreamFrame
 */

const LINE_END = /\r\n|\n|\r/;

/**
 * A reader of a stream in whatever pieces it comes. What follows the last blank line was cut, and
 * is never reported. A CR at the end of a piece waits, because it may be half of a CRLF.
 * @returns {(piece: string) => StreamFrame[]}
 */
export function eventStreamDecoder() {
  let rest = "";
  /** @type {string[]} */
  let data = [];
  /** @type {number | null} */
  let retryMs = null;

  /** @param {string} line */
  function take(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    else if (name === "retry" && /^\d+$/.test(value)) retryMs = Number(value);
  }

  return (piece) => {
    const text = rest + piece;
    const held = text.endsWith("\r") ? "\r" : "";
    const lines = text.slice(0, text.length - held.length).split(LINE_END);
    rest = (lines.pop() ?? "") + held;
    /** @type {StreamFrame[]} */
    const frames = [];
    for (const line of lines) {
      if (line !== "") {
        take(line);
        continue;
      }
      frames.push({ data: data.length > 0 ? data.join("\n") : null, retryMs });
      data = [];
      retryMs = null;
    }
    return frames;
  };
}
