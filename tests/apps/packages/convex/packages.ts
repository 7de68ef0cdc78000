// Packages as people use them in functions; some look closely at how methods are defined.

import { query } from "./_generated/server";
import { addDays, format } from "date-fns";
import Decimal from "decimal.js";
import { produce } from "immer";
import { Map as ImmutableMap } from "immutable";
import * as jose from "jose";
import _ from "lodash";
import { marked } from "marked";
import { computed, observable, runInAction } from "mobx";
import { nanoid } from "nanoid";
import qs from "qs";
import { firstValueFrom, map, of, toArray } from "rxjs";
import superjson from "superjson";
import { v4, v5, v7 } from "uuid";

export const everything = query({
  args: {},
  handler: async () => {
    const counter = observable({ n: 1 });
    const doubled = computed(() => counter.n * 2);
    runInAction(() => (counter.n = 5));
    const token = await new jose.SignJWT({ a: 1 }).setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode("s".repeat(32)));
    return {
      dateFns: format(addDays(new Date(0), 1), "yyyy-MM-dd"),
      decimal: new Decimal("0.1").plus("0.2").toString(),
      immer: produce({ a: 1 }, (draft) => void (draft.a = 2)),
      immutable: ImmutableMap({ a: 1 }).set("b", 2).toJS(),
      jose: (await jose.jwtVerify(token, new TextEncoder().encode("s".repeat(32)))).payload,
      lodash: [_.groupBy([1, 2, 3], (n) => (n % 2 ? "odd" : "even")), _.cloneDeep({ at: [new Map([["k", 1]])] }).at[0].get("k")],
      marked: marked.parse("# hi *there*"),
      mobx: doubled.get(),
      nanoid: nanoid().length,
      qs: [qs.stringify({ a: { b: [1, 2] } }, { encode: false }), qs.parse("a[b]=1&c=2")],
      rxjs: await firstValueFrom(of(1, 2).pipe(map((n) => n * 2), toArray())),
      superjson: superjson.stringify({ at: new Date(0), set: new Set([1]) }),
      uuid: [v4().length, v7().length, v5("a", "6ba7b810-9dad-11d1-80b4-00c04fd430c8")],
    } as any;
  },
});

/** Assigning what a prototype already has, as older code does. */
export const assignments = query({
  args: {},
  handler: async () => {
    function Old(this: any) {}
    Old.prototype = Object.create(Error.prototype);
    Old.prototype.constructor = Old;
    Old.prototype.toString = () => "old";
    const error = new Error("x");
    error.name = "Renamed";
    error.message = "changed";
    const plain: any = {};
    plain.hasOwnProperty = () => "own";
    plain.valueOf = () => 5;
    const map: any = new Map();
    map.get = () => "mine";
    return [String(new (Old as any)()), String(error), plain.hasOwnProperty("x"), plain + 1, map.get("x"), new Map([["x", 1]]).get("x")] as any[];
  },
});
