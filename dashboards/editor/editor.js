// The editor: CodeMirror as a Streamlit component. `make editor` bundles it into dashboards/assets/editor.js.
//
// `draw(component)` is called whenever Streamlit draws the component, with `data`:
//   language   "sql" or "policy", with what that needs: `tables`; or `schema`, `known` and `problems`
//   text       and its `round`; a new round replaces what is written
//   insert     words to insert where the cursor is, and their `insertRound`
//   patience   milliseconds without a key after which the text is sent; 0 sends it only when the editor is left
// It sends `written`, the text and its round, and `run`, the text on Ctrl or Cmd + Enter.
import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { mark, policyLanguage } from "./policy_language.js";
import { sqlLanguage } from "./sql_language.js";

const LANGUAGES = { sql: sqlLanguage, policy: policyLanguage };

// Colours are Streamlit's own, as custom properties: they follow the theme at once.
const colour = (name) => `var(--st-${name})`;
const THEME = EditorView.theme({
  "&": { fontSize: "0.8125rem", backgroundColor: colour("secondary-background-color"), color: colour("text-color"),
         border: `1px solid ${colour("border-color")}`, borderRadius: colour("base-radius"), height: "var(--editor-height)" },
  "&.cm-focused": { outline: `2px solid ${colour("primary-color")}`, outlineOffset: "-1px" },
  ".cm-scroller": { fontFamily: colour("code-font"), lineHeight: "1.6", overflow: "auto" },
  ".cm-gutters": { backgroundColor: "transparent", color: colour("gray-text-color"), border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  ".cm-cursor": { borderLeftColor: colour("text-color") },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: `${colour("blue-background-color")} !important` },
  ".cm-tooltip": { backgroundColor: colour("background-color"), color: colour("text-color"), border: `1px solid ${colour("border-color")}` },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: colour("code-font"), maxHeight: "14em" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: colour("primary-color"), color: colour("background-color") },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: `underline wavy ${colour("red-color")}`, textUnderlineOffset: "3px" },
  ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: `underline wavy ${colour("yellow-color")}`, textUnderlineOffset: "3px" },
  ".cm-gutter-lint": { width: "1.1em" },
  ".cm-completionDetail": { fontStyle: "normal", opacity: 0.8 },
  ".cm-completionInfo": { maxWidth: "360px", fontFamily: colour("font"), padding: "6px 8px" },
});
const STYLE = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword], color: colour("blue-text-color"), fontWeight: "600" },
  { tag: [tags.definition(tags.propertyName), tags.propertyName], color: colour("blue-text-color") },
  { tag: [tags.string, tags.special(tags.string)], color: colour("green-text-color") },
  { tag: [tags.number, tags.bool, tags.null], color: colour("violet-text-color") },
  { tag: [tags.lineComment, tags.blockComment], color: colour("gray-text-color"), fontStyle: "italic" },
  { tag: [tags.standard(tags.name), tags.typeName], color: colour("orange-text-color") },
]);

const editors = new WeakMap();


function create(component, host, live) {
  const { data } = component;
  const text = () => live.view.state.doc.toString();
  const send = () => {
    clearTimeout(live.waiting);
    if (live.sent === text()) return;
    live.sent = text();
    live.component.setStateValue("written", { text: live.sent, round: live.round });
  };
  const run = () => { closeCompletion(live.view); send(); live.component.setTriggerValue("run", text()); return true; };
  const changed = EditorView.updateListener.of((update) => {
    if (!update.docChanged || !data.patience) return;
    clearTimeout(live.waiting);
    live.waiting = setTimeout(send, data.patience);
  });
  live.view = new EditorView({
    parent: host,
    root: host.getRootNode(),
    state: EditorState.create({
      doc: data.text,
      extensions: [
        lineNumbers(), history(), drawSelection(), highlightActiveLine(), bracketMatching(), closeBrackets(),
        LANGUAGES[data.language](data),
        autocompletion({ icons: false }), syntaxHighlighting(STYLE), THEME, EditorView.lineWrapping,
        EditorState.tabSize.of(4), changed,
        EditorView.contentAttributes.of({ "aria-label": data.label, spellcheck: "false" }),
        EditorView.domEventHandlers({ blur: () => { send(); } }),
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
    live = { component, sent: data.text, round: data.round, insertRound: data.insertRound };
    editors.set(host, live);
    create(component, host, live);
  }
  live.component = component;
  if (data.round !== live.round) {
    live.round = data.round;
    live.sent = data.text;
    clearTimeout(live.waiting);
    live.view.dispatch({ changes: { from: 0, to: live.view.state.doc.length, insert: data.text } });
  }
  if (data.insertRound !== live.insertRound) {
    live.insertRound = data.insertRound;
    live.view.dispatch(live.view.state.replaceSelection(data.insert));
    live.view.focus();
  }
  // What was found wrong is about the text that was sent, and marks nothing of a newer one.
  if (data.problems && live.view.state.doc.toString() === live.sent) mark(live.view, data.problems);
}
