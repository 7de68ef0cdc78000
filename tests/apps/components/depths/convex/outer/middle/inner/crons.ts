import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();

crons.interval("beat", { seconds: 1 }, internal.items.beat, {});

export default crons;
