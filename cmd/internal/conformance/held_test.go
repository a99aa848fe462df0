//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// held is a talk that is held again through the passage.
type held struct {
	t      *testing.T
	file   string
	talk   *talk
	again  [][]byte // what a server answered to it the second time
	tally  *tally
	cat    *catalog.Catalog
	door   string
	direct string

	through, past *player
	settings      []*exchange // what past must know of the session
	open          []*exchange // of the transaction
	behind        bool        // the transaction goes on past the passage
	lost          bool        // the session lacks something that was refused
	temporary     bool        // it has something that is only its own
}

func (h *held) hold(ctx context.Context) (err error) {
	if h.through, err = play(ctx, h.door, h.talk.greeting); err != nil {
		return err
	}
	defer h.through.Close()
	if h.past, err = play(ctx, h.direct, h.talk.greeting); err != nil {
		return err
	}
	defer h.past.Close()
	status := byte('I')
	for i := range h.talk.exchanges {
		e := &h.talk.exchanges[i]
		if i >= len(h.again) {
			return nil
		}
		if status == 'I' {
			h.open, h.behind = nil, false
		}
		if err := h.one(ctx, e, h.again[i], status); err != nil {
			if errors.Is(err, errEnded) && ready(e.reply) == 0 {
				return nil
			}
			return errors.Join(err, errors.New(e.sql()))
		}
		status = ready(e.reply)
	}
	return nil
}

// one says one thing. status is that of the transaction before it.
func (h *held) one(ctx context.Context, e *exchange, again []byte, status byte) error {
	k := kindOf(e)
	if h.behind {
		h.tally.behind++
		_, err := h.past.say(e)
		return err
	}
	h.open = append(h.open, e)
	got, err := h.through.say(e)
	if err != nil {
		return err
	}
	n := h.tally.of(k)
	kind, why := refusal(got)
	switch {
	case kind != "" && failed(e.reply):
		n.failures++
	case kind != "":
		n.refused++
		h.tally.why(h.file, k, kind, why, e.sql())
		return h.pass(ctx, e, status)
	case comparable(got) == comparable(e.reply) || comparable(got) == comparable(again):
		n.same++
	case comparable(e.reply) != comparable(again) || numbered.MatchString(e.sql()):
		n.unstable++
	case h.lost || h.tally.astray:
		h.tally.behind++
	case prints.MatchString(e.sql()) && hidden(got, e.reply):
		n.hidden++
	case failed(e.reply) && failed(got) && (code(got) == code(e.reply) || said(got) == said(e.reply)):
		n.words++
		h.tally.differ(h.file, "words", e, got)
	default:
		n.other++
		h.tally.differ(h.file, "OTHER", e, got)
		h.t.Errorf("%s: %.300s\nthrough:\n%.1000q\ndirect:\n%.1000q", h.file, e.sql(), comparable(got), comparable(e.reply))
	}
	h.temporary = h.temporary || ofTemp.MatchString(e.sql()) && !failed(got)
	if sets.MatchString(e.sql()) && !failed(got) {
		_, err = h.past.say(e)
	}
	return err
}

// pass says past the passage what was refused, and what it needs.
func (h *held) pass(ctx context.Context, e *exchange, status byte) error {
	h.lost = h.lost || h.temporary || ofSession.MatchString(e.sql())
	if status == 'I' {
		h.open = []*exchange{e}
	} else if _, err := h.through.tell("ROLLBACK"); err != nil {
		return err
	}
	for _, o := range h.open {
		reply, err := h.past.say(o)
		if err != nil {
			return err
		}
		if failed(reply) != failed(o.reply) {
			h.lost, h.tally.astray = true, true
		}
	}
	h.behind = ready(e.reply) != 'I'
	return h.cat.Refresh(ctx)
}

var (
	sets      = regexp.MustCompile(`(?i)^\s*(SET|RESET|DISCARD)\b`)
	ofSession = regexp.MustCompile(`(?i)^\s*(SET|RESET|DISCARD|PREPARE|DECLARE|LISTEN|LOAD|LOCK|(CREATE|SELECT|WITH)\b.*\b(TEMP|TEMPORARY|PG_TEMP))\b`)
	ofTemp    = regexp.MustCompile(`(?i)\b(TEMP|TEMPORARY|pg_temp)\b`)
	// numbered names a relation by a number that another server need not give it.
	numbered = regexp.MustCompile(`'\d{5,}'|= ?\d{5,}|\bIN \(\d{5,}|oid`)
)

