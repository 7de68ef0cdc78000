// The module that an inline query imports as "convex:/_system/repl/wrappers.js": `query` and `internalQuery` with a
// read-only `ctx`. It speaks the same syscalls as the npm package, and is our own and small because the app's copy of
// that package is minified inside the app's chunks and cannot be imported from here.
//
// Rule: nothing here can write: only reading syscalls are named.

const VERSION = "1.48.0";
const MAX_QUERY_OPERATORS = 256;

// ----------------------------------------------------------------------------------------------------- values

const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

function eightBytes(write) {
  const view = new DataView(new ArrayBuffer(8));
  write(view);
  return toBase64(new Uint8Array(view.buffer));
}

function encode(value) {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "bigint") {
    if (BigInt.asIntN(64, value) !== value) throw new Error(`${value}n does not fit into a 64-bit signed integer.`);
    return { $integer: eightBytes((view) => view.setBigInt64(0, value, true)) };
  }
  if (typeof value === "number") {
    if (Number.isFinite(value) && !Object.is(value, -0)) return value;
    return { $float: eightBytes((view) => view.setFloat64(0, value, true)) };
  }
  if (value instanceof ArrayBuffer) return { $bytes: toBase64(new Uint8Array(value)) };
  if (Array.isArray(value)) return value.map(encode);
  const isPlain = typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value));
  if (!isPlain) throw new Error(`A ${value?.constructor?.name ?? typeof value} is not a supported Convex type.`);
  const out = {};
  for (const [name, child] of Object.entries(value)) if (child !== undefined) out[name] = encode(child);
  return out;
}

