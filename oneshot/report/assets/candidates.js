// The candidates of a search as the page's data holds them, and the card that describes one.

function readCandidates(data) {
  const sets = { candidates: data.candidates, baseline: data.baseline, original: data.original, ...(data.ranking && { others: data.ranking.others }) };
  const over = Object.fromEntries(Object.entries(sets).map(([set, { over: rows }]) => [set, new Set(rows)]));
  const names = { candidates: data.strategy, baseline: "Random search", others: "Scored besides", original: "The original" };
  const size = (set) => sets[set].accuracy.length;
  const value = (set, index, quantity) => sets[set][quantity][index];

  // Early evaluations are pale and late ones strong, in seven steps.
  const color = (set, index) => {
    if (set === "baseline") return "var(--baseline)";
    if (set === "others") return "var(--faint)";
    if (set === "original") return "var(--ink)";
    return `var(--ramp${size(set) === 1 ? 6 : Math.min(6, Math.floor((7 * index) / (size(set) - 1)))})`;
  };

  function architecture(set, index) {
    const row = sets[set].arch[index];
    const text = (column) => {
      const choice = data.choices[column].values[row[column]];
      return typeof choice === "boolean" ? (choice ? "yes" : "no") : String(choice);
    };
    return data.groups
      .map((group) => [
        group.name || "network",
        group.kinds
          .map((kind) => [kind.name, kind.columns.filter((column) => row[column] >= 0).map(text)])
          .filter(([, values]) => values.length > 0)
          .map(([kind, values]) => {
            const words = html("span");
            html("i", "", words, kind);
            words.append(values.join(" "));
            return words;
          }),
      ])
      .filter(([, kinds]) => kinds.length > 0);
  }

  function describe(set, index, onFront) {
    const heading = html("h3");
    heading.append(swatch(color(set, index)), set === "others" || set === "original" ? names[set] : `${names[set]}, evaluation ${index + 1}`);
    if (set === "candidates" && index === data.best) html("span", "tag best", heading, "best");
    if (onFront) html("span", "tag", heading, "Pareto front");
    if (set !== "original" && over[set].has(index)) html("span", "tag over", heading, "over the limit");
    const numbers = ["accuracy", "loss", ...data.costs]
      .filter((quantity) => value(set, index, quantity) !== null)
      .map((quantity) => {
        const exact = QUANTITIES[quantity].exact(value(set, index, quantity));
        return [QUANTITIES[quantity].name, exact.replace(/\u00a0(MACs|params)$/, "")];
      });
    return [heading, cardTable(numbers), cardTable(architecture(set, index))];
  }

  return { size, value, color, describe, isOver: (set, index) => over[set].has(index), names };
}
