// @ts-check
/** @file Asks before a session is deleted. */

/**
 * @param {HTMLDialogElement} dialog
 * @returns {(title: string) => Promise<boolean>} Whether the user means it.
 */
export function confirmation(dialog) {
  const [name, cancel, remove] = ["name", "cancel", "delete"].map((part) => {
    return /** @type {HTMLElement} */ (dialog.querySelector(`[data-part="${part}"]`));
  });
  cancel.addEventListener("click", () => dialog.close(""));
  remove.addEventListener("click", () => dialog.close("delete"));
  return (title) => {
    name.textContent = title;
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), {
        once: true,
      });
    });
  };
}
