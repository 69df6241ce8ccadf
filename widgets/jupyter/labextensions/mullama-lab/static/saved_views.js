/* A view in a notebook's output is live where the kernel has it, and its static picture elsewhere.

The output carries both: a reference to the widget, which Jupyter's widget manager draws, and
`text/html`. The MIME type of our own only says that these two belong together, so hosts without
this extension, and outputs of other widgets, are as ever. While a view is live, its kernel sends the
picture of what it has become, so that the notebook is saved with that one. */

export const VIEW = "application/vnd.mullama-lab.view+json";
const WIDGET = "application/vnd.jupyter.widget-view+json";
const PICTURE = "text/html";
const RANK = -20; // before the widget manager's -10
export const STILL_FORMS = "mullama-lab.still-forms"; // what the kernel calls our channels

export function plugin({ Panel, INotebookTracker, IRenderMimeRegistry, registerWidgetManager }) {
  return {
    id: "mullama-lab:saved-views",
    description: "Keeps the static picture of a view with its notebook, and shows it where the kernel is gone.",
    autoStart: true,
    requires: [INotebookTracker, IRenderMimeRegistry],
    activate(_, notebooks, common) {
      const teach = ({ content: { rendermime }, context, sessionContext }) => {
        // Each notebook gets a renderer of widgets of its own as soon as it has a widget manager.
        const drawsWidgets = () => rendermime.getFactory(WIDGET) !== common.getFactory(WIDGET);
        const createRenderer = () => {
          const panel = new Panel();
          const output = new LiveOrStill(panel, rendermime, sessionContext, drawsWidgets);
          panel.renderModel = async (model) => output.show(model);
          panel.disposed.connect(() => output.end());
          return panel;
        };
        giveLateManager(context, () => drawsWidgets() || registerWidgetManager?.(context, rendermime, []));
        // Not safe, as widgets are not: JupyterLab shows an untrusted notebook's text/html, cleaned.
        rendermime.addFactory({ safe: false, mimeTypes: [VIEW], createRenderer }, RANK);
      };
      notebooks.forEach(teach);
      notebooks.widgetAdded.connect((_, panel) => teach(panel));
    },
  };
}

/* A notebook that is opened without a kernel never gets a widget manager by itself, so no widget
would be drawn when a kernel is started later. */
async function giveLateManager({ sessionContext }, give) {
  await sessionContext.ready;
  if (!sessionContext.session?.kernel) sessionContext.kernelChanged.connect((_, { newValue }) => newValue && give());
}

/* Whether a kernel has a widget. One whose channels another connection holds may have any. */
export function mayHave(kernel, modelId) {
  return Boolean(kernel && modelId && (!kernel.handleComms || kernel.hasComm(modelId)));
}

/* What one output shows, in a panel of its own. */
export class LiveOrStill {
  #panel;
  #rendermime;
  #session;
  #drawsWidgets;
  #model = null;
  #modelId; // of the widget, as of the output that was filled last
  #picture = null;
  #live = null;
  #isDrawing = false;
  #channel = null; // on which the kernel sends the picture of the live view as it is
  #changes = new MutationObserver(() => this.#showOne());

  constructor(panel, rendermime, session, drawsWidgets) {
    this.#panel = panel;
    this.#rendermime = rendermime;
    this.#session = session;
    this.#drawsWidgets = drawsWidgets;
    session.statusChanged.connect(this.#goLive, this);
    // The widget manager comes right after the session is ready.
    session.ready.then(() => setTimeout(() => this.#goLive()));
  }

  show(model) {
    this.#model = model;
    this.#picture?.dispose();
    this.#picture = null;
    const modelId = model.data[WIDGET]?.model_id;
    if (modelId !== this.#modelId) this.#dropLive();
    this.#modelId = modelId;
    this.#goLive();
    this.#showOne();
  }

  end() {
    this.#session.statusChanged.disconnect(this.#goLive, this);
    this.#changes.disconnect();
    this.#askNoMore();
  }

  #dropLive() {
    this.#changes.disconnect();
    this.#live?.dispose();
    this.#live = null;
    this.#askNoMore();
  }

  /* Have the widget drawn, once there is a widget manager to do it. */
  #goLive() {
    if (this.#panel.isDisposed || this.#live || !this.#modelId || !this.#drawsWidgets()) return;
    const live = (this.#live = this.#rendermime.createRenderer(WIDGET));
    this.#panel.addWidget(live);
    this.#changes.observe(live.node, { childList: true });
    const drawn = () => {
      if (this.#live !== live) return;
      this.#isDrawing = false;
      this.#showOne();
    };
    this.#isDrawing = true;
    const data = { [WIDGET]: { ...this.#model.data[WIDGET] } }; // it is changed when a widget closes
    live.renderModel(this.#rendermime.createModel({ data, trusted: true })).then(drawn, drawn);
    this.#showOne();
  }

  /* The live view if there is one; nothing while one that the kernel has is drawn; else the picture. */
  #showOne() {
    if (this.#panel.isDisposed || !this.#model) return;
    const kernel = this.#session.session?.kernel;
    const has = mayHave(kernel, this.#modelId);
    const isLive = has && this.#live?.widgets.length > 0;
    if (this.#live) this.#live.node.style.display = isLive ? "contents" : "none";
    if (!isLive && !(has && this.#isDrawing) && !this.#picture) this.#drawPicture();
    this.#picture?.setHidden(isLive);
    if (isLive) this.#askForPictures(kernel);
    else this.#askNoMore();
  }

  /* Ask for the picture of the live view whenever it has become another one and nothing goes on. */
  #askForPictures(kernel) {
    if (this.#channel || !kernel.handleComms) return;
    const channel = (this.#channel = kernel.createComm(STILL_FORMS));
    channel.onMsg = ({ content: { data } }) => {
      if (this.#channel !== channel) return;
      this.#keep(data);
      channel.send({});
    };
    channel.open({ model_id: this.#modelId });
  }

  #askNoMore() {
    const channel = this.#channel;
    this.#channel = null;
    try {
      if (!channel?.isDisposed) channel?.close();
    } catch {
      channel.dispose(); // there is no kernel any more
    }
  }

  /* Put a picture into the output, so that it is saved with it; the live view stays as it is. */
  #keep(forms) {
    const { data } = this.#model;
    const isKept = Object.keys(forms).every((mime) => [data[mime]].flat().join("") === forms[mime]);
    if (!isKept) this.#model.setData({ data: { ...data, ...forms } });
  }

  #drawPicture() {
    this.#picture = this.#rendermime.createRenderer(PICTURE);
    this.#picture.addClass("jp-OutputArea-output"); // JupyterLab's style of a text/html output
    this.#panel.addWidget(this.#picture);
    this.#picture.renderModel(this.#model);
  }
}
