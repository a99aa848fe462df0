package postgres_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"testing"

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
					for range b.N {
						out, err := exec.Command("pgbench", "-n", "-T", "2", "-S", "-M", mode, "-c", clients, "-j", "2", p.dsn("")).CombinedOutput()
						if err != nil {
							b.Fatalf("%v: %s", err, out)
						}
						tps, err := strconv.ParseFloat(string(regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(out)[1]), 64)
						if err != nil {
							b.Fatal(err)
						}
						b.ReportMetric(tps, "tps")
					}
				})
			}
		}
	}
}
