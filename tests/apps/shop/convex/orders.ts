import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { Doc, Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, mutation, query, QueryCtx } from "./_generated/server";

async function openCart(ctx: QueryCtx, customer: string) {
  return await ctx.db.query("carts").withIndex("by_customer", (q) => q.eq("customer", customer).eq("open", true)).unique();
}

export const addToCart = mutation({
  args: { customer: v.string(), sku: v.string(), quantity: v.number() },
  handler: async (ctx, { customer, sku, quantity }) => {
    const product = await ctx.db.query("products").withIndex("by_sku", (q) => q.eq("sku", sku)).unique();
    if (product === null) throw new ConvexError({ code: "NO_SUCH_PRODUCT", sku });
    const cart = (await openCart(ctx, customer))?._id ?? (await ctx.db.insert("carts", { customer, open: true }));
    const line = await ctx.db.query("cartLines").withIndex("by_cart", (q) => q.eq("cart", cart).eq("product", product._id)).unique();
    const total = (line?.quantity ?? 0) + quantity;
    if (line === null) await ctx.db.insert("cartLines", { cart, product: product._id, quantity });
    else if (total <= 0) await ctx.db.delete(line._id);
    else await ctx.db.patch(line._id, { quantity: total });
    return Math.max(total, 0);
  },
});

export const lines = internalQuery({
  args: { cart: v.id("carts") },
  handler: async (ctx, { cart }) => {
    const rows = await ctx.db.query("cartLines").withIndex("by_cart", (q) => q.eq("cart", cart)).collect();
    return await Promise.all(rows.map(async (line) => ({ line: line._id, quantity: line.quantity, product: (await ctx.db.get(line.product))! })));
  },
});

type Lines = { line: Id<"cartLines">; quantity: number; product: Doc<"products"> }[];

export const cart = query({
  args: { customer: v.string() },
  handler: async (ctx, { customer }): Promise<{ items: { sku: string; quantity: number; available: boolean }[]; cents: bigint }> => {
    const open = await openCart(ctx, customer);
    if (open === null) return { items: [], cents: 0n };
    const found: Lines = await ctx.runQuery(internal.orders.lines, { cart: open._id });
    return {
      items: found.map(({ quantity, product }) => ({ sku: product.sku, quantity, available: product.stock >= quantity })),
      cents: found.reduce((sum, { quantity, product }) => sum + BigInt(quantity) * product.price.cents, 0n),
    };
  },
});

export const take = internalMutation({
  args: { product: v.id("products"), quantity: v.number() },
  returns: v.object({ left: v.number() }),
  handler: async (ctx, { product, quantity }) => {
    const found = (await ctx.db.get(product))!;
    if (found.stock < quantity) throw new ConvexError({ code: "OUT_OF_STOCK", sku: found.sku, wanted: quantity, left: found.stock });
    await ctx.db.patch(product, { stock: found.stock - quantity });
    return { left: found.stock - quantity };
  },
});

export const redeem = internalMutation({
  args: { code: v.string() },
  handler: async (ctx, { code }) => {
    const coupon = await ctx.db.query("coupons").withIndex("by_code", (q) => q.eq("code", code)).unique();
    if (coupon === null || coupon.left === 0) throw new ConvexError({ code: "COUPON_REFUSED", coupon: code });
    await ctx.db.patch(coupon._id, { left: coupon.left - 1 });
    return coupon.percent;
  },
});

/** All or nothing: stock of every line is taken, the cart closed, the order written; or none of it. */
export const checkout = mutation({
  args: { customer: v.string(), coupon: v.optional(v.string()), strictCoupon: v.optional(v.boolean()) },
  handler: async (ctx, { customer, coupon, strictCoupon }): Promise<{ order: Id<"orders">; cents: bigint; couponUsed: boolean }> => {
    const open = await openCart(ctx, customer);
    const found: Lines = open === null ? [] : await ctx.runQuery(internal.orders.lines, { cart: open._id });
    if (open === null || found.length === 0) throw new ConvexError({ code: "EMPTY_CART" });
    for (const { product, quantity } of found) await ctx.runMutation(internal.orders.take, { product: product._id, quantity });
    let cents = found.reduce((sum, { quantity, product }) => sum + BigInt(quantity) * product.price.cents, 0n);
    let couponUsed = false;
    if (coupon !== undefined) {
      try {
        const percent: number = await ctx.runMutation(internal.orders.redeem, { code: coupon });
        cents = (cents * BigInt(100 - percent)) / 100n;
        couponUsed = true;
      } catch (error) {
        if (strictCoupon || !(error instanceof ConvexError)) throw error;
      }
    }
    const order = await ctx.db.insert("orders", {
      customer,
      lines: found.map(({ product, quantity }) => ({ product: product._id, name: product.name, quantity, each: product.price })),
      total: { cents, currency: found[0].product.price.currency },
      coupon: couponUsed ? coupon : undefined,
      state: { kind: "paid", reference: crypto.randomUUID() },
    });
    await ctx.db.patch(open._id, { open: false });
    for (const { line } of found) await ctx.db.delete(line);
    return { order, cents, couponUsed };
  },
});

export const cancel = mutation({
  args: { order: v.id("orders"), why: v.string() },
  handler: async (ctx, { order, why }) => {
    const found = await ctx.db.get(order);
    if (found === null) throw new ConvexError({ code: "NO_SUCH_ORDER" });
    if (found.state.kind === "cancelled") return false;
    for (const { product, quantity } of found.lines) {
      const row = await ctx.db.get(product);
      if (row) await ctx.db.patch(product, { stock: row.stock + quantity });
    }
    await ctx.db.patch(order, { state: { kind: "cancelled", why } });
    return true;
  },
});

export const ofCustomer = query({
  args: { customer: v.string() },
  handler: async (ctx, { customer }) =>
    (await ctx.db.query("orders").withIndex("by_customer", (q) => q.eq("customer", customer)).order("desc").collect()).map((order) => ({
      cents: order.total.cents,
      lines: order.lines.map((line) => `${line.quantity} × ${line.name}`),
      state: order.state.kind,
    })),
});

export const units = query({
  args: {},
  handler: async (ctx) => {
    const orders = await ctx.db.query("orders").collect();
    return orders.filter((order) => order.state.kind === "paid").flatMap((order) => order.lines).reduce((sum, line) => sum + line.quantity, 0);
  },
});
