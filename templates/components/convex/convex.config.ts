import rateLimiter from "@convex-dev/rate-limiter/convex.config.js";
import shardedCounter from "@convex-dev/sharded-counter/convex.config.js";
import { defineApp } from "convex/server";
import history from "./history/convex.config.js";

const app = defineApp();
app.use(rateLimiter);
app.use(shardedCounter);
app.use(history);

export default app;
