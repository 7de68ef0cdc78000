import actionRetrier from "@convex-dev/action-retrier/convex.config.js";
import agent from "@convex-dev/agent/convex.config.js";
import pushNotifications from "@convex-dev/expo-push-notifications/convex.config.js";
import geospatial from "@convex-dev/geospatial/convex.config.js";
import persistentTextStreaming from "@convex-dev/persistent-text-streaming/convex.config.js";
import polar from "@convex-dev/polar/convex.config.js";
import prosemirrorSync from "@convex-dev/prosemirror-sync/convex.config.js";
import r2 from "@convex-dev/r2/convex.config.js";
import rag from "@convex-dev/rag/convex.config.js";
import resend from "@convex-dev/resend/convex.config.js";
import twilio from "@convex-dev/twilio/convex.config.js";
import { defineApp } from "convex/server";

const app = defineApp();

app.use(actionRetrier);
app.use(agent);
app.use(pushNotifications);
app.use(geospatial);
app.use(persistentTextStreaming);
app.use(polar);
app.use(prosemirrorSync);
app.use(r2);
app.use(rag);
app.use(resend);
app.use(twilio);

export default app;
