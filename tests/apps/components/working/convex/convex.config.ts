import actionCache from "@convex-dev/action-cache/convex.config";
import crons from "@convex-dev/crons/convex.config.js";
import migrations from "@convex-dev/migrations/convex.config.js";
import presence from "@convex-dev/presence/convex.config.js";
import workflow from "@convex-dev/workflow/convex.config.js";
import workpool from "@convex-dev/workpool/convex.config.js";
import { defineApp } from "convex/server";

const app = defineApp();
app.use(workpool, { name: "emails" });
app.use(workpool, { name: "oneByOne" });
app.use(workflow);
app.use(crons);
app.use(migrations);
app.use(actionCache);
app.use(presence);

export default app;
