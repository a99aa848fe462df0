package rewrite

import (
	"fmt"
	"strings"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// A body in PL/pgSQL is judged by its words, without regard to what they are
// there: nothing can be read, called or run whose name, or whose command, does
// not stand in it, but for text that it makes and executes, which takes a word
// too. So more is refused than need be (a variable that has the name of a
// protected relation), and nothing is missed.

// commands are the words that begin what a body may not do. Others are there
// because of what they do within: SHARE locks rows, DIAGNOSTICS shows the text of
// definitions, TREAT calls any built-in function as if it were a type, and OPEN and
// CLOSE are of names that are the session's.
var commands = words(`abort alter analyse analyze call checkpoint close cluster comment commit copy create deallocate delete
	diagnostics discard do drop execute explain fetch grant import insert listen load lock merge move notify open prepare
	reassign refresh reindex release reset revoke rollback savepoint security set share show treat truncate unlisten
	update vacuum`)

// implied are operators that stand behind other words: LIKE, IN, BETWEEN.
var implied = []string{"=", "<>", "<", "<=", ">", ">=", "~", "!~", "~~", "!~~", "~~*", "!~~*"}

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// plpgsql looks at the body of a function in PL/pgSQL.
func (b *binding) plpgsql(c *body, f *catalog.Function) string {
	w := b.definition(b.textual(f))
	w.inside, w.converts = f, true // its variables have types that columns have
	for _, op := range implied {
		w.overloaded(op)
	}
	for _, cast := range b.snap.Casts {
		if cast.Function != nil && !cast.Extension && !b.scope.Functions[cast.Function.String()] {
			w.refuse("it may cast by function %s, which is not declared harmless by the policy", cast.Function)
		}
	}
	if w.opaque != "" {
		return w.opaque
	}
	l := lexer{text: f.Body, line: 1}
	if strings.HasPrefix(l.text, "\n") || strings.HasPrefix(l.text, "\r\n") {
		l.line = 0 // as the server counts
	}
	for before, last := (lexeme{}), (lexeme{}); last.kind != end; {
		next, ok := l.next()
		if !ok {
			return fmt.Sprintf("line %d of its body is not understood", l.line)
		}
		if last.kind == word {
			b.word(w, before, last, next)
		}
		if next.kind == operator {
			w.operators(next.text)
		}
		if w.opaque != "" {
			return fmt.Sprintf("line %d of its body: %s", last.line, w.opaque)
		}
		before, last = last, next
	}
	if w.sanitize {
		return "it could return an error that tells of what is stored"
	}
	return w.harmful(c)
}

// word looks at a word, by what stands around it.
func (b *binding) word(w *walker, before, t, next lexeme) {
	name, behind := t.text, before.text == "." && before.kind == other
	if !t.quoted && commands[name] && !(behind && before.member) {
		w.refuse("%s is not looked at", strings.ToUpper(name))
		return
	}
	w.speaks = w.speaks || name == "raise" || name == "assert"
	for _, r := range b.snap.ByName[name] {
		g := b.guardLocked(r)
		if !g.free() {
			if w.refuse("it names protected relation %s.%s", r.Schema, r.Name); g.opaque != "" {
				w.opaque = g.opaque
			}
			return
		}
		w.sanitize = w.sanitize || g.sanitize
		w.objectNamed(r.Schema, r.Name, policy.Read)
		for _, base := range g.bases {
			w.objectNamed(base.Schema, base.Name, policy.Read)
		}
	}
	if (behind || next.text == "(" && next.kind == other) && (b.snap.Builtin[name] || len(b.snap.Functions[name]) > 0) {
		if w.function([]string{name}) {
			w.refuse("function %s prints definitions", name)
		}
	}
	for _, t := range b.snap.Types[name] {
		if !b.rows(t) {
			w.useType(t)
		}
	}
}

// rows reports the type of a relation's rows, or of arrays of them.
func (b *binding) rows(t *catalog.Type) bool {
	if e := b.snap.TypeByOID[t.Elem]; t.Elem != 0 && e != nil {
		t = e
	}
	for _, r := range b.snap.ByName[t.Name] {
		if r.RowType == t.OID {
			return true
		}
	}
	return false
}

// operators refuses operators that are not built in and may be in a run of operator
// characters.
func (w *walker) operators(run string) {
	for name, all := range w.snap.Operators {
		for _, o := range all {
			if strings.Contains(run, name) && !(o.Extension && w.snap.BuiltinOp[name]) {
				w.refuse("operator %s is also defined in schema %s", name, o.Schema)
				return
			}
		}
	}
}
