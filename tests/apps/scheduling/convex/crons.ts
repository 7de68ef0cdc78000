import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();

crons.daily("summarize yesterday", { hourUTC: 0, minuteUTC: 10 }, internal.analytics.summarizeYesterday);
crons.weekly("old drafts", { dayOfWeek: "sunday", hourUTC: 3, minuteUTC: 30 }, internal.drafts.cleanUp, {
  olderThanMs: 90 * 24 * 60 * 60 * 1000,
});
crons.interval("heartbeat", { seconds: 1 }, internal.jobs.beat, { what: "heartbeat" });

crons.interval("action heartbeat", { seconds: 1 }, internal.actions.tick);

export default crons;
