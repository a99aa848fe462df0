package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sallyport.dev/sallyport/events/recorder"
)

// Read reads back what was written as jsonl, results apart.
func Read(r io.Reader) (*recorder.Detail, error) {
	d := &recorder.Detail{}
	dec := json.NewDecoder(r)
	for n := 1; ; n++ {
		var l line
		err := dec.Decode(&l)
		switch {
		case errors.Is(err, io.EOF) && d.ID == "":
			return nil, errors.New("no session is in it: write one with sallyport sessions export --format jsonl")
		case errors.Is(err, io.EOF):
			return d, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case l.Type == "session" && l.Session != nil && d.ID != "":
			return nil, fmt.Errorf("line %d: a second session: give each a file", n)
		case l.Type == "session" && l.Session != nil:
			d.Session = *l.Session
		case l.Type == "event" && l.Event != nil:
			d.Events = append(d.Events, *l.Event)
		case l.Type == "statement" && l.Statement != nil:
			q := *l.Statement
			if len(l.Parts) > 0 { // that it had some: what they were is not read back
				q.Binds = []string{""}
			}
			d.Requests = append(d.Requests, q)
		}
	}
}
