import { defineApp } from "convex/server";
import { v } from "convex/values";
import library from "./library/convex.config.js";

const app = defineApp({ env: { TOWN: v.optional(v.string()) } });

app.use(library, { httpPrefix: "/library", env: { LIBRARY_NAME: "Main", TOWN: app.env.TOWN } });
app.use(library, { name: "annex", httpPrefix: "/annex/", env: { LIBRARY_NAME: "Annex" } });

export default app;
