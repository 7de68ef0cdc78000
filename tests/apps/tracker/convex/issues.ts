import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { Doc, Id } from "./_generated/dataModel";
import { internalMutation, mutation, MutationCtx, query } from "./_generated/server";
import { status } from "./schema";

type Status = Doc<"issues">["status"];

const NEXT: Record<Status, Status[]> = {
  backlog: ["todo"],
  todo: ["backlog", "doing"],
  doing: ["todo", "done"],
  done: ["doing"],
};

export const createProject = mutation({
  args: { key: v.string(), name: v.string(), members: v.array(v.string()) },
  handler: async (ctx, { key, name, members }) => {
    if (!/^[A-Z]{2,5}$/.test(key)) throw new ConvexError({ code: "BAD_KEY", key });
    if (await ctx.db.query("projects").withIndex("by_key", (q) => q.eq("key", key)).first()) throw new ConvexError({ code: "KEY_TAKEN", key });
    const project = await ctx.db.insert("projects", { key, name, lastNumber: 0 });
    for (const member of members) await ctx.db.insert("members", { name: member, project });
    return project;
  },
});

async function record(ctx: MutationCtx, issue: Doc<"issues">, what: Doc<"activity">["what"]) {
  await ctx.db.insert("activity", { project: issue.project, issue: issue._id, what });
}

/** Numbers are given out one after the other, without gaps: everyone who creates meets at the project's row. */
export const create = mutation({
  args: { project: v.id("projects"), title: v.string(), priority: v.number(), labels: v.optional(v.array(v.string())) },
  handler: async (ctx, { project, title, priority, labels }) => {
    const found = await ctx.db.get(project);
    if (found === null) throw new ConvexError("no such project");
    const number = found.lastNumber + 1;
    await ctx.db.patch(project, { lastNumber: number });
    const last = await ctx.db
      .query("issues")
      .withIndex("by_status", (q) => q.eq("project", project).eq("status", "backlog"))
      .order("desc")
      .first();
    const id = await ctx.db.insert("issues", {
      project,
      number,
      title,
      status: "backlog",
      priority,
      labels: labels ?? [],
      rank: (last?.rank ?? 0) + 1024,
    });
    await record(ctx, (await ctx.db.get(id))!, { kind: "created" });
    return `${found.key}-${number}`;
  },
});

async function byName(ctx: { db: MutationCtx["db"] }, name: string) {
  const [key, number] = name.split("-");
  const project = await ctx.db.query("projects").withIndex("by_key", (q) => q.eq("key", key)).unique();
  const issue =
    project &&
    (await ctx.db.query("issues").withIndex("by_number", (q) => q.eq("project", project._id).eq("number", Number(number))).unique());
  if (!issue) throw new ConvexError({ code: "NO_SUCH_ISSUE", name });
  return issue;
}

/** Puts an issue into a column, below another one of it or at its top. */
export const move = mutation({
  args: { name: v.string(), to: status, below: v.optional(v.id("issues")) },
  handler: async (ctx, { name, to, below }) => {
    const issue = await byName(ctx, name);
    if (issue.status !== to && !NEXT[issue.status].includes(to)) {
      throw new ConvexError({ code: "BAD_MOVE", from: issue.status, to, allowed: NEXT[issue.status] });
    }
    const column = () => ctx.db.query("issues").withIndex("by_status", (q) => q.eq("project", issue.project).eq("status", to));
    let rank: number;
    if (below === undefined) {
      const first = await column().first();
      rank = first === null ? 1024 : first.rank - 1024;
    } else {
      const above = await ctx.db.get(below);
      if (above?.status !== to) throw new ConvexError({ code: "NOT_IN_COLUMN", below });
      const next = await ctx.db
        .query("issues")
        .withIndex("by_status", (q) => q.eq("project", issue.project).eq("status", to).gt("rank", above.rank))
        .first();
      rank = next === null ? above.rank + 1024 : (above.rank + next.rank) / 2;
    }
    await ctx.db.patch(issue._id, { status: to, rank });
    if (issue.status !== to) await record(ctx, issue, { kind: "moved", from: issue.status, to });
  },
});

