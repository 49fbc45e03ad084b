// Strokes on a picture by mouse, touch and keyboard, with a round brush: what painting a mask and a picture share.

// The slider of the brush's radius, in the row of tools.
function radiusOf(model, tools) {
  const label = element("label", "", tools);
  label.append("Brush radius ");
  const radius = element("input", "", label, { type: "range", min: "0", max: "40", step: "1" });
  const amount = element("output", "labkit-amount", label);
  radius.addEventListener("input", () => { model.set("radius", radius.valueAsNumber); model.save_changes(); });
  return follow(model, ["radius"], () => {
    radius.value = model.get("radius");
    amount.textContent = `${model.get("radius")} px`;
  });
}

function buttonOf(tools, text) {
  const button = element("button", "labkit-button", tools, { type: "button" });
  button.textContent = text;
  return button;
}

// Call `mark(index)` for every pixel of a disc.
function disc([row, column], r, [rows, columns], mark) {
  for (let y = Math.max(0, row - r); y <= Math.min(rows - 1, row + r); y++) {
    for (let x = Math.max(0, column - r); x <= Math.min(columns - 1, column + r); x++) {
      if ((y - row) ** 2 + (x - column) ** 2 <= (r + 0.5) ** 2) mark(y * columns + x);
    }
  }
}

// Make a frame one to paint on. `began()` is called before a stroke, `mark(index)` for every pixel painted, `repaint()`
// after some of them, `send()` when the kernel should know, `tell(cursor, penDown)` when brush or pen have moved.
function strokesOn(model, frame, { began = () => {}, mark, repaint, send, tell }) {
  let cursor = null, penDown = false, stroke = null;
  frame.classList.add("labkit-interactive", "labkit-live", "labkit-brush");
  frame.tabIndex = 0;
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-roledescription", "picture to paint on");
  const draw = overlayOf(frame);

  function moved() {
    const r = model.get("radius") + 0.5;
    const circle = cursor
      && `M${cursor[1] + 0.5 - r} ${cursor[0] + 0.5}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
    draw(model.get("size"), circle ?? "");
    tell(penDown ? "; the pen is down: arrow keys draw, Space lifts it" : "");
  }

  // Dabs along the way from one pixel to the next, so that a fast stroke has no gaps.
  function line(from, to) {
    const count = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let k = 0; k <= count; k++) {
      const pixel = [0, 1].map((axis) => Math.round(from[axis] + ((to[axis] - from[axis]) * k) / count));
      disc(pixel, model.get("radius"), model.get("size"), mark);
    }
    repaint();
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    stroke = cursor = pixelAt(event, frame, model.get("size"));
    began();
    line(stroke, stroke);
    moved();
  });
  frame.addEventListener("pointermove", (event) => {
    cursor = pixelAt(event, frame, model.get("size"));
    if (stroke) line(stroke, cursor), stroke = cursor;
    moved();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    frame.addEventListener(name, () => { if (stroke) stroke = null, send(), moved(); });
  }
  frame.addEventListener("pointerleave", () => {
    if (!stroke && document.activeElement !== frame) cursor = null, moved();
  });
  frame.addEventListener("keydown", (event) => {
    const size = model.get("size"), here = cursor ?? [size[0] >> 1, size[1] >> 1], next = stepOf(event, here, size);
    if (next) {
      cursor = next;
      if (penDown) line(here, next), send();
    } else if (event.key === " " || event.key === "Enter") {
      cursor = here;
      penDown = !penDown;
      if (penDown) began(), line(here, here), send();
    } else return;
    moved();
    event.preventDefault();
    event.stopPropagation();
  });
  frame.addEventListener("blur", () => { cursor = null, penDown = false; moved(); });
  return { moved, painting: () => stroke !== null };
}
