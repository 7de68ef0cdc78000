"use node";
import { v } from "convex/values";
import * as jose from "jose";
import jwt from "jsonwebtoken";
import { PNG } from "pngjs";
import Stripe from "stripe";
import { action } from "./_generated/server";

/** Packages that are not part of the bundle: CommonJS and ES modules, each with what it needs itself. */
export const use = action({
  args: { text: v.string() },
  handler: async (_ctx, { text }) => {
    const token = jwt.sign({ text }, "a secret", { noTimestamp: true });
    const { payload } = await jose.jwtVerify(token, new TextEncoder().encode("a secret"));
    const picture = PNG.sync.read(PNG.sync.write(new PNG({ width: 3, height: 2 })));
    const later = await import("pngjs");
    const from = require.resolve("stripe").split("/node_modules/").length;
    return {
      text: payload.text,
      size: [picture.width, picture.height],
      same: later.PNG === PNG,
      stripe: Stripe.PACKAGE_VERSION,
      outside: from > 1,
    };
  },
});

/** An error that comes from inside a package says so. */
export const fail = action({ args: {}, handler: async () => jwt.verify("no token", "a secret") as string });
