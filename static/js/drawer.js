// @ts-check
/**
 * @file The two side panels. Where there is room they stand beside the conversation; on small
 * screens they are drawers above it, one at a time, that keep the focus until they close.
 */

/** Below these widths the panels become drawers; the same numbers stand in style.css. */
const QUERIES = { sessions: "(max-width: 820px)", connection: "(max-width: 1180px)" };

/**
 * @param {keyof typeof QUERIES} name
 * @param {HTMLElement} panel
 * @param {HTMLElement[]} toggles Buttons that open and close it.
 * @param {HTMLElement} shade What lies over the page while a drawer is open.
 * @param {HTMLElement[]} rest Everything behind the drawer.
 */
export function drawer(name, panel, toggles, shade, rest) {
  const small = matchMedia(QUERIES[name]);
  let openBeside = true;
  /** @type {HTMLElement | null} */
  let cameFrom = null;

  /** @param {boolean} open */
  function set(open) {
    const above = open && small.matches;
    panel.dataset.open = String(open);
    for (const toggle of toggles) toggle.setAttribute("aria-expanded", String(open));
    shade.hidden = !above;
    for (const one of rest) one.inert = above;
    if (above) {
      cameFrom = /** @type {HTMLElement} */ (document.activeElement);
      panel.focus();
    } else {
      cameFrom?.focus();
      cameFrom = null;
    }
    if (!small.matches) openBeside = open;
  }

  const isOpen = () => panel.dataset.open === "true";
  const isAbove = () => isOpen() && small.matches;
  const closeIfAbove = () => isAbove() && set(false);

  for (const toggle of toggles) toggle.addEventListener("click", () => set(!isOpen()));
  shade.addEventListener("click", closeIfAbove);
  small.addEventListener("change", () => set(!small.matches && openBeside));
  set(!small.matches);
  return { isAbove, closeIfAbove };
}
