package postgrestest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// say sends messages that are written one a line, and returns how many
// ReadyForQuery they make a server say. Names are bare, "-" the empty one;
// texts are quoted as in Go:
//
//	> parse NAME "TEXT" OID...
//	> bind PORTAL STATEMENT text|binary "PARAMETER"...
//	> describe S|P NAME
//	> execute PORTAL ROWS
//	> close S|P NAME
//	> call OID "ARGUMENT"...
//	> query "TEXT"
//	> raw TYPE "BODY" [ready]
//	> sync
//	> flush
func say(f *pgproto3.Frontend, text string) (ready int, err error) {
	for line := range strings.Lines(text) {
		words, err := split(strings.TrimPrefix(strings.TrimSpace(line), ">"))
		if err != nil || len(words) == 0 {
			return 0, fmt.Errorf("message %q: %w", line, err)
		}
		for len(words) < 4 {
			words = append(words, "")
		}
		m, err := message(words)
		if err != nil {
			return 0, fmt.Errorf("message %q: %w", line, err)
		}
		if w := words[0]; w == "sync" || w == "query" || w == "call" || w == "raw" && words[3] == "ready" {
			ready++
		}
		f.Send(m)
	}
	return ready, nil
}

func message(w []string) (pgproto3.FrontendMessage, error) {
	name := func(s string) string { return strings.TrimPrefix(s, "-") }
	object := byte('S')
	if w[1] != "" {
		object = w[1][0]
	}
	switch w[0] {
	case "parse":
		m := &pgproto3.Parse{Name: name(w[1]), Query: w[2]}
		for _, s := range w[3:] {
			if n, err := strconv.ParseUint(s, 10, 32); err == nil {
				m.ParameterOIDs = append(m.ParameterOIDs, uint32(n))
			}
		}
		return m, nil
	case "bind":
		m := &pgproto3.Bind{DestinationPortal: name(w[1]), PreparedStatement: name(w[2])}
		if w[3] == "binary" {
			m.ResultFormatCodes = []int16{1}
		}
		for _, s := range w[4:] {
			m.Parameters = append(m.Parameters, []byte(s))
		}
		return m, nil
	case "describe":
		return &pgproto3.Describe{ObjectType: object, Name: name(w[2])}, nil
	case "execute":
		n, _ := strconv.ParseUint(w[2], 10, 32)
		return &pgproto3.Execute{Portal: name(w[1]), MaxRows: uint32(n)}, nil
	case "close":
		return &pgproto3.Close{ObjectType: object, Name: name(w[2])}, nil
	case "call":
		n, err := strconv.ParseUint(w[1], 10, 32)
		m := &pgproto3.FunctionCall{Function: uint32(n)}
		for _, s := range w[2:] {
			if s != "" {
				m.Arguments = append(m.Arguments, []byte(s))
			}
		}
		return m, err
	case "query":
		return &pgproto3.Query{String: w[1]}, nil
	case "raw":
		return raw{object, w[2]}, nil
	case "sync":
		return &pgproto3.Sync{}, nil
	case "flush":
		return &pgproto3.Flush{}, nil
	}
	return nil, fmt.Errorf("%q is not known", w[0])
}

// raw is any message.
type raw struct {
	typ  byte
	body string
}

func (raw) Frontend()           {}
func (raw) Decode([]byte) error { return nil }
func (r raw) Encode(b []byte) ([]byte, error) {
	return append(b, Message(r.typ, r.body)...), nil
}

// split takes a line apart into words and quoted texts.
func split(s string) (out []string, err error) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] != '"' {
			w, rest, _ := strings.Cut(s, " ")
			out, s = append(out, w), rest
			continue
		}
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, err
		}
		w, err := strconv.Unquote(q)
		if err != nil {
			return nil, err
		}
		out, s = append(out, w), s[len(q):]
	}
	return out, nil
}
