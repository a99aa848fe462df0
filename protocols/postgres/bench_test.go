package postgres_test

import (
	"os/exec"
	"regexp"
	"strconv"
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
	if out, err := exec.Command("pgbench", "-i", "-q", "-s", "1", server.DSN("postgres")).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		for _, mode := range []string{"simple", "extended", "prepared"} {
			for _, clients := range []string{"1", "8"} {
				b.Run(pol.name+"/"+mode+"/"+clients, func(b *testing.B) {
					j, err := journal.Open(b.TempDir(), journal.Options{Host: "bench", Sync: true, Encode: ocsf.Append})
					if err != nil {
						b.Fatal(err)
					}
					defer j.Close()
					p := startOn(b, pol.text, j)
					var tps, n float64
					before := spent(b)
					for range b.N {
						out, err := exec.Command("pgbench", "-n", "-T", "2", "-S", "-M", mode, "-c", clients, "-j", "2", p.dsn("")).CombinedOutput()
						if err != nil {
							b.Fatalf("%v: %s", err, out)
						}
						tps += figure(b, out, `tps = ([0-9.]+)`)
						n += figure(b, out, `processed: ([0-9]+)`)
					}
					b.ReportMetric(tps/float64(b.N), "tps")
					b.ReportMetric(float64((spent(b)-before).Microseconds())/n, "µs-CPU/transaction")
				})
			}
		}
	}
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