// prints finds what prints definitions, whose constants nobody sees from whom data
// is masked.
var prints = regexp.MustCompile(`(?i)pg_get_\w+|relpartbound|pg_indexes|pg_views|pg_rules|pg_policies|pg_matviews|pg_stats_ext|pg_ts_dict|information_schema`)

// hidden reports an answer that differs only in that it shows NULL.
func hidden(got, want []byte) bool {
	var x, y [][]byte
	collect := func(out *[][]byte) func(byte, []byte) {
		return func(typ byte, body []byte) {
			if typ != 'T' { // such a column is of no relation
				*out = append(*out, append([]byte{typ}, body...))
			}
		}
	}
	messages(got, collect(&x))
	messages(want, collect(&y))
	return slices.EqualFunc(x, y, func(a, b []byte) bool {
		if a[0] != 'D' || b[0] != 'D' {
			return bytes.Equal(a, b)
		}
		return slices.EqualFunc(values(a[1:]), values(b[1:]), func(v, w []byte) bool { return v == nil || w != nil && bytes.Equal(v, w) })
	})
}

// values of a row, nil for NULL.
func values(row []byte) (out [][]byte) {
	for b := row[2:]; len(b) >= 4; {
		n := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if n < 0 {
			out = append(out, nil)
			continue
		}
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return out
}

// messages calls f for each.
func messages(b []byte, f func(typ byte, body []byte)) {
	for len(b) >= 5 {
		n := min(int(binary.BigEndian.Uint32(b[1:]))+1, len(b))
		f(b[0], b[5:n])
		b = b[n:]
	}
}

// fields of an error or notice.
func fields(body []byte) map[byte]string {
	out := map[byte]string{}
	for f := range bytes.SplitSeq(body, []byte{0}) {
		if len(f) > 0 {
			out[f[0]] = string(f[1:])
		}
	}
	return out
}

// ready returns the status of the transaction, 0 where the session has ended.
func ready(b []byte) (status byte) {
	messages(b, func(typ byte, body []byte) {
		if typ == 'Z' {
			status = body[0]
		}
	})
	return status
}

// code is the SQLSTATE of an error, said its message. The grammar does not tell
// SQLSTATEs here: all of its errors are syntax errors.
func code(b []byte) string { return ofError(b, 'C') }
func said(b []byte) string { return ofError(b, 'M') }

func ofError(b []byte, field byte) (value string) {
	messages(b, func(typ byte, body []byte) {
		if typ == 'E' {
			value = fields(body)[field]
		}
	})
	return value
}

func failed(b []byte) bool { return code(b) != "" }

var refusedAs = regexp.MustCompile(`"refused":"([a-z-]+)"`)

// refusal returns the kind and the words of one, "" of other answers.
func refusal(b []byte) (kind, why string) {
	messages(b, func(typ byte, body []byte) {
		if typ != 'E' {
			return
		}
		f := fields(body)
		if words, ok := strings.CutPrefix(f['M'], "sallyport: "); ok {
			kind, why = "?", words
			if m := refusedAs.FindStringSubmatch(f['D']); m != nil {
				kind = m[1]
			}
		}
	})
	return kind, why
}

// comparable is an answer without what differs between two servers: numbers of
// what was made in them, and where in the server's source an error is.
func comparable(b []byte) string {
	var out strings.Builder
	messages(b, func(typ byte, body []byte) {
		switch typ {
		case 'A':
			body = body[4:]
		case 'T':
			body = bytes.Clone(body)
			for f := body[2:]; len(f) > 18; f = f[18:] {
				f = f[bytes.IndexByte(f, 0)+1:]
				for _, at := range []int{0, 6} {
					if binary.BigEndian.Uint32(f[at:]) >= 16384 {
						binary.BigEndian.PutUint32(f[at:], 0)
					}
				}
			}
		case 'E', 'N':
			f := fields(body)
			body = nil
			for _, k := range []byte("SCMDHPW") {
				body = append(append(append(body, k), f[k]...), 0)
			}
		}
		out.WriteByte(typ)
		out.Write(body)
		out.WriteByte('\n')
	})
	return out.String()
}
