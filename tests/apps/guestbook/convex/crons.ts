import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();
crons.interval("sweep often", { minutes: 5 }, internal.messages.sweep, { keep: 100 });
crons.weekly("sweep weekly", { dayOfWeek: "monday", hourUTC: 3, minuteUTC: 30 }, internal.messages.sweep, { keep: 10 });
export default crons;
