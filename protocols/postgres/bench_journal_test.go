package postgres_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/protocols/wire"
)

// BenchmarkJournal is what the record costs: one passage whose journal is off, and
// one whose journal syncs, in turn, each round both. It reports medians, and of the
// rounds' ratios the median. In a round of its own, the journal only writes.
func BenchmarkJournal(b *testing.B) {
	wire.Poison(false)
	defer wire.Poison(true)
	pgbench(b, "-i", "-q", "-s", "1", server.DSN("postgres"))
	if err := server.Exec(b.Context(), `DROP TABLE IF EXISTS public.bench_wide`); err != nil {
		b.Fatal(err)
	}
	if err := server.Exec(b.Context(), `CREATE TABLE public.bench_wide AS
		SELECT g AS id, md5(g::text) AS a, md5((g+1)::text) AS b, g * 1.5 AS c FROM generate_series(1, 1000000) g`); err != nil {
		b.Fatal(err)
	}
	if err := server.Exec(b.Context(), `GRANT SELECT ON public.bench_wide TO agent`); err != nil {
		b.Fatal(err)
	}
	for _, mode := range []string{"simple", "prepared"} {
		for _, clients := range []string{"8", "32"} {
			b.Run(mode+"/"+clients, func(b *testing.B) {
				againstOff(b, "tps", func(p *proxy) float64 {
					return figure(b, pgbench(b, "-n", "-T", "3", "-S", "-M", mode, "-c", clients, "-j", "2", p.dsn("")), `tps = ([0-9.]+)`)
				})
			})
		}
	}
	b.Run("1,000,000 rows", func(b *testing.B) {
		againstOff(b, "MB/s", func(p *proxy) float64 {
			c, err := pgconn.Connect(b.Context(), p.dsn(""))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close(context.WithoutCancel(b.Context()))
			began, rows, bytes := time.Now(), 0, 0
			r := c.Exec(b.Context(), "SELECT * FROM public.bench_wide")
			for r.NextResult() {
				for rr := r.ResultReader(); rr.NextRow(); rows++ {
					for _, v := range rr.Values() {
						bytes += len(v)
					}
				}
			}
			if err := r.Close(); err != nil || rows != 1_000_000 {
				b.Fatalf("%d rows: %v", rows, err)
			}
			return float64(bytes) / 1e6 / time.Since(began).Seconds()
		})
	})
}

// againstOff reports what a measurement gives with a journal, and of one without.
func againstOff(b *testing.B, unit string, measure func(*proxy) float64) {
	passage := func(j events.Journal) *proxy { return startOn(b, allowAll, j) }
	disk := func(sync bool) *proxy {
		j, err := journal.Open(b.TempDir(), journal.Options{Host: "bench", Sync: sync, Encode: ocsf.Append, MaxBytes: 64 << 30})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { j.Close() })
		return passage(j)
	}
	off, synced, written := passage(new(noJournal)), disk(true), disk(false)
	var offs, syncs, of, writtenOf []float64
	for range b.N {
		v, s, w := measure(off), measure(synced), measure(written)
		offs, syncs, of, writtenOf = append(offs, v), append(syncs, s), append(of, s/v), append(writtenOf, w/v)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(offs), unit+"-off")
	b.ReportMetric(middle(syncs), unit+"-fsync")
	b.ReportMetric(middle(of), "fsync/off")
	b.ReportMetric(middle(writtenOf), "write/off")
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// noJournal keeps nothing: everything is durable at once.
type noJournal struct{ n atomic.Uint64 }

func (j *noJournal) Append(*events.Event) (events.Ticket, error) {
	return events.NewTicket(j, j.n.Add(1)), nil
}

func (j *noJournal) Record(*events.Chunk) (events.Ticket, error) {
	return events.NewTicket(j, j.n.Add(1)), nil
}
func (*noJournal) WaitDurable(context.Context, uint64) error { return nil }
func (*noJournal) WaitWritten(uint64) error                  { return nil }
func (j *noJournal) Durable() uint64                         { return j.n.Load() }
