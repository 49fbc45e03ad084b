// Two pictures under one divider. A transparent <input type="range"> over them takes mouse, touch and keyboard.

function render({ model, el }) {
  const figure = element("figure", "labkit-figure", el);
  const [frame, endFrame] = frameOf(model, figure);
  frame.classList.add("labkit-compare");
  const [after, endAfter] = imageOf(model, "after", frame);
  const [before, endBefore] = imageOf(model, "before", frame);
  before.classList.add("labkit-before");
  const divider = element("div", "labkit-divider", frame, { "aria-hidden": "true" });
  const tags = [element("span", "labkit-tag labkit-left", frame), element("span", "labkit-tag labkit-right", frame)];
  const range = element("input", "labkit-range", frame, { type: "range", min: "0", max: "100", step: "1" });
  const endCaption = captionOf(model, figure);

  const end = follow(model, ["position", "alt", "labels"], () => {
    const position = model.get("position"), [left, right] = model.get("labels");
    before.style.clipPath = `inset(0 ${100 - position}% 0 0)`;
    divider.style.left = `${position}%`;
    before.alt = `${model.get("alt")} (${left})`;
    after.alt = `${model.get("alt")} (${right})`;
    tags[0].textContent = left;
    tags[1].textContent = right;
    tags[0].classList.toggle("labkit-faded", position < 15);
    tags[1].classList.toggle("labkit-faded", position > 85);
    range.value = position;
    range.setAttribute("aria-label", `Divider between ${left} and ${right}`);
    range.setAttribute("aria-valuetext", `${left} on the left ${Math.round(position)} %, ${right} on the rest`);
  });
  range.addEventListener("input", () => {
    model.set("position", range.valueAsNumber);
    model.save_changes();
  });
  return () => { end(); endFrame(); endAfter(); endBefore(); endCaption(); };
}

export default { render };
