package export

import (
	"encoding/csv"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

// table writes the session's statements, or the rows of one of them, as CSV (RFC
// 4180) that a spreadsheet takes for text.
func table(w io.Writer, s *Session) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	write := statements
	if s.Statement != 0 {
		write = rows
	}
	if err := write(c, s); err != nil {
		return err
	}
	c.Flush()
	return c.Error()
}

func statements(w *csv.Writer, s *Session) error {
	if err := w.Write([]string{"session", "number", "time", "workload", "actor", "principal", "resource", "command", "verdict", "rules", "reason", "masked", "code", "status", "rows", "bytes", "ms", "statement"}); err != nil {
		return err
	}
	for i := range s.Requests {
		q := &s.Requests[i]
		text := q.Exact
		if text == "" {
			text = q.Text
		}
		if err := w.Write(inert(s.ID, strconv.FormatUint(q.Number, 10), q.Time.UTC().Format(time.RFC3339Nano), s.Workload, s.Actor, s.Principal, s.Resource,
			q.Command, q.Verdict, strings.Join(q.Rules, " "), q.Reason, strings.Join(q.Masked, " "), q.Code, q.Status,
			strconv.FormatInt(q.Rows, 10), strconv.FormatInt(q.Bytes, 10), strconv.FormatFloat(float64(q.Duration)/1e6, 'f', 3, 64), text)); err != nil {
			return err
		}
	}
	return nil
}

// rows writes what one statement gave back. NULL is an empty field; a result of
// several tables has their headers between them.
func rows(w *csv.Writer, s *Session) error {
	if s.Protocol != "postgres" {
		return errProtocol(s.Protocol)
	}
	var p postgres
	var found bool
	for c, err := range s.Chunks {
		if err != nil {
			return err
		}
		// What others gave back may describe what this one did not.
		if c.Kind != events.ChunkResult || c.Number > s.Statement {
			continue
		}
		if err := p.items(c, func(it item) error {
			if c.Number != s.Statement {
				return nil
			}
			found = true
			switch {
			case it.Columns != nil:
				return w.Write(inert(it.Columns...))
			case it.Row != nil:
				fields := make([]string, len(it.Row))
				for i, v := range it.Row {
					if v != nil {
						fields[i] = *v
					}
				}
				return w.Write(inert(fields...))
			case it.Copy != nil:
				return w.Write(inert(strings.TrimSuffix(*it.Copy, "\n")))
			case it.Cut != "":
				return fmt.Errorf("statement %d: %s: export the session as jsonl", s.Statement, it.Cut)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("session %s has no recorded result of a statement %d", s.ID, s.Statement)
	}
	return nil
}

// formula finds what a spreadsheet may take for one, number what it may: these
// stay as they are. One that is set to another separator than the comma begins cells,
// and rows, within fields: within finds what it may take for one there.
var (
	within  = regexp.MustCompile("([;|\t\r\n][ \u00a0\"']*)([=+\\-@\uff1d\uff0b\uff0d\uff20])")
	formula = regexp.MustCompile("^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
	number  = regexp.MustCompile(`^[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// inert puts an apostrophe before all that is like a formula.
func inert(fields ...string) []string {
	for i, f := range fields {
		if formula.MatchString(f) && !number.MatchString(f) {
			fields[i] = "'" + f
		}
		fields[i] = within.ReplaceAllString(fields[i], "$1'$2")
	}
	return fields
}
