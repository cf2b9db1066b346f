// Asking for the token: the server keeps it in a cookie that scripts cannot read.

import { postJson } from "./api.js";
import { byId, say } from "./element.js";

const dialog = byId("login");
let asking = null;

/** Ask until the server knows the token; requests that wait for it share one question. */
export function askForToken() {
  asking ??= new Promise((known) => {
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await postJson("/api/login", { token: byId("token").value });
      } catch (error) {
        say(byId("login-problem"), error.message);
        return;
      }
      byId("token").value = "";
      say(byId("login-problem"), "");
      dialog.close();
      asking = null;
      known();
    };
    dialog.showModal();
  });
  return asking;
}
