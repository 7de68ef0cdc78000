// External packages of "use node" actions, through the official client.

import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, rejection, url } from "./harness.mjs";

const http = new ConvexHttpClient(url, { logger: false });

await check("packages outside of the bundle", async () => {
  assert.deepEqual(await http.action(api.outside.use, { text: "hi" }), {
    text: "hi", size: [3, 2], same: true, stripe: "19.1.0", outside: true,
  });
});

await check("frames of packages have their place", async () => {
  const { message } = await rejection(http.action(api.outside.fail, {}));
  assert.match(message, /Uncaught JsonWebTokenError: jwt malformed\n {4}at .*\(node_modules\/jsonwebtoken\/verify\.js:\d+:\d+\)/);
  assert.match(message, /\(\.\.\/convex\/outside\.ts:\d+:\d+\)/);
});

finish();
