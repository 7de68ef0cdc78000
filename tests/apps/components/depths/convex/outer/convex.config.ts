import { defineComponent } from "convex/server";
import { v } from "convex/values";
import middle from "./middle/convex.config.js";

const outer = defineComponent("outer", { env: { WORD: v.string(), GREETING: v.optional(v.string()) } });

outer.use(middle, { name: "left", httpPrefix: "/left/", env: { WORD: outer.env.WORD } });
outer.use(middle, { name: "right", env: { WORD: "right" } });

export default outer;
