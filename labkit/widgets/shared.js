// Common to all pictures; Python puts this text in front of each widget's own script.

function element(tag, className, parent, attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent?.append(node);
  return node;
}

// Call `update` now and whenever one of the model's values changes; returns the function that ends it.
function follow(model, names, update) {
  for (const name of names) model.on(`change:${name}`, update);
  update();
  return () => names.forEach((name) => model.off(`change:${name}`, update));
}

// JupyterLab takes arrow keys to walk through the cells, unless the focused element itself says no.
const keeping = new WeakSet();
function keepKeys(root) {
  if (!root || keeping.has(root)) return;
  keeping.add(root);
  root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
}

// The frame of a picture and of all that is drawn over it: as wide as the picture at its scale, or as there is room.
function frameOf(model, parent) {
  const frame = element("div", "labkit-frame", parent);
  keepKeys(parent);
  const end = follow(model, ["size", "scale"], () => {
    const [rows, columns] = model.get("size");
    frame.style.width = `${columns * model.get("scale")}px`;
    frame.style.aspectRatio = `${columns} / ${rows}`;
  });
  return [frame, end];
}

// An <img> that shows the bytes of a trait. Enlarged pixels stay squares; a shrunken picture is smoothed.
function imageOf(model, name, frame) {
  const image = element("img", "labkit-image", frame, { draggable: "false" });
  let url = null;
  const end = follow(model, [name], () => {
    const view = model.get(name);
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const old = url;
    url = URL.createObjectURL(new Blob([bytes], { type: bytes[0] === 0x89 ? "image/png" : "image/jpeg" }));
    image.src = url;
    if (old) URL.revokeObjectURL(old);
  });
  const sharpen = () => {
    const ratio = (image.clientWidth * window.devicePixelRatio) / model.get("size")[1];
    image.style.imageRendering = ratio >= 2 || Number.isInteger(ratio) ? "pixelated" : "auto";
    keepKeys(image.closest(".labkit-widget"));   // the sliders beside the picture, which ipywidgets made
  };
  const watcher = new ResizeObserver(sharpen);
  watcher.observe(image);
  const endSize = follow(model, ["size"], sharpen);   // another picture may be shown in the same room
  return [image, () => { end(); endSize(); watcher.disconnect(); URL.revokeObjectURL(url); }];
}

function captionOf(model, parent) {
  const caption = element("figcaption", "labkit-caption", parent);
  return follow(model, ["caption"], () => {
    caption.textContent = model.get("caption");
    caption.hidden = !model.get("caption");
  });
}

// The pixel [row, column] under a pointer.
function pixelAt(event, frame, [rows, columns]) {
  const box = frame.getBoundingClientRect();
  const inside = (value, count) => Math.min(count - 1, Math.max(0, Math.floor(value * count)));
  return [inside((event.clientY - box.top) / box.height, rows),
    inside((event.clientX - box.left) / box.width, columns)];
}

// Where an arrow key leads from `pixel` (Shift: ten pixels), or null for another key.
function stepOf(event, pixel, [rows, columns]) {
  const direction = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!direction) return null;
  const length = event.shiftKey ? 10 : 1;
  const inside = (value, count) => Math.min(count - 1, Math.max(0, value));
  return [inside(pixel[0] + direction[0] * length, rows), inside(pixel[1] + direction[1] * length, columns)];
}

const SVG = "http://www.w3.org/2000/svg";

// A drawing over the picture, in its pixel coordinates: one path in dark and, on top, in light, to show on any picture.
function overlayOf(frame) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "labkit-overlay");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const paths = ["labkit-under", "labkit-over"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
    return path;
  });
  frame.append(svg);
  return ([rows, columns], outline) => {
    svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    for (const path of paths) path.setAttribute("d", outline);
  };
}
