package postgres

import (
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// An error's position counts characters of the text that the server was sent.
// Where that is another than the client's own, the token at that place is looked
// for in the client's; where more than one could be meant there is no position.

// texts are what the client sent in a Query, b[:n], and what went to the server,
// b[sent:].
type texts struct {
	b       []byte
	n, sent int
}

const (
	maxTexts      = 16 << 10 // bytes of both; errors of larger ones have no position
	maxSpareTexts = 2 << 10  // bytes that are kept for the next statement
)

// keepTexts has a step's texts be kept while it is under way, if an error of it is
// not passed on as it comes. What depends on names of the session may tell of
// another text.
func (c *conn) keepTexts(s *step, an *query.Analysis, client, sent []byte) {
	if !s.rewritten && !s.sanitize || an.Local {
		return
	}
	size := len(client)
	if s.rewritten {
		size += len(sent)
	}
	if size > maxTexts {
		return
	}
	c.queue.mu.Lock()
	t := c.queue.spare
	c.queue.spare = nil
	c.queue.mu.Unlock()
	if t == nil {
		t = new(texts)
	}
	t.b, t.n, t.sent = append(t.b[:0], client...), len(client), 0
	if s.rewritten {
		t.b, t.sent = append(t.b, sent...), len(client)
	}
	s.texts = t
}

// place is where an error at a position of what the server was sent is in the
// client's own text; 0: not known.
func (s *step) place(position int) int {
	var client, sent string
	switch p := s.change.stmt; {
	case position <= 0:
		return 0
	case s.texts != nil:
		client, sent = unsafeString(s.texts.b[:s.texts.n]), unsafeString(s.texts.b[s.texts.sent:])
	case s.kind == stepParse && p != nil && len(p.sql)+len(p.sent) <= maxTexts:
		client, sent = p.sql, p.sent
	default:
		return 0
	}
	if client == sent {
		if position > utf8.RuneCountInString(client)+1 {
			return 0
		}
		return position
	}
	return counterpart(client, sent, position)
}

// lexeme is a token of a text: what it is, however it is spelled, and the
// character that it begins with, from 1.
type lexeme struct {
	text string
	at   int
}

// lexemes are a text's, without brackets: generated text has others.
func lexemes(sql string) (out []lexeme) {
	at, counted := 1, 0
	for i := 0; ; {
		start, end, literal := token.Next(sql, i)
		if start >= len(sql) {
			return out
		}
		at, counted = at+utf8.RuneCountInString(sql[counted:start]), start
		t := sql[start:end]
		i = end
		switch {
		case t == "(" || t == ")":
			continue
		case t[0] == '"' && len(t) > 1:
			t = strings.ReplaceAll(t[1:len(t)-1], `""`, `"`)
		case !literal:
			t = strings.ToLower(t)
		}
		out = append(out, lexeme{t, at})
	}
}

// counterpart returns the position in the client's text of what stands at one in
// the text that was sent; 0 where that is not certain.
func counterpart(client, sent string, position int) int {
	c, s := lexemes(client), lexemes(sent)
	k := 0
	for k < len(s) && s[k].at != position {
		k++
	}
	if k == len(s) {
		return 0
	}
	// Each must be the one that the other is most like.
	if j := likest(s, k, c); j >= 0 && likest(c, j, s) == k {
		return c[j].at
	}
	return 0
}

// likest returns which of in is from[k], by what stands around it; -1 if none or
// more than one may be.
func likest(from []lexeme, k int, in []lexeme) int {
	best, most, even := -1, -1, false
	for j := range in {
		if in[j].text != from[k].text {
			continue
		}
		n := 0
		for ; n < around && k-n > 0 && j-n > 0 && from[k-n-1].text == in[j-n-1].text; n++ {
		}
		for m := 1; m <= around && k+m < len(from) && j+m < len(in) && from[k+m].text == in[j+m].text; m++ {
			n++
		}
		if n > most {
			best, most, even = j, n, false
		} else if n == most {
			even = true
		}
	}
	if even {
		return -1
	}
	return best
}

// around is how many tokens on each side are looked at.
const around = 16
