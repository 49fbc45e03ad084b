// Painting a picture in given colours. The painting is three bytes per pixel, row by row: red, green and blue.

const MOST_UNDONE = 40;

function render({ model, el }) {
  const figure = element("figure", "labkit-figure labkit-canvas", el);
  const tools = element("div", "labkit-tools", figure, { role: "group", "aria-label": "Brush" });
  const palette = element("div", "labkit-palette", tools, { role: "radiogroup", "aria-label": "Colour" });
  const endRadius = radiusOf(model, tools);
  const undo = buttonOf(tools, "Undo"), cover = buttonOf(tools, "Cover all");
  cover.title = "Paint everything in the chosen colour";
  const [frame, endFrame] = frameOf(model, figure);
  const canvas = element("canvas", "labkit-paint", frame, { "aria-hidden": "true" });
  const status = element("output", "labkit-status", figure);
  const endCaption = captionOf(model, figure);

  let pixels = new ImageData(1, 1), words = new Uint32Array(1), past = [], sent = null;

  const nameOf = (number) => `${number + 1} ${model.get("palette")[number][1]}`;
  const rgbOf = (number) => [1, 3, 5].map((at) => parseInt(model.get("palette")[number][0].slice(at, at + 2), 16));

  function wordOf(number) {   // the four bytes of a pixel as one number, in the machine's order
    return new Uint32Array(new Uint8Array([...rgbOf(number), 255]).buffer)[0];
  }

  function repaint() {
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function tell(pen) {
    status.textContent = `colour ${nameOf(model.get("color"))}${pen}`;
  }

  function keep() {
    past.push(words.slice());
    if (past.length > MOST_UNDONE) past.shift();
    undo.disabled = false;
  }

  function send() {
    sent = new Uint8Array(3 * words.length);
    for (let k = 0; k < words.length; k++) {
      for (let channel = 0; channel < 3; channel++) sent[3 * k + channel] = pixels.data[4 * k + channel];
    }
    model.set("pixels", new DataView(sent.buffer));
    model.save_changes();
  }

  function takeBack() {
    if (!past.length) return;
    words.set(past.pop());
    undo.disabled = !past.length;
    repaint();
    send();
  }

  function choose(number) {
    if (number < 0 || number >= model.get("palette").length) return;
    model.set("color", number);
    model.save_changes();
  }

  let ink = 0;
  const brush = strokesOn(model, frame, { began: keep, mark: (index) => { words[index] = ink; }, repaint, send, tell });
  undo.addEventListener("click", takeBack);
  cover.addEventListener("click", () => { keep(); words.fill(ink); repaint(); send(); });
  figure.addEventListener("keydown", (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) takeBack();
    else if (/^[1-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) choose(event.key - 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // One colour of the group takes the focus; arrow keys choose its neighbours, as in any group of radio buttons.
  palette.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const count = model.get("palette").length, next = (model.get("color") + step + count) % count;
    choose(next);
    palette.children[next].focus();
    event.preventDefault();
    event.stopPropagation();
  });

  const endPalette = follow(model, ["palette"], () => {
    palette.replaceChildren(...model.get("palette").map(([css], number) => {
      const button = element("button", "labkit-color", null, { type: "button", role: "radio" });
      const [red, green, blue] = rgbOf(number);
      button.textContent = number + 1;
      button.style.background = css;
      button.style.color = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
      button.title = nameOf(number);
      button.setAttribute("aria-label", `colour ${nameOf(number)}`);
      button.addEventListener("click", () => choose(number));
      return button;
    }));
  });
  const endColor = follow(model, ["color", "palette", "alt"], () => {
    [...palette.children].forEach((button, number) => {
      const chosen = number === model.get("color");
      button.setAttribute("aria-checked", chosen);
      button.tabIndex = chosen ? 0 : -1;
    });
    ink = wordOf(model.get("color"));
    frame.setAttribute("aria-label", `${model.get("alt")} Arrow keys move the brush, with Shift by ten pixels; `
      + "Space puts it down or lifts it; digits choose a colour; Control Z takes a stroke back.");
    brush.moved();
  });
  const endPixels = follow(model, ["pixels", "size"], () => {
    const view = model.get("pixels"), bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (brush.painting() || (sent && bytes.every((value, k) => value === sent[k]))) return;   // they come from here
    const [rows, columns] = model.get("size");
    if (pixels.width === columns && pixels.height === rows) keep();
    else {
      canvas.width = columns, canvas.height = rows;
      pixels = new ImageData(columns, rows);
      words = new Uint32Array(pixels.data.buffer);
      past = [];
      undo.disabled = true;
    }
    for (let k = 0; k < words.length; k++) {
      for (let channel = 0; channel < 3; channel++) pixels.data[4 * k + channel] = bytes[3 * k + channel];
      pixels.data[4 * k + 3] = 255;
    }
    sent = bytes.slice();
    repaint();
  });
  return () => { endPixels(); endColor(); endPalette(); endRadius(); endFrame(); endCaption(); };
}

export default { render };
