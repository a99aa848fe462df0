package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// asciicast writes a recording of a terminal, version 3
// (docs.asciinema.org/manual/asciicast/v3): what `sessions replay` shows, with its
// timing.
func asciicast(w io.Writer, s *Session) error {
	e := json.NewEncoder(w)
	head := map[string]any{
		"version":   3,
		"term":      map[string]int{"cols": 120, "rows": 40},
		"timestamp": s.Opened.Unix(),
		"title":     fmt.Sprintf("%s: %s at %s", render.Line(s.ID), render.Line(s.Workload), render.Line(s.Resource)),
	}
	if err := e.Encode(head); err != nil {
		return err
	}
	r, last := render.For(s.Protocol), s.Opened
	var out bytes.Buffer
	frame := func(at time.Time) error {
		if out.Len() == 0 {
			return nil
		}
		wait := max(at.Sub(last), 0)
		if at.After(last) {
			last = at
		}
		text := strings.ReplaceAll(out.String(), "\n", "\r\n")
		out.Reset()
		return e.Encode([]any{json.Number(fmt.Sprintf("%.6f", wait.Seconds())), "o", text})
	}
	for c, err := range s.Chunks {
		if err != nil {
			return err
		}
		if err := r.Render(&out, c); err != nil {
			return err
		}
		if err := frame(c.Time); err != nil {
			return err
		}
	}
	return nil
}
