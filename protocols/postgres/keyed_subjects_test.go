package postgres_test

import (
	"strings"
	"testing"
)

// What is masked on output, and whose its rows are, are told of the same rows: by
// RETURNING and by COPY.
func TestKeyedMasksOfSubjects(t *testing.T) {
	codes(t)
	p := start(t, codesPolicy+"\nsubjects:\n  - {relation: codes.t, key: code, name: someone}\n")
	want := subjectKey.Subject("someone", []byte("CANARY,1")).String()
	for _, c := range []struct{ sql, shown string }{
		{"SELECT k, code FROM codes.t WHERE k = 1", "1|tok_"},
		{"UPDATE codes.t SET note = 'x' WHERE k = 1 RETURNING k, code", "1|tok_"},
		{"UPDATE codes.t SET note = 'x' WHERE k = 1 RETURNING *", "tok_"},
		{"COPY (SELECT k, code FROM codes.t WHERE k = 1) TO STDOUT (DELIMITER '|')", "1|tok_"},
		{"COPY (SELECT k, code FROM codes.t WHERE k = 1) TO STDOUT CSV HEADER", "k,code\n1,tok_"},
		{"COPY (SELECT k, code FROM codes.t WHERE k = 1) TO STDOUT BINARY", "tok_"},
	} {
		for _, say := range [][]message{{q(c.sql)}, extended(c.sql)} {
			r := p.raw()
			out := r.get(1, say...)
			named, untold := sights(t, p)
			if got := strings.Join(append(out.rows, out.data...), ""); !strings.Contains(got, c.shown) || planted.MatchString(out.text) || len(named) != 1 || named[0] != want || untold != "" {
				t.Errorf("%s: %s\n%v, and of %q it is not known", c.sql, out.text, named, untold)
			}
			r.Close()
		}
	}
}
