// YAML in the editor, with completion of a policy's fields and values where the cursor stands, and marks where it is wrong.
import { yaml, yamlLanguage } from "@codemirror/lang-yaml";
import { indentUnit } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";

const LINE = /^( *)((?:- +)*)(?:([^\s:#'"]+|"[^"]*"|'[^']*'):(?= |$))?/;

// The fields on the way from the document's top to a line, by indentation alone, so that what is half written counts too.
// A field's column is where its key begins; a dash before it opens an item of the list above.
function pathTo(lines, number, column) {
  const path = [];
  for (let place = number - 1; place >= 0 && column > 0; place--) {
    const line = lines[place];
    if (/^(---|\.\.\.)/.test(line)) break;
    const [, indent, dashes, key] = LINE.exec(line);
    if (!line.trim() || line.trim().startsWith("#")) continue;
    const begin = indent.length + dashes.length;
    if (key && begin < column) path.unshift(key.replace(/^["']|["']$/g, ""));
    else if (!dashes || indent.length >= column) continue;
    // The key of a list may be as far to the left as the dashes of its items.
    column = dashes ? indent.length + 1 : indent.length;
  }
  return path;
}

function documentAround(lines, number) {
  let first = number, last = number;
  while (first > 0 && !lines[first - 1].startsWith("---")) first--;
  while (last + 1 < lines.length && !lines[last + 1].startsWith("---")) last++;
  return lines.slice(first, last + 1);
}

const TOP = (kinds) => ({
  apiVersion: [[...new Set(Object.values(kinds).flatMap((kind) => kind.apiVersions))].join("|"), "Group and version of the kind"],
  kind: [Object.keys(kinds).join("|"), "Which kind of policy"],
  metadata: ["Metadata", "Name, namespace and labels"],
  spec: ["", "What the policy says"],
});

/** The fields that may stand at the end of a path, or null where nothing is known of it. */
function fieldsAt(schema, path, kind) {
  let fields = { ...TOP(schema.kinds) };
  fields.spec = [kind?.spec ?? "", fields.spec[1]];
  if (kind?.specs) fields.specs = [`[${kind.spec}]`, "Several specs in one policy"];
  for (const name of path) {
    const found = fields[name];
    if (!found) return null;
    fields = schema.types[found[0].replace(/[[\]]/g, "")];
    if (!fields) return null;
  }
  return fields;
}

const valuesOf = (type) => type.includes("|") ? type.replace(/[[\]]/g, "").split("|") : type === "boolean" ? ["true", "false"] : [];

function completions(schema, known) {
  return (context) => {
    const lines = context.state.doc.toString().split("\n");
    const line = context.state.doc.lineAt(context.pos);
    const number = line.number - 1, before = line.text.slice(0, context.pos - line.from);
    const kind = schema.kinds[/^kind: *(\w+)/m.exec(documentAround(lines, number).join("\n"))?.[1]];
    const value = /^( *)((?:- +)*)([^\s:#]+): +(\S*)$/.exec(before);
    const word = /^( *)((?:- +)*)(\S*)$/.exec(before);
    if (value) {
      const [, indent, dashes, key, written] = value;
      const path = pathTo(lines, number, dashes ? indent.length + 1 : indent.length);
      const type = fieldsAt(schema, path, kind)?.[key]?.[0] ?? "";
      const options = [...valuesOf(type), ...(known[key] ?? [])];
      return options.length ? { from: context.pos - written.length, options: options.map((label) => ({ label, type: "enum" })) } : null;
    }
    if (!word || (!word[3] && !context.explicit)) return null;
    const [, indent, dashes, written] = word;
    const path = pathTo(lines, number, dashes ? indent.length + 1 : indent.length);
    const above = path.length ? fieldsAt(schema, path.slice(0, -1), kind)?.[path.at(-1)]?.[0] : undefined;
    const from = context.pos - written.length;
    if (dashes && above && valuesOf(above).length) return { from, options: valuesOf(above).map((label) => ({ label, type: "enum" })) };
    const fields = fieldsAt(schema, path, kind);
    if (!fields) return above === "{text}" ? { from, options: (known.labels ?? []).map((label) => ({ label, apply: `${label}: `, type: "property" })) } : null;
    const options = Object.entries(fields).map(([label, [type, info]]) => ({
      label, info, type: "property", detail: detail(type), apply: `${label}: `.slice(0, isNested(schema, type) ? -1 : undefined),
    }));
    return { from, options, validFor: /^[\w]*$/ };
  };
}

const isNested = (schema, type) => type.startsWith("[") || type === "{text}" || type in schema.types;
const detail = (type) => type.startsWith("[") ? "list" : type === "{text}" ? "labels" : /^[A-Z]\w+$/.test(type) ? "" : type.includes("|") ? "choice" : type;

/** What makes the editor one of policies. The schema is fetched once; until it is there, nothing is offered. */
export function policyLanguage({ schema, known }) {
  let source = () => null;
  fetch(new URL(schema, window.location.origin)).then((answer) => answer.json()).then((read) => { source = completions(read, known ?? {}); });
  return [yaml(), yamlLanguage.data.of({ autocomplete: (context) => source(context) }), indentUnit.of("  "), lintGutter()];
}

/** Mark lines: `problems` have `line` (from 1), `text` and `severity`. */
export function mark(view, problems) {
  const { doc } = view.state;
  view.dispatch(setDiagnostics(view.state, problems.map(({ line, text, severity }) => {
    const at = doc.line(Math.min(Math.max(line, 1), doc.lines));
    return { from: at.from + (at.text.length - at.text.trimStart().length), to: at.to, severity, message: text };
  })));
}
