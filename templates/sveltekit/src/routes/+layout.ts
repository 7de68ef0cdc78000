// The page lives from the connection to the backend: it is rendered in the browser.
export const ssr = false;
