import { defineApp } from "convex/server";
import { v } from "convex/values";
import outer from "./outer/convex.config.js";

const app = defineApp({ env: { GREETING: v.optional(v.string()) } });

app.use(outer, { httpPrefix: "/outer/", env: { WORD: "one", GREETING: app.env.GREETING } });
app.use(outer, { name: "second", httpPrefix: "/second/", env: { WORD: "two" } });

export default app;
