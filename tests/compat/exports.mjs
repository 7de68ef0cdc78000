// What each of the given modules exports, as TypeScript sees it: {"<file>": {"<name>": "value"|"type"}}.
import ts from "typescript";

const files = process.argv.slice(2);
const program = ts.createProgram(files, {
  target: ts.ScriptTarget.ESNext,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  allowJs: true,
  strict: true,
  skipLibCheck: true,
  noEmit: true,
  types: [],
});
const checker = program.getTypeChecker();
const found = {};
for (const file of files) {
  const symbol = checker.getSymbolAtLocation(program.getSourceFile(file));
  const names = {};
  for (const exported of symbol === undefined ? [] : checker.getExportsOfModule(symbol)) {
    const target = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    names[exported.name] = target.flags & ts.SymbolFlags.Value ? "value" : "type";
  }
  found[file] = names;
}
console.log(JSON.stringify(found));
