// The picture, the figures above it and the accessibility of the controls of one panel.

function showPicture(model, image) {
  // with its shape known, a new picture never moves the page: no layout between two frames
  image.onload = () => (image.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`);
  const draw = () => {
    const view = model.get("png");
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    image.src = "data:image/png;base64," + btoa(text);
  };
  draw();
  return draw;
}

// apart from the picture: two settings may look the same to the pixel and still differ in words
function showAlt(model, image) {
  const draw = () => (image.alt = model.get("alt"));
  draw();
  return draw;
}

function showCards(model, cards) {
  const draw = () => {
    const wanted = model.get("cards");
    if (cards.childElementCount !== wanted.length) {
      cards.replaceChildren(
        ...wanted.map(() => {
          const card = document.createElement("div");
          card.className = "labkit-card";
          for (const part of ["label", "value", "note"]) {
            const line = document.createElement("div");
            line.className = `labkit-${part}`;
            card.append(line);
          }
          return card;
        }),
      );
    }
    wanted.forEach((texts, i) =>
      texts.forEach((text, j) => {
        const line = cards.children[i].children[j];
        if (line.textContent !== text) line.textContent = text;
      }),
    );
  };
  draw();
  return draw;
}

function showStatus(model, status) {
  const draw = () => {
    const text = model.get("status");
    status.textContent = text;
    status.classList.toggle("labkit-error", text.startsWith("⚠"));
  };
  draw();
  return draw;
}

// ipywidgets' slider handles have no accessible name, and announce an index or an exponent instead of the shown value.
function nameSliders(panel) {
  for (const slider of panel.querySelectorAll(".widget-slider")) {
    const handle = slider.querySelector(".noUi-handle");
    const label = slider.querySelector(".widget-label");
    const readout = slider.querySelector(".widget-readout");
    if (!handle || !label) continue;
    const set = (name, value) => handle.getAttribute(name) !== value && handle.setAttribute(name, value);
    set("aria-label", label.textContent);
    if (readout) {
      set("aria-valuetext", readout.textContent);
      if (readout.isContentEditable) {
        if (readout.getAttribute("role") !== "textbox") readout.setAttribute("role", "textbox");
        if (!readout.hasAttribute("aria-label")) readout.setAttribute("aria-label", `${label.textContent}, typed`);
      }
    }
  }
}

export default {
  render({ model, el }) {
    el.classList.add("labkit-live");
    const cards = document.createElement("div");
    cards.className = "labkit-cards";
    const status = document.createElement("div");
    status.className = "labkit-status";
    status.setAttribute("role", "status");
    const image = document.createElement("img");
    image.className = "labkit-picture";
    el.replaceChildren(cards, status, image);

    const draws = {
      png: showPicture(model, image),
      alt: showAlt(model, image),
      cards: showCards(model, cards),
      status: showStatus(model, status),
    };
    for (const [name, draw] of Object.entries(draws)) model.on(`change:${name}`, draw);

    let observer;
    const attach = setInterval(() => {
      const panel = el.closest(".labkit-panel");
      if (!panel) return;
      clearInterval(attach);
      nameSliders(panel);
      observer = new MutationObserver(() => nameSliders(panel));
      observer.observe(panel, { subtree: true, childList: true, characterData: true, attributeFilter: ["aria-valuetext"] });
    }, 50);

    return () => {
      clearInterval(attach);
      if (observer) observer.disconnect();
      for (const [name, draw] of Object.entries(draws)) model.off(`change:${name}`, draw);
    };
  },
};
