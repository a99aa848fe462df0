//go:build conformance

package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// count is what became of statements of a kind.
type count struct {
	same     int // the answer is the same
	refused  int // falsely: it would have worked
	failures int // refused, and it would have failed
	words    int // an error of the same SQLSTATE in other words
	hidden   int // definitions are NULL in it
	unstable int // no two servers answer the same
	other    int // another answer: never
}

func (c *count) add(o *count) {
	c.same += o.same
	c.refused += o.refused
	c.failures += o.failures
	c.words += o.words
	c.hidden += o.hidden
	c.unstable += o.unstable
	c.other += o.other
}

func (c *count) String() string {
	n := c.same + c.refused + c.words + c.hidden + c.other
	return fmt.Sprintf("%d same, %d refused (%.1f %%), %d refused that fail anyway, %d errors in other words, %d with NULL for a definition, %d that no two servers answer alike, %d others",
		c.same, c.refused, 100*float64(c.refused)/float64(max(n, 1)), c.failures, c.words, c.hidden, c.unstable, c.other)
}

// tally counts what became of statements.
type tally struct {
	reads, psql, writes, defines, rest count
	behind                             int  // not compared: in a transaction or a session that lacks what was refused
	astray                             bool // what was refused could not be made up for
	reasons                            map[string]int
	list                               []string // of what was refused, and of what differs
}

func newTally() *tally { return &tally{reasons: map[string]int{}} }

func (n *tally) String() string {
	return fmt.Sprintf("%d reads the same, %d refused; others: %d the same, %d refused; %d not compared", n.reads.same, n.reads.refused, n.psql.same+n.writes.same+n.defines.same+n.rest.same,
		n.psql.refused+n.writes.refused+n.defines.refused+n.rest.refused, n.behind)
}

// of returns the counts of a kind.
func (n *tally) of(kind string) *count {
	return map[string]*count{"read": &n.reads, "psql": &n.psql, "write": &n.writes, "define": &n.defines, "rest": &n.rest}[kind]
}

func (n *tally) add(o *tally) {
	for _, k := range []string{"read", "psql", "write", "define", "rest"} {
		n.of(k).add(o.of(k))
	}
	n.behind += o.behind
	for why, c := range o.reasons {
		n.reasons[why] += c
	}
	n.list = append(n.list, o.list...)
}

func (n *tally) why(file, k, kind, words, sql string) {
	n.reasons[k+" "+kind+": "+reason(words)]++
	n.list = append(n.list, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", file, k, kind, words, strings.Join(strings.Fields(sql), " ")))
}

func (n *tally) differ(file, how string, e *exchange, got []byte) {
	n.list = append(n.list, fmt.Sprintf("%s\t%s\t%q\t%q\t%q", file, how, comparable(got), comparable(e.reply), e.sql()))
}

var names = regexp.MustCompile(`"[^"]*"|\b(function|relation|type|domain|operator|setting|schema|column|cast|aggregate) [^ :;,]+|\d+|\bpg_\w+\b`)

// reason is a refusal's words without names.
func reason(words string) string {
	return names.ReplaceAllStringFunc(words, func(s string) string {
		if kind, _, ok := strings.Cut(s, " "); ok && s[0] != '"' {
			return kind + " N"
		}
		return "N"
	})
}

func (n *tally) report(t *testing.T) {
	for _, k := range []string{"read", "psql", "write", "define", "rest"} {
		t.Logf("%-7s %v", k, n.of(k))
	}
	t.Logf("%d not compared, behind a refusal", n.behind)
	n.write(t)
	for _, why := range slices.SortedFunc(maps.Keys(n.reasons), func(a, b string) int {
		return cmp.Or(n.reasons[b]-n.reasons[a], strings.Compare(a, b))
	}) {
		t.Logf("%6d %s", n.reasons[why], why)
	}
}

// write writes each of what was refused, and of what differs, to where keep does.
func (n *tally) write(t *testing.T) {
	keepAs(t, "masked.txt", []byte(strings.Join(n.list, "\n")+"\n"))
}

var (
	comments = regexp.MustCompile(`(?s)^(\s+|--[^\n]*\n|/\*.*?\*/|\()+`)
	verb     = regexp.MustCompile(`^\w+`)
)

// kindOf says what a request does: it reads, writes, defines; psql's are what it
// asks for its own commands.
func kindOf(e *exchange) string {
	sql := comments.ReplaceAllString(e.sql(), "")
	switch strings.ToUpper(verb.FindString(sql)) {
	case "SELECT", "VALUES", "TABLE", "WITH":
		if strings.Contains(sql, "FROM pg_catalog.") && strings.Contains(sql, "OPERATOR(pg_catalog.~)") || strings.Contains(sql, "pg_catalog.pg_class c\n") {
			return "psql"
		}
		return "read"
	case "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "TRUNCATE":
		return "write"
	case "CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "REINDEX", "CLUSTER", "VACUUM", "ANALYZE", "REFRESH", "SECURITY", "REASSIGN":
		return "define"
	}
	return "rest"
}
