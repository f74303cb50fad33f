// SQL in the editor: DuckDB's words, and completion of the tables' columns.
import { PostgreSQL, SQLDialect, sql } from "@codemirror/lang-sql";

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

/** What makes the editor one of SQL, over the tables that `data` has with their columns. */
export function sqlLanguage({ tables }) {
  return [
    sql({ dialect: DUCKDB, schema: schemaOf(tables), upperCaseKeywords: true }),
    DUCKDB.language.data.of({ autocomplete: columnsInScope(tables) }),
  ];
}
