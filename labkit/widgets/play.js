// A button that counts `value` up to `last`, again from 0 after the end. Traits: see Play in film.py.

function render({ model, el }) {
  keepKeys(el);
  const button = element("button", "labkit-button labkit-play", el, { type: "button" });
  let timer = null;

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  function go(value) {
    model.set("value", value);
    model.save_changes();
    if (value >= model.get("last")) stop();
  }

  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Pause";
    timer = setInterval(() => go(Math.min(model.get("value") + 1, model.get("last"))), model.get("interval"));
    go(model.get("value") >= model.get("last") ? 0 : model.get("value") + 1);
  });
  stop();
  return stop;
}

export default { render };