function decode(json) {
  if (json === null || typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map(decode);
  const names = Object.keys(json);
  if (names.length === 1 && names[0].startsWith("$")) {
    const bytes = fromBase64(json[names[0]]);
    if (names[0] === "$bytes") return bytes.buffer;
    const view = new DataView(bytes.buffer);
    if (names[0] === "$integer") return view.getBigInt64(0, true);
    if (names[0] === "$float") return view.getFloat64(0, true);
  }
  return Object.fromEntries(names.map((name) => [name, decode(json[name])]));
}

class ExpressionNode {
  constructor(json) {
    this.json = json;
  }
}

const literal = (value) => {
  if (value instanceof ExpressionNode) return value.json;
  return { $literal: value === undefined ? { $undefined: null } : encode(value) };
};

const syscall = (op, args) => JSON.parse(Convex.syscall(op, JSON.stringify(args)));

async function asyncSyscall(op, args) {
  try {
    return JSON.parse(await Convex.asyncSyscall(op, JSON.stringify(args)));
  } catch (thrown) {
    throw new Error(thrown.message);
  }
}

// ---------------------------------------------------------------------------------------------------- queries

const binary = (name) => (a, b) => new ExpressionNode({ [name]: [literal(a), literal(b)] });
const variadic = (name) => (...args) => new ExpressionNode({ [name]: args.map(literal) });
const unary = (name) => (a) => new ExpressionNode({ [name]: literal(a) });

const filterBuilder = {
  ...Object.fromEntries(["eq", "neq", "lt", "lte", "gt", "gte", "add", "sub", "mul", "div", "mod"].map((name) => [name, binary(`$${name}`)])),
  and: variadic("$and"),
  or: variadic("$or"),
  not: unary("$not"),
  neg: unary("$neg"),
  field: (path) => new ExpressionNode({ $field: path }),
};

const rangeValue = (value) => (value === undefined ? { $undefined: null } : encode(value));

function rangeBuilder(range) {
  const step = (type) => (fieldPath, value) => rangeBuilder([...range, { type, fieldPath, value: rangeValue(value) }]);
  return { range, eq: step("Eq"), lt: step("Lt"), lte: step("Lte"), gt: step("Gt"), gte: step("Gte") };
}

function searchBuilder(filters) {
  return {
    filters,
    search: (fieldPath, value) => searchBuilder([...filters, { type: "Search", fieldPath, value }]),
    eq: (fieldPath, value) => searchBuilder([...filters, { type: "Eq", fieldPath, value: rangeValue(value) }]),
  };
}

class Query {
  constructor(source, operators = []) {
    this.source = source;
    this.operators = operators;
    this.queryId = null;
    this.spent = false;
  }

  #take() {
    if (this.spent || this.queryId !== null) {
      throw new Error("A query can only be chained once and can't be chained after iteration begins.");
    }
    this.spent = true;
    return { source: this.source, operators: this.operators };
  }

  order(order) {
    const { source, operators } = this.#take();
    if (source.type === "Search") throw new Error("Search queries are always in relevance order.");
    if (source.order !== null) throw new Error("Queries may only specify order at most once");
    return new Query({ ...source, order }, operators);
  }

  filter(predicate) {
    return this.#with({ filter: literal(predicate(filterBuilder)) });
  }

  limit(count) {
    return this.#with({ limit: count });
  }

  #with(operator) {
    const { source, operators } = this.#take();
    if (operators.length >= MAX_QUERY_OPERATORS) {
      throw new Error(`Can't construct query with more than ${MAX_QUERY_OPERATORS} operators`);
    }
    return new Query(source, [...operators, operator]);
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    if (this.queryId === null) {
      this.queryId = syscall("1.0/queryStream", { query: this.#take(), version: VERSION }).queryId;
    }
    const { value, done } = await asyncSyscall("1.0/queryStreamNext", { queryId: this.queryId });
    if (done) syscall("1.0/queryCleanup", { queryId: this.queryId });
    return { value: decode(value), done };
  }

  async return() {
    if (this.queryId !== null) syscall("1.0/queryCleanup", { queryId: this.queryId });
    return { done: true, value: undefined };
  }

  async collect() {
    const out = [];
    for await (const document of this) out.push(document);
    return out;
  }

  async take(count) {
    if (!Number.isInteger(count) || count < 0) throw new Error("`take` needs a non-negative whole number.");
    return await this.limit(count).collect();
  }

  async first() {
    return (await this.take(1))[0] ?? null;
  }

  async unique() {
    const found = await this.take(2);
    if (found.length > 1) throw new Error("unique() query returned more than one result.");
    return found[0] ?? null;
  }

  async paginate(options) {
    const result = await asyncSyscall("1.0/queryPage", {
      query: this.#take(),
      cursor: options.cursor,
      endCursor: options.endCursor ?? null,
      pageSize: options.numItems,
      maximumRowsRead: options.maximumRowsRead ?? null,
      maximumBytesRead: options.maximumBytesRead,
      version: VERSION,
    });
    return { ...result, page: result.page.map(decode) };
  }
}

class TableQuery {
  constructor(table) {
    this.table = table;
  }

  fullTableScan() {
    return new Query({ type: "FullTableScan", tableName: this.table, order: null });
  }

  withIndex(name, range = (q) => q) {
    const indexName = `${this.table}.${name}`;
    return new Query({ type: "IndexRange", indexName, range: range(rangeBuilder([])).range, order: null });
  }

  withSearchIndex(name, search) {
    return new Query({ type: "Search", indexName: `${this.table}.${name}`, filters: search(searchBuilder([])).filters });
  }

  async count() {
    return decode(await asyncSyscall("1.0/count", { table: this.table }));
  }

  [Symbol.asyncIterator]() {
    return this.fullTableScan();
  }
}

for (const name of ["order", "filter", "limit", "collect", "take", "first", "unique", "paginate"]) {
  TableQuery.prototype[name] = function (...args) {
    return this.fullTableScan()[name](...args);
  };
}

// -------------------------------------------------------------------------------------------------------- ctx

function reader(isSystem) {
  const check = (table, method) => {
    if (table.startsWith("_") !== isSystem) {
      const kind = isSystem ? "User" : "System";
      throw new Error(`${kind} tables can only be accessed from db.${isSystem ? "" : "system."}${method}().`);
    }
  };
  const get = async (table, id) => {
    if (typeof id !== "string") throw new Error(`Invalid argument \`id\` for \`db.get\`: ${id}`);
    return decode(await asyncSyscall("1.0/get", { id, isSystem, version: VERSION, table }));
  };
  const query = (table) => {
    check(table, "query");
    return new TableQuery(table);
  };
  return {
    get: (first, second) => (second === undefined ? get(undefined, first) : get(first, second)),
    query,
    normalizeId(table, idString) {
      check(table, "normalizeId");
      return syscall("1.0/db/normalizeId", { table, idString }).id;
    },
    table: (table) => ({ get: (id) => get(table, id), query: () => query(table) }),
  };
}

const context = () => ({
  db: { ...reader(false), system: reader(true) },
  auth: { getUserIdentity: () => asyncSyscall("1.0/getUserIdentity", { requestId: "" }) },
});

function register(visibility) {
  return (definition) => {
    const handler = typeof definition === "function" ? definition : definition.handler;
    const registered = (ctx, args) => handler(ctx, args);
    return Object.assign(registered, {
      isQuery: true,
      [visibility]: true,
      _handler: handler,
      exportArgs: () => '{"type":"any"}',
      exportReturns: () => "null",
      async invokeQuery(argsText) {
        try {
          const result = await handler(context(), ...decode(JSON.parse(argsText)));
          if (result instanceof Query || result instanceof TableQuery) {
            throw new Error("Return value is a Query. Call .collect(), .take(n), .unique() or .first() on it.");
          }
          return JSON.stringify(encode(result === undefined ? null : result));
        } catch (thrown) {
          if (typeof thrown === "object" && thrown !== null && Symbol.for("ConvexError") in thrown) {
            thrown.data = JSON.stringify(encode(thrown.data === undefined ? null : thrown.data));
            thrown.ConvexErrorSymbol = Symbol.for("ConvexError");
          }
          throw thrown;
        }
      },
    });
  };
}

export const query = register("isPublic");
export const internalQuery = register("isInternal");
