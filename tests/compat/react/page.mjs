// A page without a browser: jsdom's document, React 19 on it, and sockets whose traffic can be looked at.

import { JSDOM } from "jsdom";

const dom = new JSDOM("<!doctype html><body></body>", { url: "http://localhost/", pretendToBeVisual: true });
for (const name of ["window", "document", "navigator", "HTMLElement", "Element", "Node", "Event", "MutationObserver"]) {
  Object.defineProperty(globalThis, name, { value: dom.window[name], configurable: true, writable: true });
}

const React = await import("react");
const { createRoot } = await import("react-dom/client");
const { ConvexProvider, ConvexReactClient } = await import("convex/react");
const { WebSocket } = await import("ws");

export const h = React.createElement;

/** Every frame of a socket, parsed, in both directions. */
export class RecordedSocket extends WebSocket {
  static sent = [];
  static received = [];
  static open = new Set();
  constructor(...args) {
    super(...args);
    RecordedSocket.open.add(this);
    this.addEventListener("close", () => RecordedSocket.open.delete(this));
    this.addEventListener("message", ({ data }) => RecordedSocket.received.push(JSON.parse(data)));
  }
  send(data, ...rest) {
    RecordedSocket.sent.push(JSON.parse(data));
    return super.send(data, ...rest);
  }
}

/** Query additions sent since a mark in `RecordedSocket.sent`: the arguments of each. */
export function added(path, since = 0) {
  return RecordedSocket.sent
    .slice(since)
    .filter((message) => message.type === "ModifyQuerySet")
    .flatMap((message) => message.modifications)
    .filter((modification) => modification.type === "Add" && modification.udfPath === path)
    .map((modification) => modification.args[0]);
}

export const newClient = (url) =>
  new ConvexReactClient(url, { webSocketConstructor: RecordedSocket, unsavedChangesWarning: false, logger: false });

class Boundary extends React.Component {
  state = { error: null };
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    if (this.state.error === null) return this.props.children;
    return h("div", { className: "caught" }, this.props.show(this.state.error));
  }
}

/**
 * Render a component under a provider. `text()` is what the page shows; `shown` everything it ever showed.
 * `show` renders what the error boundary caught.
 */
export function mount(client, component, props = {}, show = (error) => String(error)) {
  const container = document.createElement("div");
  document.body.append(container);
  const quiet = { onCaughtError: () => {}, onUncaughtError: () => {}, onRecoverableError: () => {} };
  const root = createRoot(container, quiet);
  const shown = [];
  const observer = new window.MutationObserver(() => {
    const text = container.textContent;
    if (shown.at(-1) !== text) shown.push(text);
  });
  observer.observe(container, { childList: true, subtree: true, characterData: true });
  const render = (next) => root.render(h(ConvexProvider, { client }, h(Boundary, { show }, h(component, next))));
  render(props);
  return {
    shown,
    text: () => container.textContent,
    find: (selector) => container.querySelector(selector),
    click: (selector) => container.querySelector(selector).dispatchEvent(new window.MouseEvent("click", { bubbles: true })),
    render,
    unmount: () => {
      observer.disconnect();
      root.unmount();
      container.remove();
    },
  };
}
