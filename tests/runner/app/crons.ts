import { anyApi, cronJobs } from "convex/server";

const crons = cronJobs();
crons.interval("every minute", { minutes: 1 }, anyApi.plain.hidden, {});
export default crons;
