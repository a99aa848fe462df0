package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/internal/visible"
)

// line is a line of JSON: its type says which parts are set.
type line struct {
	Type      string              `json:"type"` // session, event, statement, result, input
	Number    uint64              `json:"number,omitempty"`
	Time      string              `json:"time,omitempty"` // RFC 3339
	Session   *recorder.Session   `json:"session,omitempty"`
	Event     *recorder.Facts     `json:"event,omitempty"`
	Statement *recorder.Statement `json:"statement,omitempty"`
	Parts     []*string           `json:"parameters,omitempty"`
	*item
	Text  string `json:"text,omitempty"`
	Bytes []byte `json:"bytes,omitempty"` // base64, of what is no text
}

// jsonl writes a line for the session, for each event of its own, for each
// statement with all that was decided and came of it, and for each thing that it
// gave back.
func jsonl(w io.Writer, s *Session) error {
	e := json.NewEncoder(escaping{w})
	if err := e.Encode(line{Type: "session", Session: &s.Session}); err != nil {
		return err
	}
	for i := range s.Events {
		if err := e.Encode(line{Type: "event", Event: &s.Events[i]}); err != nil {
			return err
		}
	}
	told := 0
	// until writes the statements up to a number that were not written yet: some
	// have no transcript.
	until := func(number uint64) error {
		for ; told < len(s.Requests) && s.Requests[told].Number <= number; told++ {
			q := s.Requests[told]
			l := line{Type: "statement", Number: q.Number, Statement: &q}
			for _, b := range q.Binds {
				values, ok := render.Parameters([]byte(b))
				if !ok {
					values = []*string{&b}
				}
				l.Parts = append(l.Parts, values...)
			}
			q.Binds = nil
			if err := e.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}
	var p postgres
	for c, err := range s.Chunks {
		if err != nil {
			return err
		}
		if err := until(c.Number); err != nil {
			return err
		}
		l := line{Number: c.Number, Time: c.Time.UTC().Format("2006-01-02T15:04:05.000000Z07:00")}
		switch c.Kind {
		case events.ChunkResult:
			l.Type = "result"
			if s.Protocol == "postgres" {
				err = p.items(c, func(it item) error {
					l.item = &it
					return e.Encode(l)
				})
				break
			}
			err = e.Encode(l.with(c.Data))
		case events.ChunkInput:
			l.Type = "input"
			err = e.Encode(l.with(c.Data))
		}
		if err != nil {
			return err
		}
	}
	return until(^uint64(0))
}

// escaping writes JSON in which what a terminal could obey, and what hides, is
// escaped: JSON itself leaves all but the first controls as they are.
type escaping struct{ w io.Writer }

func (v escaping) Write(b []byte) (int, error) {
	// Outside of strings there is nothing but ASCII.
	if bytes.IndexFunc(b, hidden) < 0 {
		return v.w.Write(b)
	}
	out := make([]byte, 0, len(b)+64)
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if hidden(r) {
			for _, u := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, u)
			}
		} else {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	_, err := v.w.Write(out)
	return len(b), err
}

func hidden(r rune) bool { return r != '\n' && !visible.Rune(r) }

func (l line) with(b []byte) line {
	if utf8.Valid(b) {
		l.Text = string(b)
	} else {
		l.Bytes = b
	}
	return l
}
