import assert from "node:assert/strict";
import { test } from "node:test";

import * as extension from "../jupyter/labextensions/mullama-lab/static/saved_views.js";

const { LiveOrStill, STILL_FORMS, VIEW, mayHave, plugin } = extension;

const WIDGET = "application/vnd.jupyter.widget-view+json";
const tick = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Of Lumino's Panel, and of the elements below it, what the extension uses. */
class Panel {
  node = { style: {}, observers: [] };
  widgets = [];
  classes = [];
  isHidden = (this.isDisposed = false);

  addWidget(child) {
    this.widgets.push(child);
    this.node.observers.forEach((tell) => tell());
  }
  addClass(name) {
    this.classes.push(name);
  }
  setHidden(hidden) {
    this.isHidden = hidden;
  }
  dispose() {
    this.isDisposed = true;
  }
  get isShown() {
    return !this.isDisposed && !this.isHidden && this.node.style.display !== "none";
  }
}

globalThis.MutationObserver = class {
  constructor(tell) {
    this.tell = tell;
  }
  observe(node) {
    node.observers.push(this.tell);
  }
  disconnect() {}
};

function signal() {
  const slots = [];
  return {
    connect: (slot, owner) => slots.push([slot, owner]),
    disconnect(slot, owner) {
      const at = slots.findIndex(([one, its]) => one === slot && its === owner);
      if (at >= 0) slots.splice(at, 1);
    },
    emit: (...told) => slots.forEach(([slot, owner]) => slot.call(owner, null, ...told)),
    get n() {
      return slots.length;
    },
  };
}

/** A notebook's registry of renderers and its session; `draw()` ends the drawing of a widget. */
function notebook({ kernel = null, managed = true } = {}) {
  const made = { pictures: [], lives: [] };
  const rendermime = {
    createModel: (model) => model,
    createRenderer(mime) {
      const renderer = new Panel();
      (mime === WIDGET ? made.lives : made.pictures).push(renderer);
      renderer.renderModel = (model) =>
        new Promise((resolve) => {
          renderer.model = model;
          renderer.end = resolve;
          renderer.draw = () => (renderer.addWidget(new Panel()), resolve());
        });
      return renderer;
    },
  };
  const session = { session: { kernel }, statusChanged: signal(), kernelChanged: signal(), ready: Promise.resolve() };
  const book = { rendermime, session, managed, made };
  book.panel = new Panel();
  book.output = new LiveOrStill(book.panel, rendermime, session, () => book.managed);
  return book;
}

/** A kernel that has some widgets; `channels` are those that were opened to it. */
function kernelWith(...ids) {
  const channels = [];
  const createComm = (target) => {
    const channel = { target, sent: [], isDisposed: false };
    channels.push(channel);
    return Object.assign(channel, {
      open: (data) => channel.sent.push(data),
      send: (data) => channel.sent.push(data),
      close: () => (channel.isDisposed = true),
      receive: (data) => channel.onMsg({ content: { data } }),
    });
  };
  return { handleComms: true, hasComm: (id) => ids.includes(id), channels, createComm };
}

const saved = (model_id = "a") => ({ data: { [VIEW]: {}, [WIDGET]: { model_id }, "text/html": "<p>" } });

/** Show an output as JupyterLab's output area does: again whenever its data was set. */
function shown(book, model = saved()) {
  model.nSet = 0;
  model.setData = ({ data }) => {
    model.data = data;
    model.nSet++;
    book.output.show(model);
  };
  book.output.show(model);
  return model;
}
const seen = ({ made }) => ({
  live: made.lives.some((one) => one.isShown),
  picture: made.pictures.some((one) => one.isShown),
});

test("a picture is shown where there is no kernel, and no widget is asked for", async () => {
  const book = notebook({ managed: false });
  book.output.show(saved());
  assert.deepEqual(seen(book), { live: false, picture: true });
  assert.equal(book.made.lives.length, 0);
});

test("nothing is shown while a widget that the kernel has is drawn, then the live view", async () => {
  const book = notebook({ kernel: kernelWith("a") });
  book.output.show(saved());
  assert.deepEqual(seen(book), { live: false, picture: false });
  book.made.lives[0].draw();
  assert.deepEqual(seen(book), { live: true, picture: false });
  assert.equal(book.made.pictures.length, 0);
});

test("a picture stays where the widget manager finds no widget", async () => {
  const book = notebook({ kernel: kernelWith("other") });
  book.output.show(saved());
  assert.deepEqual(seen(book), { live: false, picture: true });
  book.made.lives[0].end();
  await tick();
  assert.deepEqual(seen(book), { live: false, picture: true });
});

