// One panel: controls, words and picture. The kernel sends numbers and texts; nothing here knows what they mean.

const SVG = "http://www.w3.org/2000/svg";
const LATE = 250; // ms without an answer before the figures are dimmed
const LETTERS = 1.1; // how much a picture's letters grow where the panel is narrower than it; more, and they meet
const LINES = 1.5; // how much its lines grow for a presenter; its letters grow with the whole picture
const NEAR = 3; // controls that the presenter keeps in sight
const READY = 32; // pictures that the kernel has drawn ahead and that stay at hand
const SILENT = 20000; // ms without an answer before the kernel is called silent

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- the picture: the still part once, the marks at every frame

function enlarge(root, { letters, lines }) {
  for (const { style } of root.querySelectorAll("[style]")) {
    if (style.fontSize) style.fontSize = `${parseFloat(style.fontSize) * letters}px`;
    if (style.strokeWidth) style.strokeWidth = parseFloat(style.strokeWidth) * lines;
  }
}

function still(holder, picture, sizes) {
  const parsed = new DOMParser().parseFromString(picture.svg, "image/svg+xml");
  const root = document.importNode(parsed.documentElement, true);
  root.setAttribute("class", "labkit-svg");
  root.setAttribute("role", "img");
  root.removeAttribute("id");
  root.style.setProperty("--labkit-h", picture.height);
  enlarge(root, sizes);
  const clips = root.appendChild(document.createElementNS(SVG, "defs"));
  const marks = root.appendChild(document.createElementNS(SVG, "g"));
  const ghost = root.insertBefore(document.createElementNS(SVG, "g"), marks);
  ghost.setAttribute("class", "labkit-ghost");
  const ring = root.appendChild(document.createElementNS(SVG, "circle"));
  ring.setAttribute("class", "labkit-ring");
  ring.setAttribute("r", 7);
  ring.setAttribute("visibility", "hidden");
  holder.replaceChildren(root);
  return { root, clips, marks, ghost, ring, sizes, known: new Map(), uid: Math.random().toString(36).slice(2, 8) };
}

function clipOf(drawn, box) {
  const key = box.join(" ");
  if (!drawn.known.has(key)) {
    const id = `labkit-${drawn.uid}-${drawn.known.size}`;
    const clip = drawn.clips.appendChild(document.createElementNS(SVG, "clipPath"));
    clip.id = id;
    const rect = clip.appendChild(document.createElementNS(SVG, "rect"));
    ["x", "y", "width", "height"].forEach((name, i) => rect.setAttribute(name, box[i]));
    drawn.known.set(key, `url(#${id})`);
  }
  return drawn.known.get(key);
}

const PLAIN = new Set(["tag", "at", "lines", "clip", "point"]);

function place(drawn, element, mark) {
  const set = (node, name, value) => node.getAttribute(name) !== String(value) && node.setAttribute(name, value);
  mark = { ...mark };
  if ("font-size" in mark) mark["font-size"] *= drawn.sizes.letters;
  if ("stroke-width" in mark) mark["stroke-width"] *= drawn.sizes.lines;
  const targets = mark.tag === "stamp" ? stamps(element, mark) : [element];
  for (const node of targets) {
    for (const [name, value] of Object.entries(mark)) if (!PLAIN.has(name)) set(node, name, value);
    for (const name of ["fill-opacity", "stroke-opacity", "stroke-dasharray", "stroke-width"])
      if (!(name in mark) && node.hasAttribute(name)) node.removeAttribute(name);
  }
  if (mark.clip) set(element, "clip-path", clipOf(drawn, mark.clip));
  if (mark.tag === "image") set(element, "preserveAspectRatio", "none");
  if (mark.lines) lines(element, mark);
}

function stamps(group, mark) {
  while (group.childElementCount > mark.at.length) group.lastChild.remove();
  while (group.childElementCount < mark.at.length) group.append(document.createElementNS(SVG, "path"));
  mark.at.forEach(([x, y], i) => group.children[i].setAttribute("transform", `translate(${x} ${y})`));
  return [...group.children];
}

function lines(element, mark) {
  while (element.childElementCount > mark.lines.length) element.lastChild.remove();
  while (element.childElementCount < mark.lines.length) element.append(document.createElementNS(SVG, "tspan"));
  mark.lines.forEach((text, i) => {
    const span = element.children[i];
    span.setAttribute("x", mark.x);
    if (i) span.setAttribute("dy", "1.2em");
    write(span, text);
  });
}

