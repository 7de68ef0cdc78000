import { query } from "./_generated/server";

class Point {
  constructor(public x: number, public y: number) {}
}

export const lines = query(async () => {
  console.debug("d");
  console.info("i", 1, true, null, undefined, 2n, Symbol("s"));
  console.log({ a: 1, b: "x", nested: { c: [1, "two"] } });
  console.warn([1, 2], new Map([["k", { v: 1 }]]), new Set([1]));
  console.error(new Point(1, 2), () => 1, function named() {}, -0, /re/g, new Date(0));
  console.log("%s is not replaced", "it");
  const loop: any = {};
  loop.self = loop;
  console.log(loop);
  console.time("t");
  console.timeEnd("t");
  console.timeEnd("t");
  console.log(new TypeError("shown"));
  return null;
});
