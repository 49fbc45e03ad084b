// Painting a mask over a picture. The mask is one byte per pixel, row by row, 1 where painted.

function render({ model, el }) {
  const figure = element("figure", "labkit-figure", el);
  const tools = element("div", "labkit-tools", figure, { role: "group", "aria-label": "Brush" });
  const label = element("label", "", tools);
  label.append("Brush radius ");
  const radius = element("input", "", label, { type: "range", min: "0", max: "40", step: "1" });
  const amount = element("output", "labkit-amount", label);
  const erase = element("button", "labkit-button", tools, { type: "button" });
  erase.textContent = "Erase";
  const clear = element("button", "labkit-button", tools, { type: "button" });
  clear.textContent = "Clear";

  const [frame, endFrame] = frameOf(model, figure);
  frame.classList.add("labkit-interactive", "labkit-live", "labkit-brush");
  frame.tabIndex = 0;
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-roledescription", "picture to paint on");
  const [image, endImage] = imageOf(model, "data", frame);
  const canvas = element("canvas", "labkit-paint", frame, { "aria-hidden": "true" });
  const draw = overlayOf(frame);
  const status = element("output", "labkit-status", figure);
  const endCaption = captionOf(model, figure);

  let mask = new Uint8Array(0), cursor = null, penDown = false, stroke = null;

  function repaint() {
    const [rows, columns] = model.get("size");
    canvas.width = columns, canvas.height = rows;
    const pixels = new ImageData(columns, rows);
    const words = new Uint32Array(pixels.data.buffer);
    for (let k = 0; k < mask.length; k++) if (mask[k]) words[k] = 0xb0005ed5;   // vermilion #d55e00, 69 % opaque
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function tell() {
    const painted = mask.reduce((sum, value) => sum + value, 0);
    const share = mask.length ? (100 * painted / mask.length).toFixed(1) : "0.0";
    status.textContent = `${share} % painted` + (penDown ? "; the pen is down: arrow keys draw, Space lifts it" : "");
    const r = model.get("radius") + 0.5;
    const circle = cursor
      && `M${cursor[1] + 0.5 - r} ${cursor[0] + 0.5}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
    draw(model.get("size"), circle ?? "");
  }

  function dab([row, column]) {
    const [rows, columns] = model.get("size"), r = model.get("radius"), value = model.get("erasing") ? 0 : 1;
    for (let y = Math.max(0, row - r); y <= Math.min(rows - 1, row + r); y++) {
      for (let x = Math.max(0, column - r); x <= Math.min(columns - 1, column + r); x++) {
        if ((y - row) ** 2 + (x - column) ** 2 <= (r + 0.5) ** 2) mask[y * columns + x] = value;
      }
    }
  }

  // Dabs along the way from one pixel to the next, so that a fast stroke has no gaps.
  function line(from, to) {
    const count = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let k = 0; k <= count; k++) {
      dab([0, 1].map((axis) => Math.round(from[axis] + ((to[axis] - from[axis]) * k) / count)));
    }
    repaint();
  }

  function send() {
    model.set("bits", new DataView(mask.slice().buffer));
    model.save_changes();
    tell();
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    stroke = cursor = pixelAt(event, frame, model.get("size"));
    line(stroke, stroke);
    tell();
  });
  frame.addEventListener("pointermove", (event) => {
    cursor = pixelAt(event, frame, model.get("size"));
    if (stroke) line(stroke, cursor), stroke = cursor;
    tell();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    frame.addEventListener(name, () => { if (stroke) stroke = null, send(); });
  }
  frame.addEventListener("pointerleave", () => {
    if (!stroke && document.activeElement !== frame) cursor = null, tell();
  });
  frame.addEventListener("keydown", (event) => {
    const size = model.get("size"), here = cursor ?? [size[0] >> 1, size[1] >> 1], next = stepOf(event, here, size);
    if (next) {
      cursor = next;
      if (penDown) line(here, next), send();
    } else if (event.key === " " || event.key === "Enter") {
      cursor = here;
      penDown = !penDown;
      if (penDown) line(here, here), send();
    } else return;
    tell();
    event.preventDefault();
    event.stopPropagation();
  });
  frame.addEventListener("blur", () => { cursor = null, penDown = false; tell(); });

  radius.addEventListener("input", () => { model.set("radius", radius.valueAsNumber); model.save_changes(); });
  erase.addEventListener("click", () => { model.set("erasing", !model.get("erasing")); model.save_changes(); });
  clear.addEventListener("click", () => { mask.fill(0); repaint(); send(); });

  const endMask = follow(model, ["bits", "size"], () => {
    if (stroke) return;   // the answer of the kernel to an earlier stroke must not undo this one
    const view = model.get("bits");
    mask = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
    repaint();
    tell();
  });
  const endTools = follow(model, ["radius", "erasing", "alt"], () => {
    radius.value = model.get("radius");
    amount.textContent = `${model.get("radius")} px`;
    erase.setAttribute("aria-pressed", model.get("erasing"));
    image.alt = model.get("alt");
    frame.setAttribute("aria-label", `${model.get("alt")} Arrow keys move the brush, with Shift by ten pixels; `
      + "Space puts the pen down or lifts it.");
    tell();
  });
  return () => { endMask(); endTools(); endFrame(); endImage(); endCaption(); };
}

export default { render };
