// The SQL editor: CodeMirror as a Streamlit component. `make editor` bundles it into dashboards/assets/sql-editor.js.
//
// `draw(component)` is called whenever Streamlit draws the component, with `data`: the tables with their columns, a text and
// its round (a new round replaces what is written), words to insert and their round. It tells `written`, the text and its
// round (when the editor is left or the query is run), and `run` (Ctrl or Cmd + Enter).
import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { PostgreSQL, SQLDialect, sql } from "@codemirror/lang-sql";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

// PostgreSQL's ways of writing, with the words that queries of DuckDB are made of: those of all of PostgreSQL would bury them.
const KEYWORDS = `all and anti any as asc asof between by case cast collate cross cube current_date current_timestamp desc describe
  distinct else end escape except exclude exists explain false filter first following from full glob group grouping having ilike in
  inner intersect interval is isnull join last lateral left like limit natural not notnull null nulls offset on or order outer over
  partition pivot positional preceding qualify range recursive replace right rollup row rows sample select semi sets similar some
  summarize table tablesample then timestamp timestamptz to true unbounded union unpivot using values when where window with`;
const FUNCTIONS = `abs any_value approx_count_distinct arg_max arg_min array_agg avg bool_and bool_or coalesce concat contains count
  count_if date_diff date_part date_trunc day dense_rank epoch first_value greatest hour last_value lag lead least length list
  list_concat list_contains list_distinct list_filter lower max median min minute month now nullif quantile_cont rank
  regexp_extract regexp_matches replace round row_number split_part starts_with stddev string_agg strftime substr sum time_bucket
  trim unnest upper year`;
const DUCKDB = SQLDialect.define({ ...PostgreSQL.spec, keywords: KEYWORDS, builtin: FUNCTIONS });

// Colours are Streamlit's own, as custom properties: they follow the theme at once.
const colour = (name) => `var(--st-${name})`;
const THEME = EditorView.theme({
  "&": { fontSize: "0.8125rem", backgroundColor: colour("secondary-background-color"), color: colour("text-color"),
         border: `1px solid ${colour("border-color")}`, borderRadius: colour("base-radius"), height: "220px" },
  "&.cm-focused": { outline: `2px solid ${colour("primary-color")}`, outlineOffset: "-1px" },
  ".cm-scroller": { fontFamily: colour("code-font"), lineHeight: "1.6", overflow: "auto" },
  ".cm-gutters": { backgroundColor: "transparent", color: colour("gray-text-color"), border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  ".cm-cursor": { borderLeftColor: colour("text-color") },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: `${colour("blue-background-color")} !important` },
  ".cm-tooltip": { backgroundColor: colour("background-color"), color: colour("text-color"), border: `1px solid ${colour("border-color")}` },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: colour("code-font"), maxHeight: "14em" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: colour("primary-color"), color: colour("background-color") },
  ".cm-completionDetail": { fontStyle: "normal", opacity: 0.8 },
  ".cm-completionInfo": { maxWidth: "360px", fontFamily: colour("font"), padding: "6px 8px" },
});
const STYLE = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword], color: colour("blue-text-color"), fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: colour("green-text-color") },
  { tag: [tags.number, tags.bool, tags.null], color: colour("violet-text-color") },
  { tag: [tags.lineComment, tags.blockComment], color: colour("gray-text-color"), fontStyle: "italic" },
  { tag: [tags.standard(tags.name), tags.typeName], color: colour("orange-text-color") },
]);

const editors = new WeakMap();

function schemaOf(tables) {
  const schema = {};
  for (const [table, columns] of Object.entries(tables)) {
    schema[table] = columns.map(([label, detail, info]) => ({ label, detail, info, type: "property" }));
  }
  return schema;
}

// Columns of the tables that are named in the query, offered without their table before them.
function columnsInScope(tables) {
  return (context) => {
    const word = context.matchBefore(/\w+/);
    if (!word && !context.explicit) return null;
    const before = context.state.sliceDoc(Math.max(0, (word ? word.from : context.pos) - 1), word ? word.from : context.pos);
    if (before === ".") return null;
    const written = context.state.doc.toString();
    const seen = new Set(), options = [];
    for (const [table, columns] of Object.entries(tables)) {
      if (!new RegExp(`\\b${table}\\b`, "i").test(written)) continue;
      for (const [label, detail, info] of columns) {
        if (!seen.has(label)) options.push({ label, detail, info, type: "property", boost: 10 });
        seen.add(label);
      }
    }
    return { from: word ? word.from : context.pos, options, validFor: /^\w*$/ };
  };
}

function create(component, host, live) {
  const { data } = component;
  const text = () => live.view.state.doc.toString();
  const tell = () => { 
    if (live.told === text()) return;
    live.told = text();
    live.component.setStateValue("written", { text: live.told, round: live.round });
  };
  const run = () => { closeCompletion(live.view); tell(); live.component.setTriggerValue("run", text()); return true; };
  const tables = data.tables;
  live.view = new EditorView({
    parent: host,
    root: host.getRootNode(),
    state: EditorState.create({
      doc: data.text,
      extensions: [
        lineNumbers(), history(), drawSelection(), highlightActiveLine(), bracketMatching(), closeBrackets(),
        sql({ dialect: DUCKDB, schema: schemaOf(tables), upperCaseKeywords: true }),
        DUCKDB.language.data.of({ autocomplete: columnsInScope(tables) }),
        autocompletion({ icons: false }), syntaxHighlighting(STYLE), THEME, EditorView.lineWrapping,
        EditorState.tabSize.of(4),
        EditorView.contentAttributes.of({ "aria-label": data.label, spellcheck: "false" }),
        EditorView.domEventHandlers({ blur: () => { tell(); } }),
        // Tab takes what is offered, and else goes on to the next control, so that the keyboard is not caught.
        keymap.of([{ key: "Mod-Enter", run }, { key: "Tab", run: acceptCompletion },
                   ...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap]),
      ],
    }),
  });
  live.view.scrollDOM.tabIndex = -1;
}

export function draw(component) {
  const host = component.parentElement.querySelector(".editor");
  const { data } = component;
  let live = editors.get(host);
  if (!live) {
    live = { component, told: data.text, round: data.round, insertRound: data.insertRound };
    editors.set(host, live);
    create(component, host, live);
    return;
  }
  live.component = component;
  if (data.round !== live.round) {
    live.round = data.round;
    live.told = data.text;
    live.view.dispatch({ changes: { from: 0, to: live.view.state.doc.length, insert: data.text } });
  }
  if (data.insertRound !== live.insertRound) {
    live.insertRound = data.insertRound;
    live.view.dispatch(live.view.state.replaceSelection(data.insert));
    live.view.focus();
  }
}
