package postgrestest

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed grammar.txt
var grammarText string

// grammar is what each symbol may become.
var grammar = func() map[string][]string {
	m := map[string][]string{}
	for line := range strings.Lines(grammarText) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		symbol, text, _ := strings.Cut(line, " ")
		m[symbol] = append(m[symbol], text)
	}
	return m
}()

// kinds are the types of expressions.
var kinds = []string{"int", "text", "bool", "num", "day", "json", "list"}

// Random returns a conversation of random statements that read and write no
// more than reach. The same data gives the same statements; it is what chooses,
// byte for byte, and where it ends everything becomes as simple as can be.
func Random(data []byte, reach Reach) []string {
	g := &random{choices: data, reach: reach, relations: within(reach)}
	var out []string
	if g.n(12) == 1 {
		g.path = true
		out = append(out, "SET LOCAL search_path = clinic, shop, public")
	}
	for range 1 + g.n(3) {
		for s := range strings.SplitSeq(g.become("statement"), ";;") {
			out = append(out, g.spell(s))
		}
	}
	return out
}

// random makes statements.
type random struct {
	choices   []byte
	reach     Reach
	relations []relation
	path      bool // relations may go without their schema
	depth     int
	scope     []item
	names     int
	locks     string // what the query under way ends with
}

// item is what stands in FROM, or is known from outside of a query.
type item struct {
	name    string
	columns []column
	whole   bool // all of its columns may be shown
}

// n chooses one of n, the first when there is nothing to choose by.
func (g *random) n(n int) int {
	if len(g.choices) == 0 {
		return 0
	}
	c := g.choices[0]
	g.choices = g.choices[1:]
	return int(c) % n
}

func (g *random) pick(of ...string) string { return of[g.n(len(of))] }

// deep is where expressions come to their end.
const deep = 6

// become chooses one of the things that a symbol may become.
func (g *random) become(symbol string) string {
	of := grammar[symbol]
	switch {
	case len(of) == 0:
		panic("no symbol " + symbol)
	case symbol == "statement":
		return g.expand(of[g.n(len(of))])
	case g.depth >= deep:
		return g.expand(of[0])
	}
	g.depth++
	defer func() { g.depth-- }()
	for _, k := range kinds {
		// Expressions grow to their end soon enough.
		if k == symbol && g.n(5) < 3 {
			return g.expand(of[g.n(2)%len(of)])
		}
	}
	return g.expand(of[g.n(len(of))])
}

var placeholder = regexp.MustCompile(`\{[a-z]+( [a-z]+)*\}`)

// expand puts something in the place of each symbol of a text.
func (g *random) expand(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(s string) string {
		words := strings.Fields(s[1 : len(s)-1])
		if symbol := words[0]; grammar[symbol] != nil {
			return g.become(symbol)
		}
		switch words[0] {
		case "literal":
			return g.become("literal-" + words[1])
		case "column":
			return g.column(words[1])
		case "field":
			return g.field(words[1])
		case "row":
			return g.row()
		case "query":
			return g.query(words[1:])
		case "one":
			return "SELECT o.c FROM (" + g.query(words[1:]) + ") o (c) ORDER BY 1 LIMIT 1"
		case "whole":
			return g.whole(len(words) > 1)
		case "changed":
			return g.change()
		}
		return s // an array or a document of the text's own
	})
}

// column refers to a column of a type that is in scope, or is a literal.
func (g *random) column(kind string) string {
	name := g.visible(kind)
	if name == "" {
		return g.become("literal-" + kind)
	}
	return name
}

