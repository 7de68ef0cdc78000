import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const sitDown = mutation({
  args: { name: v.string(), seats: v.number() },
  handler: async (ctx, { name, seats }) => {
    const known = await ctx.db.query("players").withIndex("by_name", (q) => q.eq("name", name)).unique();
    if (known?.room) throw new ConvexError({ code: "SEATED", room: known.room });
    const player = known?._id ?? (await ctx.db.insert("players", { name, wins: 0, room: null }));
    const waiting = await ctx.db.query("rooms").withIndex("by_state", (q) => q.eq("state", "waiting").eq("seats", seats)).first();
    const room = waiting?._id ?? (await ctx.db.insert("rooms", { seats, taken: 0, state: "waiting" }));
    const taken = (waiting?.taken ?? 0) + 1;
    await ctx.db.patch(room, { taken, state: taken === seats ? "playing" : "waiting" });
    await ctx.db.patch(player, { room });
    const game = await ctx.db.query("games").withIndex("by_room", (q) => q.eq("room", room)).unique();
    if (game === null) await ctx.db.insert("games", { room, players: [player], cells: Array(9).fill(null), turn: 0 });
    else await ctx.db.patch(game._id, { players: [...game.players, player] });
    return { player, room };
  },
});

export const rooms = query({
  args: {},
  handler: async (ctx) => {
    const all = await ctx.db.query("rooms").collect();
    return all.map(({ seats, taken, state }) => ({ seats, taken, state }));
  },
});

export const game = query({
  args: { room: v.id("rooms") },
  handler: async (ctx, { room }) => {
    const found = await ctx.db.query("games").withIndex("by_room", (q) => q.eq("room", room)).unique();
    if (found === null) return null;
    return {
      board: found.cells.map((cell) => cell ?? ".").join(""),
      next: found.winner === undefined ? found.players[found.turn % found.players.length] : null,
      winner: found.winner === undefined ? null : (await ctx.db.get(found.winner))!.name,
    };
  },
});

const LINES = ["012", "345", "678", "036", "147", "258", "048", "246"].map((line) => [...line].map(Number));

export const play = mutation({
  args: { room: v.id("rooms"), player: v.id("players"), cell: v.number() },
  handler: async (ctx, { room, player, cell }) => {
    const found = await ctx.db.query("games").withIndex("by_room", (q) => q.eq("room", room)).unique();
    const table = await ctx.db.get(room);
    if (found === null || table?.state !== "playing") throw new ConvexError({ code: "NOT_PLAYING" });
    if (found.players[found.turn % found.players.length] !== player) throw new ConvexError({ code: "NOT_YOUR_TURN" });
    if (!(cell in found.cells) || found.cells[cell] !== null) throw new ConvexError({ code: "TAKEN", cell });
    const mark = found.turn % 2 === 0 ? ("X" as const) : ("O" as const);
    const cells = found.cells.map((old, n) => (n === cell ? mark : old));
    const won = LINES.some((line) => line.every((n) => cells[n] === mark));
    await ctx.db.patch(found._id, { cells, turn: found.turn + 1, ...(won ? { winner: player } : {}) });
    if (won || !cells.includes(null)) {
      await ctx.db.patch(room, { state: "over" });
      for (const id of found.players) await ctx.db.patch(id, { room: null });
    }
    if (won) await ctx.db.patch(player, { wins: (await ctx.db.get(player))!.wins + 1 });
    return won;
  },
});

export const leaders = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("players").withIndex("by_wins", (q) => q.gt("wins", 0)).order("desc").take(3)).map(({ name, wins }) => ({ name, wins })),
});

/** One row that everybody changes. */
export const click = mutation({
  args: {},
  handler: async (ctx) => {
    const row = await ctx.db.query("clicks").unique();
    if (row === null) await ctx.db.insert("clicks", { total: 1 });
    else await ctx.db.patch(row._id, { total: row.total + 1 });
    return (row?.total ?? 0) + 1;
  },
});

export const clicks = query({ args: {}, handler: async (ctx) => (await ctx.db.query("clicks").unique())?.total ?? 0 });