export const assign = mutation({
  args: { name: v.string(), to: v.union(v.string(), v.null()) },
  handler: async (ctx, { name, to }) => {
    const issue = await byName(ctx, name);
    const member =
      to === null ? null : await ctx.db.query("members").withIndex("by_project", (q) => q.eq("project", issue.project).eq("name", to)).unique();
    if (to !== null && member === null) throw new ConvexError({ code: "NO_SUCH_MEMBER", to });
    await ctx.db.patch(issue._id, { assignee: member?._id });
    await record(ctx, issue, { kind: "assigned", to: member?._id ?? null });
  },
});

export const board = query({
  args: { project: v.id("projects") },
  handler: async (ctx, { project }) => {
    const columns: Record<string, string[]> = {};
    for (const name of ["backlog", "todo", "doing", "done"] as const) {
      const issues = await ctx.db.query("issues").withIndex("by_status", (q) => q.eq("project", project).eq("status", name)).collect();
      columns[name] = issues.map((issue) => issue.title);
    }
    return columns;
  },
});

export const unassigned = query({
  args: { project: v.id("projects") },
  handler: async (ctx, { project }) =>
    (await ctx.db.query("issues").withIndex("by_assignee", (q) => q.eq("project", project).eq("assignee", undefined)).collect()).map((issue) => issue.number),
});

export const assignedTo = query({
  args: { member: v.id("members"), project: v.id("projects") },
  handler: async (ctx, { member, project }) =>
    (await ctx.db.query("issues").withIndex("by_assignee", (q) => q.eq("project", project).eq("assignee", member)).collect()).map((issue) => issue.number),
});

export const members = query({
  args: { project: v.id("projects") },
  handler: async (ctx, { project }) => await ctx.db.query("members").withIndex("by_project", (q) => q.eq("project", project)).collect(),
});

export const list = query({
  args: { project: v.id("projects"), paginationOpts: paginationOptsValidator, label: v.optional(v.string()), minPriority: v.optional(v.number()) },
  handler: async (ctx, { project, paginationOpts, label, minPriority }) => {
    const result = await ctx.db
      .query("issues")
      .withIndex("by_priority", (q) => q.eq("project", project).gte("priority", minPriority ?? -Infinity))
      .order("desc")
      .paginate(paginationOpts);
    const page = await Promise.all(
      result.page
        .filter((issue) => label === undefined || issue.labels.includes(label))
        .map(async (issue) => ({
          number: issue.number,
          priority: issue.priority,
          comments: (await ctx.db.query("comments").withIndex("by_issue", (q) => q.eq("issue", issue._id)).collect()).length,
        })),
    );
    return { ...result, page };
  },
});

export const addComment = internalMutation({
  args: { issue: v.id("issues"), author: v.string(), body: v.string() },
  handler: async (ctx, args): Promise<Id<"comments">> => {
    if (args.body.includes("spam")) throw new ConvexError({ code: "SPAM" });
    return await ctx.db.insert("comments", args);
  },
});

/** Several comments at once; those that are refused are left out and counted. */
export const comment = mutation({
  args: { name: v.string(), author: v.string(), bodies: v.array(v.string()) },
  handler: async (ctx, { name, author, bodies }) => {
    const issue = await byName(ctx, name);
    let refused = 0;
    for (const body of bodies) {
      try {
        const id: Id<"comments"> = await ctx.runMutation(internal.issues.addComment, { issue: issue._id, author, body });
        await record(ctx, issue, { kind: "commented", comment: id });
      } catch (error) {
        if (!(error instanceof ConvexError)) throw error;
        refused += 1;
      }
    }
    return { added: bodies.length - refused, refused };
  },
});

export const history = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const issue = await byName(ctx as { db: any }, name);
    const rows = await ctx.db.query("activity").withIndex("by_issue", (q) => q.eq("issue", issue._id)).collect();
    return await Promise.all(
      rows.map(async ({ what }) => {
        if (what.kind === "moved") return `moved from ${what.from} to ${what.to}`;
        if (what.kind === "assigned") return `assigned to ${what.to === null ? "nobody" : (await ctx.db.get(what.to))!.name}`;
        if (what.kind === "commented") return `commented: ${(await ctx.db.get(what.comment))!.body}`;
        return what.kind;
      }),
    );
  },
});
