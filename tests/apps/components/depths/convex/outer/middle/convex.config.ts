import { defineComponent } from "convex/server";
import { v } from "convex/values";
import inner from "./inner/convex.config.js";

const middle = defineComponent("middle", { env: { WORD: v.string() } });

middle.use(inner, { httpPrefix: "/inner/", env: { WORD: middle.env.WORD } });

export default middle;
