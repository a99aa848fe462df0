package sink

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// rejected is the file of what a target does not take: nothing is dropped
// without a trace. A line is {"time", "uid", "host", "why", "event"}; raw holds
// what is no JSON.
type rejected struct {
	file string
	f    *os.File
}

// rejectedEnd follows a sink's name.
const rejectedEnd = ".rejected.jsonl"

// diskError: a refused event could not be written down. It is not acknowledged.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

func openRejected(dir, name string) (*rejected, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sink %s: state folder: %w", name, err)
	}
	file := filepath.Join(dir, name+rejectedEnd)
	f, err := openLines(file)
	if err != nil {
		return nil, fmt.Errorf("sink %s: refused events: %w", name, err)
	}
	return &rejected{file, f}, nil
}

func (r *rejected) add(uid, host string, payload []byte, why error) error {
	line := struct {
		Time  time.Time       `json:"time"`
		UID   string          `json:"uid,omitempty"`
		Host  string          `json:"host,omitempty"`
		Why   string          `json:"why"`
		Event json.RawMessage `json:"event,omitempty"`
		Raw   []byte          `json:"raw,omitempty"`
	}{Time: time.Now().UTC(), UID: uid, Host: host, Why: outbound.Clean(why.Error(), 2000)}
	if json.Valid(payload) {
		line.Event = payload
	} else {
		line.Raw = payload
	}
	b, err := json.Marshal(line)
	if err == nil {
		_, err = r.f.Write(append(b, '\n'))
	}
	if err != nil {
		return &diskError{fmt.Errorf("sink: write down a refused event: %w", err)}
	}
	return nil
}

func (r *rejected) sync() error {
	if err := r.f.Sync(); err != nil {
		return &diskError{fmt.Errorf("sink: %s: %w", r.file, err)}
	}
	return nil
}

func (r *rejected) close() error { return r.f.Close() }
