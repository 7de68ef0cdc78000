import { defineComponent } from "convex/server";
import { v } from "convex/values";
import audit from "./audit/convex.config.js";

const library = defineComponent("library", {
  env: { LIBRARY_NAME: v.union(v.literal("Main"), v.literal("Annex")), TOWN: v.optional(v.string()) },
});

library.use(audit, { httpPrefix: "/audit/" });

export default library;
