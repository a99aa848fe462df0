package page

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"sallyport.dev/sallyport/internal/visible"
)

// piece is a part of a text that an agent chose: Odd is one character that acts on
// what is around it, or can't be seen, and is named instead.
type piece struct {
	Text string
	Odd  bool
}

// shown is a text in one line.
func shown(s string) []piece { return pieces(s, "") }

// text is one of several lines.
func text(s string) []piece { return pieces(s, "\n\t") }

func pieces(s, keep string) (out []piece) {
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			out = append(out, piece{Text: plain.String()})
			plain.Reset()
		}
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			flush()
			out = append(out, piece{fmt.Sprintf(`\x%02x`, s[i]), true})
		case visible.Rune(r) || strings.ContainsRune(keep, r):
			plain.WriteRune(r)
		default:
			flush()
			out = append(out, piece{fmt.Sprintf(`\u{%x}`, r), true})
		}
		i += n
	}
	flush()
	return out
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Values are the parameters of the request as they are shown.
func (q *request) Values() (out []string) {
	types := pgtype.NewMap()
	for i, p := range q.What.Parameters {
		kind := fmt.Sprintf("type %d", p.Type)
		if p.Type == 0 {
			kind = "type that the server finds"
		} else if t, ok := types.TypeForOID(p.Type); ok && q.Where.Protocol == "postgres" {
			kind = t.Name
		}
		switch {
		case p.Null:
			out = append(out, fmt.Sprintf("$%d (%s) is NULL", i+1, kind))
		case p.Binary:
			out = append(out, fmt.Sprintf("$%d (%s, binary, hex) is %x", i+1, kind, p.Value))
		default:
			out = append(out, fmt.Sprintf("$%d (%s, text) is %s", i+1, kind, p.Value))
		}
	}
	return out
}

// UsesText says how often it may be used, and for how long.
func (q *request) UsesText() string {
	if q.Uses == 0 {
		return "any number of uses for " + q.Grant.String()
	}
	return fmt.Sprintf("%d of %d uses left, for %s once approved", q.Left, q.Uses, q.Grant)
}

// Actors are who asks, with the chain of those who act for them.
func (q *request) Actors() string {
	all := append([]string(nil), q.Who.Actors...)
	if q.Who.Subject != "" {
		all = append(all, q.Who.Subject)
	}
	return strings.Join(all, " for ")
}

// Ended: what was to run is kept no longer.
func (q *request) Ended() bool {
	return q.What.Text == "" && len(q.Verbs) == 0
}

// FreeText are the parameters of a shape that are free.
func (q *request) FreeText() (out []string) {
	for n := 1; n <= len(q.What.Parameters); n++ {
		if v, ok := q.Free[n]; ok {
			out = append(out, fmt.Sprintf("$%d may be any of %q", n, v))
		}
	}
	return out
}