function show(drawn, group, marks) {
  const tag = (mark) => (mark.tag === "stamp" ? "g" : mark.tag);
  while (group.childElementCount > marks.length) group.lastChild.remove();
  marks.forEach((mark, i) => {
    let element = group.children[i];
    if (!element || element.tagName !== tag(mark)) {
      const fresh = document.createElementNS(SVG, tag(mark));
      if (element) element.replaceWith(fresh);
      else group.append(fresh);
      element = fresh;
    }
    place(drawn, element, mark);
  });
}

// ---- points of the still part: hover, focus, click

function pointing(ctx) {
  const { holder, tip, model } = ctx;
  let at = -1;
  const points = () => model.get("picture").points || [];
  const onPage = (x, y) => new DOMPoint(x, y).matrixTransform(ctx.drawn.root.getScreenCTM());
  const choose = (i) => {
    at = i;
    const ring = ctx.drawn.ring;
    ring.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    tip.hidden = i < 0;
    holder.style.cursor = i >= 0 && Object.keys(points()[i][3]).length ? "pointer" : "";
    if (i < 0) return;
    const [x, y, words, settings] = points()[i];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    write(tip, words + (Object.keys(settings).length ? "\nclick or Enter: go there" : ""));
    const box = holder.getBoundingClientRect();
    const there = onPage(x, y);
    const top = there.y - box.top + 14;
    tip.style.left = `${Math.max(4, Math.min(there.x - box.left + 14, holder.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${top + tip.offsetHeight > holder.clientHeight ? top - 28 - tip.offsetHeight : top}px`;
  };
  const nearest = (event) => {
    let best = -1;
    let far = 12;
    points().forEach(([x, y], i) => {
      const there = onPage(x, y);
      const d = Math.hypot(event.clientX - there.x, event.clientY - there.y);
      if (d < far) [best, far] = [i, d];
    });
    return best;
  };
  const go = () => {
    if (at >= 0 && Object.keys(points()[at][3]).length) model.send({ do: "go", settings: points()[at][3] });
  };
  holder.addEventListener("pointermove", (event) => choose(nearest(event)));
  holder.addEventListener("pointerleave", () => choose(-1));
  holder.addEventListener("click", (event) => {
    choose(nearest(event));
    go();
  });
  holder.addEventListener("blur", () => choose(-1));
  holder.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && points().length) {
      choose((at + step + points().length) % points().length);
      write(ctx.live, points()[at][2]);
      event.preventDefault();
    } else if (event.key === "Enter") go();
    else if (event.key === "Escape") choose(-1);
  });
  ctx.unpoint = () => choose(-1);
  ctx.el.labkitPoints = () => points().length; // for tests
  ctx.el.labkitPoint = (i) => points()[i];
}

// ---- controls

function asker(ctx) {
  const { model } = ctx;
  let number = 0;
  const open = new Map();
  ctx.ask = (name, where) => {
    number = Math.max(number, Date.now()) + 1; // grows over reloads too
    open.set(name, [number, where]);
    near(ctx, name);
    ctx.el.dataset.asked = number;
    model.set("asked", { moves: Object.fromEntries(open) });
    model.save_changes();
    ctx.waits = performance.now();
    clearTimeout(ctx.late);
    ctx.late = setTimeout(() => waiting(ctx), LATE);
    return number;
  };
  ctx.answered = (request) => {
    for (const [name, [sent]] of open) if (sent <= request) open.delete(name);
    if (open.size === 0) {
      clearTimeout(ctx.late);
      ctx.el.classList.remove("labkit-waits");
    }
    return open.size === 0;
  };
  ctx.open = open;
  ctx.el.labkitAsks = () => open.size; // for tests: moves that no picture has answered
}

function waiting(ctx) {
  ctx.el.classList.add("labkit-waits");
  const silent = performance.now() - ctx.waits > SILENT;
  status(ctx, silent ? "⚠ no answer: if the kernel was restarted, run this cell again (Shift+Enter)" : "measuring …");
  ctx.late = setTimeout(() => waiting(ctx), 1000);
}

