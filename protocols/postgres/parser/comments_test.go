package parser_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"sallyport.dev/sallyport/protocols/postgres/parser"
)

// A comment is a blank to the server, also between two words that the grammar
// takes together; whatever looks like one and is none stays.
func TestComments(t *testing.T) {
	p := pool(t, parser.Options{Size: 1})
	for with, without := range map[string]string{
		"SELECT 1 NOT/**/IN (1)":                                   "SELECT 1 NOT    IN (1)",
		"SELECT a FROM t ORDER BY 1 NULLS -- é\n FIRST":            "SELECT a FROM t ORDER BY 1 NULLS      \n FIRST",
		"SELECT * FROM f() WITH/* a /* ' */ b */ORDINALITY":        "SELECT * FROM f() WITH                 ORDINALITY",
		"SELECT U&'d!0061t' /**/ UESCAPE '!'":                      "SELECT U&'d!0061t'      UESCAPE '!'",
		"SELECT U&\"d!0061t\" --\n UESCAPE '!' FROM t":             "SELECT U&\"d!0061t\"   \n UESCAPE '!' FROM t",
		"SELECT '--', $$/*$$, \"/*\", 'a' --x\n'b' NOT/**/IN ('')": "SELECT '--', $$/*$$, \"/*\", 'a' --x\n'b' NOT    IN ('')",
	} {
		x, err := p.Parse(t.Context(), with)
		if err != nil {
			t.Errorf("%s: %v", with, err)
			continue
		}
		y, err := p.Parse(t.Context(), without)
		if err != nil {
			t.Fatalf("%s: %v", without, err)
		}
		if !proto.Equal(x, y) {
			t.Errorf("%s is read otherwise than %s", with, without)
		}
	}
	// An error stays one, and has its place in the client's own text.
	for sql, at := range map[string]int{
		"SELECT /* é */ 1 NOT/**/IN (1) FROM": 36, "SELECT 1 NOT/**/IN": 19, "SELECT 'a' /*\n*/ 'b' NOT/**/IN (1)": 18, "SELECT 1 NOT /* IN (1)": 14,
	} {
		var syntax *parser.SyntaxError
		if _, err := p.Parse(t.Context(), sql); !errors.As(err, &syntax) || syntax.Position != at {
			t.Errorf("%s: %v, want an error at %d", sql, err, at)
		}
	}
}
