// The dialog for the doctor's API key. The key stays in memory: the next user of this machine must not find it.

import { hasKey, onKeyNeeded } from "./api.js";

export function buildKeyDialog() {
  const dialog = document.getElementById("key");
  const input = document.getElementById("key-input");
  const leave = document.getElementById("leave");
  let pending = null; // one dialog for all waiting requests

  onKeyNeeded((reason) => {
    pending ??= ask(reason).finally(() => {
      pending = null;
    });
    return pending;
  });
  leave.addEventListener("click", () => location.reload());

  async function ask(reason) {
    document.getElementById("key-reason").textContent = reason;
    input.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    const entered = dialog.returnValue === "enter" ? input.value.trim() : "";
    input.value = "";
    leave.hidden = !(entered || hasKey());
    return entered;
  }
}
