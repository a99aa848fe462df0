package postgres_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/protocols/wire"
)

// BenchmarkPgbench runs pgbench -S for two seconds a way, against a journal on
// the disk: what the session and its record cost, without interception and
// shipping.
func BenchmarkPgbench(b *testing.B) {
	wire.Poison(false)
	defer wire.Poison(true)
	pgbench(b, "-i", "-q", "-s", "1", server.DSN("postgres"))
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		for _, mode := range []string{"simple", "extended", "prepared"} {
			for _, clients := range []string{"1", "8"} {
				b.Run(pol.name+"/"+mode+"/"+clients, func(b *testing.B) {
					dir, syncs := b.TempDir(), new(atomic.Int64)
					j, err := journal.Open(dir, journal.Options{Host: "bench", Sync: true, Encode: ocsf.Append, FS: countedFS{journal.Dir(dir), syncs}})
					if err != nil {
						b.Fatal(err)
					}
					defer j.Close()
					p := startOn(b, pol.text, j)
					var tps, n float64
					before := spent(b)
					syncs.Store(0)
					for range b.N {
						out := pgbench(b, "-n", "-T", "2", "-S", "-M", mode, "-c", clients, "-j", "2", p.dsn(""))
						tps += figure(b, out, `tps = ([0-9.]+)`)
						n += figure(b, out, `processed: ([0-9]+)`)
					}
					b.ReportMetric(tps/float64(b.N), "tps")
					b.ReportMetric(float64((spent(b)-before).Microseconds())/n, "µs-CPU/transaction")
					b.ReportMetric(n/float64(syncs.Load()), "transactions/sync")
					last, _ := j.Head()
					b.ReportMetric(float64(last)/n, "records/transaction")
					b.ReportMetric(float64(j.Stats().Used)/n, "bytes/transaction")
				})
			}
		}
	}
}

func pgbench(b *testing.B, args ...string) []byte {
	b.Helper()
	out, err := exec.Command("pgbench", args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return out
}

func figure(b *testing.B, out []byte, re string) float64 {
	f, err := strconv.ParseFloat(string(regexp.MustCompile(re).FindSubmatch(out)[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// spent is the processor time of this process.
func spent(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// countedFS is a journal's folder that counts syncs.
type countedFS struct {
	journal.FS
	n *atomic.Int64
}

func (c countedFS) Open(name string, flag int) (journal.File, error) {
	f, err := c.FS.Open(name, flag)
	return countedFile{f, c.n}, err
}

type countedFile struct {
	journal.File
	n *atomic.Int64
}

func (f countedFile) Sync() error {
	f.n.Add(1)
	return f.File.Sync()
}
