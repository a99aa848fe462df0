package parser

import (
	"strings"
	"unicode/utf8"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	pg "github.com/pganalyze/pg_query_go/v6/parser"
	"google.golang.org/protobuf/proto"
)

// parse is the grammar's tree of a text. libpg_query does not look behind a
// comment where the grammar needs two words at once (NOT IN, NULLS FIRST, WITH
// ORDINALITY, UESCAPE), and takes for an error what the server understands:
// such a text is parsed once more, with blanks in the place of its comments,
// which is how the server reads it.
func parse(sql string) ([]byte, error) {
	tree, err := pg.ParseToProtobuf(sql)
	if err == nil || !strings.Contains(sql, "--") && !strings.Contains(sql, "/*") {
		return tree, err
	}
	plain, ok := withoutComments(sql)
	if !ok {
		return nil, err
	}
	return pg.ParseToProtobuf(plain)
}

// withoutComments returns a text whose comments are as many blanks, as the
// grammar's own lexer finds them.
func withoutComments(sql string) (string, bool) {
	scanned, err := pg.ScanToProtobuf(sql)
	if err != nil {
		return "", false
	}
	var r pg_query.ScanResult
	if proto.Unmarshal(scanned, &r) != nil {
		return "", false
	}
	var out strings.Builder
	at := int32(0)
	for _, t := range r.Tokens {
		if t.Token != pg_query.Token_SQL_COMMENT && t.Token != pg_query.Token_C_COMMENT {
			continue
		}
		if t.Start < at || t.End < t.Start || int(t.End) > len(sql) {
			return "", false
		}
		out.WriteString(sql[at:t.Start])
		out.WriteString(strings.Repeat(" ", utf8.RuneCountInString(sql[t.Start:t.End])))
		at = t.End
	}
	return out.String() + sql[at:], at > 0
}
