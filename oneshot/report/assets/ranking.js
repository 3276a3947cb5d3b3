// Inherited score against true accuracy of every network whose truth is known; coloured by MACs, hover tells the architecture.

function rankingChart(data, candidates) {
  const host = document.getElementById("ranking");
  const note = document.getElementById("ranking-note");
  const inherited = { ...QUANTITIES[data.metric], label: `${QUANTITIES[data.metric].name} with inherited weights` };
  const truth = { ...QUANTITIES.accuracy, label: "true accuracy (%)" };
  const points = [];
  for (const [set, values] of Object.entries(data.ranking.truth)) {
    values.forEach((y, index) => {
      const x = candidates.value(set, index, data.metric);
      if (x !== null && y !== null) points.push({ set, index, x, y, macs: candidates.value(set, index, "macs") });
    });
  }
  if (points.length === 0) return;
  const macs = points.map((point) => point.macs).sort((a, b) => a - b);
  const level = (value) => macs.findIndex((other) => other >= value) / macs.length;
  const levels = new Map([...new Set(macs)].map((value) => [value, Math.min(6, Math.floor(7 * level(value)))]));
  const score = ({ set, index }, quantity) => (quantity === "loss" ? -1 : 1) * candidates.value(set, index, quantity);
  const other = data.metric === "loss" ? "accuracy" : "loss";
  const lead = (a, b) => score(a, data.metric) - score(b, data.metric) || score(a, other) - score(b, other);
  const first = points.reduce((best, point) => (lead(point, best) > 0 ? point : best));
  const truest = points.reduce((best, point) => (point.y > best.y ? point : best));
  let everything = false;
  let frame = null;
  let ring = null;

  // As on the scatter: the worst few must not press the rest into a corner.
  function span(values, worstIsHigh) {
    const sorted = values.toSorted((a, b) => a - b);
    let [low, high] = [sorted[0], sorted.at(-1)];
    const [near, far] = [quantile(sorted, 0.05), quantile(sorted, 0.95)];
    const reach = 1.2 * (far - near);
    if (reach > 0 && !everything && worstIsHigh) high = sorted.findLast((value) => value <= far + reach);
    if (reach > 0 && !everything && !worstIsHigh) low = sorted.find((value) => value >= near - reach);
    return [low, high];
  }

  function draw() {
    const xs = span(points.map((point) => point.x), data.metric === "loss");
    const ys = span(points.map((point) => point.y), false);
    const height = Math.round(Math.min(560, Math.max(360, host.clientWidth * 0.46)));
    const title = `true accuracy against ${inherited.label} of ${points.length} networks`;
    const [xDomain, yDomain] = [padded(...xs, inherited, 0.03), padded(...ys, truth)];
    const xQuantity = {
      ...inherited,
      label: inherited.label + (inherited.scale ? " (%)" : " (lower is better)"),
    };
    frame = plotFrame(host, { height, xDomain, yDomain, xQuantity, yQuantity: truth, title });
    const paths = Array.from({ length: 7 }, () => "");
    for (const { x, y, macs: cost } of points) {
      paths[levels.get(cost)] += `M${frame.toX(x).toFixed(1)} ${frame.toY(y).toFixed(1)}h0`;
    }
    const width = points.length > 1500 ? 4 : 7;
    paths.forEach((d, i) => d && svg("path", { class: "points", d, style: `stroke: var(--ramp${i}); stroke-width: ${width}` }, frame.plot));
    const [cx, cy] = [frame.toX(truest.x), frame.toY(truest.y)];
    svg("circle", { class: "hollow", cx, cy, r: 7 }, frame.plot);
    svg("path", { class: "star", d: starPath(frame.toX(first.x), frame.toY(first.y), 11) }, frame.plot);
    ring = svg("circle", { class: "ring", r: 8, visibility: "hidden" }, frame.over);
    tell(points.filter(({ x, y }) => x < xs[0] || x > xs[1] || y < ys[0]).length);
  }

  function tell(hidden) {
    note.replaceChildren();
    if (hidden === 0 && !everything) return;
    note.append(everything ? "The axes show every network. " : `${hidden} network${hidden === 1 ? " lies" : "s lie"} outside this view. `);
    addZoom(note, everything, () => {
      everything = !everything;
      draw();
    });
  }

  function hover(event) {
    const found = nearestPoint(frame, event, points);
    ring.setAttribute("visibility", found ? "visible" : "hidden");
    if (!found) return hideCard();
    const [x, y] = [frame.toX(found.x), frame.toY(found.y)];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    const [heading, ...rest] = candidates.describe(found.set, found.index, false);
    const bounds = frame.root.getBoundingClientRect();
    const zoom = bounds.width / frame.width;
    return showCard([heading, cardTable([["true accuracy", truth.exact(found.y)]]), ...rest], bounds.left + x * zoom, bounds.top + y * zoom);
  }

  function addItem(text, width, paint) {
    const item = html("span", "", document.getElementById("ranking-legend"));
    paint(svg("svg", { width, height: 14 }, item));
    item.append(text);
  }
  addItem("few to many MACs", 84, (picture) => {
    for (let i = 0; i < 7; i += 1) {
      svg("path", { class: "points", d: `M${6 + 12 * i} 7h0`, style: `stroke: var(--ramp${i}); stroke-width: 8` }, picture);
    }
  });
  addItem("ranked first", 18, (picture) => svg("path", { class: "star", d: starPath(9, 8, 9) }, picture));
  addItem("truly best", 16, (picture) => svg("circle", { class: "hollow", cx: 8, cy: 7, r: 6 }, picture));

  host.addEventListener("pointermove", hover);
  host.addEventListener("pointerleave", () => {
    ring.setAttribute("visibility", "hidden");
    hideCard();
  });
  keepDrawn(host, draw);
}
