// Building elements. Strings become text nodes, never markup: file names and T-CoTs are not to be trusted.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `on…` is a listener, true an empty attribute, and what is null, undefined or false is left out. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for a part of an SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Say something in an element that is hidden while it has nothing to say. */
export function say(element, words) {
  element.textContent = words || "";
  element.hidden = !words;
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
