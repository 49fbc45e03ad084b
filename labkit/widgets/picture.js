// A picture in which a pixel can be chosen by mouse, touch or keyboard. Traits: see Picture in pictures.py.

// A box around the pixel, never too small to see, and four short arms. `zoom` is screen pixels per picture pixel.
function reticle([row, column], zoom) {
  const half = Math.max(0.5, 5 / zoom), arm = half + 9 / zoom;
  const y = row + 0.5, x = column + 0.5;
  return `M${x - half} ${y - half}h${2 * half}v${2 * half}h${-2 * half}z`
    + `M${x - arm} ${y}H${x - half}M${x + half} ${y}H${x + arm}`
    + `M${x} ${y - arm}V${y - half}M${x} ${y + half}V${y + arm}`;
}

function render({ model, el }) {
  const figure = element("figure", "labkit-figure", el);
  const [frame, endFrame] = frameOf(model, figure);
  const [image, endImage] = imageOf(model, "data", frame);
  const draw = overlayOf(frame);
  const status = element("output", "labkit-status", figure);
  const endCaption = captionOf(model, figure);
  let cursor = null;   // where the keyboard is; null while it is at the chosen pixel

  const chosen = () => (model.get("row") === null || model.get("column") === null
    ? null : [model.get("row"), model.get("column")]);

  function update() {
    const interactive = model.get("interactive"), pixel = cursor ?? chosen();
    image.alt = model.get("alt");
    frame.classList.toggle("labkit-interactive", interactive);
    frame.classList.toggle("labkit-live", model.get("live"));
    if (interactive) {
      frame.tabIndex = 0;
      frame.setAttribute("role", "application");
      frame.setAttribute("aria-roledescription", "picture with a crosshair");
      frame.setAttribute("aria-label", `${model.get("alt")} Arrow keys move the crosshair, with Shift by ten pixels; `
        + "Enter chooses the pixel.");
    } else {
      for (const name of ["tabindex", "role", "aria-roledescription", "aria-label"]) frame.removeAttribute(name);
    }
    const zoom = (frame.clientWidth || 1) / model.get("size")[1];
    draw(model.get("size"), pixel ? reticle(pixel, zoom) : "");
    status.hidden = !interactive;
    if (!pixel) status.textContent = "Click a pixel, or use the arrow keys and Enter.";
    else status.textContent = `row ${pixel[0]}, column ${pixel[1]}` + (cursor ? " (Enter chooses it)" : "");
  }

  function choose([row, column]) {
    cursor = null;
    model.set({ row, column });
    model.save_changes();
    update();
  }

  frame.addEventListener("pointerdown", (event) => {
    if (!model.get("interactive") || event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    choose(pixelAt(event, frame, model.get("size")));
  });
  frame.addEventListener("pointermove", (event) => {
    if (model.get("live") && model.get("interactive") && frame.hasPointerCapture(event.pointerId)) {
      choose(pixelAt(event, frame, model.get("size")));
    }
  });
  frame.addEventListener("keydown", (event) => {
    if (!model.get("interactive")) return;
    const size = model.get("size"), centre = [size[0] >> 1, size[1] >> 1];
    const here = cursor ?? chosen() ?? centre, next = stepOf(event, here, size);
    if (next && model.get("live")) choose(next);
    else if (next) { cursor = next; update(); }
    else if (event.key === "Enter" || event.key === " ") choose(here);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  frame.addEventListener("blur", () => { cursor = null; update(); });

  const end = follow(model, ["row", "column", "size", "alt", "interactive", "live"], update);
  const watcher = new ResizeObserver(update);   // the crosshair keeps its size on the screen
  watcher.observe(frame);
  return () => { end(); watcher.disconnect(); endFrame(); endImage(); endCaption(); };
}

export default { render };