func (g *random) visible(kind string) string {
	type place struct {
		item *item
		column
	}
	var all []place
	same := map[string]int{}
	for i := len(g.scope) - 1; i >= 0; i-- {
		for _, c := range g.scope[i].columns {
			same[c.name]++
			if c.kind == kind {
				all = append(all, place{&g.scope[i], c})
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	p := all[g.n(len(all))]
	for range 2 {
		if g.reach == Everything && !p.protected {
			p = all[g.n(len(all))]
		}
	}
	if p.item.name == "" {
		return p.name
	}
	switch g.n(8) {
	case 1:
		if same[p.name] == 1 {
			return p.name
		}
	case 2:
		return p.item.name + " . " + p.name
	}
	return p.item.name + "." + p.name
}

// field selects a field of a whole row.
func (g *random) field(kind string) string {
	for i := len(g.scope) - 1; i >= 0; i-- {
		it := &g.scope[i]
		for _, c := range it.columns {
			if c.kind == kind && it.whole && it.name != "" && !strings.Contains(it.name, ".") {
				return "(" + it.name + ")." + c.name
			}
		}
	}
	return g.become("literal-" + kind)
}

// row is a whole row.
func (g *random) row() string {
	var all []string
	for i := len(g.scope) - 1; i >= 0; i-- {
		if it := &g.scope[i]; it.whole && it.name != "" {
			all = append(all, it.name)
		}
	}
	if len(all) == 0 || g.n(6) == 5 {
		return "ROW(" + g.become("int") + ", " + g.become("text") + ")"
	}
	name := all[g.n(len(all))]
	return g.pick(name, name, "ROW("+name+".*)", "("+name+".*)")
}

// name is a new one.
func (g *random) name() string {
	g.names++
	n := g.names
	return g.pick(fmt.Sprintf("t%d", n), fmt.Sprintf("t%d", n), fmt.Sprintf(`"T %d"`, n), fmt.Sprintf(`"tü%d"`, n), fmt.Sprintf(`T%d`, n), fmt.Sprintf(`U&"\0074%d"`, n))
}

// relation is one of those in reach, and how it is written.
func (g *random) relation() (*relation, string) {
	r := &g.relations[g.n(len(g.relations))]
	return r, g.written(r)
}

func (g *random) written(r *relation) string {
	schema, name, ok := strings.Cut(r.name, ".")
	if !ok {
		return r.name // a common table expression
	}
	switch g.n(8) {
	case 1:
		if g.path || schema == "public" {
			return name
		}
	case 2:
		return `"` + schema + `".` + name
	case 3:
		return schema + " . " + name
	case 4:
		return strings.ToUpper(schema) + "." + name
	}
	return r.name
}

// whole names a relation, with a list of columns if some is set.
func (g *random) whole(some bool) string {
	r, name := g.relation()
	if g.reach == OpenColumns && r.guarded {
		some = true
	}
	if !some {
		return name
	}
	var list []string
	for _, c := range r.columns {
		if len(list) == 0 || g.n(2) == 1 {
			list = append(list, c.name)
		}
	}
	return name + " (" + strings.Join(list, ", ") + ")"
}

// spell writes a text otherwise where that changes nothing of what it means.
func (g *random) spell(s string) string {
	if g.n(3) > 0 || len(g.choices) == 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		n := quoted(s[i:])
		if n > 0 {
			b.WriteString(s[i : i+n])
			i += n
			continue
		}
		if s[i] == ' ' && g.n(4) == 1 {
			b.WriteString(g.pick("  ", "\n", "\t", " /* c */ ", "/**/", " -- x'\n", " /* a /* ' */ b */ ", "\r\n"))
		} else {
			b.WriteByte(s[i])
		}
		i++
	}
	return b.String()
}

// quoted is the length of the quoted text at the beginning of s, 0 if there is
// none.
func quoted(s string) int {
	end := ""
	switch {
	case s[0] == '\'', s[0] == '"':
		end = s[:1]
	case strings.HasPrefix(s, "$$"):
		end = "$$"
	case strings.HasPrefix(s, "$q$"):
		end = "$q$"
	default:
		return 0
	}
	n := strings.Index(s[len(end):], end)
	if n < 0 {
		return len(s)
	}
	return n + 2*len(end)
}
