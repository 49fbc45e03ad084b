// Painting a mask over a picture. The mask is one byte per pixel, row by row, 1 where painted.

function render({ model, el }) {
  const figure = element("figure", "labkit-figure", el);
  const tools = element("div", "labkit-tools", figure, { role: "group", "aria-label": "Brush" });
  const endRadius = radiusOf(model, tools);
  const erase = buttonOf(tools, "Erase"), clear = buttonOf(tools, "Clear");
  const [frame, endFrame] = frameOf(model, figure);
  const [image, endImage] = imageOf(model, "data", frame);
  const canvas = element("canvas", "labkit-paint", frame, { "aria-hidden": "true" });
  const status = element("output", "labkit-status", figure);
  const endCaption = captionOf(model, figure);

  let mask = new Uint8Array(0);

  function repaint() {
    const [rows, columns] = model.get("size");
    canvas.width = columns, canvas.height = rows;
    const pixels = new ImageData(columns, rows);
    const words = new Uint32Array(pixels.data.buffer);
    for (let k = 0; k < mask.length; k++) if (mask[k]) words[k] = 0xb0005ed5;   // vermilion #d55e00, 69 % opaque
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function tell(pen) {
    const painted = mask.reduce((sum, value) => sum + value, 0);
    const share = mask.length ? (100 * painted / mask.length).toFixed(1) : "0.0";
    status.textContent = `${share} % painted${pen}`;
  }

  function send() {
    model.set("bits", new DataView(mask.slice().buffer));
    model.save_changes();
  }

  const brush = strokesOn(model, frame, {
    mark: (index) => { mask[index] = model.get("erasing") ? 0 : 1; }, repaint, send, tell,
  });
  erase.addEventListener("click", () => { model.set("erasing", !model.get("erasing")); model.save_changes(); });
  clear.addEventListener("click", () => { mask.fill(0); repaint(); send(); });

  const endMask = follow(model, ["bits", "size"], () => {
    if (brush.painting()) return;   // the answer of the kernel to an earlier stroke must not undo this one
    const view = model.get("bits");
    mask = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
    repaint();
    brush.moved();
  });
  const endTools = follow(model, ["radius", "erasing", "alt"], () => {
    erase.setAttribute("aria-pressed", model.get("erasing"));
    image.alt = model.get("alt");
    frame.setAttribute("aria-label", `${model.get("alt")} Arrow keys move the brush, with Shift by ten pixels; `
      + "Space puts the pen down or lifts it.");
    brush.moved();
  });
  return () => { endMask(); endTools(); endRadius(); endFrame(); endImage(); endCaption(); };
}

export default { render };
