// The search page: reads the data, draws the charts, and connects switches, tables and diagram to them.

const data = JSON.parse(document.getElementById("report-data").textContent);
const candidates = readCandidates(data);
const scatter = scatterChart(data, candidates);
progressChart(data, candidates);
if (data.ranking) rankingChart(data, candidates);
sortableTables(scatter.find);

function addSwitch(label, key, options) {
  if (options.length < 2) return;
  const holder = html("label", "", document.getElementById("scatter-controls"), label);
  const group = html("span", "switch", holder);
  const buttons = options.map((option) => {
    const button = html("button", "", group, QUANTITIES[option].name);
    button.type = "button";
    button.dataset.option = option;
    button.addEventListener("click", () => {
      scatter.choose({ [key]: option });
      press();
    });
    return button;
  });
  function press() {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.option === scatter.state[key]));
  }
  press();
}
addSwitch("across", "cost", data.costs);
addSwitch("up", "metric", ["accuracy", "loss"]);

function addLegend(text, width, paint) {
  const item = html("span", "", document.getElementById("scatter-legend"));
  paint(svg("svg", { width, height: 14 }, item));
  item.append(text);
}
const count = data.progress.candidates.length; // without a network that was scored elsewhere
addLegend(count > 1 ? `${data.strategy}, evaluation 1 to ${count}` : data.strategy, 84, (picture) => {
  for (let i = 0; i < 7; i += 1) {
    svg("path", { class: "points", d: `M${6 + 12 * i} 7h0`, style: `stroke: var(--ramp${i}); stroke-width: 8` }, picture);
  }
});
if (candidates.size("baseline")) {
  addLegend("random search", 12, (picture) => svg("path", { class: "crosses", d: crossPath(6, 7, 3) }, picture));
  addLegend("its best", 14, (picture) => svg("path", { class: "crosses rival", d: crossPath(7, 7, 5) }, picture));
}
addLegend("Pareto front", 30, (picture) => {
  svg("path", { class: "front", d: "M0 12H15V2H30" }, picture);
  svg("circle", { class: "frontpoint", cx: 15, cy: 7, r: 4 }, picture);
});
if (candidates.size("original")) {
  addLegend("the original", 14, (picture) => svg("path", { class: "square", d: squarePath(7, 7, 5) }, picture));
}
addLegend("best", 18, (picture) => svg("path", { class: "star", d: starPath(9, 8, 9) }, picture));

// The diagram's own tooltips are for the SVG alone; in the page the card is faster and easier to read.
for (const block of document.querySelectorAll(".oneshot-arch .block")) {
  block.querySelector("title")?.remove();
  const [heading, ...lines] = block.dataset.tip.split("\n");
  block.addEventListener("pointermove", (event) => {
    showCard([html("h3", "", null, heading), ...lines.map((line) => html("p", "", null, line))], event.clientX, event.clientY);
  });
  block.addEventListener("pointerleave", hideCard);
}