function slider(ctx, about) {
  const { name, label } = about;
  const box = make("div", "labkit-control");
  const id = `labkit-${Math.random().toString(36).slice(2)}`;
  const title = make("label", "labkit-label", label);
  title.htmlFor = id;
  const value = make("input", "labkit-typed");
  value.type = "text";
  value.tabIndex = -1; // one Tab stop a slider: Enter on the handle leads here
  value.setAttribute("aria-label", `${label}, typed`);
  const range = make("input", "labkit-range");
  range.type = "range";
  range.id = id;
  range.min = 0;
  range.step = 1;
  const stops = () => ctx.model.get("stops")[name];
  const moveTo = (i) => {
    i = Math.max(0, Math.min(stops().length - 1, i));
    range.value = i;
    value.value = stops()[i];
    range.setAttribute("aria-valuetext", value.value);
    const number = ctx.ask(name, i);
    showReady(ctx, number);
    return number;
  };
  range.addEventListener("input", () => moveTo(Number(range.value)));
  range.addEventListener("keydown", (event) => {
    const far = Math.max(1, Math.round(stops().length / 10));
    const now = Number(range.value);
    const to = {
      ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
      PageDown: now - far, PageUp: now + far, Home: 0, End: stops().length - 1,
    }[event.key];
    if (event.key === "Enter") value.select();
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    moveTo(to);
  });
  const known = () => ctx.model.get("frame").places[name].text;
  const typed = () => value.value !== known() && ctx.ask(name, value.value);
  value.addEventListener("change", typed);
  value.addEventListener("keydown", (event) => {
    if (event.key === "Enter") range.focus();
    if (event.key === "Escape") (value.value = known()), range.focus();
  });
  box.append(title, value, range);
  const draw = (place) => {
    range.max = stops().length - 1;
    range.disabled = value.disabled = place.disabled;
    if (ctx.open.has(name)) return; // the hand is ahead of the kernel
    range.value = place.index;
    if (document.activeElement !== value) value.value = place.text;
    range.setAttribute("aria-valuetext", place.text);
  };
  return { box, draw, moveTo, focus: range };
}

function menu(ctx, about) {
  const box = make("div", "labkit-control");
  const title = make("label", "labkit-label", about.label);
  const select = make("select", "labkit-select");
  select.id = title.htmlFor = `labkit-${Math.random().toString(36).slice(2)}`;
  select.addEventListener("change", () => ctx.ask(about.name, select.selectedIndex));
  box.append(title, select);
  let known = "";
  const draw = (place) => {
    const stops = ctx.model.get("stops")[about.name];
    const key = stops.join("\n");
    if (key !== known) select.replaceChildren(...stops.map((text) => make("option", "", text)));
    known = key;
    select.disabled = place.disabled;
    if (!ctx.open.has(about.name)) select.selectedIndex = place.index;
  };
  return { box, draw, moveTo: (i) => ctx.ask(about.name, i), focus: select };
}

function tick(ctx, about) {
  const box = make("div", "labkit-control labkit-tick");
  const title = make("label", "", "");
  const check = make("input");
  check.type = "checkbox";
  check.addEventListener("change", () => ctx.ask(about.name, Number(check.checked)));
  title.append(check, about.label);
  box.append(title);
  const draw = (place) => {
    check.disabled = place.disabled;
    if (!ctx.open.has(about.name)) check.checked = place.index === 1;
  };
  return { box, draw, moveTo: (i) => ctx.ask(about.name, i), focus: check };
}

// the presenter keeps those in sight that were moved last; at first, the first ones
function near(ctx, name) {
  ctx.near = [name, ...ctx.near.filter((other) => other !== name)].slice(0, NEAR);
  for (const [other, { box }] of ctx.controls) box.classList.toggle("labkit-near", ctx.near.includes(other));
}

function controls(ctx, holder) {
  const kinds = { slider, menu, tick };
  for (const about of ctx.about.controls) {
    const control = kinds[about.kind](ctx, about);
    control.box.dataset.name = about.name;
    control.help = control.box.appendChild(make("div", "labkit-help", about.help));
    if (about.help) control.box.title = about.help;
    const tell = () => ctx.model.send({ do: "focus", name: about.name });
    control.box.addEventListener("focusin", tell);
    control.box.addEventListener("pointerenter", tell);
    holder.append(control.box);
    ctx.controls.set(about.name, control);
  }
  for (const about of ctx.about.controls.slice(0, NEAR).reverse()) near(ctx, about.name);
}

// ---- pictures drawn ahead

// the texts of all controls, the moves that no picture has answered among them
function placesNow(ctx) {
  const stops = ctx.model.get("stops");
  return Object.entries(ctx.model.get("frame").places).map(([name, { text }]) => {
    const move = ctx.open.get(name);
    return move === undefined ? text : typeof move[1] === "number" ? stops[name][move[1]] : null;
  });
}

