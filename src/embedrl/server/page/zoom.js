// Zooming into a picture: wheel, pinch, double click, buttons and keys; a drag moves what is enlarged.

import { el } from "./element.js";
import { t } from "./language.js";

const MAX = 12;
const STEP = 1.5;

/** Make a picture zoomable. Returns {node, key(event)}: the picture with its buttons, and what a key does to it. */
export function zoomable(picture) {
  const view = { scale: 1, x: 0, y: 0 };
  const pointers = new Map();
  const stage = el("div", { class: "stage" }, picture);
  const button = (sign, key, act) => el("button", { type: "button", class: "icon", "aria-label": t(key), title: t(key), onclick: act }, sign);
  const node = el(
    "div",
    { class: "zoom" },
    stage,
    el("div", { class: "zoom-buttons" }, button("+", "zoom_in", () => by(STEP)), button("−", "zoom_out", () => by(1 / STEP)), button("⤢", "zoom_whole", whole)),
  );
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    by(Math.exp(-event.deltaY / 300), event);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => (view.scale > 1 ? whole() : by(2.5, event)));
  stage.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", onMove);
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
  draw();
  return { node, key };

  function onMove(event) {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const other = [...pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    pointers.set(event.pointerId, event);
    if (other) {
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      by(apart(event) / Math.max(1, apart(before)), { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
    } else {
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      draw();
    }
  }

  /** Enlarge by a factor; the point of an event stays where it is. */
  function by(factor, { clientX, clientY } = {}) {
    const { left, top, width, height } = stage.getBoundingClientRect();
    const scale = Math.min(MAX, Math.max(1, view.scale * factor));
    const [x, y] = [(clientX ?? left + width / 2) - left - width / 2, (clientY ?? top + height / 2) - top - height / 2];
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    draw();
  }

  function whole() {
    Object.assign(view, { scale: 1, x: 0, y: 0 });
    draw();
  }

  function draw() {
    const [right, down] = [stage.clientWidth, stage.clientHeight].map((side) => ((view.scale - 1) * side) / 2);
    view.x = Math.min(right, Math.max(-right, view.x));
    view.y = Math.min(down, Math.max(-down, view.y));
    picture.style.transform = view.scale === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    stage.classList.toggle("enlarged", view.scale > 1);
  }

  function key(event) {
    const act = { "+": () => by(STEP), "=": () => by(STEP), "-": () => by(1 / STEP), 0: whole }[event.key];
    act?.();
    return Boolean(act);
  }
}
