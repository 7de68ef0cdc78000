// Reads an ES module as esbuild writes it and turns it into a function body, when that keeps its meaning.
//
// A pushed module is called afresh for every execution, so it is compiled once as a function: imports become
// parameters, exports the returned array, everything else stays at its line and column (source maps hold).
// Rule: conservative. Anything not recognised makes the module ineligible, and then V8's own module records run
// it (modules.js). Exports are returned by value, except those that are assigned later, inside some function: these
// are `live`. esbuild never shadows a top-level name, which makes counting tokens enough to know them.

const REGEX_AFTER = new Set([
  "return", "typeof", "case", "do", "else", "in", "of", "instanceof", "new", "void", "delete", "throw", "yield",
  "await", "extends",
]);
const NOT_NAMES = new Set([
  "var", "let", "const", "function", "class", "return", "if", "for", "while", "await", "in", "new", "this", "null",
  "true", "false", "void", "typeof", "throw", "else", "case", "break",
]);
const STATEMENT_PAREN = new Set(["if", "while", "for", "with", "switch", "catch"]);
const IMPORT = /import\s*(?:([\w$]+)\s*(?:,\s*)?)?(?:\*\s*as\s+([\w$]+)\s*)?(?:\{([^}]*)\}\s*)?(?:from\s*)?(?:"([^"\\\n]*)"|'([^'\\\n]*)')\s*;/y;
const EXPORT = /export\s*\{([^}]*)\}\s*;/y;
const SPECIFIER = /^([\w$]+)(?:\s+as\s+([\w$]+))?$/;
const ASSIGNMENT = /\s*(?:=(?![=>])|(?:\+|-|\*\*?|\/|%|<<|>>>?|&&?|\|\|?|\^|\?\?)=(?!=)|\+\+|--)/y;
const WORD = /[\w$\u0080-\uffff]+/y;
const NUMBER = /0[xXbBoO][\da-fA-F_]+n?|\d[\d_]*n(?![\w$])|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?[\d_]+)?/y;
const SPACE = /(?:\s+|\/\/[^\n]*|\/\*[^]*?\*\/)+/y;
const STRING_DOUBLE = /"(?:[^"\\\n]|\\[^])*"/y;
const STRING_SINGLE = /'(?:[^'\\\n]|\\[^])*'/y;
const REGEX = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[A-Za-z]*/y;
const TEMPLATE_PART = /(?:[^`\\$]|\\[^]|\$(?!\{))*/y;
const PARAMETERS = /\s*(=>|\{)/y;
const ARROW_BLOCK = /\s*\{/y;

/** Whether a brace after this token opens an object literal rather than a block. */
function isExpressionStart(before) {
  return before !== "" && (/^(?:return|typeof|case|in|of|void|delete|throw|yield|await|new|default)$/.test(before)
    || /^[=(,[?:+\-*%&|^!~<>]$/.test(before) || before === "..." || before === "${");
}

const isDigit = (code) => code >= 48 && code <= 57;
const isWord = (code) => (code >= 97 && code <= 122) || (code >= 65 && code <= 90) || code === 36 || code === 95
  || isDigit(code) || (code >= 0x80 && code !== 0xa0 && code !== 0xfeff && code !== 0x2028 && code !== 0x2029);

class Ineligible extends Error {}

function list(text) {
  const items = [];
  for (const item of text.split(",")) {
    const trimmed = item.trim();
    if (trimmed === "") continue;
    const match = SPECIFIER.exec(trimmed);
    if (!match) throw new Ineligible(`unusual specifier ${trimmed}`);
    items.push([match[1], match[2] ?? match[1]]);
  }
  return items;
}

/** Stands for `import` in `import(…)` and `import.meta`: as long, and no keyword. */
export const IMPORT_NAME = "\u0131mport";

const blank = (text) => text.replace(/[^\n]/g, " ");

/**
 * @returns {{
 *   eligible: boolean, reason: string, imports: {specifier: string, names: [string, string][], namespace: string|null}[],
 *   exports: [string, string][], live: boolean[], body: string, topLevel: Set<string>, deferredWrites: Set<string>,
 * }} `exports` are [local, exported]; `imports[].names` are [imported, local]. `topLevel` holds every name that is
 * declared or written while the module evaluates, `deferredWrites` every name written inside some function.
 */
export function scan(source) {
  try {
    return scanTokens(source);
  } catch (error) {
    if (!(error instanceof Ineligible)) throw error;
    return {
      eligible: false, reason: error.message, imports: [], exports: [], live: [], body: "",
      topLevel: new Set(), deferredWrites: new Set(),
    };
  }
}

function scanTokens(source) {
  const imports = [];
  const exports = [];
  const topLevel = new Set();
  const deferredWrites = new Set();
  const pieces = [];
  const stack = []; // open brackets: {char, before, functions, names, start}
  const arrows = []; // bracket depths of arrow functions whose body is an expression
  let copied = 0;
  let functions = 0; // how many function or class bodies we are in
  let previous = ""; // last token: a word, a punctuator, or one of " (string) / (regex) 0 (number) ` (template)
  let beforePrevious = "";
  let beforeThat = "";
  let closed = null; // the bracket that `previous` closed
  let declaring = false; // in a var/let/const at bracket depth 0
  let at = 0;

  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found) at = pattern.lastIndex;
    return found;
  };
  const token = (text) => {
    beforeThat = beforePrevious;
    beforePrevious = previous;
    previous = text;
  };
  const deferred = () => functions > 0 || arrows.length > 0;
  const written = (name) => {
    if (deferred()) {
      deferredWrites.add(name);
      return;
    }
    // Inside parentheses it may be the default of a parameter: known when they close.
    const paren = stack.findLast((bracket) => bracket.char === "(");
    if (paren) paren.writes.push(name);
    else topLevel.add(name);
  };
  const endArrows = (depth) => {
    while (arrows.length > 0 && arrows[arrows.length - 1] >= depth) arrows.pop();
  };
  const regexAllowed = () => {
    if (previous === ")") return STATEMENT_PAREN.has(closed.before);
    if (previous === "}") return !isExpressionStart(closed.before);
    if (previous === "" || /^[\w$"'`/]/.test(previous)) return previous === "" || REGEX_AFTER.has(previous);
    return previous !== "]" && previous !== "++" && previous !== "--";
  };
  const template = () => {
    for (;;) {
      match(TEMPLATE_PART);
      if (source[at] === "`") {
        at++;
        token("`");
        return;
      }
      if (source[at] !== "$") throw new Ineligible("an unfinished template");
      at += 2;
      stack.push({ char: "${", before: "", functions, names: [], writes: [] });
      token("${");
      return;
    }
  };
  const open = (char) => {
    let body = functions;
    if (char === "{") {
      const afterParen = previous === ")" && !STATEMENT_PAREN.has(closed.before);
      if (afterParen || previous === "=>" || pendingClass) body++;
      pendingClass = false;
    }
    stack.push({ char, before: previous, functions, names: [], writes: [] });
    functions = body;
    at++;
    token(char);
  };
  const close = (char) => {
    const bracket = stack.pop();
    if (!bracket) throw new Ineligible("unbalanced brackets");
    at++;
    endArrows(stack.length + 1);
    if (bracket.char === "${") {
      if (char !== "}") throw new Ineligible("unbalanced template");
      template();
      return;
    }
    if (bracket.char + char !== "()" && bracket.char + char !== "[]" && bracket.char + char !== "{}") {
      throw new Ineligible("unbalanced brackets");
    }
    functions = bracket.functions;
    closed = bracket;
    token(char);
    // A destructuring pattern: `[a, b] =` (not `x[a] =`) or `{a, b} =` writes the names inside it.
    const isMember = char === "]" && (/[\w$)\]"'`]$/.test(bracket.before) && !REGEX_AFTER.has(bracket.before)
      && !["const", "let", "var"].includes(bracket.before) || bracket.before === "?.");
    const names = bracket.names;
    if (char !== ")" && !isMember && names.length > 0) {
      ASSIGNMENT.lastIndex = at;
      const isPattern = ASSIGNMENT.test(source) || /\s*(?:of|in)\b/y.test(source.slice(at, at + 8));
      if (isPattern) names.forEach(written);
    }
    const parent = stack[stack.length - 1];
    if (parent) for (const name of names) parent.names.push(name);
    PARAMETERS.lastIndex = at;
    const next = bracket.writes.length > 0 ? PARAMETERS.exec(source)?.[1] : undefined;
    const areParameters = next === "=>" || (next === "{" && !STATEMENT_PAREN.has(bracket.before));
    if (!areParameters) bracket.writes.forEach(written);
  };
  let pendingClass = false;

  while (at < source.length) {
    if (match(SPACE)) continue;
    const char = source[at];
    if (char === '"' || char === "'") {
      if (!match(char === '"' ? STRING_DOUBLE : STRING_SINGLE)) throw new Ineligible("an unfinished string");
      token('"');
    } else if (char === "`") {
      at++;
      template();
    } else if (char === "/" && regexAllowed()) {
      if (!match(REGEX)) throw new Ineligible("an unfinished regular expression");
      token("/");
    } else if (char === "(" || char === "[" || char === "{") {
      open(char);
    } else if (char === ")" || char === "]" || char === "}") {
      close(char);
    } else if (isDigit(source.charCodeAt(at)) || (char === "." && isDigit(source.charCodeAt(at + 1)))) {
      if (!match(NUMBER)) throw new Ineligible("an unusual number");
      token("0");
    } else if (isWord(source.charCodeAt(at))) {
      const start = at;
      const word = match(WORD)[0];
      if (previous === "." || previous === "?." || previous === "#") {
        token("name");
        continue;
      }
      if (word === "import") {
        if (/\s*[(.]/y.test(source.slice(at, at + 16))) {
          pieces.push(source.slice(copied, start), IMPORT_NAME);
          copied = at;
          token("import");
          continue;
        }
        if (stack.length > 0 || deferred()) throw new Ineligible("import inside a block");
        at = start;
        const found = match(IMPORT);
        if (!found) throw new Ineligible("an unusual import");
        const [text, byDefault, namespace, named, specifier] = found;
        const names = named === undefined ? [] : list(named);
        if (byDefault !== undefined) names.push(["default", byDefault]);
        imports.push({ specifier: specifier ?? found[5], names, namespace: namespace ?? null });
        pieces.push(source.slice(copied, start), blank(text));
        copied = at;
        token(";");
        continue;
      }
      if (word === "export" && stack.length === 0 && !deferred()) {
        at = start;
        const found = match(EXPORT);
        if (!found) throw new Ineligible("an unusual export");
        exports.push(...list(found[1]));
        pieces.push(source.slice(copied, start), blank(found[0]));
        copied = at;
        token(";");
        continue;
      }
      if (word === "class" && previous !== ".") pendingClass = true;
      if (word === "var" || word === "let" || word === "const") declaring = stack.length === 0;
      if (!NOT_NAMES.has(word)) {
        const parent = stack[stack.length - 1];
        if (parent) parent.names.push(word);
        // A declaration, not the private name of a function or class expression.
        const start = previous === "*" ? beforeThat : beforePrevious;
        const hoisted = (previous === "function" || previous === "class" || previous === "*")
          && (start === "" || start === ";" || start === "}" || start === "async");
        if (hoisted && !deferred() && stack.length === 0) topLevel.add(word);
        if (declaring && stack.length === 0 && (previous === "var" || previous === "let" || previous === "const" || previous === ",")) {
          topLevel.add(word);
        }
        ASSIGNMENT.lastIndex = at;
        const loop = parent?.char === "(" && parent.before === "for" || parent?.char === "(" && parent.before === "await";
        if (ASSIGNMENT.test(source) || previous === "++" || previous === "--"
          || (loop && /\s+(?:of|in)\b/y.test(source.slice(at, at + 12)))) written(word);
      }
      token(word);
    } else if (char === ";" || char === ",") {
      at++;
      endArrows(stack.length);
      if (char === ";" && stack.length === 0) declaring = false;
      token(char);
    } else if (char === "=" && source[at + 1] === ">") {
      at += 2;
      token("=>");
      ARROW_BLOCK.lastIndex = at;
      if (!ARROW_BLOCK.test(source)) arrows.push(stack.length);
    } else if ((char === "+" || char === "-") && source[at + 1] === char) {
      at += 2;
      token(char + char);
    } else if (char === "?" && source[at + 1] === "." && !isDigit(source.charCodeAt(at + 2))) {
      at += 2;
      token("?.");
    } else if (source.startsWith("...", at)) {
      at += 3;
      token("...");
    } else {
      at++;
      token(char);
    }
  }
  if (stack.length > 0) throw new Ineligible("unbalanced brackets");
  if (source.includes(IMPORT_NAME)) throw new Ineligible("a name of ours");
  const live = exports.map(([local]) => deferredWrites.has(local));
  pieces.push(source.slice(copied));
  return {
    eligible: true, reason: "", imports, exports, live, body: pieces.join(""), topLevel, deferredWrites,
  };
}