function keepReady(ctx, picture) {
  const key = JSON.stringify(Object.values(picture.places).map(({ text }) => text));
  ctx.ready.delete(key);
  ctx.ready.set(key, picture);
  if (ctx.ready.size > READY) ctx.ready.delete(ctx.ready.keys().next().value);
  ctx.el.dataset.ready = ctx.ready.size; // for tests
}

// The kernel still gets the move, and answers it with the same picture.
function showReady(ctx, number) {
  const now = ctx.model.get("frame");
  const ready = ctx.ready.get(JSON.stringify(placesNow(ctx)));
  if (!ready || now.works || ready.number !== ctx.model.get("picture").number) return;
  ctx.ahead = number;
  const pinned = now.pinned && { ...now.pinned, difference: "" };
  frame(ctx, { ...ready, pinned, request: number, prepared: true, works: false });
}

// ---- words

function status(ctx, text) {
  write(ctx.status, text);
  ctx.status.classList.toggle("labkit-error", text.startsWith("⚠"));
}

function cards(ctx, wanted, pinned) {
  const holder = ctx.cards;
  while (holder.childElementCount > wanted.length) holder.lastChild.remove();
  while (holder.childElementCount < wanted.length) {
    const card = holder.appendChild(make("div", "labkit-card"));
    for (const part of ["label", "value", "note", "pinned"]) card.append(make("div", `labkit-${part}`));
  }
  wanted.forEach((texts, i) => {
    texts.forEach((text, j) => {
      write(holder.children[i].children[j], text);
      holder.children[i].children[j].title = text;
    });
    write(holder.children[i].children[3], pinned && pinned.cards[i] ? `pinned: ${pinned.cards[i][1].replaceAll(" ", "\u00a0")}` : "");
  });
  holder.classList.toggle("labkit-has-pinned", Boolean(pinned));
}

function frame(ctx, now = ctx.model.get("frame")) {
  const picture = ctx.model.get("picture");
  if (!now.marks || now.request < ctx.ahead) return; // what is shown was drawn ahead for a later move
  const presents = ctx.el.classList.contains("labkit-presents");
  const sizes = { letters: ctx.narrow ? LETTERS : 1, lines: presents ? LINES : 1 };
  const same = ctx.drawn && sizes.letters === ctx.drawn.sizes.letters && sizes.lines === ctx.drawn.sizes.lines;
  if (ctx.shownStill !== picture.svg || !same) {
    ctx.drawn = still(ctx.holder, picture, sizes);
    ctx.holder.append(ctx.tip);
    ctx.shownStill = picture.svg;
    ctx.unpoint?.();
  }
  show(ctx.drawn, ctx.drawn.marks, now.marks);
  show(ctx.drawn, ctx.drawn.ghost, now.pinned ? now.pinned.marks : []);
  ctx.drawn.root.setAttribute("aria-label", now.alt);
  ctx.drawn.root.dataset.request = now.request;
  cards(ctx, now.cards, now.pinned);
  write(ctx.title, now.title || now.share);
  const settled = now.number === undefined && ctx.answered(now.request); // the kernel has answered all moves
  for (const [name, place] of Object.entries(now.places)) ctx.controls.get(name)?.draw(place);
  foot(ctx, now);
  clearTimeout(ctx.speaks);
  if (settled) ctx.speaks = setTimeout(() => write(ctx.live, now.title ? `${now.title}. ${now.cards[0].join(", ")}` : now.alt), 700);
  ctx.el.dataset.alt = now.alt;
  ctx.el.dataset.request = now.request;
  ctx.el.dataset.prepared = now.prepared;
}

function foot(ctx, now) {
  ctx.stop.hidden = !now.works;
  ctx.el.classList.toggle("labkit-busy", now.works);
  ctx.bar.hidden = !(now.works && now.progress !== null);
  if (!ctx.bar.hidden) ctx.bar.value = now.progress;
  if (ctx.job) ctx.job.disabled = now.works;
  const difference = now.pinned && now.pinned.difference ? ` · beside the pinned one: ${now.pinned.difference}` : "";
  const left = now.works && now.left ? ` · ${now.left}` : "";
  status(ctx, now.status.startsWith("⚠") ? now.status : now.status + left + difference);
}

// ---- the buttons