test("a widget that fails to be drawn leaves the picture", async () => {
  const book = notebook({ kernel: kernelWith("a") });
  book.output.show(saved());
  book.made.lives[0].end();
  await tick();
  assert.deepEqual(seen(book), { live: false, picture: true });
});

test("a widget drawn from saved state, which no kernel has, leaves the picture", async () => {
  const book = notebook({ kernel: kernelWith() });
  book.output.show(saved());
  book.made.lives[0].draw();
  assert.deepEqual(seen(book), { live: false, picture: true });
});

test("the picture gives way when the kernel turns out to have the widget", async () => {
  const ids = [];
  const book = notebook({ kernel: { ...kernelWith(), hasComm: (id) => ids.includes(id) }, managed: false });
  book.output.show(saved());
  assert.deepEqual(seen(book), { live: false, picture: true });
  book.managed = true;
  book.session.statusChanged.emit();
  ids.push("a");
  book.made.lives[0].draw();
  assert.deepEqual(seen(book), { live: true, picture: false });
});

test("an output that is filled again shows what it was filled with last", async () => {
  const book = notebook({ kernel: kernelWith("a", "b") });
  book.output.show(saved("a"));
  book.made.lives[0].draw();
  book.output.show(saved("b"));
  assert.ok(book.made.lives[0].isDisposed);
  book.made.lives[1].draw();
  assert.deepEqual(book.made.lives[1].model.data[WIDGET], { model_id: "b" });
  assert.deepEqual(seen(book), { live: true, picture: false });
});

test("a live view stays as it is when its output is filled with the same widget again", async () => {
  const book = notebook({ kernel: kernelWith("a") });
  const model = saved("a");
  book.output.show(model);
  book.made.lives[0].draw();
  book.output.show(model);
  assert.equal(book.made.lives.length, 1);
  assert.deepEqual(seen(book), { live: true, picture: false });
});

test("a live view asks for its picture, which goes into the output, and asks for the next one", () => {
  const kernel = kernelWith("a");
  const book = notebook({ kernel });
  const model = shown(book);
  assert.equal(kernel.channels.length, 0);
  book.made.lives[0].draw();
  const [channel] = kernel.channels;
  assert.deepEqual([channel.target, channel.sent], [STILL_FORMS, [{ model_id: "a" }]]);
  channel.receive({ "text/html": "<b>", "text/plain": "b" });
  assert.deepEqual(model.data, { ...saved().data, "text/html": "<b>", "text/plain": "b" });
  assert.deepEqual(channel.sent.slice(1), [{}]);
  assert.deepEqual([book.made.lives.length, book.made.pictures.length, kernel.channels.length], [1, 0, 1]);
  assert.deepEqual(seen(book), { live: true, picture: false });
});

test("a picture that the output has already changes nothing, also where it is saved as lines", () => {
  const kernel = kernelWith("a");
  const book = notebook({ kernel });
  const model = saved();
  model.data["text/html"] = ["<p>\n", "</p>"];
  shown(book, model);
  book.made.lives[0].draw();
  kernel.channels[0].receive({ "text/html": "<p>\n</p>" });
  assert.equal(model.nSet, 0);
  kernel.channels[0].receive({ "text/html": "<p>" });
  assert.equal(model.nSet, 1);
});

test("the picture that a lost kernel leaves is the one that came last", async () => {
  const kernel = kernelWith("a");
  const book = notebook({ kernel });
  const model = shown(book);
  book.made.lives[0].draw();
  kernel.channels[0].receive({ "text/html": "<b>" });
  kernel.hasComm = () => false;
  book.made.lives[0].node.observers.forEach((tell) => tell());
  assert.deepEqual(seen(book), { live: false, picture: true });
  assert.equal(book.made.pictures.at(-1).model, model);
  assert.ok(kernel.channels[0].isDisposed);
});

test("an output that another widget fills asks for the pictures of that one", () => {
  const kernel = kernelWith("a", "b");
  const book = notebook({ kernel });
  shown(book);
  book.made.lives[0].draw();
  const model = shown(book, saved("b"));
  book.made.lives[1].draw();
  const [first, second] = kernel.channels;
  assert.deepEqual([first.isDisposed, second.sent], [true, [{ model_id: "b" }]]);
  first.receive({ "text/html": "<old>" }); // was on its way
  assert.equal(model.data["text/html"], "<p>");
});

