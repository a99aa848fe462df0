package sink

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"sallyport.dev/sallyport/events"
)

// Stored is a record of a store, with its host.
type Stored struct {
	Host   string
	Record events.Record
}

// Backfill hands on what a store holds, of events from from until before to,
// with the ids that they have when they come from the stream. It returns how
// many the sink was for. What is refused stands in a file of backfills: the sink
// may run meanwhile.
func Backfill(ctx context.Context, k *Config, t Target, state string, records iter.Seq2[Stored, error], from, to time.Time, log *slog.Logger) (n int, err error) {
	rej, err := openRejected(state, k.Name+".backfill")
	if err != nil {
		return 0, err
	}
	defer rej.close()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &delivery{target: t, rejected: rej, log: log.With("sink", k.Name)}
	all := *k
	all.Since = time.Time{} // what is asked for goes out, whatever the stream's start
	var batch []Event
	size := 0
	for r, err := range records {
		if err != nil {
			return n, err
		}
		if r.Record.Kind == 0 {
			continue
		}
		e, err := Read(r.Host, &r.Record)
		if err != nil {
			if err := d.refuse([]Refusal{{e, err}}); err != nil {
				return n, err
			}
			continue
		}
		if at := e.View.Time; at.Before(from) || !at.Before(to) || !all.wants(&e) {
			continue
		}
		batch, size = append(batch, e), size+len(e.JSON)
		n++
		if len(batch) < k.Batch && size < k.BatchBytes {
			continue
		}
		if err := d.deliver(ctx, batch); err != nil {
			return n, err
		}
		batch, size = nil, 0
	}
	return n, d.deliver(ctx, batch)
}