async function play(ctx, button) {
  if (ctx.playing) return void (ctx.playing = false);
  const last = ctx.last && ctx.controls.get(ctx.last);
  const name = last && !last.focus.disabled ? ctx.last : ctx.about.controls.find((c) => c.kind === "slider")?.name;
  if (!name) return;
  ctx.playing = true;
  write(button, "■ stop");
  const count = ctx.model.get("stops")[name].length;
  const stride = Math.max(1, Math.round(count / 25));
  for (let i = 0; i < count && ctx.playing; i += stride) {
    ctx.controls.get(name).moveTo(i);
    const began = performance.now();
    while (ctx.open.size && performance.now() - began < 5000) await new Promise((r) => setTimeout(r, 20));
    await new Promise((r) => setTimeout(r, Math.max(0, 250 - (performance.now() - began))));
  }
  ctx.playing = false;
  write(button, "▶ play");
}

function resolved(ctx) {
  const copy = ctx.drawn.root.cloneNode(true);
  const look = getComputedStyle(ctx.el);
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--labkit-[a-z]+)(?:,[^)]*)?\)/g, (_, name) => look.getPropertyValue(name).trim() || "#000");
}

function download(name, blob) {
  const link = make("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function saveSvg(ctx) {
  download(`${ctx.about.name}.svg`, new Blob([resolved(ctx)], { type: "image/svg+xml" }));
}

function savePng(ctx) {
  const { width, height } = ctx.model.get("picture");
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas");
    [canvas.width, canvas.height] = [width * 3, height * 3];
    const pen = canvas.getContext("2d");
    pen.fillStyle = getComputedStyle(ctx.el).getPropertyValue("--labkit-paper").trim() || "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => download(`${ctx.about.name}.png`, blob));
  };
  const sized = resolved(ctx).replace("<svg ", `<svg width="${width * 3}" height="${height * 3}" `);
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(sized);
}

async function copy(ctx, text, said) {
  try {
    await navigator.clipboard.writeText(text);
    status(ctx, said);
  } catch {
    window.prompt("copy this:", text);
  }
}

function shareText(ctx) {
  const text = ctx.model.get("frame").share;
  history.replaceState(null, "", `#labkit:${encodeURIComponent(ctx.about.name)}:${encodeURIComponent(text)}`);
  copy(ctx, `panel.set(${JSON.stringify(text)})`, "copied; the address of this page leads here too");
}

function present(ctx, on) {
  ctx.el.classList.toggle("labkit-presents", on);
  if (on) ctx.el.requestFullscreen();
  else if (document.fullscreenElement) document.exitFullscreen();
  frame(ctx);
}

function toolbar(ctx, holder) {
  const button = (text, help, act, where = holder) => {
    const one = where.appendChild(make("button", "labkit-button", text));
    one.type = "button";
    one.title = help;
    one.addEventListener("click", () => act(one));
    return one;
  };
  const { model } = ctx;
  if (ctx.about.scenes.length) {
    const scenes = holder.appendChild(make("select", "labkit-select labkit-scenes"));
    scenes.setAttribute("aria-label", "scene");
    scenes.append(make("option", "", "scenes …"), ...ctx.about.scenes.map((text) => make("option", "", text)));
    scenes.addEventListener("change", () => {
      if (scenes.selectedIndex) model.send({ do: "set", text: scenes.value });
      scenes.selectedIndex = 0;
    });
  }
  if (ctx.about.job) {
    ctx.job = button(ctx.about.job, "start a training", () => model.send({ do: "press" }));
    ctx.job.classList.add("labkit-job");
  }
  ctx.stop = button("■ stop", "stop the training", () => model.send({ do: "stop" }));
  button("reset", "back to the first settings", () => model.send({ do: "reset" }));
  button("undo", "back to the settings before", () => model.send({ do: "undo" }));
  button("pin", "keep this result in sight, beside the next ones", () => model.send({ do: "pin" }));
  button("▶ play", "let the slider used last run through its stops", (one) => play(ctx, one));
  if (ctx.about.controls.length > NEAR) {
    const rest = button("more controls", "show every control, or those moved last", () => {
      const all = ctx.el.classList.toggle("labkit-all");
      write(rest, all ? "fewer controls" : "more controls");
      rest.setAttribute("aria-expanded", all);
    });
    rest.classList.add("labkit-rest");
    rest.setAttribute("aria-expanded", false);
  }
  const more = holder.appendChild(make("details", "labkit-more"));
  more.append(make("summary", "labkit-button", "more"));
  const list = more.appendChild(make("div", "labkit-list"));
  const entry = (text, help, act) => button(text, help, () => ((more.open = false), act()), list);
  entry("copy as code", "the lines of labkit that give this result", () =>
    copy(ctx, model.get("frame").code || `panel.set(${JSON.stringify(model.get("frame").share)})`, "code copied"));
  entry("share", "a text, and an address, that lead to these settings", () => shareText(ctx));
  entry("save PNG", "the picture as pixels", () => savePng(ctx));
  entry("save SVG", "the picture as vectors", () => saveSvg(ctx));
  entry("save CSV", "the numbers of the picture", () => model.send({ do: "table" }));
  if (ctx.about.file) entry("save file", ctx.about.file, () => model.send({ do: "file" }));
  entry("explain the controls", "show what each control does", () => ctx.el.classList.toggle("labkit-explains"));
  entry("full screen", "fill the screen; Esc leaves", () => ctx.el.requestFullscreen());
  entry("presenter", "for a room: large figures, and only this panel; Esc leaves", () =>
    present(ctx, !ctx.el.classList.contains("labkit-presents")));
  ctx.el.addEventListener("fullscreenchange", () => document.fullscreenElement || present(ctx, false));
}

