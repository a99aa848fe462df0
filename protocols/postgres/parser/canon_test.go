package parser

import (
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6/parser"
)

// Texts that libpg_query's fingerprint takes for one another are told apart,
// and layout is not.
func TestSameTree(t *testing.T) {
	tree := func(sql string) []byte {
		b, err := pg.ParseToProtobuf(sql)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	base := "SELECT a, 1 AS x FROM t WHERE b IN (1, 2) AND c = 'v'"
	if !sameTree(tree(base), tree("select  a,\n1 x from t where (b in (1,2)) and c='v'")) {
		t.Error("layout is taken for content")
	}
	for _, other := range []string{
		"SELECT a, 2 AS x FROM t WHERE b IN (1, 2) AND c = 'v'",
		"SELECT a, 1 AS y FROM t WHERE b IN (1, 2) AND c = 'v'",
		"SELECT a, 1 AS x FROM t WHERE b IN (1) AND c = 'v'",
		"SELECT a, 1 AS x FROM t WHERE b IN (1, 2) AND c = 'w'",
		"SELECT a, 1 AS x FROM t WHERE b IN (1, 2) OR c = 'v'",
		"SELECT a, 1 AS x FROM t WHERE b IN (1, 2) AND c = 'v'; SELECT 1",
		"SELECT a, 1 AS x FROM s.t WHERE b IN (1, 2) AND c = 'v'",
	} {
		if sameTree(tree(base), tree(other)) || sameTree(tree(other), tree(base)) {
			t.Errorf("%s is taken for %s", other, base)
		}
	}
	// The same fields in another order are the same.
	if !sameTree([]byte{0x12, 0x00, 0x08, 0x01}, []byte{0x08, 0x02, 0x12, 0x00}) {
		t.Error("order is taken for content")
	}
}
