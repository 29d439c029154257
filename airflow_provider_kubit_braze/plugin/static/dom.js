// The few things the page does with the document. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, attributes = {}, ...children) => make(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  make(document.createElementNS(SVG, tag), attributes, children);

// Draws anew, but not while somebody presses something in the element: what is replaced before the button is let go of
// is never clicked.
export function betweenClicks(element, draw) {
  let pressed = false, late = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pressed = true;
    const over = new AbortController();
    const release = () => {
      over.abort();
      // The click comes first.
      setTimeout(() => {
        pressed = false;
        if (late) draw(...late);
        late = null;
      });
    };
    // What opens a menu may never be let go of.
    for (const end of ["pointerup", "pointercancel", "contextmenu", "blur"]) addEventListener(end, release, { signal: over.signal });
  });
  return (...how) => {
    if (pressed) late = how;
    else draw(...how);
  };
}

// For those who hear the page instead of seeing it.
export function say(text) {
  document.getElementById("said").textContent = text;
}

export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  // Airflow 3.1 lets nothing be downloaded out of its frame; the page around it may.
  (around()?.document ?? document).body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Airflow's page around this one; null when this one is open alone, or framed by something else.
export function around() {
  try {
    return window.parent !== window && window.parent.location.origin === location.origin ? window.parent : null;
  } catch {
    return null;
  }
}

// A page of Airflow's own. Its frame lets nothing out of it, so Airflow's router is told instead.
export function airflowLink(path, ...children) {
  const url = new URL(`../${path}`, document.baseURI);
  return h("a", {
    href: url.href,
    onclick: (event) => {
      const outer = around();
      if (!outer) return;
      event.preventDefault();
      outer.history.pushState({}, "", url.href);
      outer.dispatchEvent(new outer.PopStateEvent("popstate", { state: {} }));
    },
  }, ...children);
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    seen.unobserve(entry.target);
    entry.target.dispatchEvent(new CustomEvent("seen"));
  }
});

// Calls once, when the element comes into view.
export function whenSeen(element, then) {
  element.addEventListener("seen", then, { once: true });
  seen.observe(element);
}

export const forgetSeen = () => seen.disconnect();

// Dark or light as Airflow's page around this one is, else as the person's system is.
export function followTheme() {
  const outer = around()?.document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const told = outer && ["dark", "light"].find((name) => outer.classList.contains(name));
    document.documentElement.dataset.theme = told ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new CustomEvent("theme"));
  };
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class"] });
  system.addEventListener("change", apply);
  apply();
}
