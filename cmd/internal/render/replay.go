package render

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"sallyport.dev/sallyport/events"
)

// Renderer turns a transcript's chunks, in order, into what a person reads. It
// keeps state between the chunks of one session.
type Renderer interface {
	Render(w io.Writer, c events.Chunk) error
}

// For returns a new Renderer for a protocol; unknown ones are shown as text.
func For(protocol string) Renderer {
	if f := renderers[protocol]; f != nil {
		return f()
	}
	return plain{}
}

var renderers = map[string]func() Renderer{
	"postgres": func() Renderer { return &postgres{} },
}

type plain struct{}

func (plain) Render(w io.Writer, c events.Chunk) error {
	prefix := ""
	switch c.Kind {
	case events.ChunkStatement:
		prefix = "> "
	case events.ChunkBinds:
		prefix = "binds: "
	case events.ChunkInput:
		prefix = "< "
	}
	_, err := fmt.Fprintf(w, "%s%s\n", prefix, Text(string(c.Data)))
	return err
}

// Timing of a replay. The zero Timing does not wait.
type Timing struct {
	Speed   float64       // 1: as it was, 2: twice as fast; 0: at once
	MaxIdle time.Duration // longest pause, before speeding up; 0: no limit
	// Seek: what was said in so long a time from the first chunk on is not shown.
	Seek time.Duration
}

// pause returns how long to wait between two moments of the recording.
func (t Timing) pause(from, to time.Time) time.Duration {
	if t.Speed <= 0 || from.IsZero() {
		return 0
	}
	d := max(to.Sub(from), 0)
	if t.MaxIdle > 0 {
		d = min(d, t.MaxIdle)
	}
	return time.Duration(float64(d) / t.Speed)
}

// Replay renders a transcript with its timing until it or ctx ends.
func Replay(ctx context.Context, w io.Writer, r Renderer, chunks iter.Seq2[events.Chunk, error], t Timing) error {
	var first, last time.Time
	for c, err := range chunks {
		if err != nil {
			return err
		}
		if first.IsZero() {
			first = c.Time
		}
		if c.Time.Sub(first) < t.Seek {
			if err := r.Render(io.Discard, c); err != nil { // what follows may need it
				return err
			}
			continue
		}
		if d := t.pause(last, c.Time); d > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(d):
			}
		}
		last = c.Time
		if err := r.Render(w, c); err != nil {
			return err
		}
	}
	return nil
}
