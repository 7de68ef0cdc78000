// Drives every function of the app through the official HTTP client and compares with exact expectations.

import { finish } from "./harness.mjs";

for (const part of ["kinds", "ranges", "filters", "reading", "writing", "nesting", "errors", "determinism", "library", "identity"]) {
  const { run } = await import(`./drive/${part}.mjs`);
  await run();
}
finish();
