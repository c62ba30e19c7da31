// The dialog for the doctor's key. The key stays in memory: nothing is written where the next user of this machine reads.

import { hasKey, onKeyNeeded } from "./api.js";

export function buildKeyDialog() {
  const dialog = document.getElementById("key");
  const input = document.getElementById("key-input");
  const leave = document.getElementById("leave");
  let asked = null; // one dialog, however many requests wait for it

  onKeyNeeded((reason) => {
    asked ??= ask(reason).finally(() => {
      asked = null;
    });
    return asked;
  });
  leave.addEventListener("click", () => location.reload());

  async function ask(reason) {
    document.getElementById("key-reason").textContent = reason;
    input.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    const given = dialog.returnValue === "enter" ? input.value.trim() : "";
    input.value = "";
    leave.hidden = !(given || hasKey());
    return given;
  }
}
