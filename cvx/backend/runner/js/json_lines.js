// JSON as the lines of a frame: what this process says to its parent.
//
// Rule: the parent reads strict JSON, so a header must be well-formed whatever user code put into it. Half of a surrogate
// pair (an emoji cut in two by `slice`) would be written as an escape that no strict reader takes.

const wellFormed = (_key, value) => (typeof value === "string" ? value.toWellFormed() : value);

/** A header's line. Halves of surrogate pairs become U+FFFD. */
export function headerLine(header) {
  const text = JSON.stringify(header);
  return text.includes("\\ud") ? JSON.stringify(header, wellFormed) : text;
}

/** A payload line: JSON texts have line feeds as white space only. */
export function oneLine(text) {
  return text.includes("\n") ? text.replaceAll("\n", " ") : text;
}
