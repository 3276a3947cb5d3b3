// Drawing helpers shared by every chart: SVG nodes, scales, ticks and number formats.

function svg(name, attributes = {}, parent = null, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function html(name, className = "", parent = null, text = null) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

const NO_BREAK = "\u00a0";
const SUFFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function threeDigits(value) {
  const size = Math.abs(value);
  if (size >= 99.95) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  return size >= 0.9995 || size === 0 ? value.toFixed(2) : String(Number(value.toPrecision(3)));
}

function formatCount(value) {
  const found = SUFFIXES.find(([scale]) => Math.abs(value) >= scale * 0.9995);
  if (found) return threeDigits(value / found[0]) + NO_BREAK + found[1];
  return Number.isInteger(value) ? String(value) : threeDigits(value);
}

function formatPlain(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(size < 1 ? 4 : 5)));
}

// Ticks at 1, 2 or 5 times a power of ten, inside [low, high]; about `count` of them.
function niceTicks(low, high, count, least = 0) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const fraction = raw / power;
  const step = Math.max(least, power * (fraction < 1.5 ? 1 : fraction < 3.5 ? 2 : fraction < 7.5 ? 5 : 10));
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) values.push(i * step);
  return { values, step };
}

function decimalsOf(step) {
  return Math.min(10, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

function countTick(value, step, high) {
  const [scale, suffix] = SUFFIXES.find(([size]) => high >= size) || [1, ""];
  return (value / scale).toFixed(decimalsOf(step / scale)) + (suffix && value !== 0 ? NO_BREAK + suffix : "");
}

function plainTick(value, step, high) {
  if ((step < 1e-4 && high < 1e-2) || high >= 1e6) {
    // As many digits as tell a tick from the next.
    const digits = 1 + Math.floor(Math.log10(Math.abs(value)) + 1e-9) - Math.floor(Math.log10(step) + 1e-9);
    return Math.abs(value) < step / 2 ? "0" : String(Number(value.toPrecision(Math.min(15, Math.max(1, digits)))).toExponential());
  }
  return value.toFixed(decimalsOf(step));
}

const QUANTITIES = {
  accuracy: {
    label: "accuracy on the held-out split (%)",
    name: "accuracy",
    tick: (value, step) => (100 * value).toFixed(decimalsOf(100 * step)),
    exact: (value) => (100 * value).toFixed(2) + NO_BREAK + "%",
    scale: 100,
    low: 0,
    high: 1,
  },
  loss: { label: "loss on the held-out split (lower is better)", name: "loss", tick: plainTick, exact: (value) => value.toFixed(4) },
  macs: { label: "multiply-accumulates (MACs)", name: "MACs", tick: countTick, exact: (value) => formatCount(value) + NO_BREAK + "MACs", low: 0 },
  params: { label: "parameters", name: "params", tick: countTick, exact: (value) => formatCount(value) + NO_BREAK + "params", low: 0 },
  latency_ms: { label: "latency (ms)", name: "latency", tick: plainTick, exact: (value) => threeDigits(value) + NO_BREAK + "ms", low: 0 },
};

// The span of the values with some air; one value alone gets a span around it.
function padded(low, high, quantity, air = 0.06) {
  const span = high - low;
  const room = span > 0 ? span * air : Math.abs(high) * 0.05 || (quantity.scale ? 0.01 : 1);
  const floor = quantity.low ?? -Infinity;
  const ceiling = quantity.high ?? Infinity;
  return [Math.max(low - room, Math.min(low, floor)), Math.min(high + room, Math.max(high, ceiling))];
}

function quantile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(part * (sorted.length - 1))))];
}

// An empty plot with grid, ticks and axis titles. Returns the layers to draw in and the scales from value to pixel.
function plotFrame(host, { height, xDomain, yDomain, xQuantity, yQuantity, integerX = false, title }) {
  host.replaceChildren();
  const width = Math.max(280, host.clientWidth);
  const [top, bottom] = [14, height - 44];
  const up = niceTicks(yDomain[0] * (yQuantity.scale || 1), yDomain[1] * (yQuantity.scale || 1), (bottom - top) / 55, yQuantity.least);
  const upTexts = up.values.map((value) => yQuantity.tick(value / (yQuantity.scale || 1), up.step / (yQuantity.scale || 1), yDomain[1]));
  const longest = Math.max(3, ...upTexts.map((text) => text.length));
  const box = { left: (yQuantity.label ? 30 : 12) + 7.4 * longest, top, right: width - 26, bottom };
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title }, host);
  const toX = (value) => box.left + ((value - xDomain[0]) / (xDomain[1] - xDomain[0])) * (box.right - box.left);
  const toY = (value) => box.bottom - ((value - yDomain[0]) / (yDomain[1] - yDomain[0])) * (box.bottom - box.top);
  const across = niceTicks(...xDomain, (box.right - box.left) / 110, integerX ? 1 : 0);
  const back = svg("g", {}, root);
  for (const value of across.values) {
    svg("path", { class: "grid", d: `M${toX(value)} ${box.top}V${box.bottom}` }, back);
    const text = xQuantity.tick(value, across.step, xDomain[1]);
    svg("text", { x: toX(value), y: box.bottom + 18, "text-anchor": "middle" }, back, text);
  }
  up.values.forEach((scaled, i) => {
    const y = toY(scaled / (yQuantity.scale || 1));
    svg("path", { class: "grid", d: `M${box.left} ${y}H${box.right}` }, back);
    svg("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, back, upTexts[i]);
  });
  svg("path", { class: "axis", d: `M${box.left} ${box.bottom}H${box.right}` }, back);
  svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, back, xQuantity.label);
  const middle = (box.top + box.bottom) / 2;
  svg("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, back, yQuantity.label);
  const clip = `clip-${host.id}`;
  const region = svg("clipPath", { id: clip }, svg("defs", {}, root));
  svg("rect", { x: box.left, y: box.top - 8, width: box.right - box.left + 10, height: box.bottom - box.top + 8 }, region);
  const plot = svg("g", { "clip-path": `url(#${clip})` }, root);
  const over = svg("g", {}, root);
  return { root, plot, over, box, toX, toY, width };
}

// Redraws a chart whenever its width changes.
function keepDrawn(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width) return;
    width = host.clientWidth;
    draw();
  }).observe(host);
}

// Where the pointer is, in the units of a chart's viewBox.
function pointerIn(frame, event) {
  const bounds = frame.root.getBoundingClientRect();
  const zoom = frame.width / bounds.width;
  return { x: (event.clientX - bounds.left) * zoom, y: (event.clientY - bounds.top) * zoom };
}

// The one of `points` ({ x, y } in data) under the pointer, or null where none is near.
function nearestPoint(frame, event, points) {
  const at = pointerIn(frame, event);
  let found = null;
  let least = 26 ** 2;
  for (const point of points) {
    const away = (frame.toX(point.x) - at.x) ** 2 + (frame.toY(point.y) - at.y) ** 2;
    if (away < least) [found, least] = [point, away];
  }
  return found;
}

// The button behind a note about points outside a view.
function addZoom(note, everything, toggle) {
  const button = html("button", "", note, everything ? "Zoom in" : "Show all");
  button.type = "button";
  button.style.textDecoration = "underline";
  button.addEventListener("click", toggle);
}