function fromAddress(ctx) {
  const [mark, name, text] = decodeURIComponent(location.hash.slice(1)).split(/:(.*?):/s);
  if (mark === "labkit" && name === ctx.about.name) ctx.model.send({ do: "set", text });
}

export default {
  render({ model, el }) {
    const about = model.get("layout_of");
    const ctx = { model, el, about, controls: new Map(), near: [], narrow: false, last: null };
    Object.assign(ctx, { ready: new Map(), ahead: 0 }); // `ahead`: the last move that a picture drawn ahead answered
    el.classList.add("labkit-panel");
    el.classList.toggle("labkit-beside", about.controls.length > 4);
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", `live panel: ${about.name}`);
    const head = make("div", "labkit-head");
    ctx.title = head.appendChild(make("div", "labkit-title"));
    const tools = head.appendChild(make("div", "labkit-tools"));
    const body = make("div", "labkit-body");
    const left = body.appendChild(make("div", "labkit-controls"));
    const right = body.appendChild(make("div", "labkit-main"));
    ctx.cards = right.appendChild(make("div", "labkit-cards"));
    ctx.holder = right.appendChild(make("div", "labkit-picture"));
    ctx.holder.tabIndex = 0;
    ctx.holder.setAttribute("role", "group");
    ctx.holder.setAttribute("aria-label", "picture; arrow keys lead through its points");
    ctx.tip = make("div", "labkit-tip");
    ctx.tip.hidden = true;
    const foot = make("div", "labkit-foot");
    ctx.bar = foot.appendChild(make("progress", "labkit-progress"));
    ctx.bar.max = 1;
    ctx.bar.setAttribute("aria-label", "training done");
    ctx.status = foot.appendChild(make("div", "labkit-status"));
    ctx.live = make("div", "labkit-spoken");
    ctx.live.setAttribute("role", "status");
    asker(ctx);
    controls(ctx, left);
    toolbar(ctx, tools);
    el.replaceChildren(head, body, foot, ctx.live);
    pointing(ctx);

    const draw = () => frame(ctx);
    draw();
    const width = new ResizeObserver(() => {
      const narrow = ctx.holder.clientWidth < model.get("picture").width;
      if (narrow !== ctx.narrow) (ctx.narrow = narrow), draw();
    });
    width.observe(ctx.holder);
    model.on("change:frame", draw);
    const heard = (message, buffers) => {
      if (message.file) download(message.file, new Blob([buffers[0]]));
      if (message.table) download(`${about.name}.csv`, new Blob([message.table], { type: "text/csv" }));
      if (message.ahead) keepReady(ctx, message.ahead);
    };
    model.on("msg:custom", heard);
    const gone = () => status(ctx, "⚠ the kernel of this panel has ended: run this cell again (Shift+Enter)");
    model.on("comm_live_update", gone);

    // JupyterLab's shortcuts fire on any focused element: `d d` would delete the cell of the panel
    el.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && !(event.shiftKey && event.key === "Enter")) event.stopPropagation();
    });
    el.addEventListener("focusin", (event) => {
      const box = event.target.closest(".labkit-control");
      if (box && event.target.type === "range") ctx.last = box.dataset.name;
    });
    el.addEventListener("pointerleave", () => model.send({ do: "focus", name: null }));
    fromAddress(ctx);

    return () => {
      ctx.playing = false;
      clearTimeout(ctx.late);
      clearTimeout(ctx.speaks);
      width.disconnect();
      model.off("change:frame", draw);
      model.off("msg:custom", heard);
      model.off("comm_live_update", gone);
    };
  },
};
