// A shop: carts, stock that never goes below zero, orders that happen whole or not at all.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { assert, check, finish, rejection, until, url, watch } from "./harness.mjs";

const live = new ConvexClient(url, { logger: false });
const http = new ConvexHttpClient(url, { logger: false });
const product = (sku, cents, stock, more = {}) => ({ sku, name: sku.toUpperCase(), price: { cents, currency: "EUR" }, stock, attributes: {}, ...more });
const add = (customer, sku, quantity) => http.mutation(api.orders.addToCart, { customer, sku, quantity }, { skipQueue: true });

await check("products by nested index fields and missing categories", async () => {
  await http.mutation(api.products.put, { product: product("lamp", 4999n, 5, { category: "light", attributes: { watts: 9.5, dimmable: true, color: "white" } }) });
  await http.mutation(api.products.put, { product: product("bulb", 299n, 100, { category: "light" }) });
  await http.mutation(api.products.put, { product: product("misc", 100n, 3) });
  assert.deepEqual(await http.query(api.products.inCategory, { category: "light" }), ["bulb", "lamp"]);
  assert.deepEqual(await http.query(api.products.inCategory, { category: "light", below: 4999n }), ["bulb"]);
  assert.deepEqual(await http.query(api.products.inCategory, {}), ["misc"]);
  const lamp = await http.query(api.products.bySku, { sku: "lamp" });
  assert.deepEqual(lamp.attributes, { watts: 9.5, dimmable: true, color: "white" });
  const again = await http.mutation(api.products.put, { product: product("lamp", 4899n, 5, { category: "light" }) });
  assert.equal(again, lamp._id);
  assert.deepEqual((await http.query(api.products.bySku, { sku: "lamp" })).attributes, {});
  assert.equal(await http.query(api.products.bySku, { sku: "sofa" }), null);
  const wrong = await rejection(http.mutation(api.products.put, { product: { ...product("x", 5n, 1), price: { cents: 5, currency: "EUR" } } }));
  assert.match(wrong.message, /Path: \.product\.price\.cents/);
});

await check("a cart that shows what it will cost while others shop", async () => {
  const cart = watch(live, api.orders.cart, { customer: "eve" });
  await until(() => cart.value);
  assert.deepEqual(cart.value, { items: [], cents: 0n });
  assert.equal(await add("eve", "lamp", 2), 2);
  assert.equal(await add("eve", "bulb", 4), 4);
  assert.equal(await add("eve", "bulb", -1), 3);
  await until(() => cart.value.cents === 2n * 4899n + 3n * 299n);
  assert.deepEqual(cart.value.items, [{ sku: "lamp", quantity: 2, available: true }, { sku: "bulb", quantity: 3, available: true }]);
  assert.equal(await add("eve", "bulb", -9), 0);
  await until(() => cart.value.items.length === 1);
  assert.deepEqual((await rejection(add("eve", "sofa", 1))).data, { code: "NO_SUCH_PRODUCT", sku: "sofa" });
  await http.mutation(api.products.put, { product: product("lamp", 4899n, 1, { category: "light" }) });
  await until(() => cart.value.items[0].available === false);
  cart.stop();
});

await check("checkout happens whole or not at all", async () => {
  await add("eve", "misc", 1);
  const error = await rejection(http.mutation(api.orders.checkout, { customer: "eve" }));
  assert.ok(error instanceof ConvexError);
  assert.deepEqual(error.data, { code: "OUT_OF_STOCK", sku: "lamp", wanted: 2, left: 1 });
  assert.equal((await http.query(api.products.bySku, { sku: "misc" })).stock, 3);
  assert.equal((await http.query(api.orders.cart, { customer: "eve" })).items.length, 2);
  await add("eve", "lamp", -1);
  const orders = watch(live, api.orders.ofCustomer, { customer: "eve" });
  const { order, cents } = await http.mutation(api.orders.checkout, { customer: "eve" });
  assert.equal(cents, 4999n);
  await until(() => orders.value?.length === 1);
  assert.deepEqual(orders.value, [{ cents: 4999n, lines: ["1 × LAMP", "1 × MISC"], state: "paid" }]);
  assert.deepEqual((await rejection(http.mutation(api.orders.checkout, { customer: "eve" }))).data, { code: "EMPTY_CART" });
  assert.equal(await http.mutation(api.orders.cancel, { order, why: "changed my mind" }), true);
  assert.equal(await http.mutation(api.orders.cancel, { order, why: "again" }), false);
  await until(() => orders.value[0].state === "cancelled");
  assert.equal((await http.query(api.products.bySku, { sku: "lamp" })).stock, 1);
  orders.stop();
});

await check("a refused coupon rolls back alone, or with everything when asked to", async () => {
  await http.mutation(api.products.putCoupon, { code: "TEN", percent: 10, left: 1 });
  const buy = async (customer, more) => {
    await add(customer, "bulb", 10);
    return await http.mutation(api.orders.checkout, { customer, ...more });
  };
  const first = await buy("c1", { coupon: "TEN" });
  assert.deepEqual([first.cents, first.couponUsed], [2691n, true]);
  const second = await buy("c2", { coupon: "TEN" });
  assert.deepEqual([second.cents, second.couponUsed], [2990n, false]);
  assert.deepEqual((await rejection(buy("c3", { coupon: "TEN", strictCoupon: true }))).data, { code: "COUPON_REFUSED", coupon: "TEN" });
  assert.equal((await http.query(api.products.bySku, { sku: "bulb" })).stock, 80);
});

await check("thirty shoppers, twenty units: exactly twenty are sold", async () => {
  await http.mutation(api.products.put, { product: product("drop", 1000n, 20) });
  const stock = watch(live, api.products.bySku, { sku: "drop" });
  const before = await http.query(api.orders.units);
  const shoppers = Array.from({ length: 30 }, (_, n) => `shopper ${n}`);
  await Promise.all(shoppers.map((customer) => add(customer, "drop", 1)));
  const outcomes = await Promise.allSettled(shoppers.map((customer) => http.mutation(api.orders.checkout, { customer }, { skipQueue: true })));
  assert.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 20);
  for (const outcome of outcomes.filter((each) => each.status === "rejected")) assert.equal(outcome.reason.data.code, "OUT_OF_STOCK");
  await until(() => stock.value?.stock === 0);
  assert.ok(stock.values.every((value) => value.stock >= 0));
  assert.deepEqual(stock.values.map((value) => value.stock), [...stock.values.map((value) => value.stock)].sort((a, b) => b - a));
  assert.equal(await http.query(api.orders.units), before + 20);
});

await live.close();
finish();
