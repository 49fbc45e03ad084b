// A patch of one picture and what is tried for it in another. Traits: see MatchPictures in patchmatch.py.

// The mark of each kind of candidate around (x, y), r screen pixels large: a shape of its own beside its colour.
const MARKS = {
  current: { name: "match before", path: (x, y, r) => `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}z` },
  propagation: {
    name: "propagation", path: (x, y, r) => `M${x} ${y - r}L${x + r} ${y + 0.75 * r}H${x - r}z`,
  },
  random: {
    name: "random search", path: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  },
};

function svgOf(parent) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "labkit-overlay");
  svg.setAttribute("aria-hidden", "true");
  parent.append(svg);
  return svg;
}

function addPath(svg, className, d) {
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("class", className);
  path.setAttribute("d", d);
  svg.append(path);
}

function addMark(svg, kind, taken, x, y) {
  const d = MARKS[kind].path(x, y, 4.5);
  addPath(svg, "labkit-halo", d);
  addPath(svg, `labkit-mark labkit-${kind}${taken ? " labkit-taken" : ""}`, d);
}

function addLine(svg, d) {
  addPath(svg, "labkit-under", d);
  addPath(svg, "labkit-over", d);
}

function legendOf(parent) {
  const legend = element("div", "labkit-legend", parent);
  const entries = [...Object.entries(MARKS).map(([kind, { name }]) => [kind, false, name]),
    ["random", true, "filled: taken, because it was nearer than all before"]];
  for (const [kind, taken, words] of entries) {
    const entry = element("span", "", legend);
    addMark(svgOf(entry), kind, taken, 9, 9);
    entry.append(words);
  }
  return legend;
}

function render({ model, el }) {
  const figure = element("figure", "labkit-figure labkit-matches", el);
  const pair = element("div", "labkit-pair", figure);
  // The helpers ask a model for `size`; for the second picture they get the exemplar's.
  const second = {
    get: (name) => model.get(name === "size" ? "exemplar_size" : name),
    on: (...given) => model.on(...given),
    off: (...given) => model.off(...given),
  };
  const ends = [];
  const [frame, other] = [[model, "data", "image"], [second, "exemplar", "exemplar"]].map(([source, data, title]) => {
    const side = element("div", "labkit-side", pair);
    const [one, endFrame] = frameOf(source, side);
    const [picture, endImage] = imageOf(source, data, one);
    picture.alt = `${model.get("alt")} (${title})`;
    element("span", "labkit-title", side).textContent = title;
    ends.push(endFrame, endImage);
    return one;
  });
  frame.classList.add("labkit-interactive", "labkit-live");
  frame.tabIndex = 0;
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-roledescription", "picture with a movable patch");
  frame.setAttribute("aria-label", `${model.get("alt")} Arrow keys move the patch, with Shift by ten pixels; `
    + "Enter fixes it, Escape lets it go.");
  const overlay = svgOf(pair);
  const legend = legendOf(figure);
  const status = element("output", "labkit-status", figure);
  const hint = element("div", "labkit-hint", figure);
  ends.push(captionOf(model, figure));

  const places = () => model.get("size").map((side) => side - model.get("patch_size") + 1);

  // The square of the patch at [row, column], in screen pixels from the corner of the pair.
  function squareOf(one, [rows, columns], [row, column]) {
    const box = one.getBoundingClientRect(), origin = pair.getBoundingClientRect(), n = model.get("patch_size");
    const high = box.height / rows, wide = box.width / columns;
    const x = box.left - origin.left + column * wide, y = box.top - origin.top + row * high;
    return { x, y, width: n * wide, height: n * high };
  }
  const outline = ({ x, y, width, height }) => `M${x} ${y}h${width}v${height}h${-width}z`;
  const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];

  function draw() {
    overlay.replaceChildren();
    const { row, column, match, candidates = [] } = model.get("answer");
    addLine(overlay, outline(squareOf(frame, model.get("size"), [model.get("row"), model.get("column")])));
    if (!match) return;
    const from = squareOf(frame, model.get("size"), [row, column]);
    const to = squareOf(other, model.get("exemplar_size"), match);
    const beside = from.x + from.width <= to.x && other.offsetTop === frame.offsetTop;
    const [start, end] = beside ? [[from.x + from.width, middle(from)[1]], [to.x, middle(to)[1]]]
      : [[middle(from)[0], from.y + from.height], [middle(to)[0], to.y]];
    addLine(overlay, `M${start[0]} ${start[1]}L${end[0]} ${end[1]}`);
    addLine(overlay, outline(to));
    for (const taken of [false, true]) {   // what was taken lies on top
      for (const one of candidates.filter(({ accepted }) => accepted === taken)) {
        const square = squareOf(other, model.get("exemplar_size"), [one.row, one.column]);
        addMark(overlay, one.kind, taken, ...middle(square));
      }
    }
  }

  function update() {
    const { words = "", candidates = [] } = model.get("answer");
    status.textContent = words;
    legend.hidden = !candidates.length;
    hint.textContent = model.get("fixed") ? "The patch is fixed; click it again, or press Escape, to let it go."
      : "Move the pointer over the image, or use the arrow keys; a click or Enter fixes the patch.";
    draw();
  }

  function choose([row, column], fixed = model.get("fixed")) {
    model.set({ row, column, fixed });
    model.save_changes();
    update();
  }

  // The patch whose middle is nearest to the pointer.
  function patchAt(event) {
    const pixel = pixelAt(event, frame, model.get("size")), half = model.get("patch_size") >> 1;
    return places().map((count, axis) => Math.min(count - 1, Math.max(0, pixel[axis] - half)));
  }
  const chosen = () => [model.get("row"), model.get("column")];

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    const pixel = pixelAt(event, frame, model.get("size")), n = model.get("patch_size");
    const inside = chosen().every((first, axis) => pixel[axis] >= first && pixel[axis] < first + n);
    if (model.get("fixed") && inside) choose(chosen(), false);
    else choose(patchAt(event), true);
  });
  frame.addEventListener("pointermove", (event) => {
    if (model.get("fixed") && !(event.buttons && frame.hasPointerCapture(event.pointerId))) return;
    const patch = patchAt(event);
    if (String(patch) !== String(chosen())) choose(patch);
  });
  frame.addEventListener("keydown", (event) => {
    const next = stepOf(event, chosen(), places());
    if (next) choose(next);
    else if (event.key === "Enter" || event.key === " ") choose(chosen(), !model.get("fixed"));
    else if (event.key === "Escape" && model.get("fixed")) choose(chosen(), false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  ends.push(follow(model, ["row", "column", "fixed", "answer"], update));
  const watcher = new ResizeObserver(draw);
  watcher.observe(pair);
  return () => { watcher.disconnect(); ends.forEach((end) => end()); };
}

export default { render };
