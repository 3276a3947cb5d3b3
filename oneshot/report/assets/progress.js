// Search progress: the best so far after each evaluation, of the strategy and of random search.

function progressChart(data, candidates) {
  const host = document.getElementById("progress");
  const legend = document.getElementById("progress-legend");
  const quantity = QUANTITIES[data.metric];
  const size = (set) => data.progress[set].length;
  const sets = ["baseline", "candidates"].filter((set) => size(set) > 0);
  const colors = { candidates: "var(--strategy)", baseline: "var(--baseline)" };
  const best = (set, evaluation) => {
    const index = data.progress[set][Math.min(evaluation, size(set)) - 1];
    return index === null || index === undefined ? null : candidates.value(set, index, data.metric);
  };
  const most = Math.max(...sets.map(size));
  const original = candidates.size("original") ? candidates.value("original", 0, data.metric) : null;
  let frame = null;
  let marks = null;

  // The first steps climb so fast that they would flatten all the rest: the view starts after a twentieth.
  function yDomain() {
    const ends = sets.flatMap((set) => [best(set, Math.ceil(size(set) / 20)), best(set, size(set))]);
    const values = [...ends, original].filter((value) => value !== null);
    return values.length ? padded(Math.min(...values), Math.max(...values), quantity, 0.12) : [0, 1];
  }

  function linePath(set) {
    let d = "";
    let last = null;
    for (let evaluation = 1; evaluation <= size(set); evaluation += 1) {
      const value = best(set, evaluation);
      if (value === null || value === last) continue;
      const [x, y] = [frame.toX(evaluation).toFixed(1), frame.toY(value).toFixed(1)];
      d += last === null ? `M${x} ${y}` : `H${x}V${y}`;
      last = value;
    }
    return d && `${d}H${frame.toX(size(set)).toFixed(1)}`;
  }

  function draw() {
    const xQuantity = { label: "evaluations", tick: (value) => String(value) };
    const yQuantity = { ...quantity, label: `best ${data.metric} so far${data.metric === "accuracy" ? " (%)" : ""}` };
    const title = `best ${data.metric} so far against the number of evaluations`;
    const xDomain = [most > 20 ? 0 : 0.5, most > 20 ? most : most + 0.5];
    const height = host.clientWidth < 600 ? 260 : 300;
    frame = plotFrame(host, { height, xDomain, yDomain: yDomain(), xQuantity, yQuantity, integerX: true, title });
    if (original !== null) svg("path", { class: "originalline", d: `M${frame.box.left} ${frame.toY(original)}H${frame.box.right}` }, frame.plot);
    for (const set of sets) {
      const dash = set === "baseline" ? "; stroke-dasharray: 7 3" : "";
      svg("path", { class: "curve", d: linePath(set), style: `stroke: ${colors[set]}${dash}` }, frame.plot);
      const end = best(set, size(set));
      if (end === null) continue;
      const at = { cx: frame.toX(size(set)), cy: frame.toY(end), r: 5 };
      svg("circle", { class: "dot", ...at, style: `fill: ${colors[set]}` }, frame.plot);
    }
    marks = svg("g", {}, frame.over);
  }

  function hover(event) {
    const { x } = pointerIn(frame, event);
    const share = (x - frame.toX(1)) / Math.max(1, frame.toX(most) - frame.toX(1));
    const evaluation = Math.max(1, Math.min(most, Math.round(1 + share * (most - 1))));
    const at = frame.toX(evaluation);
    marks.replaceChildren();
    svg("path", { class: "crosshair", d: `M${at} ${frame.box.top}V${frame.box.bottom}` }, marks);
    const rows = [];
    for (const set of sets.toReversed()) {
      const value = best(set, evaluation);
      const name = html("span");
      name.append(swatch(colors[set]), candidates.names[set]);
      rows.push([name, value === null ? "none within the limits" : quantity.exact(value)]);
      if (value === null) continue;
      const cy = frame.toY(value);
      const spot = { cx: frame.toX(Math.min(evaluation, size(set))), cy, r: 4.5 };
      if (cy <= frame.box.bottom) svg("circle", { class: "dot", ...spot, style: `fill: ${colors[set]}` }, marks);
    }
    showCard([html("h3", "", null, `after ${evaluation} of ${most} evaluations`), legendTable(rows)], event.clientX, event.clientY);
  }

  function fillLegend() {
    for (const set of sets.toReversed()) {
      const item = html("span", "", legend);
      const picture = svg("svg", { width: 26, height: 10 }, item);
      const dash = set === "baseline" ? "; stroke-dasharray: 7 3" : "";
      svg("path", { class: "curve", d: "M0 5h26", style: `stroke: ${colors[set]}${dash}` }, picture);
      const end = best(set, size(set));
      item.append(candidates.names[set]);
      html("b", "", item, end === null ? "none within the limits" : quantity.exact(end));
    }
    if (original !== null) {
      const item = html("span", "", legend);
      svg("path", { class: "originalline", d: "M0 5h26" }, svg("svg", { width: 26, height: 10 }, item));
      item.append(candidates.names.original);
      html("b", "", item, quantity.exact(original));
    }
    if (data.limits.length) document.getElementById("progress-note").textContent = "Only candidates within the limits count.";
  }

  host.addEventListener("pointermove", hover);
  host.addEventListener("pointerleave", () => {
    marks.replaceChildren();
    hideCard();
  });
  fillLegend();
  keepDrawn(host, draw);
}

// A card table whose names are nodes.
function legendTable(rows) {
  const table = cardTable(rows.map(([, value]) => ["", value]));
  rows.forEach(([name], i) => table.rows[i].cells[0].append(name));
  return table;
}