test("an output that is gone asks for no picture and takes none", () => {
  const kernel = kernelWith("a");
  const book = notebook({ kernel });
  const model = shown(book);
  book.made.lives[0].draw();
  book.panel.dispose();
  book.output.end();
  assert.ok(kernel.channels[0].isDisposed);
  kernel.channels[0].receive({ "text/html": "<b>" });
  assert.equal(model.nSet, 0);
});

test("an output whose kernel is gone ends without a word to it", () => {
  const kernel = kernelWith("a");
  const book = notebook({ kernel });
  shown(book);
  book.made.lives[0].draw();
  const [channel] = kernel.channels;
  channel.close = () => assert.fail("no kernel");
  channel.dispose = () => (channel.isDisposed = true);
  book.output.end();
  assert.ok(channel.isDisposed);
});

test("a picture is asked for nowhere but in a notebook whose connection has the channels", () => {
  const kernel = { ...kernelWith("a"), handleComms: false };
  const book = notebook({ kernel });
  shown(book);
  book.made.lives[0].draw();
  assert.equal(kernel.channels.length, 0);
  assert.deepEqual(seen(book), { live: true, picture: false });
});

test("what a saved output says of its widget is not changed through the renderer", async () => {
  const book = notebook({ kernel: kernelWith("a") });
  const model = saved("a");
  book.output.show(model);
  book.made.lives[0].model.data[WIDGET].model_id = ""; // what the widget manager does when one closes
  assert.equal(model.data[WIDGET].model_id, "a");
});

test("an output without a reference to a widget is a picture", async () => {
  const book = notebook({ kernel: kernelWith("a") });
  book.output.show({ data: { [VIEW]: {}, "text/html": "<p>" } });
  assert.deepEqual(seen(book), { live: false, picture: true });
  assert.equal(book.made.lives.length, 0);
});

test("an output that is gone listens to nothing", async () => {
  const book = notebook({ managed: false });
  book.output.show(saved());
  book.panel.dispose();
  book.output.end();
  assert.equal(book.session.statusChanged.n, 0);
  book.managed = true;
  await tick();
  assert.equal(book.made.lives.length, 0);
});

test("a kernel may have a widget whose channels another connection holds", () => {
  assert.equal(mayHave({ handleComms: false, hasComm: () => false }, "a"), true);
  assert.equal(mayHave(kernelWith("a"), "a"), true);
  assert.equal(mayHave(kernelWith("a"), "b"), false);
  assert.equal(mayHave(kernelWith("a"), ""), false);
  assert.equal(mayHave(null, "a"), false);
});

/** Activate the plugin on one notebook that was open before; returns what it did to it. */
function activated({ kernel = null } = {}) {
  const factories = [];
  const given = [];
  const factory = {};
  const rendermime = { addFactory: (one, rank) => factories.push([one, rank]), getFactory: () => factory };
  const sessionContext = { session: kernel && { kernel }, kernelChanged: signal(), ready: Promise.resolve() };
  const panel = { content: { rendermime }, context: { sessionContext }, sessionContext };
  const tracker = { forEach: (act) => act(panel), widgetAdded: signal() };
  const registerWidgetManager = (...about) => given.push(about);
  const made = plugin({ Panel, INotebookTracker: "a", IRenderMimeRegistry: "b", registerWidgetManager });
  made.activate(null, tracker, { getFactory: () => factory });
  return { requires: made.requires, factories, given, panel, sessionContext, tracker };
}

test("each notebook learns the MIME type, before the widgets' and not for untrusted outputs", () => {
  const { requires, factories, panel, tracker } = activated();
  assert.deepEqual(requires, ["a", "b"]);
  tracker.widgetAdded.emit(panel);
  assert.equal(factories.length, 2);
  for (const [{ safe, mimeTypes }, rank] of factories) {
    assert.deepEqual([safe, mimeTypes], [false, [VIEW]]);
    assert.ok(rank < -10);
  }
});

test("a notebook opened without a kernel gets a widget manager with its first one", async () => {
  const { given, panel, sessionContext } = activated();
  await tick();
  sessionContext.kernelChanged.emit({ newValue: null });
  assert.equal(given.length, 0);
  sessionContext.kernelChanged.emit({ newValue: {} });
  assert.deepEqual(given, [[panel.context, panel.content.rendermime, []]]);
});

test("a notebook opened with a kernel is left to the widget manager's own ways", async () => {
  const { sessionContext } = activated({ kernel: kernelWith() });
  await tick();
  assert.equal(sessionContext.kernelChanged.n, 0);
});
