import { defineComponent } from "convex/server";
import { v } from "convex/values";

export default defineComponent("inner", { env: { WORD: v.string() } });
