/* What JupyterLab asks of an extension, written by hand: a container of module federation.

JupyterLab loads this as a plain script, calls `init` with the modules that all extensions share,
and `get` for the plugin. */
(() => {
  const NEEDED = [
    "@lumino/widgets",
    "@jupyterlab/notebook",
    "@jupyterlab/rendermime",
    "@jupyter-widgets/jupyterlab-manager",
  ];
  const { src } = document.currentScript;
  let shared = {};

  /* As module federation chooses: the version that is in use, else the newest. */
  async function take(name) {
    const versions = Object.entries(shared[name] ?? {});
    versions.sort(([a], [b]) => b.localeCompare(a, "en", { numeric: true }));
    const [, chosen] = versions.find(([, version]) => version.loaded) ?? versions[0] ?? [];
    if (!chosen) throw new Error(`mullama-lab: this JupyterLab shares no ${name}`);
    return (await chosen.get())();
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB["mullama-lab"] = {
    init(scope) {
      shared = scope;
    },
    async get() {
      const { plugin } = await import(new URL("saved_views.js", src));
      const modules = await Promise.all(NEEDED.map(take));
      const exported = { __esModule: true, default: plugin(Object.assign({}, ...modules)) };
      return () => exported;
    },
  };
})();
