"use strict";
// The page reads without this script. It opens lists that links lead into, marks the current section in the contents,
// filters claims, nets and runs, shows values of curves below the pointer, and switches nets of a figure off.
(function () {
  const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));
  const make = (tag, properties, parent) => parent.appendChild(Object.assign(document.createElement(tag), properties));

  // --- links and print ---

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  }

  // --- the current section in the contents ---

  const nav = document.querySelector("nav");
  const links = all("a", nav).map(link => ({ link, target: document.getElementById(link.hash.slice(1)) }));

  function mark() {
    const line = Math.max(120, innerHeight / 3);
    const passed = links.filter(({ target }) => !target.hidden && target.getBoundingClientRect().top <= line);
    const current = passed.length ? passed[passed.length - 1].link : null;
    const within = current && current.closest("ul ul");
    links.forEach(({ link }) => link.removeAttribute("aria-current"));
    if (current) current.setAttribute("aria-current", "true");
    if (within) within.parentElement.querySelector("a").setAttribute("aria-current", "true");
    const list = nav.querySelector("ul");
    if (current && list.scrollWidth > list.clientWidth) list.scrollLeft = current.offsetLeft - list.clientWidth / 2;
  }

  let waiting = false;
  function later() {
    if (!waiting) requestAnimationFrame(() => { waiting = false; mark(); });
    waiting = true;
  }

  // --- the filter ---

  const KINDS = { claims: ".claims > li", rows: ".values:not(.data) tbody tr", figures: "#figures > .block, .block:has(> .drawn)", runs: ".run" };
  const items = Object.entries(KINDS).flatMap(([kind, selector]) => all(selector).map(item => ({ kind, item })));
  const boxes = all(".outcome, #tables > .block, #detection > .block, #later-papers > .block:not(:has(> .drawn)), .group");
  const closed = new Set();

  function textOf(entry) {
    const net = entry.item.closest(".group");
    const text = [entry.item.id, entry.item.textContent, net ? net.querySelector("h3").textContent : ""].join(" ");
    return entry.text = text.toLowerCase();
  }

  function filter(input, output) {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = {};
    items.forEach(entry => {
      const hit = words.every(word => (entry.text || textOf(entry)).includes(word));
      entry.item.hidden = !hit;
      counts[entry.kind] = (counts[entry.kind] || 0) + hit;
    });
    boxes.forEach(box => {
      const found = Object.values(KINDS).some(selector => box.querySelector(":scope " + selector + ":not([hidden])"));
      box.hidden = words.length > 0 && !found;
      if (box.tagName !== "DETAILS") return;
      if (words.length && !box.open) closed.add(box);
      if (words.length) box.open = true;
      else if (closed.delete(box)) box.open = false;
    });
    const told = Object.entries(counts).map(([kind, count]) => count + " " + (count === 1 ? kind.slice(0, -1) : kind));
    output.textContent = words.length ? told.join(", ") : "";
    mark();
  }

  // --- values below the pointer ---

  const tip = make("div", { className: "tip", hidden: true }, document.body);

  function pointsOf(id, box) {
    const part = document.getElementById(id);
    const uses = all("use", part).map(use => [use.getAttribute("x"), use.getAttribute("y")]);
    const drawn = part.getAttribute("points") || (part.querySelector("path") || part).getAttribute("d") || "";
    const numbers = uses.length ? uses.flat().map(Number) : (drawn.match(/-?[\d.]+/g) || []).map(Number);
    const points = [];
    for (let i = 0; i + 1 < numbers.length; i += 2) points.push([numbers[i], numbers[i + 1]]);
    return points.filter(([x, y]) => x > box[0] - 1 && x < box[2] + 1 && y > box[1] - 1 && y < box[3] + 1);
  }

  function short(value) {
    return String(Number(Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(4)));
  }

  function valueAt(panel, [x, y]) {
    const [left, top, right, bottom] = panel.box;
    const [low, high] = panel.log ? panel.y.map(Math.log10) : panel.y;
    const across = panel.x[0] + (x - left) / (right - left) * (panel.x[1] - panel.x[0]);
    const up = low + (bottom - y) / (bottom - top) * (high - low);
    return [across, panel.log ? 10 ** up : up];
  }

  // Returns the x nearest to a place of the picture that any visible series has, and the series that have it.
  function valuesNear(panel, x) {
    const shown = panel.series.filter(series => !series.off).map(series => ({
      series,
      near: series.points.reduce((best, point) => (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best), null),
    })).filter(({ near }) => near);
    if (!shown.length) return null;
    const nearest = shown.reduce((a, b) => (Math.abs(b.near[0] - x) < Math.abs(a.near[0] - x) ? b : a)).near[0];
    const rows = shown.filter(({ near }) => Math.abs(near[0] - nearest) < 0.01).sort((a, b) => a.near[1] - b.near[1]);
    return { x: valueAt(panel, rows[0].near)[0], rows };
  }

  function hover(svg, panels, event) {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const panel = panels.find(({ box }) => place.x >= box[0] && place.x <= box[2] && place.y >= box[1] && place.y <= box[3]);
    const values = panel && valuesNear(panel, place.x);
    tip.hidden = !values;
    all(".dot", svg).forEach(dot => dot.remove());
    if (!values) return;
    tip.replaceChildren();
    make("b", { textContent: panel.name + " " + short(values.x) }, tip);
    values.rows.forEach(({ series, near }) => {
      const row = make("div", {}, tip);
      make("span", { className: "swatch" }, row).style.background = series.colour;
      row.append([series.net, series.line].filter(Boolean).join(", ") + " " + short(valueAt(panel, near)[1]));
      const dot = document.createElementNS(svg.namespaceURI, "circle");
      Object.entries({ class: "dot", cx: near[0], cy: near[1], r: 3 }).forEach(([name, value]) => dot.setAttribute(name, value));
      dot.style.fill = series.colour;
      svg.append(dot);
    });
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 12) + "px";
  }

  function leave(svg) {
    tip.hidden = true;
    all(".dot", svg).forEach(dot => dot.remove());
  }

  function follow(svg) {
    let panels = null;
    const read = () => panels || (panels = svg.panels());
    ["pointermove", "pointerdown"].forEach(name => svg.addEventListener(name, event => hover(svg, read(), event)));
    svg.addEventListener("pointerleave", () => leave(svg));
  }

  // --- nets switched off ---

  function switches(figure, pictures) {
    const series = pictures.flatMap(svg => svg.panels()).flatMap(panel => panel.series);
    const nets = new Map(series.filter(({ net }) => net).map(({ net, colour }) => [net, colour]));
    if (nets.size < 2) return;
    const group = make("div", { className: "switches" }, figure);
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Nets shown");
    nets.forEach((colour, net) => {
      const button = make("button", { type: "button" }, group);
      make("span", { className: "swatch" }, button).style.background = colour;
      button.append(net);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const off = button.getAttribute("aria-pressed") === "true";
        button.setAttribute("aria-pressed", String(!off));
        series.filter(one => one.net === net).forEach(one => {
          one.off = off;
          one.ids.forEach(id => { document.getElementById(id).style.display = off ? "none" : ""; });
        });
      });
    });
  }

  function start() {
    all("svg[data-panels]").forEach(svg => {
      const panels = JSON.parse(svg.dataset.panels);
      panels.forEach(panel => panel.series.forEach(series => Object.defineProperty(series, "points", {
        get() { return this.read || (this.read = pointsOf(this.ids[0], panel.box)); },
      })));
      svg.panels = () => panels;
      follow(svg);
    });
    all("figure.drawn").forEach(figure => switches(figure, all("svg[data-panels]", figure)));
    const search = document.getElementById("filter");
    search.hidden = false;
    const [input, output] = [search.querySelector("input"), search.querySelector("output")];
    input.addEventListener("input", () => filter(input, output));
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    reveal();
    mark();
  }

  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => all("details.outcome").forEach(part => { part.open = true; }));
  addEventListener("DOMContentLoaded", start);
})();
