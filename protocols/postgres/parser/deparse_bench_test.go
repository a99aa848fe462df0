package parser

import (
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6/parser"
)

const wide = `SELECT id, ssn, city FROM (SELECT id, CASE WHEN pg_catalog.length(ssn::pg_catalog.text) OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat(pg_catalog."left"(ssn::pg_catalog.text, 0), pg_catalog.regexp_replace(pg_catalog.substr(ssn::pg_catalog.text, 0 OPERATOR(pg_catalog.+) 1, pg_catalog.length(ssn::pg_catalog.text) OPERATOR(pg_catalog.-) 0), '[[:alnum:]]', '*', 'g'), pg_catalog."right"(ssn::pg_catalog.text, 0)) WHEN ssn IS NULL THEN NULL ELSE '***' END::pg_catalog.text AS ssn, city FROM clinic.patients) p WHERE id = 12345`

// What a helper does for a rewritten statement, by its parts.
func BenchmarkHelper(b *testing.B) {
	tree, err := pg.ParseToProtobuf(wide)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			_, _ = pg.ParseToProtobuf(wide)
		}
	})
	b.Run("generate", func(b *testing.B) {
		for b.Loop() {
			_, _ = pg.DeparseFromProtobuf(tree)
		}
	})
	b.Run("compare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !sameTree(tree, tree) {
				b.Fatal("differs")
			}
		}
	})
}
